"""How well films of both knees are told from single knees, split, and their joints found.

    python -m benchmarks.films          # phantoms
    python -m benchmarks.films FOLDER   # real knees too, named <patient><side>.jpg, in any subfolders

Films are composed of the two knees of a patient; research use only, not a medical device.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np

from koa_lightning.data.images import find_images, read_image
from koa_lightning.data.phantom import draw_phantoms, phantom_manifest
from koa_lightning.data.prepare.films import split_film


def compose_film(
    right: np.ndarray, left: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[float, float, int]]]:
    """Lay two knees uint8 S x S on one film, the right knee on the image's left.

    Shafts go on to the film's borders, soft tissue fades to black sideways. Scale 0.8 to 1.2, height of the joints
    +-10 % of the film's, width 1.2 to 2.2 times the height, gamma 0.6 to 1.6, uneven exposure, noise, and in some films
    black margins and letters.

    Returns:
        The film, uint8 or (half of them) uint16 of 12 bits; and x, y and width of the right and the left knee.
    """
    aspect, base = rng.uniform(1.2, 2.2), rng.uniform(0.8, 1.2)
    sides = [round(right.shape[0] * base * rng.uniform(0.95, 1.05)) for _ in "RL"]
    width = 2 * max(sides) / rng.uniform(0.55, min(0.95, 2 / (1.15 * aspect)))
    height, width = round(width / aspect), round(width)
    film, truth = np.zeros((height, width), np.float32), []
    for place, (knee, side) in enumerate(zip((right, left), sides, strict=True)):
        room = (width / 2 - side) / 2
        x = width * (0.25 + 0.5 * place) + rng.uniform(-0.8, 0.8) * room
        y = height * (0.5 + rng.uniform(-0.1, 0.1))
        left_edge, top = round(x - side / 2), round(y - side / 2)
        film = np.maximum(film, _leg(knee, side, left_edge, top, film.shape))
        truth.append((left_edge + (side - 1) / 2, top + (side - 1) / 2, side))
    return _expose(film, rng), truth


def _leg(knee: np.ndarray, side: int, left: int, top: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a film float32 0..1 with one leg, which goes on above, below and beside the knee."""
    size = (side, side)
    small = cv2.resize(knee, size, interpolation=cv2.INTER_AREA if side < knee.shape[0] else cv2.INTER_LINEAR)
    image = small.astype(np.float32) / 255
    rows, columns = (np.arange(n) - start for n, start in zip(shape, (top, left), strict=True))
    leg = image[rows.clip(0, side - 1)][:, columns.clip(0, side - 1)]
    outside = np.maximum(0, np.maximum(-columns, columns - side + 1))
    soft = cv2.blur(leg, (1, max(3, side // 15)))
    leg[:, outside > 0] = soft[:, outside > 0]
    leg *= np.exp(-((outside / (0.12 * side)) ** 2))
    return leg.astype(np.float32)


def _expose(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = film.shape
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    film = film ** rng.uniform(0.6, 1.6) * rng.uniform(0.6, 1) + rng.uniform(0, 0.1)
    film *= 1 + rng.uniform(-0.3, 0.3) * x + rng.uniform(-0.3, 0.3) * y
    if rng.random() < 0.5:  # collimated
        margins = (rng.uniform(0, 0.05, 4) * (height, height, width, width)).astype(int)
        film[: margins[0]] = film[height - margins[1] :] = film[:, : margins[2]] = film[:, width - margins[3] :] = 0
    if rng.random() < 0.5:
        film = film.astype(np.float32)
        place = (int(0.03 * width), int(rng.uniform(0.1, 0.95) * height))
        cv2.putText(film, "R", place, cv2.FONT_HERSHEY_SIMPLEX, height / 300, 1.0, max(1, height // 120))
    film = film + rng.normal(0, rng.uniform(0, 0.03), film.shape)
    if rng.random() < 0.5:
        return np.rint(film.clip(0, 1) * 4095).astype(np.uint16)
    return np.rint(film.clip(0, 1) * 255).astype(np.uint8)
