import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from koa_lightning.checkpoint import reading
from koa_lightning.config import outcome
from koa_lightning.data.dataset import KneeDataset
from koa_lightning.evaluation.grading import Member
from koa_lightning.models.net import NetSpec, build
from koa_lightning.reporting import panels
from koa_lightning.tracking.none import NoRun
from koa_lightning.training import after_fit
from koa_lightning.training.callbacks import History
from koa_lightning.training.run import train

GRADES = np.array([0, 1, 2, 3, 4, -1, 2])


class Recorder(NoRun):
    """Remembers what it is told."""

    run_id = "abc"

    def __init__(self):
        super().__init__()
        self.files = []

    def log_artifact(self, local, folder=None):
        self.files.append((local.name, folder))


@pytest.fixture(scope="module")
def graded():
    """A network, seven knees of which one's grade is unknown, their names, and logits."""
    images = np.random.default_rng(0).integers(0, 256, (7, 48, 48), np.uint8)
    torch.manual_seed(0)
    net = build(NetSpec("test_efficientnet")).eval()
    return net, KneeDataset(images, np.arange(7), GRADES), [f"a/{i}.png" for i in range(7)], torch.randn(7, 5)


@pytest.fixture
def history(tmp_path):
    kept = History(tmp_path / "history.csv")
    kept.epochs = [
        {"epoch": 0, "val/quadratic_kappa": 0.1, "val/mae": 1.0},
        {"epoch": 1, "val/quadratic_kappa": 0.3, "val/mae": float("nan")},
    ]
    return kept


GRADCAM = {"method": "gradcam", "target": "grade", "link": "softmax"}


def draw(graded, folder, **options):
    options = {"maps": GRADCAM, **options}
    return [file.name for file in panels.draw_graded(*graded, ["phantom data"], folder, title="test", **options)]


def test_what_is_drawn(graded, tmp_path):
    assert draw(graded, tmp_path, n_worst=2) == ["confusion_matrix.png", "gradcam.png"]
    more = draw(graded, tmp_path.with_name("more"), n_worst=2, more_panels=True, maps={**GRADCAM, "method": "cam"})
    kinds = ("by_grade", "by_mistake", "most_certain")  # of six knees none is left to be the least certain
    assert more == ["confusion_matrix.png", "cam.png", *(f"panel_{kind}.png" for kind in kinds)]
    assert draw(graded, tmp_path, n_worst=None) == ["confusion_matrix.png"]
    assert draw(graded, tmp_path, n_worst=0, suffix="_epoch_001") == ["gradcam_epoch_001.png"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "confusion_matrix.png",
        "gradcam.png",
        "gradcam_epoch_001.png",
    }


def test_knees_of_unknown_grade_are_in_no_figure(graded, tmp_path, monkeypatch):
    seen = {}
    original = panels.cam_panel
    monkeypatch.setattr(panels, "cam_panel", lambda *args: seen.update(grade=args[2], names=args[5]) or original(*args))
    figure = after_fit.figures.confusion_matrix_figure
    monkeypatch.setattr(
        after_fit.figures,
        "confusion_matrix_figure",
        lambda counts, *args: seen.update(counts=counts) or figure(counts, *args),
    )
    draw(graded, tmp_path, n_worst=7)
    assert int(seen["counts"].sum()) == 6
    assert seen["counts"].sum(1).tolist() == [1, 1, 2, 1, 1]
    assert set(seen["grade"]) == {0, 1, 2, 3, 4}
    assert "5.png" not in seen["names"]


def test_the_counts_are_true_by_predicted(graded, tmp_path, monkeypatch):
    net, dataset, paths, _ = graded
    logits = torch.nn.functional.one_hot(torch.tensor([1, 1, 2, 3, 4, 0, 0]), 5).float() * 9
    seen = []
    figure = after_fit.figures.confusion_matrix_figure
    monkeypatch.setattr(
        after_fit.figures, "confusion_matrix_figure", lambda counts, *args: seen.append(counts) or figure(counts, *args)
    )
    panels.draw_graded(net, dataset, paths, logits, [], tmp_path, title="", n_worst=None, maps=GRADCAM)
    assert seen[0][0].tolist() == [0, 1, 0, 0, 0]
    assert seen[0][2].tolist() == [1, 0, 1, 0, 0]


def test_nothing_is_drawn_without_a_known_grade(graded, tmp_path):
    net, dataset, paths, logits = graded
    unknown = KneeDataset(dataset.images, dataset.rows, np.full(7, -1))
    assert panels.draw_graded(net, unknown, paths, logits, [], tmp_path, title="", n_worst=3, maps=GRADCAM) == []


def test_the_network_is_left_as_it_was(graded, tmp_path):
    net = graded[0].train()
    draw(graded, tmp_path, n_worst=1)
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    net.eval()


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


def test_conclude(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Makefile").touch()
    result = {"val/quadratic_kappa": 0.25, "val/mae": float("nan"), "best_epoch": 1, "checkpoint": "x/best.ckpt",
              "run_id": "abc", "exit_code": outcome.DONE}  # fmt: skip
    assert after_fit.conclude(tiny.config(), tmp_path, result) is result
    assert capsys.readouterr().out.splitlines() == [
        "MLflow run abc (look at it: make ui)", "best checkpoint: x/best.ckpt (epoch 1, val/quadratic_kappa 0.2500)",
    ]  # fmt: skip
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["val/quadratic_kappa"] == 0.25
    assert "val/mae" not in done


def test_what_is_kept_of_an_interrupted_run(tiny, tmp_path, history, capsys):
    module, run = SimpleNamespace(record=SimpleNamespace(caveats=("phantom data",))), Recorder()
    after_fit.keep(tiny.config(), tmp_path, module, history, run)
    assert run.files == [("learning_curves.png", "figures")]
    result = after_fit.interrupted(tiny.config(), tmp_path, history, run)
    assert capsys.readouterr().out == "interrupted; no epoch had begun, start again\n"
    assert (result["exit_code"], result["val/quadratic_kappa"], result["run_id"]) == (outcome.INTERRUPTED, 0.3, "abc")
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / "checkpoints" / name).touch()
        after_fit.keep(tiny.config(), tmp_path, module, History(tmp_path / "empty.csv"), run)
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
