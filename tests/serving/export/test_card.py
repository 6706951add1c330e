"""The card in an exported file."""

import numpy as np

from koa_lightning.evaluation.predictor import load_model
from koa_lightning.serving.export.card import card
from koa_lightning.serving.export.parity import Parity

AGREEMENT = Parity("64 phantoms", 3e-7, 1.0, 0.9999)


def test_it_says_what_the_file_is(calibrated_checkpoint):
    facts = {"format": "onnx", "precision": "fp32", "price": None}
    words = card(load_model(calibrated_checkpoint), facts, AGREEMENT)
    for part in (
        "research use only, not a medical device",
        "uint8 n x 1 x 32 x 32",
        "ordinal",
        "phantom data",
        "3.0e-07",
    ):
        assert part in words.lower()
    assert "Price" not in words and str(calibrated_checkpoint) not in words


def test_what_a_precision_costs(calibrated_checkpoint):
    price = {
        f"{name}_{side}": np.float64(0.5)
        for name in ("quadratic_kappa", "accuracy")
        for side in ("checkpoint", "export")
    }
    words = card(load_model(calibrated_checkpoint), {"format": "onnx", "precision": "int8", "price": price}, AGREEMENT)
    assert "Price of int8 on validation: quadratic kappa 0.5000 -> 0.5000" in words
