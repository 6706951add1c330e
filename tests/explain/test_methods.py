import cv2
import numpy as np
import pytest
import torch
from torch import nn

from koa_lightning.explain.cam import heat_maps
from koa_lightning.explain.methods import label
from koa_lightning.models.outputs import n_outputs


class Net(nn.Module):
    """Two convolutions, batch norm, dropout and a linear head: small, but with all that a mode changes."""

    def __init__(self, link="softmax"):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=4, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2),
        )
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(8, n_outputs(link))

    def features(self, x):
        return self.body(x)

    def head(self, features):
        return self.linear(self.dropout(features.mean((2, 3))))

    def forward(self, x):
        return self.head(self.features(x))


def make(link="softmax", seed=0):
    torch.manual_seed(seed)
    return Net(link), torch.rand(5, 1, 48, 32)


def scaled_up(maps, shape):
    """ReLU, each map to [0, 1], bilinear to (H, W)."""
    maps = np.maximum(maps, 0)
    maps = maps - maps.min((1, 2), keepdims=True)
    maps = maps / (1e-7 + maps.max((1, 2), keepdims=True))
    up = np.stack([cv2.resize(each, shape[::-1]) for each in maps])
    up = up - up.min((1, 2), keepdims=True)
    return up / (1e-7 + up.max((1, 2), keepdims=True))


@pytest.mark.parametrize("grade", range(5))
def test_ablation_takes_what_a_channel_is_worth(grade):
    """Also where the logit is below 0, and where the map has values below 0: a linear head gives CAM's weights."""
    model, images = make()
    with torch.no_grad():
        model.linear.bias -= 100
    model.eval()
    features = model.body(images).detach()
    worth = model.linear.weight[grade] * features.mean((2, 3))
    maps = torch.einsum("nc,nchw->nhw", worth, features).detach().numpy()
    heat = heat_maps(model, images, [grade] * 5, method="ablationcam")
    np.testing.assert_allclose(heat, scaled_up(maps * 1000, (48, 32)), atol=2e-3)


def test_score_masks_the_image_with_each_channel():
    model, images = make()
    model.eval()
    with torch.no_grad():
        maps = nn.functional.interpolate(model.body(images), size=(48, 32), mode="bilinear", align_corners=True)
        low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        masked = images[:, None] * ((maps - low) / (high - low + 1e-8))[:, :, None]
        scores = model(masked.flatten(0, 1))[:, 3].view(5, 8).softmax(1)
        heat = torch.einsum("nc,nchw->nhw", scores, model.body(images)).numpy()
    np.testing.assert_allclose(
        heat_maps(model, images, [3] * 5, method="scorecam"), scaled_up(heat, (48, 32)), atol=1e-4
    )


def test_eigencam_points_to_its_largest_value_and_knows_no_grade():
    model, images = make()
    heat = heat_maps(model, images, [0] * 5, method="eigencam")
    np.testing.assert_array_equal(heat, heat_maps(model, images, [4] * 5, method="eigencam"))


def test_every_method_has_a_name_in_figures():
    assert label("gradcam++", "grade") == "Grad-CAM++ of the predicted grade"
    assert label("cam", "expected") == "CAM of a higher grade"
