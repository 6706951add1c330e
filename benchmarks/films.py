"""How well films of both knees are distinguished from single knees, split, and their joints found.

    python -m benchmarks.films          # phantoms
    python -m benchmarks.films FOLDER   # real knees too, named <patient><side>.jpg, in any subfolders

Films are composed of the two knees of a patient; research use only, not a medical device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from koa_lightning.data.find_images import find_images
from koa_lightning.data.images import read_image
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest
from koa_lightning.data.polarity import inverted
from koa_lightning.data.prepare.films import joint_centre, split_film

SIZE = 224
PHANTOMS = 300  # patients
FILMS = 500  # of the folder's patients, at random


def compose_film(
    right: np.ndarray, left: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[float, float, int]]]:
    """Lay two knees uint8 S x S on one film, the right knee on the image's left.

    Shafts continue to the film's borders, soft tissue fades to black sideways. Scale 0.8 to 1.2, height of the joints
    +-10 % of the film's, width 1.2 to 2.2 times the height, gamma 0.6 to 1.6, uneven exposure, noise, and in some films
    black margins and letters.

    Returns:
        The film, uint8 or (half of them) uint16 of 12 bits; and x, y and width of the right and the left knee.
    """
    aspect, base = rng.uniform(1.2, 2.2), rng.uniform(0.8, 1.2)
    sides = [round(right.shape[0] * base * rng.uniform(0.95, 1.05)) for _ in "RL"]
    width = 2 * max(sides) / rng.uniform(0.55, min(0.95, 2 / (1.15 * aspect)))
    height, width = round(width / aspect), round(width)
    film, centres = np.zeros((height, width), np.float32), []
    for place, (knee, side) in enumerate(zip((right, left), sides, strict=True)):
        room = (width / 2 - side) / 2
        x = width * (0.25 + 0.5 * place) + rng.uniform(-0.8, 0.8) * room
        y = height * (0.5 + rng.uniform(-0.1, 0.1))
        left_edge, top = round(x - side / 2), round(y - side / 2)
        film = np.maximum(film, _leg(knee, side, left_edge, top, film.shape))
        centres.append((left_edge + (side - 1) / 2, top + (side - 1) / 2, side))
    return _expose(film, rng), centres


def _leg(knee: np.ndarray, side: int, left: int, top: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return a film float32 0..1 with one leg, which continues above, below and beside the knee."""
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
        letter = np.zeros(film.shape, np.uint8)
        place = (int(0.03 * width), int(rng.uniform(0.1, 0.95) * height))
        cv2.putText(letter, "R", place, cv2.FONT_HERSHEY_SIMPLEX, height / 300, 1, max(1, height // 120))
        film[letter > 0] = 1
    film = film + rng.normal(0, rng.uniform(0, 0.03), film.shape)
    if rng.random() < 0.5:
        return np.rint(film.clip(0, 1) * 4095).astype(np.uint16)
    return np.rint(film.clip(0, 1) * 255).astype(np.uint8)


def measure_films(pairs: Iterable[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> dict[str, float]:
    """Compose one film of each pair of a right and a left knee, split it, and compare.

    Returns:
        Shares of all knees whose found middle is at most 5 % of the knee's width away from the middle of the square
        that was laid there, at most 5 % of the film's width, and at most 5 % of the knee's from where `joint_centre`
        sees the joint in that square alone (middles of real crops are not always at the joint); spread of the
        differences, in widths; median ratio of the widths; time of a film.
    """
    rng = np.random.default_rng(seed)
    from_middle, from_joint, of_film, ratios, seconds, films, wrong = [], [], [], [], 0.0, 0, 0
    for pair in pairs:
        film, centres = compose_film(*pair, rng)
        mirrored = films % 2 == 1  # same pixels, but the patient's right is declared on the image's right
        start = time.perf_counter()
        found = split_film(film, orientation=r"R\F" if mirrored else "")
        seconds, films = seconds + time.perf_counter() - start, films + 1
        if len(found) < 2:
            continue
        wrong += [knee.side for knee in found] != ["R", "L"] or (found[0].centre[0] > found[1].centre[0]) != mirrored
        for knee, (x, y, width), alone in zip(sorted(found, key=lambda k: k.centre[0]), centres, pair, strict=True):
            offset = (np.array(knee.centre) - (x, y)) / width
            from_middle.append(offset)
            of_film.append(offset * width / film.shape[1])
            from_joint.append(offset - (np.array(joint_centre(alone)[0]) - (SIZE - 1) / 2) / SIZE)
            ratios.append(knee.width / width)
    return {
        "films": films,
        "split": len(ratios) / 2 / films,
        "wrong sides": wrong,
        "within 5 % of the middle": float(np.sum(np.linalg.norm(from_middle, axis=1) <= 0.05)) / (2 * films),
        "within 5 % of the film": float(np.sum(np.linalg.norm(of_film, axis=1) <= 0.05)) / (2 * films),
        "of the joint": float(np.sum(np.linalg.norm(from_joint, axis=1) <= 0.05)) / (2 * films),
        "sd x": float(np.std(from_middle, axis=0)[0]),
        "sd y": float(np.std(from_middle, axis=0)[1]),
        "width": float(np.median(ratios)),
        "ms": 1000 * seconds / films,
    }


def measure_singles(knees: Iterable[np.ndarray]) -> dict[str, float]:
    """Count the single knees that are taken for two, unchanged and with black margins to 4:3, or that are cropped."""
    with ThreadPoolExecutor(2) as pool:
        found = np.array(list(pool.map(_single, knees))).reshape(-1, 3)
    split, cropped, padded = found.sum(axis=0).tolist()
    return {"knees": len(found), "split as they are": split, "cropped": cropped, "split with margins": padded}


def _single(knee: np.ndarray) -> tuple[bool, bool, bool]:
    height, width = knee.shape
    margin = round(height * 4 / 3 - width) // 2
    found = split_film(knee)
    wide = split_film(np.pad(knee, ((0, 0), (margin, margin))))
    return len(found) > 1, found[0].width < min(knee.shape), len(wide) > 1


def _upright(file: Path) -> np.ndarray:
    """Read a knee, bone bright: inverted ones are corrected before films are composed of them."""
    image = read_image(file)
    return 255 - image if inverted(image[None])[0] else image


def _phantoms(patients: int) -> np.ndarray:
    """Draw both knees of each patient, right first; uint8 N x 2 x S x S."""
    rows = phantom_manifest(patients, seed=1).sort_values(["patient", "side"], ascending=[True, False])
    columns = (rows[name].tolist() for name in ("patient", "side", "grade"))
    return draw_phantoms(*columns, seed=1, size=SIZE).reshape(patients, 2, SIZE, SIZE)


def _print(name: str, result: dict[str, float]) -> None:
    print(f"{name}: " + "  ".join(f"{key} {value:.4g}" for key, value in result.items()), flush=True)


def main(arguments: list[str]) -> None:
    """Measure on phantoms and on each folder, and print one line per measurement."""
    phantoms = _phantoms(PHANTOMS)
    _print("films of phantoms", measure_films((right, left) for right, left in phantoms))
    _print("single phantoms", measure_singles(phantoms.reshape(-1, SIZE, SIZE)))
    for folder in arguments:
        files = {file.stem: file for file in find_images(folder)}
        both = sorted(name[:-1] for name in files if name.endswith("R") and f"{name[:-1]}L" in files)
        some = np.random.default_rng(0).permutation(both)[:FILMS]
        pairs = ((_upright(files[f"{each}R"]), _upright(files[f"{each}L"])) for each in some)
        _print(f"films of {folder}", measure_films(pairs))
        _print(f"single knees of {folder}", measure_singles(read_image(file) for file in files.values()))
        dark = [file for file in files.values() if inverted(read_image(file)[None])[0]]
        _print(f"inverted ones of {folder}", measure_singles(read_image(file) for file in dark))
        _print("the same, turned", measure_singles(_upright(file) for file in dark))


if __name__ == "__main__":
    main(sys.argv[1:])
