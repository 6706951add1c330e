from pathlib import Path

import pytest

from koa_lightning.errors import InputError
from koa_lightning.tracking.find import find_checkpoint


def test_a_path_is_taken_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoint("a b/best.ckpt", None) == Path("a b/best.ckpt")
    assert find_checkpoint("~/best.ckpt", None) == tmp_path / "best.ckpt"


def test_a_run_is_looked_up(trained, monkeypatch):
    run_id, uri = trained.result["run_id"], f"sqlite:///{trained.place}/mlruns/mlflow.db"
    assert find_checkpoint(f"runs:/{run_id}", uri).read_bytes() == trained.best.read_bytes()
    monkeypatch.chdir(trained.place)
    assert find_checkpoint(f"runs:/{run_id}/checkpoints/last.ckpt", None).name == "last.ckpt"
    with pytest.raises(InputError, match=r"the run has no checkpoints/first.ckpt"):
        find_checkpoint(f"runs:/{run_id}/checkpoints/first.ckpt", None)
