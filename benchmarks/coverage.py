"""How often the intervals contain the reference value, over simulated studies of two knees per patient.

`python -m benchmarks.coverage [REPEATS]` (default 500): each repeat is a study of 828 patients, as many as the test
split of Chen 2018 has; the reference is the value of the same metrics over 600,000 patients. For each metric it prints
the share of the 95 % intervals that contain the reference value, drawn by patient (as `metrics.intervals` does) and
knee by knee (which ignores that two of them are of one patient). The exit code is 1 if a share by patient is
outside 93 to 97 %, in whole percents, because 500 repeats do not show more; calibration errors are shown without such a
goal, because chance alone raises them.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from scipy.stats import norm

from koa_lightning.config.metrics import CALIBRATION, declared
from koa_lightning.metrics.graded import Graded
from koa_lightning.metrics.intervals import Interval, of_graded
from koa_lightning.metrics.weighted import WeightedMetrics

SHARES = (0.40, 0.18, 0.26, 0.13, 0.03)  # of the grades, as in Chen 2018
ALIKE = 0.9  # correlation of severity, and of the model's error, between the knees of a patient
ERROR = 0.5  # sd of the model's error, in sd of severity
SHARPNESS = 1.5  # the model's probabilities are raised to this power: it is overconfident
N_PATIENTS, N_POPULATION = 828, 600_000
REPEATS, N_RESAMPLES = 500, 2000
LOW, HIGH = 0.93, 0.97
METRICS = (
    "accuracy", "balanced_accuracy", "f1_macro", "precision_macro", "quadratic_kappa", "linear_kappa", "mae",
    "quadratic_kappa_expected", "mae_expected", "auroc_oa", "auroc_ge3", "ap_oa", "ap_ge3", "rps", "brier", "log_loss",
    "ece", "ece_classwise",
)  # fmt: skip


def study(n_patients: int, seed: int) -> Graded:
    """Return the graded knees of a simulated study, two per patient.

    Severity is normal and cut into grades; the model sees it with an error. Both are correlated in a patient's knees.
    """
    rng = np.random.default_rng(seed)

    def alike() -> np.ndarray:
        own, shared = rng.normal(size=(n_patients, 2)), rng.normal(size=(n_patients, 1))
        return (np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * own).ravel()

    severity = alike()
    seen = severity + ERROR * alike()
    cuts = norm.ppf(np.cumsum(SHARES)[:-1])
    spread = ERROR / np.sqrt(1 + ERROR**2)  # of the severity, once it is seen
    reached = norm.cdf((cuts[None] - (seen / (1 + ERROR**2))[:, None]) / spread)
    p = np.diff(reached, axis=1, prepend=0, append=1).clip(1e-12) ** SHARPNESS
    probabilities = (p / p.sum(1, keepdims=True)).astype(np.float32)
    return Graded(np.searchsorted(cuts, severity), probabilities, np.repeat(np.arange(n_patients), 2), n_patients)


def reference(n_patients: int = N_POPULATION, metrics: tuple[str, ...] = METRICS) -> dict[str, float]:
    """Return the metrics of enough patients to count as the reference."""
    values = WeightedMetrics(study(n_patients, seed=2**31), only=metrics)(np.ones((1, n_patients)))
    return {name: float(value[0]) for name, value in values.items()}


def repeat(
    seed: int, n_patients: int = N_PATIENTS, n_resamples: int = N_RESAMPLES, metrics: tuple[str, ...] = METRICS
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Return the intervals of one study, drawn by patient and knee by knee."""
    knees = study(n_patients, seed)
    n = len(knees.grade)
    alone = Graded(knees.grade, knees.probabilities, np.arange(n), n)
    by_patient, by_knee = (of_graded(each, n_resamples=n_resamples, seed=seed, only=metrics) for each in (knees, alone))
    return by_patient, by_knee


def coverage(intervals: list[dict[str, Interval]], true: dict[str, float]) -> dict[str, float]:
    """Return the share of the intervals of each metric that contain the reference value."""
    return {name: float(np.mean([holds(each[name], value) for each in intervals])) for name, value in true.items()}


def holds(interval: Interval, value: float) -> bool:
    """Tell whether a value is inside an interval."""
    return interval.low is not None and interval.high is not None and interval.low <= value <= interval.high


def main(arguments: list[str]) -> int:
    """Print the coverage of each metric; return 1 if an interval by patient misses the goal."""
    repeats = int(arguments[0]) if arguments else REPEATS
    true = reference()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        pairs = list(pool.map(partial(repeat), range(repeats), chunksize=10))
    by_patient, by_knee = (coverage(list(side), true) for side in zip(*pairs, strict=True))
    widths = {name: np.mean([a[name].high - a[name].low for a, _ in pairs]) for name in true}  # type: ignore[operator]
    print(
        f"{repeats} studies of {N_PATIENTS} patients, {N_RESAMPLES} resamples each; goal by patient {LOW} to {HIGH}\n"
    )
    print(f"{'metric':<26}{'reference':>10}{'width':>8}{'by patient':>12}{'by knee':>10}")
    for name, value in true.items():
        print(f"{name:<26}{value:>8.4f}{widths[name]:>8.4f}{by_patient[name]:>12.3f}{by_knee[name]:>10.3f}")
    biased = [metric.name for metric in declared() if metric.of == CALIBRATION]
    missed = [name for name in true if name not in biased and not LOW <= round(by_patient[name], 2) <= HIGH]
    covered = [name for name in true if LOW <= by_knee[name] <= HIGH]
    error = 100 * np.sqrt(0.95 * 0.05 / repeats)
    print(
        f"\na share of {repeats} studies is known to {error:.1f} points (standard error), so of 16 one may be outside"
    )
    print(f"by patient outside of {LOW} to {HIGH}: {', '.join(missed) or 'none'}")
    print(f"by knee inside: {', '.join(covered) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
