"""What all losses share: the class weights, the mean over knees, and the precision of the computation."""

import torch
from torch import Tensor, nn

from koa_lightning.errors import InputError
from koa_lightning.models.outputs import N_GRADES, n_outputs


class GradeLoss(nn.Module):
    """Weighted mean over knees of the loss that a subclass defines in `per_knee`.

    With w the class weights, y the grades and l the losses of the knees, the value is
    sum(w[y] * l) / sum(w[y]), as in torch's CrossEntropyLoss: an integer weight equals repeating the knee.

    The buffers are omitted from the state dict: they follow from the constructor's arguments, so that a
    checkpoint loads whether or not the loss had weights.

    Attributes:
        link: key of `koa_lightning.models.outputs.LINKS`; tells what the logits mean and how many there are.
        class_weights: 5 float32, or None for equal weights.

    Args:
        class_weights: 5 positive floating values, one per grade, or None; see `losses.weights.class_weights`.

    Raises:
        InputError: if the class weights are not such a tensor.
    """

    link: str = "softmax"
    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        if class_weights is not None:
            class_weights = _checked(class_weights)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def per_knee(self, logits: Tensor, grade: Tensor) -> Tensor:
        """Loss of each knee, not weighted.

        Args:
            logits: N x K float32 or float64, K = n_outputs(self.link).
            grade: N int64, in 0-4.

        Returns:
            N of the type of the logits, >= 0.
        """
        raise NotImplementedError

    def terms(self, grade: Tensor) -> Tensor:
        """Number of terms that `per_knee` sums for each knee; the mean divides by it. 1 unless overridden.

        Args:
            grade: N int64, in 0-4.

        Returns:
            N int64, >= 1.
        """
        return torch.ones_like(grade)

    def forward(self, logits: Tensor, grade: Tensor) -> Tensor:
        """Weighted mean loss, see `sums`.

        Returns:
            A scalar, float32 or float64.
        """
        loss, weight = self.sums(logits, grade)
        return loss / weight

    def sums(self, logits: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted loss and weight of all knees: batches add them up, and the mean is their quotient.

        Computed in float32 even under autocast (in float64 for float64 logits).

        Args:
            logits: N x K of any floating type, K = n_outputs(self.link).
            grade: N integer, in 0-4; the values are not checked, as this would stall a GPU every step.

        Returns:
            Two scalars, float32 or float64.

        Raises:
            InputError: if the logits do not have the shape that the link and the grades require.
        """
        shape = (len(grade), n_outputs(self.link))
        if logits.shape != shape:
            raise InputError(
                f"{type(self).__name__} got logits of shape {tuple(logits.shape)}, but needs {shape}: "
                f"build the head with n_outputs({self.link!r})"
            )
        grade = grade.long()  # uint8 would index as a mask
        with torch.autocast(logits.device.type, enabled=False):
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.float()
            loss, terms = self.per_knee(logits, grade), self.terms(grade)
            if self.class_weights is None:
                return loss.sum(), terms.sum()
            weight = self.class_weights[grade]
            return (weight * loss).sum(), (weight * terms).sum()


def grade_distances() -> Tensor:
    """Distance |y - j| between each pair of grades: 5 x 5 int64, in 0-4."""
    grades = torch.arange(N_GRADES)
    return (grades[:, None] - grades[None, :]).abs()


def _checked(class_weights: Tensor) -> Tensor:
    if not isinstance(class_weights, Tensor):
        raise InputError(
            f"class_weights of a loss is {class_weights!r}, but must be a tensor or None: "
            "make it with koa_lightning.losses.weights.class_weights(kind, counts)"
        )
    if class_weights.shape != (N_GRADES,) or not bool((class_weights.isfinite() & (class_weights > 0)).all()):
        raise InputError(f"class_weights of a loss is {class_weights.tolist()}: give {N_GRADES} positive numbers")
    return class_weights.detach().clone().float()
