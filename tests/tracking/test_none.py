import inspect
from pathlib import Path

from koa_lightning.tracking.none import NoRun
from koa_lightning.tracking.run import MlflowRun


def test_it_has_the_methods_of_a_tracked_run():
    public = {name for name, _ in inspect.getmembers(MlflowRun, inspect.isfunction) if not name.startswith("_")}
    assert public <= set(dir(NoRun))
    for name in public:
        ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (NoRun, MlflowRun))
        assert list(ours) == list(theirs), name


def test_it_keeps_the_history_of_metrics_and_nothing_else(tmp_path):
    run = NoRun()
    run.log_metrics({"val/mae": 1}, 3)
    run.log_artifact(tmp_path / "not there")
    run.log_text("text", "file.txt")
    run.log_dataset("data", "0", "source", {}, "train")
    assert (run.history(), run.run_id, run.uri) == ({"val/mae": [(3, 1.0)]}, "", "")
    assert run.close("FAILED") == [] and list(Path(tmp_path).iterdir()) == []
