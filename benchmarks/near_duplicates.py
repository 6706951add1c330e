"""Recall, precision and cost of the audit's search for near duplicates, and the growth of the cost.

    python -m benchmarks.near_duplicates FOLDER          # real knees, e.g. {train,val}/{0..4}/NAME.jpg
    python -m benchmarks.near_duplicates 1000 3000 10000 # phantoms, this many in turn

In each folder 500 knees (of phantoms: 5 in 100) get a surrogate under another name: a crop of 0.75 to 1.3 times the
width whose middle is moved by up to 15 % of it, gamma 0.7 to 1.4, contrast equalised in half of them (globally or
locally), JPEG quality 70 to 95. Recall is the share of these pairs that are found; precision the share of found pairs
that are planted. It is not one of `make bench`: it takes minutes to hours. Research use only, not a medical device.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from koa_lightning.data.audit import near
from koa_lightning.data.find_images import find_images
from koa_lightning.data.fitting import fit
from koa_lightning.data.images import read_image
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest

SIZE = 224
SURROGATES = 500
SHARE = 0.05  # of phantoms
_DRAWN = 200  # phantoms at a time


def surrogate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the same knee as another program would have cut, exposed and saved it; uint8 S x S."""
    side = image.shape[0]
    scale, (dx, dy) = rng.uniform(0.75, 1.3), rng.uniform(-0.15, 0.15, 2) * side
    left = side / 2 * (1 - scale)
    window = np.array([[scale, 0, left + dx], [0, scale, left + dy]])
    changed = cv2.warpAffine(image, window, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    changed = np.rint(255 * (changed / 255.0) ** rng.uniform(0.7, 1.4)).astype(np.uint8)
    if rng.random() < 0.5:
        local = cv2.createCLAHE(clipLimit=rng.uniform(1.5, 4), tileGridSize=(8, 8))
        changed = cv2.equalizeHist(changed) if rng.random() < 0.5 else local.apply(changed)
    encoded = cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def measure(images: np.ndarray, n: int, seed: int = 0) -> dict[str, float]:
    """Fill the last n of images uint8 N x S x S with surrogates of others, search, and count.

    Returns:
        recall, precision, seconds of the search, and the largest resident memory of the process so far in GB.
    """
    rng = np.random.default_rng(seed)
    first = len(images) - n
    chosen = rng.choice(first, n, replace=False)
    for row, knee in enumerate(chosen, start=first):
        images[row] = surrogate(images[knee], rng)
    start = time.perf_counter()
    found = near.find_duplicates(images, quiet=True)
    seconds = time.perf_counter() - start
    planted = set(zip(chosen.tolist(), range(first, len(images)), strict=True))
    pairs = set(zip(found["row_a"].tolist(), found["row_b"].tolist(), strict=True))
    return {
        "images": len(images),
        "recall": len(pairs & planted) / n,
        "precision": len(pairs & planted) / max(1, len(pairs)),
        "seconds": seconds,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def of_folder(folder: str) -> dict[str, float]:
    """Measure on the images of a folder."""
    files = find_images(folder)
    images = np.zeros((len(files) + SURROGATES, SIZE, SIZE), np.uint8)
    for row, file in enumerate(files):
        images[row] = fit(read_image(file), SIZE, "letterbox")
    return measure(images, SURROGATES)


def of_phantoms(n: int, folder: Path) -> dict[str, float]:
    """Measure on n phantoms, which are kept on the disk."""
    file = folder / "phantoms.npy"
    planted = max(10, round(SHARE * n))
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (n, SIZE, SIZE))
    rows = phantom_manifest((n - planted + 1) // 2, seed=1)[: n - planted]
    for start in range(0, len(rows), _DRAWN):
        some = rows[start : start + _DRAWN]
        knees = (some[name].tolist() for name in ("patient", "side", "grade"))
        images[start : start + len(some)] = draw_phantoms(*knees, seed=1, size=SIZE)
    result = measure(images, planted)
    file.unlink()
    return result


def main(arguments: list[str]) -> None:
    """Measure the typed folders or sizes; print one line each, and the growth from size to size."""
    before: dict[str, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for argument in arguments or ["1000", "3000"]:
            result = of_phantoms(int(argument), Path(folder)) if argument.isdigit() else of_folder(argument)
            line = "  ".join(f"{name} {value:,.4g}" for name, value in result.items())
            if before is not None:
                growth = np.log(result["seconds"] / before["seconds"]) / np.log(result["images"] / before["images"])
                line += f"  time grows with n to the {growth:.2f}"
            print(line, flush=True)
            before = result


if __name__ == "__main__":
    main(sys.argv[1:])
