"""Control maps that ignore the image: an explanation must beat them."""

import cv2
import numpy as np
from pytorch_grad_cam.utils.image import scale_cam_image

CENTRE_WIDTH = 0.25  # standard deviation of the centre prior, as a share of the image


def random_maps(n: int, grid: tuple[int, int], shape: tuple[int, int], seed: int) -> np.ndarray:
    """Noise on the network's own grid, enlarged like its maps: equally smooth, but meaningless.

    Noise of single pixels would be an unfair control: scattered holes hide less than patches, but disturb a network
    more.

    Args:
        n: Number of maps.
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
    """Rank of each pixel by heat, the hottest 0: float32 N x H x W in [0, 1).

    Where heat is equal, as in large areas of 0, a smooth random map decides; row-by-row order would put the upper edge
    first.
    """
    n, *shape = maps.shape
    small = random_maps(n, (7, 7), (shape[0], shape[1]), seed)
    order = np.argsort(-(maps + 1e-5 * small).reshape(n, -1), axis=1, kind="stable")
    place = np.empty(order.shape, np.float32)
    steps = np.arange(order.shape[1], dtype=np.float32) / order.shape[1]
    np.put_along_axis(place, order, np.broadcast_to(steps, order.shape), axis=1)
    return place.reshape(maps.shape)
