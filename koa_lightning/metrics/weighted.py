"""All metrics of graded knees for many weightings of their patients at once: what a bootstrap needs.

Counts, sums and calibration bins are linear in the weights, so one sparse product gives them for every weighting; AUROC
and average precision take cumulative sums along knees that are sorted once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from koa_lightning.metrics import from_confusion
from koa_lightning.metrics.graded import Graded
from koa_lightning.models.outputs import N_GRADES

N_BINS = 15
SMALLEST = 1e-7  # of a probability in the log loss; float32 has no finer ones near 1
RULES = ("", "_expected", "_tuned")  # the suffix says how a grade is made of the probabilities
OVERALL: dict[str, Callable[[Tensor], Tensor]] = {
    "accuracy": from_confusion.accuracy,
    "balanced_accuracy": from_confusion.balanced_accuracy,
    "f1_macro": from_confusion.f1_macro,
    "precision_macro": from_confusion.precision_macro,
    "recall_macro": from_confusion.recall_macro,
    "quadratic_kappa": from_confusion.quadratic_kappa,
    "linear_kappa": from_confusion.linear_kappa,
    "mae": from_confusion.mae,
}
PER_GRADE: dict[str, Callable[[Tensor], Tensor]] = {
    "f1": from_confusion.f1_per_grade,
    "precision": from_confusion.precision_per_grade,
    "recall": from_confusion.recall_per_grade,
}
OF_PROBABILITIES = ("rps", "brier", "log_loss", "ece", "ece_classwise")
RANKED = {"auroc_oa": 2, "auroc_ge3": 3, "ap_oa": 2, "ap_ge3": 3}  # name -> the grade from which a knee is positive
LESS_IS_BETTER = ("mae", *OF_PROBABILITIES)


def names(rules: Sequence[str] = RULES) -> list[str]:
    """Return the names of all metrics, those of a grade with each suffix of `rules`."""
    of_grade = [*OVERALL, *(f"{name}_{grade}" for name in PER_GRADE for grade in range(N_GRADES))]
    plain = [*of_grade, *RANKED, *OF_PROBABILITIES]
    return [*plain, *(f"{name}{rule}" for rule in rules if rule for name in of_grade)]


def base(name: str) -> str:
    """Return the name of a metric without the suffix of its rule."""
    return name.removesuffix("_expected").removesuffix("_tuned")


def is_of_grade(name: str) -> bool:
    """Tell whether a metric, by whatever rule, is one of a single grade, e.g. `f1_0`."""
    head, _, grade = base(name).rpartition("_")
    return head in PER_GRADE and grade.isdigit()


class WeightedMetrics:
    """The metrics of graded knees as a function of the weights of their patients.

    Args:
        knees: Their grades and probabilities.
        thresholds: Four, on the expected grade, for the suffix `_tuned`; None: not measured.
        only: Names of the metrics that are wanted; None: all.
    """

    def __init__(
        self, knees: Graded, thresholds: Sequence[float] | None = None, only: Collection[str] | None = None
    ) -> None:
        self.knees = knees
        self.predicted = {"": knees.argmax, "_expected": knees.rounded}
        if thresholds is not None:
            self.predicted["_tuned"] = np.searchsorted(np.asarray(thresholds), knees.expected, side="right")
        known = names(list(self.predicted))
        self.names = known if only is None else [name for name in known if name in only]
        blocks = [_one_hot(knees.grade * N_GRADES + grade, N_GRADES**2) for grade in self.predicted.values()]
        blocks += [_calibration(knees), _classwise_calibration(knees), sparse.csr_array(_sums(knees))]
        self._ends = np.cumsum([block.shape[1] for block in blocks])[:-1]
        by_patient = sparse.csr_array(_one_hot(knees.patient, knees.n_patients).T)
        self._columns = sparse.csr_array((by_patient @ sparse.hstack(blocks, format="csr")).T)
        wanted = {grade for name, grade in RANKED.items() if name in self.names}
        self._ranks = {grade: _Ranks(knees, grade) for grade in sorted(wanted)}

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return each metric for each weighting, float64 B; NaN where it is undefined.

        Args:
            weights: Of the patients, B x n_patients, at least 0.
        """
        sums = np.asarray(self._columns @ weights.T.astype(np.float64)).T
        *counts, bins, classwise, losses = np.split(sums, self._ends, axis=1)
        values: dict[str, np.ndarray] = {}
        for rule, count in zip(self.predicted, counts, strict=True):
            values |= {f"{name}{rule}": value for name, value in _of_grades(count).items()}
        with np.errstate(invalid="ignore", divide="ignore"):
            total = counts[0].sum(1)
            values |= dict(zip(("rps", "brier", "log_loss"), losses.T / total, strict=True))
            values["ece"] = np.abs(bins).sum(1) / total
            values["ece_classwise"] = np.abs(classwise).sum(1) / total / N_GRADES
            for grade, ranks in self._ranks.items():
                auroc, precision = ranks.measure(weights)
                suffix = "oa" if grade == 2 else f"ge{grade}"
                values |= {f"auroc_{suffix}": auroc, f"ap_{suffix}": precision}
        return {name: values[name] for name in self.names}

    def calibration_noise(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return how large `ece` and `ece_classwise` would be by the weights alone, for a calibrated model.

        That is the same sum over bins of what weighting adds to each bin's gap, in place of the gap.

        Args:
            weights: Of the patients, B x n_patients.

        Returns:
            Float64 B for each of the two that is measured.
        """
        start, middle, end = self._ends[-3:]
        columns = self._columns[start:end]
        total = weights @ np.bincount(self.knees.patient, minlength=self.knees.n_patients)
        with np.errstate(invalid="ignore", divide="ignore"):
            added = np.asarray(columns @ weights.T).T / total[:, None] - columns.sum(1) / len(self.knees.grade)
        bins, classwise = np.split(np.abs(added), [middle - start], axis=1)
        values = {"ece": bins.sum(1), "ece_classwise": classwise.sum(1) / N_GRADES}
        return {name: value for name, value in values.items() if name in self.names}

    def confusion(self, rule: str = "") -> np.ndarray:
        """Return the counts of true (rows) and predicted grades (columns) by a rule, int64 5 x 5."""
        pairs = self.knees.grade * N_GRADES + self.predicted[rule]
        return np.bincount(pairs, minlength=N_GRADES**2).reshape(N_GRADES, N_GRADES)


def _of_grades(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the metrics of confusion matrices, B x 25; NaN where they are undefined."""
    confusion = torch.from_numpy(np.ascontiguousarray(counts)).reshape(-1, N_GRADES, N_GRADES)
    values = {name: metric(confusion).numpy() for name, metric in OVERALL.items()}
    for name, metric in PER_GRADE.items():
        of_each = metric(confusion).numpy()
        values |= {f"{name}_{grade}": of_each[:, grade] for grade in range(N_GRADES)}
    return values


def _one_hot(column: np.ndarray, n_columns: int, value: np.ndarray | None = None) -> sparse.csr_array:
    """Return a sparse N x n_columns that holds `value` (default 1) in the given column of each row."""
    n = len(column)
    return sparse.csr_array((np.ones(n) if value is None else value, (np.arange(n), column)), shape=(n, n_columns))


def _bin(probability: np.ndarray) -> np.ndarray:
    """Return the calibration bin as torchmetrics counts: [0, 1/15), ..., and one for exactly 1."""
    edges = torch.linspace(0, 1, N_BINS + 1).numpy()
    return np.clip(np.searchsorted(edges, np.clip(probability, 0, 1), side="right") - 1, 0, N_BINS)


def _calibration(knees: Graded) -> sparse.csr_array:
    """Return hit minus confidence in the bin of the confidence (Guo 2017), N x 16."""
    confidence = knees.probabilities.max(1)
    return _one_hot(_bin(confidence), N_BINS + 1, (knees.argmax == knees.grade) - confidence.astype(np.float64))


def _classwise_calibration(knees: Graded) -> sparse.csr_array:
    """Return, for each grade, whether it is the true one minus its probability, in its bin (Kull 2019), N x 80."""
    blocks = []
    for grade in range(N_GRADES):
        probability = knees.probabilities[:, grade]
        blocks.append(_one_hot(_bin(probability), N_BINS + 1, (knees.grade == grade) - probability.astype(np.float64)))
    return sparse.hstack(blocks, format="csr")


def _sums(knees: Graded) -> np.ndarray:
    """Return ranked probability score, Brier score and log loss of each knee, float64 N x 3.

    The ranked probability score (Epstein 1969) is summed over the four steps between grades, so that of a certain
    grade it is the absolute error; the Brier score (1950) is summed over the grades, in [0, 2].
    """
    p = knees.probabilities.astype(np.float64)
    truth = np.eye(N_GRADES)[knees.grade]
    rps = np.square((p - truth).cumsum(1)[:, :-1]).sum(1)
    of_truth = np.clip(p[np.arange(len(p)), knees.grade], SMALLEST, 1)
    return np.column_stack([rps, np.square(p - truth).sum(1), -np.log(of_truth)])


class _Ranks:
    """Knees in falling order of the probability of a grade or a higher one; equal ones are one step."""

    def __init__(self, knees: Graded, grade: int) -> None:
        score = knees.reaches(grade)
        order = np.argsort(-score, kind="stable")
        self.patient = knees.patient[order]
        self.positive = knees.grade[order] >= grade
        self.last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # of each step

    def measure(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return area under the ROC curve and average precision, B each; NaN where only one class has weight."""
        of_knee = weights[:, self.patient]
        true = np.cumsum(of_knee * self.positive, axis=1)[:, self.last]
        false = np.cumsum(of_knee * ~self.positive, axis=1)[:, self.last]
        new_true, new_false = np.diff(true, axis=1, prepend=0), np.diff(false, axis=1, prepend=0)
        n_true, n_false = true[:, -1], false[:, -1]
        auroc = (new_false * (true - new_true / 2)).sum(1) / (n_true * n_false)
        precision = true / np.maximum(true + false, np.finfo(float).tiny)
        average = np.where(n_false > 0, (new_true * precision).sum(1) / n_true, np.nan)
        return auroc, average
