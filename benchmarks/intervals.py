"""All metrics with intervals for the official test split's 1,656 knees, against a plain loop over resamples.

The plain loop draws patients, puts their knees together and calls scikit-learn; it computes only accuracy, kappa,
mean error, macro F1, AUROC and average precision, while the other side computes all metrics by three rules.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn import metrics as sk

from benchmarks.coverage import study
from koa_lightning.metrics.graded import Graded
from koa_lightning.metrics.intervals import N_RESAMPLES, of_graded
from koa_lightning.metrics.thresholds import ROUNDING

N_PATIENTS = 828
BY_HAND = 50  # resamples of the plain loop, whose time is scaled
ROUNDS = 3
SECONDS = 5.0


def by_hand(knees: Graded, n_resamples: int) -> None:
    """Compute this many resamples one by one."""
    rng = np.random.default_rng(0)
    rows_of = np.split(np.argsort(knees.patient, kind="stable"), np.cumsum(np.bincount(knees.patient))[:-1])
    for _ in range(n_resamples):
        rows = np.concatenate([rows_of[patient] for patient in rng.integers(len(rows_of), size=len(rows_of))])
        reference, p = knees.grade[rows], knees.probabilities[rows]
        for grade in (p.argmax(1), np.floor(p @ np.arange(5) + 0.5).astype(int)):
            sk.accuracy_score(reference, grade)
            sk.cohen_kappa_score(reference, grade, weights="quadratic")
            sk.mean_absolute_error(reference, grade)
            sk.f1_score(reference, grade, average="macro")
        for first in (2, 3):
            sk.roc_auc_score(reference >= first, p[:, first:].sum(1))
            sk.average_precision_score(reference >= first, p[:, first:].sum(1))


def measure() -> list[dict]:
    """Return the ratio, and the seconds of the vectorised side against their limit on two cores."""
    knees = study(N_PATIENTS, seed=0)
    ours, theirs = list[float](), list[float]()
    for _ in range(ROUNDS):
        start = time.perf_counter()
        n_metrics = len(of_graded(knees, thresholds=ROUNDING))
        middle = time.perf_counter()
        by_hand(knees, BY_HAND)
        ours.append(middle - start)
        theirs.append((time.perf_counter() - middle) * N_RESAMPLES / BY_HAND)
    seconds = float(np.median(ours))
    what = f"{n_metrics} metrics, {len(knees.grade)} knees, {N_RESAMPLES} resamples: {seconds:.2f} s"
    ratio = float(np.median(np.divide(theirs, ours)))
    detail = f"{what}, 12 of them by scikit-learn {np.median(theirs):.0f} s"
    return [
        {"name": "intervals: speed against a plain loop", "ratio": ratio, "goal": 20, "detail": detail},
        {"name": "intervals: seconds", "ratio": seconds, "goal": SECONDS, "detail": what, "lower": True},
    ]


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
