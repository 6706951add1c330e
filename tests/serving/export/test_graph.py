"""What is exported computes what the rest of the program does."""

import numpy as np
import pytest
import torch

from koa_lightning.evaluation.predictor import load_model
from koa_lightning.models.net import NetSpec
from koa_lightning.serving.export.graph import Grader, slopes
from koa_lightning.serving.export.parity import noise

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("link", ["softmax", "corn"])
def test_the_graph_gives_what_the_rest_of_the_program_computes(link, write_checkpoint, tmp_path):
    net = NetSpec("test_efficientnet", link=link).to_dict()
    predictor = load_model(write_checkpoint(tmp_path / "best.ckpt", net=net))
    grader = Grader(predictor.members).eval()
    images = noise(predictor.checkpoints[0].preprocessing.image_size)
    with torch.no_grad():
        given = dict(zip(grader.outputs, grader(images), strict=True))
    table = predictor.predict([image[0].numpy() for image in images])
    assert given["median_grade"].tolist() == table["median_grade"].tolist()
    assert given["grade"].tolist() == table["predicted"].tolist()
    np.testing.assert_allclose(given["expected_grade"].numpy(), table["expected_grade"], atol=1e-4)
    assert grader.has_cam and (given["cam"] >= 0).all()


def test_slopes_are_those_of_the_gradient():
    logits = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    from koa_lightning.models.outputs import probabilities

    grade = torch.arange(40) % 5
    chosen = probabilities(logits, "corn").gather(1, grade[:, None]).log().sum()
    (gradient,) = torch.autograd.grad(chosen, logits)
    expected = gradient / gradient.abs().amax(1, keepdim=True)
    assert torch.allclose(slopes(logits.detach(), grade, "corn"), expected.double(), atol=1e-5)
