"""The metrics of each epoch: knees gathered batch by batch on any number of devices, then given to the engine."""

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from koa_lightning.config.metrics import chosen
from koa_lightning.errors import InputError
from koa_lightning.metrics.graded import TOLERANCE, Graded
from koa_lightning.metrics.weighted import WeightedMetrics
from koa_lightning.models.outputs import N_GRADES


class Knees(Metric):
    """Probabilities and true grades of all batches and processes."""

    probabilities: list[Tensor]
    grade: list[Tensor]
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probabilities", default=[], dist_reduce_fx="cat")
        self.add_state("grade", default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, grade: Tensor) -> None:
        """Add a batch: float32 N x 5 and int64 N."""
        self.probabilities.append(probabilities)
        self.grade.append(grade)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return all of them, float32 N x 5 and int64 N, on the CPU."""
        if isinstance(self.grade, list) and not self.grade:
            return torch.zeros(0, N_GRADES), torch.zeros(0, dtype=torch.int64)
        probabilities, grade = dim_zero_cat(self.probabilities).cpu(), dim_zero_cat(self.grade).cpu()
        return probabilities.reshape(-1, N_GRADES), grade.long()


class GradeMetrics(nn.Module):
    """Metrics of one split, or of one epoch, over all batches and processes.

    These are the metrics declared `every_epoch` in `_metric/NAME.yaml`, by the rules listed there: for the arg-max
    grade, and with the suffixes `_expected` and `_median` for the rounded expected grade and the median grade.

    Args:
        checked: Check every batch. False for the training split, where the check would make every step wait for the
            device.
    """

    def __init__(self, *, checked: bool = True) -> None:
        super().__init__()
        self.checked = checked
        self.knees = Knees()

    @torch.no_grad()
    def update(self, probabilities: Tensor, grade: Tensor) -> None:
        """Add a batch.

        Args:
            probabilities: Float, N x 5, in [0, 1], rows sum to 1.
            grade: Integer true grade, N, 0 to 4.

        Raises:
            InputError: If `checked`: the rows are not probabilities (logits, NaN), or a grade is outside 0 to 4.
        """
        probabilities = probabilities.detach().float()
        if self.checked:
            _check(probabilities, grade)
        # NaN cannot be counted; training reports it through its loss
        self.knees.update(probabilities.nan_to_num(0.0).clamp(0, 1), grade.long())

    def compute(self) -> dict[str, Tensor]:
        """All metrics of the knees added since the last reset.

        Returns:
            Name to scalar, float32 on the CPU; NaN where undefined, such as auroc_oa of a single class, or F1 of a
            grade that no knee has.

        Raises:
            InputError: No knee was added.
        """
        knees = self._graded()
        if not len(knees.grade):
            raise InputError("no knees to compute metrics on: the split is empty; check the split and the filters")
        engine = WeightedMetrics(knees, only=chosen("every_epoch"))
        values = engine(np.ones((1, knees.n_patients)))
        return {name: torch.tensor(float(value[0]), dtype=torch.float32) for name, value in values.items()}

    def confusion(self) -> Tensor:
        """Counts of true (rows) and arg-max (columns) grades, int64, 5 x 5."""
        return torch.from_numpy(WeightedMetrics(self._graded(), only=()).confusion())

    def reset(self) -> None:
        """Discard all knees."""
        self.knees.reset()

    def _graded(self) -> Graded:
        """Return the knees of all processes, without patients, because no interval is computed."""
        if not self.knees.update_called:
            self.knees._update_count = 1  # torchmetrics would warn; `compute` refuses an empty split
        probabilities, grade = self.knees.compute()
        grade = grade.reshape(-1)  # torchmetrics makes a scalar of one knee
        return Graded(grade.numpy(), probabilities.numpy(), np.zeros(len(grade), dtype=np.int64), 1)


def compute(probabilities: np.ndarray, grade: np.ndarray) -> dict[str, float]:
    """All metrics of `GradeMetrics` for arrays.

    Args:
        probabilities: Float, N x 5, in [0, 1], rows sum to 1.
        grade: Integer true grade, N, 0 to 4.

    Returns:
        Name to value; NaN where a metric is undefined.

    Raises:
        InputError: There is no knee, rows are not probabilities, or grades are outside 0 to 4.
    """
    metrics = GradeMetrics()
    metrics.update(torch.tensor(np.asarray(probabilities)), torch.tensor(np.asarray(grade)))
    return {name: value.item() for name, value in metrics.compute().items()}


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
