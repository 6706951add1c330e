import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from koa_lightning.checkpoint import reading
from koa_lightning.config import outcome
from koa_lightning.evaluation.grading import Member
from koa_lightning.tracking.none import NoRun
from koa_lightning.training import after_fit
from koa_lightning.training.callbacks import History
from koa_lightning.training.run import train

pytestmark = pytest.mark.usefixtures("blank_figures")


class Recorder(NoRun):
    """Records every call."""

    run_id = "abc"

    def __init__(self):
        super().__init__()
        self.files = []

    def log_artifact(self, local, folder=None):
        self.files.append((local.name, folder))


@pytest.fixture
def history(tmp_path):
    kept = History(tmp_path / "history.csv", "val/quadratic_kappa", "max")
    kept.epochs = [
        {"epoch": 0, "val/quadratic_kappa": 0.1, "val/mae": 1.0},
        {"epoch": 1, "val/quadratic_kappa": 0.3, "val/mae": float("nan")},
    ]
    return kept


def test_only_what_is_missing_is_logged_again(history):
    run = NoRun()
    run.log_metrics({"val/quadratic_kappa": 0.1}, 0)
    after_fit._log_missing(history, run)
    after_fit._log_missing(history, run)
    stored = run.history()
    assert stored["val/quadratic_kappa"] == [(0, 0.1), (1, 0.3)]
    assert [step for step, _ in stored["val/mae"]] == [0, 1]


@pytest.mark.parametrize(
    ("uri", "files", "expected"),
    [
        (None, ["Makefile"], "make ui"),
        (None, [], "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db"),
        ("sqlite:////a b/x.db", ["Makefile"], "mlflow ui --backend-store-uri 'sqlite:////a b/x.db'"),
        ("http://me:secret@server:5000", [], "http://server:5000"),
    ],
)
def test_how_to_look_at_the_runs(uri, files, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in files:
        (tmp_path / name).touch()
    assert after_fit.how_to_look(uri) == expected


def test_conclude(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Makefile").touch()
    result = {"val/quadratic_kappa": 0.25, "val/mae": float("nan"), "best_epoch": 1, "checkpoint": "x/best.ckpt",
              "run_id": "abc", "exit_code": outcome.DONE}  # fmt: skip
    assert after_fit.conclude(tmp_path, "val/quadratic_kappa", None, result) is result
    assert capsys.readouterr().out.splitlines() == [
        "MLflow run abc (view it: make ui)", "best checkpoint: x/best.ckpt (epoch 1, val/quadratic_kappa 0.2500)",
    ]  # fmt: skip
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["val/quadratic_kappa"] == 0.25
    assert "val/mae" not in done


def test_what_is_kept_of_an_interrupted_run(tmp_path, history, capsys):
    module, run = SimpleNamespace(record=SimpleNamespace(caveats=("phantom data",))), Recorder()
    after_fit.keep(tmp_path, module, history, run)
    assert run.files == [("learning_curves.png", "figures")]
    result = after_fit.interrupted(tmp_path, history, run)
    assert capsys.readouterr().out == "interrupted; no epoch had begun, start again\n"
    assert (result["exit_code"], result["val/quadratic_kappa"], result["run_id"]) == (outcome.INTERRUPTED, 0.3, "abc")
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / "checkpoints" / name).touch()
        after_fit.keep(tmp_path, module, History(tmp_path / "empty.csv", "val/mae", "min"), run)
    assert [name for name, _ in run.files[1:]] == ["last.ckpt", "best.ckpt", "last.ckpt"]


def test_a_training_no_better_than_one_grade_for_all_says_so(capsys):
    grade = np.array([0] * 5 + [1, 2, 3, 4] * 2 + [-1])
    data = SimpleNamespace(tables={"val": pd.DataFrame({"grade": grade})})
    same, right = torch.tensor([[0.9, 0.1, 0, 0, 0]]).repeat(14, 1), torch.eye(5)[grade.clip(0)]
    after_fit._say_if_no_better(data, SimpleNamespace(probabilities=same))
    assert capsys.readouterr().out == "validation: no better than always grade 0 (accuracy .385)\n"
    after_fit._say_if_no_better(data, SimpleNamespace(probabilities=right))
    assert capsys.readouterr().out == ""


def test_the_end_of_a_training_reads_the_best_checkpoint_and_grades_once(tiny, tmp_path, alone, monkeypatch):
    counts, original = Counter(), {"read": reading.read, "grade": Member.grade}

    def read(path):
        counts["read"] += 1
        return original["read"](path)

    def grade(self, batches, **options):
        counts["grade"] += 1
        return original["grade"](self, batches, **options)

    monkeypatch.setattr(reading, "read", read)
    monkeypatch.setattr(Member, "grade", grade)
    result = train(tiny.config(f"out='{tmp_path}/run'", "trainer.max_epochs=1", "tracking=none"))
    assert counts == {"read": 1, "grade": 1}
    stored = original["read"](result["checkpoint"]).record.fitted
    assert stored.calibration is not None and stored.thresholds is not None
