import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, RichProgressBar
from rich.console import Console

from koa_lightning.checkpoint.reading import read
from koa_lightning.training import callbacks
from koa_lightning.training.callbacks import Checkpoints, EveryNEpochs, History, OneLineAnEpoch, WholeFiles, progress
from koa_lightning.training.ema import WarmEMA


@pytest.fixture
def small(tiny_trainer, tiny_grader, tiny_data):
    """Trains with few batches; returns the trainer."""

    def run(folder, *before, ckpt_path=None, module=None, **options):
        options = {"limit_train_batches": 1, "limit_val_batches": 1, **options}
        trainer = tiny_trainer(folder, *before, **options)
        monitor, mode = options.get("monitor", "val/quadratic_kappa"), options.get("mode", "max")
        module = module or tiny_grader(monitor=monitor, mode=mode)
        trainer.fit(module, tiny_data(), ckpt_path=ckpt_path, weights_only=True)
        return trainer

    return run


def one_of(trainer, kind):
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))


def exactly(epochs):
    """The same numbers to the last bit, and what is undefined in the same places."""
    return [pytest.approx(row, rel=0, abs=0, nan_ok=True) for row in epochs]


def epoch_of(file):
    return torch.load(file, weights_only=True)["epoch"]


def scripted(monkeypatch, *values):
    """Let History and Checkpoints see these values of the monitored metric."""
    original = Checkpoints.on_train_epoch_end

    def with_value(self, trainer, pl_module):
        trainer.callback_metrics[self.monitor] = torch.tensor(values[trainer.current_epoch])
        original(self, trainer, pl_module)

    monkeypatch.setattr(Checkpoints, "on_train_epoch_end", with_value)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("max", (0.1, 0.3, 0.3, 0.2), 1),
        ("min", (0.3, 0.1, 0.1, 0.2), 1),
        ("max", (float("nan"), -0.5, float("nan"), -0.6), 1),
        ("max", (0.5, 0.4, 0.3, 0.2), 0),
    ],
)
def test_best_and_last(mode, values, best, tmp_path, small, monkeypatch):
    scripted(monkeypatch, *values)
    small(tmp_path, mode=mode)
    assert sorted(file.name for file in tmp_path.glob("*.ckpt*")) == ["best.ckpt", "last.ckpt"]
    assert (epoch_of(tmp_path / "best.ckpt"), epoch_of(tmp_path / "last.ckpt")) == (best, 3)


def test_no_best_while_the_metric_is_no_number(tmp_path, small, monkeypatch):
    scripted(monkeypatch, *[float("nan")] * 2)
    small(tmp_path, max_epochs=2)
    assert [file.name for file in tmp_path.glob("*.ckpt")] == ["last.ckpt"]


def test_last_exists_before_the_first_epoch(tmp_path, small, tiny_grader):
    module = tiny_grader()
    drawn = {key: value.clone() for key, value in module.net.state_dict().items()}

    class Die(Callback):
        def on_train_batch_start(self, *_):
            raise SystemExit

    with pytest.raises(SystemExit):
        small(tmp_path, WarmEMA(), Die(), module=module)
    first = read(tmp_path / "last.ckpt")
    assert first.epochs_done == 0
    assert all(torch.equal(first.state[key], value) for key, value in drawn.items())


@pytest.mark.parametrize("moved", [False, True])
def test_the_best_is_remembered_through_a_resume(moved, tmp_path, small, monkeypatch):
    scripted(monkeypatch, 0.1, 0.5, 0.3, 0.4)
    folder = tmp_path / "a"
    small(folder, max_epochs=2)
    if moved:
        folder = Path(shutil.move(folder, tmp_path / "b"))
    small(folder, ckpt_path=folder / "last.ckpt")
    assert (epoch_of(folder / "best.ckpt"), epoch_of(folder / "last.ckpt")) == (1, 3)


def test_a_best_that_is_gone_is_forgotten(tmp_path, small, monkeypatch):
    scripted(monkeypatch, 0.1, 0.5, 0.3, 0.4)
    small(tmp_path, max_epochs=2)
    (tmp_path / "best.ckpt").unlink()
    small(tmp_path, ckpt_path=tmp_path / "last.ckpt")
    assert epoch_of(tmp_path / "best.ckpt") == 3


def test_a_run_that_had_stopped_early_does_not_go_on(tmp_path, small):
    def stopping():
        return EarlyStopping("val/loss", mode="min", patience=1, min_delta=100.0, check_finite=False)

    options = {"monitor": "val/loss", "mode": "min", "max_epochs": 4}
    whole = one_of(small(tmp_path, stopping(), **options), History).epochs
    assert [row["epoch"] for row in whole] == [0, 1]
    again = small(tmp_path, stopping(), ckpt_path=tmp_path / "last.ckpt", **options)
    assert one_of(again, History).epochs == exactly(whole)
    longer = small(tmp_path, ckpt_path=tmp_path / "last.ckpt", **options)
    assert [row["epoch"] for row in one_of(longer, History).epochs] == [0, 1, 2, 3]


