"""Test whether the heat shows what the network's output depends on: hide the hot pixels, and measure the loss.

Three tests, each against two control maps: deletion and insertion (Petsiuk 2018), and ROAD (Rong 2022), which fills
holes from their surroundings, so that a hole's outline does not reveal its content.
"""

from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, neighbors_weights
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor

from koa_lightning.explain import controls
from koa_lightning.explain.subject import Subject
from koa_lightning.explain.verdict import against_controls

STEPS = 10  # a tenth of the pixels each
BLUR = 0.1  # standard deviation as a share of the width: where insertion begins
ROAD_SHARES = (0.1, 0.3)  # of the pixels that ROAD removes
_ROAD_NOISE = 0.01  # of the gray range, added to filled pixels


def faithfulness(
    subject: Subject, maps: dict[str, np.ndarray], *, n_road: int, seed: int = 0
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Test whether a map's hot pixels matter more to the output than those of control maps.

    Args:
        subject: The network and its knees.
        maps: "map" and its controls, "random" and "centre"; float32 N x H x W each.
        n_road: Knees for ROAD, the first ones: it solves an equation for each hole, about a second per knee and map.
        seed: Seed of ties and of ROAD's noise.

    Returns:
        `deletion` and `insertion`, areas under the curves of the output (Petsiuk 2018; `curve` by map, at 0, 10, ...
        100 % of the pixels), and `road`, half the difference between the outputs without the coldest and without the
        hottest pixels, averaged over the shares removed; each with a verdict by `against_controls`. Also the numbers of
        each knee by "TEST_MAP", NaN where it was not tested.
    """
    places = {name: controls.ranks(each, seed) for name, each in maps.items()}
    results: dict[str, Any] = {}
    knees: dict[str, np.ndarray] = {}
    few = subject.first(n_road)
    for test, more_is_better in (("deletion", False), ("insertion", True), ("road", True)):
        curves = {}
        if test == "road":
            numbers = {name: _padded(road(few, each[:n_road], seed), len(subject)) for name, each in places.items()}
        else:
            curves = {name: curve(subject, each, test) for name, each in places.items()}
            numbers = {name: area(each) for name, each in curves.items()}
        rivals = {name: each for name, each in numbers.items() if name != "map"}
        results[test] = against_controls(numbers["map"], rivals, subject.patients, more_is_better=more_is_better)
        if curves:
            results[test]["curve"] = {name: [float(v) for v in each.mean(0)] for name, each in curves.items()}
        knees |= {f"{test}_{name}": each for name, each in numbers.items()}
    results["road"]["shares"] = list(ROAD_SHARES)
    return results, knees


def curve(subject: Subject, places: np.ndarray, test: str) -> np.ndarray:
    """Return the output as pixels are deleted or inserted, the hottest first: float32 N x 11.

    Args:
        subject: The network and its knees.
        places: Rank of each pixel by heat, see `controls.ranks`.
        test: "deletion": pixels take the image's mean; "insertion": they return to the blurred image.
    """
    images = subject.images
    if test == "deletion":
        start, end = images, images.mean((2, 3), keepdim=True).expand_as(images)
    else:
        start, end = blurred(images, BLUR), images
    place = torch.from_numpy(places)[:, None]
    scores = [subject.scores(torch.where(place < step / STEPS, end, start)) for step in range(STEPS + 1)]
    return np.stack(scores, 1)


def area(curves: np.ndarray) -> np.ndarray:
    """Return the area under each curve over the share of pixels, by the trapezoidal rule: N x S to N."""
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2


def blurred(images: Tensor, share: float) -> Tensor:
    """Return images N x 1 x H x W after a Gaussian blur whose deviation is a share of their width."""
    sigma = share * images.shape[-1]
    return torch.from_numpy(gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest"))


def road(subject: Subject, places: np.ndarray, seed: int) -> np.ndarray:
    """Return ROAD (Rong 2022), combined as in pytorch-grad-cam: (least - most relevant first) / 2, float32 N.

    Args:
        subject: The network and its knees.
        places: As for `curve`.
        seed: Seed of the noise on filled pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    total = np.zeros(len(subject), np.float32)
    for share in ROAD_SHARES:
        for sign, hidden in ((-1, places < share), (1, places >= 1 - share)):
            pairs = zip(subject.images, hidden, strict=True)
            filled = torch.stack([filled_in(image, hole, generator) for image, hole in pairs])
            total += sign * subject.scores(filled)
    return total / (2 * len(ROAD_SHARES))


def filled_in(image: Tensor, hole: np.ndarray, generator: torch.Generator) -> Tensor:
    """Fill a hole so that each pixel is the weighted mean of its neighbours, plus a little noise.

    The equations are those of pytorch-grad-cam's NoisyLinearImputer. They are symmetric, so they can be solved several
    times faster.

    Args:
        image: Float, 1 x H x W, in [0, 1].
        hole: bool, H x W.
        generator: Generator of the noise.
    """
    kept = (~hole).astype(np.float32)
    matrix, right = NoisyLinearImputer.setup_sparse_system(kept, image.numpy(), neighbors_weights)
    symmetric = {"SymmetricMode": True}
    solution = splu(csc_matrix(matrix), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric).solve(
        right[:, 0]
    )
    filled = image.clone()
    noise = _ROAD_NOISE * torch.randn(len(solution), generator=generator)
    filled[0, torch.from_numpy(hole)] = torch.from_numpy(solution).float() + noise
    return filled.clamp(0, 1)


def _padded(numbers: np.ndarray, n: int) -> np.ndarray:
    return np.concatenate([numbers, np.full(n - len(numbers), np.nan, np.float32)])
