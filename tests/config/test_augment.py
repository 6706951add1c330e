"""What is said of the augmentation of 0.1, and which operations a run folder may name."""

import pytest

from koa_lightning.config import augment, recorded_overrides
from koa_lightning.errors import InputError


@pytest.mark.parametrize("name", augment.MOVED)
def test_every_key_of_0_1_is_told_what_to_type(name):
    assert "augment.ops." in augment.now(f"augment.{name}")


@pytest.mark.parametrize("key", ["augment.ops", "augment.ops.flip.p", "augment.colour", "mix.flip"])
def test_other_keys_are_not(key):
    assert augment.now(key) == ""


def test_a_run_of_0_1_continues_with_other_random_numbers(capsys):
    assert augment.began_before_kornia("ckpt=last", {"flip": 0.5, "rotation": 10.0})
    assert "started by version 0.1" in capsys.readouterr().err
    assert not augment.began_before_kornia("ckpt=last", {"ops": {}})
    assert not augment.began_before_kornia("ckpt=last", {})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("typed", ["augment.rotation", "augment._target_"])
def test_a_run_that_was_typed_with_keys_of_0_1_cannot_go_on(typed):
    with pytest.raises(InputError, match=r"^ckpt=last: the run was started by version 0.1, .*type the same command"):
        augment.check_overrides("ckpt=last", ["seed", typed])
    augment.check_overrides("ckpt=last", ["augment", "augment.ops.flip.p", "+augment.ops.blur", "mix.mixup"])


def test_an_operation_of_a_resumed_run_keeps_its_class():
    then = {"optimizer": "AdamW", "augment.ops.blur": "RandomBoxBlur"}
    with pytest.raises(
        InputError, match=r"augment\.ops\.blur is now RandomGaussianBlur, but the run started with RandomBox"
    ):
        augment.check_same("ckpt=a", then, {"blur": {"_target_": "kornia.augmentation.RandomGaussianBlur"}})
    augment.check_same("ckpt=a", then, {"blur": {"_target_": "kornia.augmentation.RandomBoxBlur"}, "flip": None})
    augment.check_same("ckpt=a", {}, {"blur": {"_target_": "kornia.augmentation.RandomGaussianBlur"}})


@pytest.mark.parametrize(
    ("item", "may"),
    [
        ("+augment.ops.blur={_target_:kornia.augmentation.RandomGaussianBlur,p:0.5}", True),
        ("+augment.ops.edges={_target_:koa_lightning.training.augmentation.RandomCollimation}", True),
        ("~augment.ops.rotation", True),
        ("+augment.ops.bad={_target_:os.system,command:ls}", False),
        ("+augment.ops.bad={_target_:kornia.augmentation.RandomDissolving}", False),
        ("augment._target_=koa_lightning.augment.KneeAugment", False),
    ],
)
def test_which_operations_a_run_folder_may_name(item, may):
    assert bool(recorded_overrides.why_not([item])) != may