def test_history_holds_each_epoch_once_with_its_own_numbers(tmp_path, small, tiny_grader):
    module = tiny_grader()
    computed = {"train": [], "val": []}
    for split, metrics in (("train", module.train_metrics), ("val", module.val_metrics)):

        def compute(kept=computed[split], original=metrics.compute):
            values = original()
            kept.append({name: float(value) for name, value in values.items()})
            return values

        metrics.compute = compute
    history = one_of(small(tmp_path, module=module, limit_train_batches=5, limit_val_batches=2), History)
    assert [row["epoch"] for row in history.epochs] == [0, 1, 2, 3]
    for split, epochs in computed.items():
        assert len({str(values) for values in epochs}) == 4  # else a metric of the wrong epoch would not be seen
        for row, values in zip(history.epochs, epochs, strict=True):
            assert {name: row[f"{split}/{name}"] for name in values} == pytest.approx(values, nan_ok=True)
    table = history.table()
    assert list(table.columns) == ["epoch", "name", "value"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), table)
    names = set(table["name"])
    assert {"train/loss", "train/accuracy", "val/loss", "val/quadratic_kappa", "val/f1_4", "val/ece"} <= names


def test_history_through_a_resume(tmp_path, small):
    whole = one_of(small(tmp_path / "whole"), History).epochs
    small(tmp_path / "parts", max_epochs=2)
    splits = one_of(small(tmp_path / "parts", ckpt_path=tmp_path / "parts" / "last.ckpt"), History)
    assert splits.epochs == exactly(whole)
    assert len(pd.read_csv(tmp_path / "parts" / "history.csv")["epoch"].unique()) == 4


def test_an_epoch_without_validation_has_no_validation_metrics(tmp_path, small):
    history = one_of(small(tmp_path, check_val_every_n_epoch=2), History)
    validated = [any(name.startswith("val/") for name in row) for row in history.epochs]
    assert validated == [False, True, False, True]


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [("max", [0.1, 0.3, 0.3], 1), ("min", [0.3, 0.1, 0.1], 1), ("max", [float("nan"), None, -1.0], 2)],
)
def test_best_of_a_history(mode, values, best, tmp_path):
    history, other = (History(tmp_path / "h.csv", name, mode) for name in ("val/mae", "val/other"))
    history.epochs = [{"epoch": i, **({} if v is None else {"val/mae": v})} for i, v in enumerate(values)]
    other.epochs = history.epochs
    assert history.best()["epoch"] == best
    assert other.best() == {}


def test_an_epoch_without_validation_is_not_the_best(tmp_path):
    history = History(tmp_path / "h.csv", "train/loss", "min")
    history.epochs = [{"epoch": 0, "train/loss": 0.5}, {"epoch": 1, "train/loss": 0.9, "val/loss": 1.0}]
    assert history.best()["epoch"] == 1


def test_the_best_of_an_earlier_run_in_the_folder_is_not_this_runs(tmp_path, small):
    (tmp_path / "best.ckpt").write_text("of an earlier run")
    small(tmp_path, max_epochs=1, limit_val_batches=0)
    assert not (tmp_path / "best.ckpt").exists()


def test_every_n_epochs_sees_the_averaged_weights(tmp_path, small):
    seen = {}

    def keep(module, epoch):
        seen[epoch] = module.net.net.classifier.weight.clone()

    small(tmp_path, EveryNEpochs(2, keep), WarmEMA(0.5), limit_train_batches=3)
    assert list(seen) == [1, 3]
    averaged = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["net.net.classifier.weight"]
    assert torch.equal(seen[3], averaged)


@pytest.mark.parametrize(
    ("terminal", "quiet", "bar"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_bar_where_one_can_be_seen(terminal, quiet, bar, monkeypatch):
    monkeypatch.setattr("koa_lightning.training.callbacks.get_console", lambda: Console(force_terminal=terminal))
    assert type(progress("val/quadratic_kappa", quiet)) is (RichProgressBar if bar else OneLineAnEpoch)


def test_one_line_an_epoch(tmp_path, small, capsys):
    small(tmp_path, OneLineAnEpoch("val/quadratic_kappa"), max_epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["0/1", "1/1"]
    assert all(name in lines[0] for name in ("train/loss", "val/loss", "val/accuracy", "val/quadratic_kappa"))
    assert lines[0].count("val/quadratic_kappa") == 1


def test_a_checkpoint_is_written_beside_and_moved(tmp_path, monkeypatch):
    file = tmp_path / "new" / "last.ckpt"
    WholeFiles().save_checkpoint({"a": torch.ones(2)}, file)
    before = file.read_bytes()

    def torn(self, data):
        with self.open("wb") as handle:
            handle.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="No space") as error:
        WholeFiles().save_checkpoint({"a": torch.zeros(2)}, file)
    assert error.value.filename == str(file)
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]
    assert file.read_bytes() == before


@pytest.mark.slow
def test_the_speed_of_a_training_is_that_of_its_best_step(small, tmp_path, monkeypatch):
    clock, heard = iter([0.0, 4.0, 10.0, 10.5, 20.0, 21.0, 30.0, 33.0]), []
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    size = []

    class Size(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            size.append(len(batch["image"]))

    watch = callbacks.SpeedWatch(0, heard.append)

    class Adapt(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            watch.batch_size = watch.batch_size or len(batch["image"])

    small(tmp_path, Size(), Adapt(), watch, max_epochs=2, limit_train_batches=1)
    assert heard == [size[0] / 0.5]
