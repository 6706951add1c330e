"""Checkpoints of version 0.1: the record of a real one, read, written back, evaluated and resumed."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from koa_lightning.checkpoint.fitted import Calibration, ConformalSets, OutOfDistribution, SelectivePrediction
from koa_lightning.checkpoint.reading import read
from koa_lightning.checkpoint.writing import to_plain
from koa_lightning.config.compose import compose
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.evaluation.grading import Member
from koa_lightning.metrics import predictions
from koa_lightning.models.net import NetSpec, build
from koa_lightning.training.run import train

OLD = json.loads((Path(__file__).parent / "data" / "record_0_1.json").read_text())
FITTED = ("calibration", "conformal", "abstention", "inputs", "thresholds")
TYPED = [  # that run's command
    "data=phantom", "data.source.n_patients=400", "data.image_size=32", "data.batch_size=16", "model=efflite0",
    "model.weights=none", "model.name=test_efficientnet", "trainer=cpu", "trainer.precision=fp32",
    "trainer.max_epochs=3", "optimizer.lr=3e-3", "explain.n_worst=1", "quiet=true", "tracking=none", "loss=corn",
]  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """The file as 0.1 laid it out, with weights that are drawn here."""
    torch.manual_seed(0)
    net = build(NetSpec(**OLD["koa_lightning"]["net"]))
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({**OLD, "state_dict": state, "pytorch-lightning_version": "2.6.6"}, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def test_it_is_read_and_written_as_it_was(file):
    record = read(file).record
    assert (record.version, record.schema_version) == ("0.1.0", 1)
    assert (record.net.name, record.net.link) == ("test_efficientnet", "corn")
    assert record.data.counts["val"] == [47, 20, 34, 15, 4]
    assert record.caveats == ("phantom data", "untrained weights")
    fitted = record.fitted
    assert isinstance(fitted.calibration, Calibration) and fitted.method == "temperature"
    assert isinstance(fitted.conformal, ConformalSets) and fitted.conformal.quantiles[0] == 1.0
    assert isinstance(fitted.selective_prediction, SelectivePrediction)
    assert isinstance(fitted.out_of_distribution, OutOfDistribution)
    assert fitted.thresholds.objective == "quadratic_kappa"
    assert to_plain(record) == OLD["koa_lightning"]


def test_it_is_evaluated(file, tmp_path, alone):
    options = ["explain=none", "tracking=none", "report=false", "n_resamples=100", "quiet=true"]
    metrics = evaluate(compose("eval", [f"ckpt='{file}'", f"out='{tmp_path}/eval'", "split=test", *options]))
    assert metrics["n_knees"] == 120
    rows = pd.read_parquet(tmp_path / "eval" / "predictions.parquet")
    logits = torch.tensor(rows[predictions.LOGITS[:4]].to_numpy())
    assert torch.equal(
        torch.tensor(rows[predictions.PROBABILITIES].to_numpy()), Member(read(file)).probabilities(logits)
    )
    assert json.loads((tmp_path / "eval" / "conformal.json").read_text())["alpha"] == 0.1


@pytest.mark.slow
def test_it_is_resumed(tmp_path, alone, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(compose("train", [*TYPED, "out=run", "trainer.limit_epochs=1"]))
    last = Path("run/checkpoints/last.ckpt")
    content = torch.load(last, weights_only=True)
    before = {key: value for key, value in OLD["koa_lightning"].items() if key not in FITTED}
    torch.save({**content, "koa_lightning": before}, last)
    result = train(compose("train", [*TYPED, "out=run", f"ckpt={last}"]))
    assert result["exit_code"] == 0
    assert read(last).epochs_done == 3
    assert read(last).record.data.fingerprint == before["data"]["fingerprint"]
