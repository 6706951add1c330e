"""Simulated acquisitions: the same knee on another film, from another detector or in another archive.

A grader trained on one source meets other sources. These changes keep the knee and its grade. They alter sharpness,
resolution, exposure, window, contrast, grain, compression, crop width, borders and markers.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Image = np.ndarray
"""uint8 H x W; bone is bright."""
_NARROWEST, _WIDEST = 0.8, 1.3  # crop width relative to the original
_SIDES = (336, 2000)  # longest side in pixels in other archives


def simulate(image: Image, kind: str, rng: np.random.Generator) -> Image:
    """Return a knee as another acquisition would show it.

    Args:
        image: uint8 H x W.
        kind: A key of `KINDS`, or `any`: two to four of them, one after the other.
        rng: Draws the strength of each change.

    Returns:
        uint8; some changes alter the size.
    """
    if kind != "any":
        return KINDS[kind](image, rng)
    for each in rng.permutation(list(KINDS))[: rng.integers(2, 5)]:
        image = KINDS[str(each)](image, rng)
    return image


def _bytes(image: np.ndarray) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def resolution(image: Image, rng: np.random.Generator) -> Image:
    """Return the image with a longest side of 336 to 2,000 pixels, as other archives store it."""
    longest = np.exp(rng.uniform(*np.log(_SIDES)))
    factor = longest / max(image.shape)
    size = (max(8, round(image.shape[1] * factor)), max(8, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA))


def softness(image: Image, rng: np.random.Generator) -> Image:
    """Return the image blurred, or sharpened by an unsharp mask, by up to a hundredth of its height."""
    sigma = rng.uniform(0.002, 0.008) * image.shape[0]
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)
    return _bytes(blurred if rng.random() < 0.5 else image + rng.uniform(0.3, 1.0) * (image - blurred))


def exposure(image: Image, rng: np.random.Generator) -> Image:
    """Return the image under another exposure curve and window: gamma 0.6 to 1.6, up to 6 % clipped at either end."""
    low, high = np.quantile(image, [rng.uniform(0, 0.06), 1 - rng.uniform(0, 0.06)])
    stretched = np.clip((image - low) / max(high - low, 1.0), 0, 1) ** np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
    floor, ceiling = rng.uniform(0, 40), rng.uniform(200, 255)
    return _bytes(floor + (ceiling - floor) * stretched)


def contrast(image: Image, rng: np.random.Generator) -> Image:
    """Return the image equalised in tiles (CLAHE, Zuiderveld 1994), or with reduced local contrast."""
    if rng.random() < 0.5:
        return np.asarray(cv2.createCLAHE(clipLimit=rng.uniform(1.0, 4.0), tileGridSize=(8, 8)).apply(image))
    values = image.astype(np.float32)
    broad = cv2.GaussianBlur(values, (0, 0), image.shape[0] / 10)
    return _bytes(broad + rng.uniform(0.4, 0.8) * (values - broad))


def grain(image: Image, rng: np.random.Generator) -> Image:
    """Return the image with the Poisson noise of fewer photons; its standard deviation is about 2 to 8 gray values."""
    photons = np.exp(rng.uniform(np.log(200), np.log(3000)))
    return _bytes(rng.poisson(image / 255 * photons) / photons * 255)


def compression(image: Image, rng: np.random.Generator) -> Image:
    """Return the image after JPEG of quality 30 to 80."""
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 81))])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE))


def crop(image: Image, rng: np.random.Generator) -> Image:
    """Return a crop 0.8 to 1.3 times as wide; the area beyond the image repeats its border."""
    height, width = image.shape
    factor = np.exp(rng.uniform(np.log(_NARROWEST), np.log(_WIDEST)))
    matrix = np.array([[1 / factor, 0, width / 2 * (1 - 1 / factor)], [0, 1 / factor, height / 2 * (1 - 1 / factor)]])
    matrix[:, 2] += rng.uniform(-0.02, 0.02, 2) * (width, height)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


def borders(image: Image, rng: np.random.Generator) -> Image:
    """Return the image with a black border of up to 10 % on one to four sides."""
    made = image.copy()
    height, width = image.shape
    for side in rng.permutation(4)[: rng.integers(1, 5)]:
        n = round(rng.uniform(0.02, 0.10) * (width if side % 2 else height))
        turned = np.rot90(made, int(side))  # a view: assignments change `made`
        turned[:n] = 0
    return made


def marker(image: Image, rng: np.random.Generator) -> Image:
    """Return the image with a bright side marker, R or L, in a corner."""
    made, (height, width) = image.copy(), image.shape
    scale, thickness = height / 224 * rng.uniform(0.6, 1.1), max(1, round(height / 112))
    x = round((0.04 if rng.random() < 0.5 else 0.86) * width)
    y = round((0.14 if rng.random() < 0.5 else 0.94) * height)
    letter = "RL"[rng.integers(2)]
    return np.asarray(cv2.putText(made, letter, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA))


KINDS: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "resolution": resolution,
    "softness": softness,
    "exposure": exposure,
    "contrast": contrast,
    "grain": grain,
    "compression": compression,
    "crop": crop,
    "borders": borders,
    "marker": marker,
}
