"""The container: Kornia's operations one after the other, as few passes over the batch as they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from kornia import augmentation as ka
from torch import Generator, Tensor, nn

from koa_lightning.errors import InputError
from koa_lightning.training.augmentation import geometry, pixels
from koa_lightning.training.augmentation.geometry import Sampling, Warp
from koa_lightning.training.augmentation.tensors import Operation, drawn_rows, moved, of_rows, unit
from koa_lightning.training.augmentation.threads import for_each

# Pixels of one part on the CPU: what all fused operations do to it stays in the caches, where the grid and the gray
# values of a whole batch would not; much smaller parts lose the gain to the waiting of threads.
CPU_PIXELS = 2**18
# Operations that look at each picture alone, so that a probability below 1 costs only the rows drawn.
ROW_BY_ROW = (
    ka.RandomAutoContrast, ka.RandomBoxBlur, ka.RandomClahe, ka.RandomElasticTransform, ka.RandomEqualize,
    ka.RandomGaussianBlur, ka.RandomGaussianIllumination, ka.RandomLinearCornerIllumination,
    ka.RandomLinearIllumination, ka.RandomMedianBlur, ka.RandomPosterize, ka.RandomSaltAndPepperNoise,
    ka.RandomSharpness, ka.RandomSolarize,
)  # fmt: skip


@dataclass
class Segment:
    """Consecutive operations that are done at once.

    Attributes:
        kind: `warp`, `pixels` or `alone`: as Kornia does it.
        operations: Of this segment, in order.
        sampling: Of a warp; None while all of it mirrors.
    """

    kind: str
    operations: list[Operation]
    sampling: Sampling | None = None


class FusedAugmentation(nn.Module):
    """Operations of Kornia in order, with the result of its `AugmentationSequential` to interpolation error.

    Consecutive geometric operations are one warp, element-wise ones are done in place while the pictures are in the
    cache, what has a probability below 1 costs only the rows drawn, and any other operation runs as Kornia runs it.
    Parameters are drawn by Kornia in its own order from torch's generator on the CPU: one seed gives the same
    parameters on every device and in Kornia's container, and a GPU is never waited for. `train()` and `eval()` change
    nothing: whoever calls decides.

    Args:
        operations: By name, in order. They stay on the CPU, as what they draw does.
    """

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        super().__init__()
        self.operations = dict(operations)  # a plain dict: `to(device)` would have Kornia draw on the GPU
        self.runs = _runs(_segments(self.operations.values()))

    def extra_repr(self) -> str:
        """Return the operations as Kornia shows them."""
        return "\n".join(f"({name}): {operation}" for name, operation in self.operations.items())

    # Which rows are drawn is known on the CPU, and a graph would be made again for each batch. `torch.compiler.disable`
    # does the same, but loads the compiler, seconds, when this module is imported.
    @torch._disable_dynamo
    @torch.no_grad()
    def forward(self, image: Tensor, generator: Generator | None = None) -> Tensor:
        """Augment one batch.

        Args:
            image: N x 1 x H x W, uint8 or float in [0, 1]; not changed.
            generator: CPU generator to draw from; None: torch's own.

        Returns:
            N x 1 x H x W, float32 in [0, 1], new memory on the device of the image.

        Raises:
            InputError: The image has another shape or type, or the generator is not one of the CPU.
        """
        _check(image, generator)
        if not len(image):
            return unit(image)
        in_range, is_own = True, image.dtype == torch.uint8
        with _drawing_from(generator), torch.autocast(image.device.type, enabled=False):
            for run in self.runs:
                if run[0].kind == "alone":
                    image, in_range = _alone(run[0].operations[0], image), False
                else:
                    image, in_range = _fused(run, image, in_range)
            if not self.runs:
                image = unit(image)
        if in_range:
            return image
        # In place saves a pass, but not in memory of the caller, which an operation may hand back.
        return image.clamp_(0, 1) if is_own and image.is_contiguous() else image.clamp(0, 1)


def _segments(operations: Iterable[Operation]) -> list[Segment]:
    found: list[Segment] = []
    for operation in operations:
        last = found[-1] if found else None
        if geometry.is_fusible(operation):
            how = geometry.sampling(operation)
            if last and last.kind == "warp" and (how is None or last.sampling in (None, how)):
                last.operations.append(operation)
                last.sampling = last.sampling or how
            else:
                found.append(Segment("warp", [operation], how))
        elif not pixels.is_fusible(operation):
            found.append(Segment("alone", [operation]))
        elif last and last.kind == "pixels":
            last.operations.append(operation)
        else:
            found.append(Segment("pixels", [operation]))
    return found


def _runs(segments: list[Segment]) -> list[list[Segment]]:
    """Return segments that a part of the batch goes through at once; what runs as Kornia does stands alone."""
    found: list[list[Segment]] = []
    for segment in segments:
        if found and segment.kind != "alone" and found[-1][-1].kind != "alone":
            found[-1].append(segment)
        else:
            found.append([segment])
    return found


def _fused(run: list[Segment], image: Tensor, in_range: bool) -> tuple[Tensor, bool]:
    """Return the batch after a run, and whether its gray values are in [0, 1]."""
    shape, output = image.shape, torch.empty(image.shape, device=image.device)
    programs: list[Warp | list[pixels.Step]] = []
    for segment in run:
        params = [operation.forward_parameters(shape) for operation in segment.operations]
        if segment.kind == "warp":
            warp = Warp(segment.operations, params, shape, segment.sampling)
            in_range = in_range and warp.stays_in_range
            programs.append(warp)
        else:
            steps, in_range = pixels.steps(segment.operations, params, output, in_range)
            programs.append(steps)
    if image.device.type != "cpu":
        _through(programs, output, image, 0)
        return output, in_range
    size = max(1, CPU_PIXELS // shape[2:].numel())

    def do(first: int) -> None:
        rows = slice(first, first + size)
        _through(programs, output[rows], image[rows], first)

    for_each(do, range(0, len(image), size))
    return output, in_range


def _through(programs: list[Warp | list[pixels.Step]], output: Tensor, image: Tensor, first: int) -> None:
    """Do to some rows all that a run does."""
    for number, program in enumerate(programs):
        if isinstance(program, Warp):
            program.write(output, output.clone() if number else image, first)
            continue
        if not number:
            output.copy_(image)
            if image.dtype == torch.uint8:
                output.div_(255)
        for step in program:
            step(output, first)


def _alone(operation: Operation, image: Tensor) -> Tensor:
    """Return the batch after one operation that runs as Kornia runs it."""
    image = unit(image) if image.dtype == torch.uint8 else image.float()
    params = operation.forward_parameters(image.shape)
    rows = drawn_rows(params)
    if type(operation) not in ROW_BY_ROW or len(rows) == len(image):
        changed: Tensor = operation(image, params=params)
        return changed
    if not rows:
        return image.clone()
    index, own = moved(torch.tensor(rows), image, torch.long), of_rows(params, rows)
    before = image.index_select(0, index)
    return image.index_copy(0, index, operation.apply_transform(before, own, operation.flags, None))


def _check(image: Tensor, generator: Generator | None) -> None:
    if image.ndim != 4 or image.shape[1] != 1:
        raise InputError(f"augment: the batch has shape {tuple(image.shape)}: give N x 1 x H x W")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise InputError(f"augment: the batch is {image.dtype}: give uint8, or float in [0, 1]")
    if generator is not None and generator.device.type != "cpu":
        raise InputError(f"augment: the generator is on {generator.device}: use one on the CPU")


@contextmanager
def _drawing_from(generator: Generator | None) -> Iterator[None]:
    """Have Kornia, which knows only torch's own generator, draw from another."""
    if generator is None:
        yield
        return
    kept = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(kept)
