import functools
from pathlib import Path

import pytest

from koa_lightning.config.compose import compose, plain, without_targets
from koa_lightning.errors import InputError
from koa_lightning.training import resuming

OLD = ["model=resnet18", "model.weights=none", "loss=focal", "loss.gamma=3", "optimizer.lr=1e-3", "seed=1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run with a checkpoint, under outputs/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs/run/checkpoints").mkdir(parents=True)
    (tmp_path / "outputs/run/checkpoints/last.ckpt").touch()
    return tmp_path / "outputs/run"


@functools.cache
def composed(*overrides):
    return compose("train", list(overrides))


@pytest.fixture
def check(folder):
    """Check a config against the record of a run that began with `OLD`."""

    def call(*overrides, epochs_done=2, began=OLD):
        then = composed(*began)
        known = {
            "network": then.model.name,
            "loss": then.loss._target_,
            "config": without_targets(plain(then)),
            "made_of": {},
        }
        ckpt = f"ckpt={folder}/checkpoints/last.ckpt"
        cfg = compose("train", [*began, ckpt, *overrides])
        resuming.check_settings(cfg, folder, epochs_done, **known)
        resuming.check_data(cfg, "abc", "abc")
        return cfg, known

    return call


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "override",
    ["trainer.max_epochs=50", "quiet=true", "trainer=cpu", "explain=none", "tracking=none", "model.weights=auto",
     "data.cache_dir=/x", "data.allow_leakage=true", "name=other"],
)  # fmt: skip
def test_what_may_change_on_a_resumed_run(check, override):
    check(override)


def test_a_run_of_an_older_version_lacks_younger_settings(check):
    cfg, known = check()
    then = known["config"]
    for group, names in {"data": ["fix_polarity", "allow_leakage", "fraction", "top", "bottom"],
                         "optimizer": ["frozen_stages", "unfreeze_every", "layer_decay"]}.items():  # fmt: skip
        for name in names:
            del then[group][name]
    del then["mix"], then["resize"]
    resuming.check_settings(cfg, Path(cfg.ckpt).parents[1], 2, **known)
    cfg.data.fix_polarity = True
    with pytest.raises(InputError, match=r"data\.fix_polarity=True: the run began with False"):
        resuming.check_settings(cfg, Path(cfg.ckpt).parents[1], 2, **known)


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("optimizer.lr=0.5", "optimizer.lr=0.5: the run began with 0.001"),
        ("loss.gamma=1", "loss.gamma=1: the run began with 3"),
        ("data.batch_size=5", "data.batch_size=5: the run began with 16"),
        ("data.source.n_patients=5", "data.source.n_patients=5: the run began with 500"),
        ("augment=none", "augment."),
        ("scheduler=cosine", "scheduler."),
        ("callbacks.ema=null", "callbacks.ema"),
        ("mix=mixup", "mix."),
        ("resize=progressive", "resize."),
        ("data.fraction=0.5", "data.fraction=0.5: the run began with 1.0"),
        ("optimizer.frozen_stages=2", "optimizer.frozen_stages=2: the run began with 0"),
        ("seed=2", "seed=2: the run began with 1"),
        ("model=effb0", "ckpt="),
    ],
)
def test_what_may_not(check, override, start):
    with pytest.raises(InputError) as caught:
        check(override)
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_another_loss_of_the_same_settings(check):
    with pytest.raises(
        InputError, match=r"^loss=koa_lightning.losses.emd.EMD: the run began with koa_lightning.losses.corn.Corn"
    ):
        check("loss=emd", began=["loss=corn"])


def test_other_data(check):
    cfg, _ = check()
    with pytest.raises(InputError, match="it was trained on data abc, but this is data xyz; resume on the same data"):
        resuming.check_data(cfg, "abc", "xyz")


def test_epochs_that_are_done(check):
    check("trainer.max_epochs=2")  # all epochs, but the end of the run is missing
    with pytest.raises(InputError, match=r"all 3 epochs are done; raise trainer.max_epochs"):
        check("trainer.max_epochs=2", epochs_done=3)
    Path("outputs/run/done.json").touch()
    with pytest.raises(InputError, match=r"all 2 epochs are done; raise trainer.max_epochs"):
        check("trainer.max_epochs=2")
    with pytest.raises(InputError, match=r"raise trainer.max_epochs and type trainer.limit_epochs=null to train"):
        check("trainer.max_epochs=2", "trainer.limit_epochs=2")
    check("trainer.max_epochs=3")


def test_a_resumed_run_stays_in_its_folder(check, tmp_path):
    (tmp_path / "elsewhere/checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match="a resumed run stays in its folder"):
        check(f"ckpt={tmp_path}/elsewhere/checkpoints/last.ckpt")
