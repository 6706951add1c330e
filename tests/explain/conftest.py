"""A network that is known through and through: it looks at one window of the image and at nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from koa_lightning.explain.subject import Subject
from koa_lightning.models.net import KneeNet, NetSpec

SIZE, PATCH = 64, 8
ROWS, COLUMNS = slice(2, 4), slice(5, 7)  # of the 8 x 8 grid


class Window(nn.Module):
    """As timm's models: the mean brightness of each patch, of those in the window alone; bright is grade 4."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, PATCH, stride=PATCH)
        self.fc = nn.Linear(2, 5)
        window = torch.zeros(SIZE // PATCH, SIZE // PATCH)
        window[ROWS, COLUMNS] = 1
        self.register_buffer("window", window)
        with torch.no_grad():
            self.conv.weight[0], self.conv.weight[1] = 1 / PATCH**2, -1 / PATCH**2
            self.conv.bias.zero_()
            self.fc.weight.zero_()
            self.fc.weight[4, 0] = 100  # 4 of 64 places: a white window gives 6.25
            self.fc.bias.zero_()
            self.fc.bias[0] = 3

    def forward_features(self, image):
        return self.conv(image) * self.window

    def forward_head(self, features):
        return self.fc(features.mean((2, 3)))

    def get_classifier(self):
        return self.fc


@pytest.fixture
def window_net():
    return KneeNet(Window(), NetSpec("window", mean=0.0, std=1.0)).eval()


@pytest.fixture
def window_mask():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[ROWS.start * PATCH : ROWS.stop * PATCH, COLUMNS.start * PATCH : COLUMNS.stop * PATCH] = True
    return mask


@pytest.fixture
def window_subject(window_net, window_mask):
    """Twelve patients' two knees of grade 4: gray noise, and a window that is nearly white."""
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.2 * torch.rand(24, 1, SIZE, SIZE, generator=generator)
    images[:, :, torch.from_numpy(window_mask)] += 0.4
    patients = tuple(f"p{n // 2}" for n in range(24))
    return Subject(window_net, images, np.full(24, 4), patients, "cam", batch_size=10)
