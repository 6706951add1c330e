"""An export that does not agree is refused."""

import numpy as np
import pytest
import torch

from koa_lightning.errors import InputError
from koa_lightning.evaluation.predictor import load_model
from koa_lightning.serving.export.graph import Grader
from koa_lightning.serving.export.parity import Parity, compare, noise

pytest.importorskip("onnxruntime")


class Off:
    """A program that is wrong by a little in one image."""

    def __init__(self, program, change):
        self.program, self.change = program, change

    def __call__(self, images):
        given = {name: value.copy() for name, value in self.program(images).items()}
        self.change(given)
        return given


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda given: given["probabilities"][0].__iadd__(2e-4), "differs from the checkpoint"),
        (lambda given: given["probabilities"][0].fill(np.nan), "differs from the checkpoint"),
        (lambda given: given["cam"][0].__setitem__(slice(None), given["cam"][0][::-1, ::-1]), "heat maps correlate"),
    ],
)
def test_a_broken_export_is_refused(change, words, write_checkpoint, tmp_path):
    large = {"image_size": 96, "fit": "letterbox", "canonical_side": None}  # a heat map of 3 x 3, not of one place
    predictor = load_model(write_checkpoint(tmp_path / "best.ckpt", preprocessing=large))
    grader = Grader(predictor.members).eval()

    def run(image):
        with torch.no_grad():
            return {n: v.numpy() for n, v in zip(grader.outputs, grader(torch.from_numpy(image)), strict=True)}

    images = noise(predictor.checkpoints[0].preprocessing.image_size)
    compare(list(predictor.members), run, images, "noise").check()
    with pytest.raises(InputError, match=words):
        compare(list(predictor.members), Off(run, change), images, "noise").check()


def test_parity_at_the_bounds():
    Parity("x", 1e-4, 1.0, 0.999).check()
    Parity("x", 0.0, 1.0, None).check()
    for largest, cam in ((1.01e-4, 1.0), (0.0, 0.9989)):
        with pytest.raises(InputError):
            Parity("x", largest, 1.0, cam).check()
