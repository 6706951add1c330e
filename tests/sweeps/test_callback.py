from types import SimpleNamespace

import pytest

from koa_lightning.config import trial
from koa_lightning.errors import InputError
from koa_lightning.sweeps import trial as sweeps_trial
from koa_lightning.sweeps.callback import ReportToSweep, reporter


@pytest.fixture
def epochs(monkeypatch):
    """Let a callback see the ends of epochs; the sweep prunes at a value below 0."""
    settings = []
    monkeypatch.setattr(sweeps_trial, "report", lambda value, step: settings.append((step, value)) or value < 0)

    def see(callback, values, every=1):
        stops = []
        for epoch, value in enumerate(values):
            trainer = SimpleNamespace(
                current_epoch=epoch, check_val_every_n_epoch=every, callback_metrics={"val/m": value},
                max_epochs=len(values), should_stop=False,
                is_global_zero=True, strategy=SimpleNamespace(broadcast=lambda value: value),
            )  # fmt: skip
            callback.on_train_epoch_end(trainer, None)
            stops.append(trainer.should_stop)
        return settings, stops

    return see


def test_each_validated_epoch_is_reported(epochs):
    settings, stops = epochs(ReportToSweep("val/m"), [1.0, 2.0, 3.0, 4.0], every=2)
    assert settings == [(1, 2.0), (3, 4.0)] and not any(stops)


def test_a_pruned_trial_stops_but_not_after_its_last_epoch(epochs):
    callback = ReportToSweep("val/m")
    _, stops = epochs(callback, [1.0, -1.0, 1.0])
    assert stops == [False, True, False] and callback.pruned
    callback = ReportToSweep("val/m")
    assert epochs(callback, [1.0, -1.0])[1] == [False, False] and not callback.pruned


def test_what_a_run_reports(monkeypatch, tmp_path):
    def tell(**known):
        monkeypatch.setenv(trial.VARIABLE, trial.Trial(sweep="mine", folder=str(tmp_path), **known).dumps())
        return reporter(tmp_path).metric

    assert tell(metrics=("val/quadratic_kappa", "seconds")) == "val/quadratic_kappa"
    assert tell(metrics=("seconds", "val/ece")) is None
    assert tell(metrics=("val/ece",), repeat=1) is None
    assert reporter(tmp_path / "fold_0").metric is None
    with pytest.raises(InputError, match=r"sweep.metrics=val/kapa: no such metric"):
        tell(metrics=("val/kapa",))
