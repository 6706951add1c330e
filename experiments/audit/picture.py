"""Draw docs/kinds.png: one phantom, or pair of phantoms, for each kind of fault that a picture can show.

    python -m experiments.audit.picture

Synthetic knees; research use only, not a medical device.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.near_duplicates import surrogate
from koa_lightning.data.phantom.manifest import draw_phantoms

FILE = Path(__file__).parents[2] / "docs" / "kinds.png"
SIZE = 224


def pictures() -> list[tuple[str, str, list[np.ndarray]]]:
    """Return kind, what is wrong, and one or two images uint8."""
    rng = np.random.default_rng(3)
    patients, sides = ["P1", "P1", "P2", "P3", "P4"], ["R", "L", "R", "L", "R"]
    right, left, second, third, fourth = draw_phantoms(patients, sides, [1, 2, 3, 0, 4], seed=11, size=SIZE)
    words = Image.fromarray(second.copy())
    ImageDraw.Draw(words).text((40, 100), "RIGHT 42", fill=255, font=ImageFont.load_default(size=28))
    cut = third.copy()
    cut[120:] = 128
    return [
        ("near_duplicate", "the same knee cut and exposed by another program", [right, surrogate(right, rng)]),
        ("same_pixels, two_grades", "one picture twice, here as grade 1 and as grade 3", [right, right]),
        ("patient_in_two_parts", "P1 right in train, and once more in val", [right, np.rot90(fourth, 2)[::-1, ::-1]]),
        ("knees_in_two_parts", "P1 right in train, P1 left in val", [right, left]),
        ("inverted", "bone is dark", [255 - third]),
        ("exposure", "far darker than the other files", [(0.12 * second).astype(np.uint8)]),
        ("blank", "no knee in it", [np.full((SIZE, SIZE), 90, np.uint8)]),
        ("truncated", "the lower part is missing", [cut]),
        ("odd_size", "another aspect than the other files", [second[SIZE // 3 : 2 * SIZE // 3]]),
        ("both_knees", "a film, which has one grade", [np.hstack([right, left])]),
        ("burnt_in", "words over the joint (best effort)", [np.asarray(words)]),
    ]


def main() -> None:
    """Draw the figure."""
    figure = plt.figure(figsize=(11, 8.4), layout="constrained")
    *rows, foot = figure.subfigures(5, 1, height_ratios=[1, 1, 1, 1, 0.1])
    shown = pictures()
    lines = [shown[:2], shown[2:4], shown[4:7], shown[7:]]
    for row, line in zip(rows, lines, strict=True):
        for part, (kind, words, images) in zip(np.atleast_1d(row.subfigures(1, len(line))), line, strict=True):
            part.suptitle(f"{kind}\n", fontsize=10, fontweight="bold")
            part.text(0.5, 0.86, words, ha="center", fontsize=8.5, color="0.35")
            axes = np.atleast_1d(part.subplots(1, len(images), gridspec_kw={"top": 0.8}))
            for ax, image in zip(axes, images, strict=True):
                ax.imshow(image, cmap="gray", vmin=0, vmax=255)
                ax.set_axis_off()
    foot.text(0.01, 0.3, "phantoms; research use only, not a medical device", fontsize=8, color="0.35")
    figure.savefig(FILE, dpi=90)
    Image.open(FILE).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(FILE, optimize=True)
    print(f"written to {FILE}")


if __name__ == "__main__":
    main()
