"""The metric engine: all metrics of graded knees for many weightings of their patients at once.

Every number that is reported comes from here: those of each epoch, of `metrics.json`, of intervals and of comparisons.
`_metric/NAME.yaml` of the configs declares what a metric is. Counts, sums and calibration bins are linear in the
weights, so one sparse product gives them for every weighting. Ranking metrics take cumulative sums over knees that are
sorted once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial, reduce
from typing import Any

import numpy as np
import torch
from scipy import sparse

from koa_lightning.config import metrics as declared
from koa_lightning.config.instantiate import located
from koa_lightning.config.metrics import Declaration
from koa_lightning.errors import InputError
from koa_lightning.metrics.graded import Graded
from koa_lightning.metrics.ranking import Ranks
from koa_lightning.models.outputs import N_GRADES

N_BINS = 15
_PATIENTS = 50_000  # summed at once: the sum needs several times the memory of its result
_Block = Callable[[np.ndarray], sparse.csr_array]  # numbers of knees to their columns
RULES = tuple(declared.RULES.values())  # the suffix says how a grade is derived from the probabilities
names = declared.names
base = declared.base


def is_of_grade(name: str) -> bool:
    """Return whether a metric, by any rule, is of a single grade, e.g. `f1_0`."""
    found = declared.of(name)
    return found is not None and found.per_grade


def of_grades() -> list[str]:
    """Return the single-valued metrics of predicted grades, which thresholds may be tuned for."""
    return [each.name for each in declared.declared() if each.of == declared.CONFUSION and not each.per_grade]


@cache
def function(metric: Declaration) -> Callable[..., Any]:
    """Return the function of a metric, with its settings.

    Raises:
        InputError: Its module cannot be imported, or has no such function.
    """
    found = located(metric.target, metric.file)
    settings = {key: value for key, value in metric.settings if metric.of != declared.RANKING or key != "grade"}
    return partial(found, **settings) if settings else found


class WeightedMetrics:
    """The metrics of graded knees as a function of the weights of their patients.

    Args:
        knees: Their grades and probabilities.
        thresholds: Four, on the expected grade, for the suffix `_tuned`; None: not computed.
        only: Names of the metrics to compute; None: all.
    """

    def __init__(
        self, knees: Graded, thresholds: Sequence[float] | None = None, only: Collection[str] | None = None
    ) -> None:
        self.knees = knees
        self.predicted = {"": knees.argmax, "_expected": knees.rounded, "_median": knees.median}
        if thresholds is not None:
            self.predicted["_tuned"] = np.searchsorted(np.asarray(thresholds), knees.expected, side="right")
        known = names(list(self.predicted))
        self.names = known if only is None else [name for name in known if name in only]
        wanted = {base(name) for name in self.names}
        self._metrics = [each for each in declared.declared() if wanted & set(each.names())]
        self._ranks: dict[int, Ranks] = {}
        made = [("total", lambda rows: sparse.csr_array(np.ones((len(rows), 1)))), *self._made()]
        widths = [block(np.arange(1)).shape[1] for _, block in made]
        ends = np.cumsum(widths).tolist()
        self._blocks = {name: slice(end - width, end) for (name, _), end, width in zip(made, ends, widths, strict=True)}
        order = np.argsort(knees.patient, kind="stable")
        self._parts = [self._part(order, first, [block for _, block in made]) for first in self._firsts]

    @property
    def _firsts(self) -> range:
        return range(0, self.knees.n_patients, _PATIENTS)

    def _part(self, order: np.ndarray, first: int, blocks: list[_Block]) -> sparse.csr_array:
        """Return the columns of `_PATIENTS` patients from `first` on, summed over the knees of each.

        Args:
            order: All knees, sorted by patient.
            first: Number of the first patient.
            blocks: Blocks whose columns are put side by side.
        """
        n = min(_PATIENTS, self.knees.n_patients - first)
        rows = order[slice(*np.searchsorted(self.knees.patient, [first, first + n], sorter=order))]
        by_patient = sparse.csr_array(_one_hot(self.knees.patient[rows] - first, n).T)
        return by_patient @ sparse.hstack([block(rows) for block in blocks], format="csr")

    def _made(self) -> list[tuple[str, _Block]]:
        """Return the columns from whose weighted sums the metrics are computed, by name."""
        knees, p = self.knees, self.knees.probabilities.astype(np.float64)
        made: list[tuple[str, _Block]] = []
        for rule, grade in self.predicted.items():
            if any(each.of == declared.CONFUSION and rule in each.rules for each in self._metrics):
                made.append((f"counts{rule}", partial(_pairs, knees.grade, grade)))
        for each in self._metrics:
            if each.of == declared.RANKING:
                grade_from = int(dict(each.settings)["grade"])
                self._ranks.setdefault(grade_from, Ranks(knees, grade_from))
            elif each.of == declared.PROBABILITIES:
                made.append((each.name, partial(_values, _per_knee(each, function(each)(p, knees.grade), len(p)))))
            elif each.of == declared.CALIBRATION:
                made.append((each.name, partial(_gaps, *function(each)(p, knees.grade))))
        return made

    def _sums(self, weights: np.ndarray, columns: slice = slice(None)) -> np.ndarray:
        """Return the weighted sums of some columns, float64 B x M, for weights B x n_patients."""
        parts = (
            part[:, columns].T @ weights[:, first : first + _PATIENTS].T
            for first, part in zip(self._firsts, self._parts, strict=True)
        )
        return np.asarray(reduce(np.add, parts)).T

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return each metric for each weighting, float64 B; NaN where it is undefined.

        Args:
            weights: Of the patients, B x n_patients, at least 0.
        """
        sums = self._sums(weights.astype(np.float64, copy=False))
        values: dict[str, np.ndarray] = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            total = sums[:, 0]
            for rule in self.predicted:
                if f"counts{rule}" in self._blocks:
                    values |= self._of_counts(sums[:, self._blocks[f"counts{rule}"]], rule)
            steps = {grade: ranks.steps(weights) for grade, ranks in self._ranks.items()}
            for each in self._metrics:
                if each.of == declared.RANKING:
                    values[each.name] = function(each)(steps[int(dict(each.settings)["grade"])])
                elif each.of == declared.PROBABILITIES:
                    values[each.name] = sums[:, self._blocks[each.name]][:, 0] / total
                elif each.of == declared.CALIBRATION:
                    gaps = np.abs(sums[:, self._blocks[each.name]])
                    values[each.name] = gaps.sum(1) / total / (gaps.shape[1] // (N_BINS + 1))
        return {name: values[name] for name in self.names}

    def _of_counts(self, counts: np.ndarray, rule: str) -> dict[str, np.ndarray]:
        """Return the metrics of confusion matrices, B x 25, by a rule; NaN where they are undefined."""
        confusion = torch.from_numpy(np.ascontiguousarray(counts)).reshape(-1, N_GRADES, N_GRADES)
        values: dict[str, np.ndarray] = {}
        for each in self._metrics:
            if each.of != declared.CONFUSION or rule not in each.rules:
                continue
            found = function(each)(confusion)
            shape = (len(confusion), N_GRADES) if each.per_grade else (len(confusion),)
            if tuple(found.shape) != shape:
                raise InputError(
                    f"{each.file}: its function gives {tuple(found.shape)} for {tuple(confusion.shape)} counts, "
                    f"but {shape} is needed (per_grade={str(each.per_grade).lower()})"
                )
            columns = found.numpy().T if each.per_grade else [found.numpy()]
            values |= dict(zip(each.names(rule), columns, strict=True))
        return values

    @property
    def biased(self) -> list[str]:
        """Those metrics to compute that chance raises: calibration errors."""
        return [each.name for each in self._metrics if each.of == declared.CALIBRATION]

    def calibration_noise(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return how large a calibrated model's calibration errors would be from the weights alone.

        It is the same sum over bins, with each bin's gap replaced by what the weighting adds to it.

        Args:
            weights: Of the patients, B x n_patients.

        Returns:
            Float64 B for each of `biased`.
        """
        total = weights @ np.bincount(self.knees.patient, minlength=self.knees.n_patients)
        values = {}
        for name in self.biased:
            block = self._blocks[name]
            plain = sum(part[:, block].sum(0) for part in self._parts)
            with np.errstate(invalid="ignore", divide="ignore"):
                added = self._sums(weights, block) / total[:, None] - plain / len(self.knees.grade)
            values[name] = np.abs(added).sum(1) / (added.shape[1] // (N_BINS + 1))
        return values

    def confusion(self, rule: str = "") -> np.ndarray:
        """Return the counts of true (rows) and predicted grades (columns) by a rule, int64 5 x 5."""
        pairs = self.knees.grade * N_GRADES + self.predicted[rule]
        return np.bincount(pairs, minlength=N_GRADES**2).reshape(N_GRADES, N_GRADES)


def _one_hot(column: np.ndarray, n_columns: int, value: np.ndarray | None = None) -> sparse.csr_array:
    """Return a sparse matrix N x n_columns with `value` (default 1) in the given column of each row."""
    n = len(column)
    return sparse.csr_array((np.ones(n) if value is None else value, (np.arange(n), column)), shape=(n, n_columns))


def _pairs(grade: np.ndarray, predicted: np.ndarray, rows: np.ndarray) -> sparse.csr_array:
    """Return the pair of true and predicted grade of some knees, N x 25."""
    return _one_hot(grade[rows] * N_GRADES + predicted[rows], N_GRADES**2)


def _values(value: np.ndarray, rows: np.ndarray) -> sparse.csr_array:
    """Return the value of some knees, N x 1."""
    return sparse.csr_array(value[rows, None])


def _per_knee(metric: Declaration, value: np.ndarray, n: int) -> np.ndarray:
    """Return a metric's value of each knee as float64.

    Raises:
        InputError: The function gives another shape.
    """
    if np.shape(value) != (n,):
        raise InputError(f"{metric.file}: its function gives {np.shape(value)} for {n} knees, but ({n},) is needed")
    return np.asarray(value, dtype=np.float64)


def _bin(probability: np.ndarray) -> np.ndarray:
    """Return the calibration bin: [0, 1/15), ..., and one for exactly 1 (as in torchmetrics)."""
    edges = torch.linspace(0, 1, N_BINS + 1).numpy()
    return np.clip(np.searchsorted(edges, np.clip(probability, 0, 1), side="right") - 1, 0, N_BINS)


def _gaps(claimed: np.ndarray, happened: np.ndarray, rows: np.ndarray) -> sparse.csr_array:
    """Return outcome minus probability of some knees, in the bin of the probability: N x 16 for each column."""
    blocks = [
        _one_hot(_bin(p), N_BINS + 1, came - p.astype(np.float64))
        for p, came in zip(claimed[rows].T, happened[rows].T, strict=True)
    ]
    return sparse.hstack(blocks, format="csr")
