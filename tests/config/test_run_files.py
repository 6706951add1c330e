import pytest

from koa_lightning.config import run_files
from koa_lightning.config.json_files import misfit

FOLD = {"metrics": {"loss": 0.5, "n_knees": 7, "accuracy": None}, "marks": [], "weights": "none", "split": "official"}
OF_A_RUN = [
    (run_files.DONE, {"best_epoch": 3, "run_id": "", "val/mae": 0.1}, {"run_id": 7}, {"best_epoch": -1}),
    (run_files.FOLD, FOLD, {"metrics": {"loss": 1, "n_knees": 1, "mae": "x"}}, {"metrics": []}),
    (run_files.CROSS_VALIDATION, {"settings": {"seed": None}, "run_id": ""}, {"settings": [1]}, {"uri": {}}),
    (run_files.ENSEMBLE, {"ensemble": {}, "members": []}, {"members": ["x"]}, {"ensemble": {"mae": []}}),
    (run_files.EXPLANATIONS, {"key": "", "done": {}, "seconds": {}}, {"done": []}, {"seconds": {"a": None}}),
]


@pytest.mark.parametrize(("kind", "right", "wrong", "other"), OF_A_RUN)
def test_the_files_of_a_run(kind, right, wrong, other):
    assert misfit(right, kind) == ""
    assert misfit({**right, **wrong}, kind) and misfit({**right, **other}, kind)
    for name in kind.needed:
        assert misfit({key: value for key, value in right.items() if key != name}, kind) == f"has no entry {name}"
