"""How a grader handles knees of other acquisitions, and pictures without a knee.

    python -m experiments.grader.acquisition FOLDER [--checkpoint FILE] [--knees N]

FOLDER is Chen 2018. For each simulated acquisition of validation knees: quadratic kappa, the share taken for no
knee (goal: at most 10 %) and the share that is noted as another acquisition. For each kind of picture without a knee:
the share taken for no knee (goal: at least 95 %). Writes acquisition.csv beside this file. Research use only, not a
medical device.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from benchmarks.out_of_distribution import strangers, turned
from koa_lightning import DISCLAIMER, pretrained
from koa_lightning.data.acquisition import KINDS, simulate
from koa_lightning.data.images import decode
from koa_lightning.evaluation.predictor import Predictor, load_model
from koa_lightning.metrics.grade_metrics import compute
from koa_lightning.metrics.predictions import PROBABILITIES

HERE = Path(__file__).parent
N_PICTURES, SIZE = 60, 300
MOST_KNEES, LEAST_OTHERS = 0.10, 0.95  # goals, of what is taken for no knee


def knees(folder: Path, n: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return images of validation knees, spread evenly over the patients, and their grades."""
    files = sorted((folder / "val").glob("[0-4]/*"), key=lambda file: file.name)
    some = [files[row] for row in np.unique(np.linspace(0, len(files) - 1, min(n, len(files))).astype(int))]
    images = [np.asarray(decode(file.read_bytes(), file.name)) for file in some]
    return images, np.array([int(file.parent.name) for file in some])


def others(images: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Return pictures without an upright knee, by kind."""
    same = np.stack([cv2.resize(image, (SIZE, SIZE)) for image in images[: N_PICTURES + 1]])
    both = [np.hstack([one, other[:, ::-1]]) for one, other in pairwise(same)]
    made = {**turned(same[:N_PICTURES]), **strangers(N_PICTURES, SIZE)}
    return {**{kind: list(pictures) for kind, pictures in made.items()}, "both knees in one film": both}


def evaluate(grader: Predictor, images: list[np.ndarray], grade: np.ndarray) -> list[dict[str, Any]]:
    """Return a row for each simulated acquisition and each kind of picture without a knee."""
    rows = []
    for kind in ("untouched", *KINDS, "any"):
        rng = np.random.default_rng(0)
        made = images if kind == "untouched" else [simulate(image, kind, rng) for image in images]
        table = grader.predict(made)
        found = compute(table[PROBABILITIES].to_numpy(), grade)
        kappas = {name: round(found[name], 4) for name in ("quadratic_kappa", "quadratic_kappa_median", "accuracy")}
        rows.append({"kind": kind, "knees": True, "n": len(made), **_shares(table), **kappas})
    for kind, pictures in others(images).items():
        rows.append({"kind": kind, "knees": False, "n": len(pictures), **_shares(grader.predict(pictures))})
    return rows


def _shares(table: pd.DataFrame) -> dict[str, float]:
    other = ~table["acquisition"].isin(["", "as trained"])
    shares = {"no_knee": (table["foreign"] == "yes").mean(), "other_acquisition": other.mean()}
    return {name: round(float(value), 4) for name, value in shares.items()}


def main() -> None:
    """Run the typed command."""
    typed = argparse.ArgumentParser(prog="python -m experiments.grader.acquisition", description=__doc__)
    typed.add_argument("folder", type=Path, help="of Chen 2018")
    typed.add_argument("--checkpoint", default=pretrained.NAME, help="none: the grader in the box")
    typed.add_argument("--knees", type=int, default=400)
    args = typed.parse_args()
    table = pd.DataFrame(evaluate(load_model(args.checkpoint), *knees(args.folder, args.knees)))
    print(table.to_string(index=False))
    missed = table[
        (table["knees"] & (table["no_knee"] > MOST_KNEES)) | (~table["knees"] & (table["no_knee"] < LEAST_OTHERS))
    ]
    print(f"goals missed: {', '.join(missed['kind']) or 'none'}; {DISCLAIMER}")
    table.to_csv(HERE / "acquisition.csv", index=False)


if __name__ == "__main__":
    main()
