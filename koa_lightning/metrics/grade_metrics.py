"""All metrics of graded knees from their probabilities, gathered batch by batch on any number of devices."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, MulticlassCalibrationError, MulticlassConfusionMatrix

from koa_lightning.errors import InputError
from koa_lightning.metrics import from_confusion
from koa_lightning.metrics.graded import TOLERANCE
from koa_lightning.models.outputs import expected_grade, round_grade

N_GRADES = 5
OA_GRADE = 2  # radiographic osteoarthritis starts here

DECIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "accuracy": from_confusion.accuracy,
    "quadratic_kappa": from_confusion.quadratic_kappa,
    "mae": from_confusion.mae,
    "balanced_accuracy": from_confusion.balanced_accuracy,
    "f1_macro": from_confusion.f1_macro,
}


class GradeMetrics(nn.Module):
    """Metrics of one part, or of one epoch, over all batches and processes.

    Accuracy, balanced_accuracy, f1_macro, f1_0 ... f1_4, quadratic_kappa and mae of the arg-max grade, and again of the
    rounded expected grade with the suffix `_expected`; auroc_oa (of p(grade >= 2), exact), ece (15 bins of equal
    width, L1; Guo 2017).

    Args:
        checked: Look at what is taken in. False for the training part, where it would make every step wait for the
            device.
    """

    def __init__(self, *, checked: bool = True) -> None:
        super().__init__()
        self.checked = checked
        self.argmax = MulticlassConfusionMatrix(N_GRADES, validate_args=False)
        self.expected = MulticlassConfusionMatrix(N_GRADES, validate_args=False)
        self.auroc_oa = BinaryAUROC(thresholds=None, validate_args=False)
        self.ece = MulticlassCalibrationError(N_GRADES, n_bins=15, norm="l1", validate_args=False)

    @torch.no_grad()
    def update(self, probabilities: Tensor, grade: Tensor) -> None:
        """Take in a batch.

        Args:
            probabilities: Float, N x 5, in [0, 1], rows sum to 1.
            grade: Integer true grade, N, 0 to 4.

        Raises:
            InputError: The rows are no probabilities (logits, NaN), or a grade is outside 0 to 4, if `checked`.
        """
        probabilities = probabilities.detach().float()
        if self.checked:
            _check(probabilities, grade)
        # torchmetrics would take 1.0000001 for a logit and squash the whole batch, and cannot count NaN, which the
        # training itself reports by its loss
        probabilities = probabilities.nan_to_num(0.0).clamp(0, 1)
        self.expected.update(round_grade(expected_grade(probabilities)), grade)
        self.auroc_oa.update(probabilities[:, OA_GRADE:].sum(1).clamp(max=1), (grade >= OA_GRADE).long())
        self.ece.update(probabilities, grade)
        self.argmax.update(probabilities.argmax(1), grade)

    def compute(self) -> dict[str, Tensor]:
        """All metrics of what was taken in since the last reset.

        Returns:
            Name to scalar, float32 on the CPU; NaN where undefined, as auroc_oa of a single class, or F1 of a grade
            that no knee has.

        Raises:
            InputError: No knee was taken in.
        """
        # on the CPU: 5 x 5 counts are not worth a kernel each, and some devices have no float64
        confusion = self.confusion().cpu()
        if confusion.sum() == 0:
            raise InputError("metrics of no knee at all: the part is empty; check the split and the filters")
        values = _decided(confusion)
        values |= {f"{name}_expected": value for name, value in _decided(self.expected.compute().cpu()).items()}
        values["auroc_oa"] = self._auroc_oa(confusion)
        values["ece"] = self.ece.compute()
        return {name: value.float().cpu() for name, value in values.items()}

    def confusion(self) -> Tensor:
        """Counts of true (rows) and arg-max (columns) grades, int64, 5 x 5."""
        return self.argmax.compute().long()

    def reset(self) -> None:
        """Forget everything taken in."""
        for metric in self.children():
            if isinstance(metric, Metric):
                metric.reset()

    def _auroc_oa(self, confusion: Tensor) -> Tensor:
        has_both = bool(confusion[:OA_GRADE].sum() > 0) and bool(confusion[OA_GRADE:].sum() > 0)
        # torchmetrics answers 0 for a single class, which reads as "always wrong"
        return self.auroc_oa.compute() if has_both else torch.tensor(torch.nan)


def measure(probabilities: np.ndarray, grade: np.ndarray) -> dict[str, float]:
    """All metrics of `GradeMetrics` for arrays.

    Args:
        probabilities: Float, N x 5, in [0, 1], rows sum to 1.
        grade: Integer true grade, N, 0 to 4.

    Returns:
        Name to value; NaN where a metric is undefined.

    Raises:
        InputError: No knee at all, rows that are no probabilities, or grades outside 0 to 4.
    """
    metrics = GradeMetrics()
    metrics.update(torch.tensor(np.asarray(probabilities)), torch.tensor(np.asarray(grade)))
    return {name: value.item() for name, value in metrics.compute().items()}


def _decided(confusion: Tensor) -> dict[str, Tensor]:
    """Return the metrics of grades decided on, from their counts; F1 of each grade too."""
    values = {name: metric(confusion) for name, metric in DECIDED.items()}
    return values | {f"f1_{grade}": f1 for grade, f1 in enumerate(from_confusion.f1_per_grade(confusion))}


def _check(probabilities: Tensor, grade: Tensor) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] != N_GRADES or grade.shape != probabilities.shape[:1]:
        shapes = f"{tuple(probabilities.shape)} and {tuple(grade.shape)}"
        raise InputError(f"probabilities and grades of shapes {shapes}: give N x {N_GRADES} and N")
    # NaN fails every comparison, so it is caught too
    fits = (probabilities >= -TOLERANCE).all(1) & ((probabilities.sum(1) - 1).abs() <= TOLERANCE)
    if not bool(fits.all()):
        raise InputError("probabilities that are NaN, negative or do not sum to 1: pass probabilities, not logits")
    if grade.is_floating_point() or not bool(((grade >= 0) & (grade < N_GRADES)).all()):
        raise InputError("true grades outside 0 to 4, or not integers: correct the table of knees")
