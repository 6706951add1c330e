"""Maps that know nothing of the image: what an explanation must beat."""

import cv2
import numpy as np
from pytorch_grad_cam.utils.image import scale_cam_image

CENTRE_WIDTH = 0.25  # standard deviation of the centre prior, as a share of the image


def random_maps(n: int, grid: tuple[int, int], shape: tuple[int, int], seed: int) -> np.ndarray:
    """Noise on the network's own grid, enlarged as its maps are: as smooth as they, and about nothing.

    Noise of single pixels would be no fair rival: scattered holes hide less, and disturb a network more, than patches.

    Args:
        n: How many.
        grid: (h, w) of the last map.
        shape: (H, W) of the images.
        seed: Of the noise.

    Returns:
        float32, N x H x W, in [0, 1].
    """
    noise = np.random.default_rng(seed).random((n, *grid), dtype=np.float32)
    return scale_cam_image([cv2.resize(each, shape[::-1]) for each in noise]).reshape(n, *shape)


def centre_maps(n: int, shape: tuple[int, int]) -> np.ndarray:
    """A Gaussian hill in the middle of the image, float32 N x H x W in [0, 1]: crops of knees have the joint there."""
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in shape)
    hill = np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / (2 * CENTRE_WIDTH**2)).astype(np.float32)
    return np.repeat(hill[None], n, 0)


def ranks(maps: np.ndarray, seed: int) -> np.ndarray:
    """Place of each pixel by heat, the hottest 0: float32 N x H x W in [0, 1).

    Where heat is equal, as in the wide fields of 0, a smooth random map decides; by row and column would be the upper
    edge first.
    """
    n, *shape = maps.shape
    small = random_maps(n, (7, 7), (shape[0], shape[1]), seed)
    order = np.argsort(-(maps + 1e-5 * small).reshape(n, -1), axis=1, kind="stable")
    place = np.empty(order.shape, np.float32)
    steps = np.arange(order.shape[1], dtype=np.float32) / order.shape[1]
    np.put_along_axis(place, order, np.broadcast_to(steps, order.shape), axis=1)
    return place.reshape(maps.shape)
