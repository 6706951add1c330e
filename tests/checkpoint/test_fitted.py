"""Entries that were fitted on validation: what a file may hold, and the way there and back."""

import pytest
import torch

from koa_lightning.checkpoint import fitted
from koa_lightning.checkpoint.fitted import Calibration, ConformalSets, Fitted, LeftOut, SelectivePrediction

TEMPERATURE = Calibration(method="temperature", parameters={"temperature": 2.5})
ORDINAL = Calibration(method="ordinal", parameters={"scale": 0.6, "shift": -0.4})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "method"),
        ({"method": "magic"}, "method: must be one of none, temperature, ordinal"),
        ({"method": "temperature", "parameters": {}}, "parameters: must be temperature"),
        ({"method": "temperature", "parameters": {"temperature": 0.0}}, "temperature=0.0: must be a number from 0.05"),
        ({"method": "temperature", "parameters": {"temperature": float("nan")}}, "temperature=nan"),
        ({"method": "temperature", "parameters": {"temperature": "2"}}, "temperature='2'"),
        ({"method": "ordinal", "parameters": {"scale": 1.0, "shift": 99.0}}, "shift=99.0: must be a number from -10"),
        ({"method": "none", "parameters": {"scale": 1.0}}, "parameters: must be empty"),
        ({"method": "ordinal", "parameters": [1.0, 2.0]}, "parameters"),
    ],
)
def test_a_calibration_that_is_wrong(entry, words):
    assert words in Calibration.wrong(entry)


def test_there_and_back():
    for entry in (TEMPERATURE, ORDINAL, Calibration()):
        assert Calibration.wrong(entry.to_plain()) == ""
        assert Calibration.from_plain(entry.to_plain()) == entry


def test_the_words_on_disk_are_those_of_0_1():
    entries = Fitted(
        calibration=TEMPERATURE,
        conformal=ConformalSets(quantiles=(0.5,) * 50, n_patients=7),
        selective_prediction=SelectivePrediction(curve=((0.9, 0.5, 0.1),)),
        out_of_distribution=LeftOut("too few"),
    )
    plain = entries.to_plain()
    assert plain["conformal"] == {"n_patients": 7, "limits": [0.5] * 50}
    assert plain["abstention"] == {"curve": [[0.9, 0.5, 0.1]]}
    assert plain["inputs"] == {"left_out": "too few"}
    assert fitted.wrong(plain, None) == ""
    assert Fitted.from_plain(plain) == entries


@pytest.mark.parametrize(
    ("key", "change"),
    [("calibration", {"n_knees": "x"}), ("calibration", {"part": 5}), ("calibration", {"lost": 5}),
     ("calibration", {"cross_fitted_log_loss": {"none": 1.0}}), ("calibration", {"n_patients": -1})],
)  # fmt: skip
def test_sizes_and_reasons_are_checked_too(key, change):
    entry = {**TEMPERATURE.to_plain(), **change}
    assert fitted.wrong({key: entry}, None).startswith(f"{key}.{next(iter(change))}")


@pytest.mark.parametrize(
    ("record", "tensors", "words"),
    [
        ({"calibration": 5}, None, "calibration is not a dict"),
        ({"calibration": {"method": "eval"}}, None, "calibration.method"),
        ({"conformal": {}}, None, "conformal.limits"),
        ({"abstention": {"curve": "x"}}, None, "abstention.curve"),
        ({"inputs": []}, None, "inputs is not a dict"),
        ({"inputs": {}}, None, "inputs.flagged: must be a number"),
        ({}, {"x": torch.ones(1)}, "koa_lightning_inputs: its entries are not"),
    ],
)
def test_entries_that_are_wrong(record, tensors, words):
    assert words in fitted.wrong(record, tensors)
