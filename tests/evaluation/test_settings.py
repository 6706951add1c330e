from pathlib import Path

import pytest

from koa_lightning.checkpoint.fitted import Fitted
from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation.settings import Settings


def settings(*overrides):
    return Settings.of(compose("eval", ["ckpt=x", *overrides]))


def test_they_are_those_of_the_config():
    asked = settings("split=val", "out=there", "subgroups=side", "readers=[a,b]", "edges={age:60,bmi:[20,25]}")
    assert (asked.split, asked.out, asked.subgroups, asked.readers) == ("val", Path("there"), ["side"], ["a", "b"])
    assert asked.edges == {"age": [60], "bmi": [20, 25]}
    assert (asked.given, asked.flip) == (None, False)


def test_data_that_is_typed_is_given():
    asked = settings("data=phantom", "data.split_seed=3", "tta=flip")
    assert asked.given is not None and (asked.given["name"], asked.given["split_seed"]) == ("phantom", 3)
    assert asked.flip


@pytest.mark.parametrize(
    ("split", "logged"), [("train", "train"), ("val", "val"), ("auto_test", "test"), ("all", "test")]
)
def test_metrics_are_logged_under_three_names(split, logged):
    assert settings(f"split={split}").logged_split == logged


def test_the_threshold_of_a_checkpoint():
    assert settings().with_threshold(Fitted()).refer_below == 0.0
    assert settings("refer_below=0.6").with_threshold(Fitted()).refer_below == 0.6
    with pytest.raises(InputError, match=r"refer_risk=0\.1: the checkpoint has no risk curve"):
        settings("refer_risk=0.1").with_threshold(Fitted())
