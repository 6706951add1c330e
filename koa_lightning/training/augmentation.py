"""Augmentation of a batch of knee radiographs on its device: one warp, few passes over the gray values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from koa_lightning.errors import InputError

# Seen on real knees: "reflection" mirrors hooks and a second fibula onto the joint margins, where osteophytes
# are graded, and "border" draws bone out into stripes; black ("zeros") looks like the collimated edge it is.
PADDINGS = ("zeros", "border", "reflection")
NOISE_FIELDS = 4  # length of the shared stream of noise, in pictures
# Pixels warped at a time on the CPU: the grid of a whole batch leaves the caches, and faulting its pages in
# takes longer than the interpolation; much smaller parts lose the gain to the waiting of threads.
CPU_PIXELS = 2**19


@dataclass(frozen=True)
class AugmentParameters:
    """What was drawn for one batch; all tensors are of shape (n,), one value a sample.

    Attributes:
        flip: Whether the picture is mirrored left to right, bool.
        angle: Rotation about the centre in degrees, positive is counter-clockwise as displayed.
        shift_x, shift_y: Translation to the right and downwards in pixels.
        scale: Zoom factor about the centre; above 1 the knee grows.
        shear: Shear angle in degrees about the centre: x becomes x - tan(shear) * y, with y downwards.
        brightness: Added to the gray value.
        contrast: Factor of the distance to the mean gray value of the picture.
        gamma: Exponent of the gray value.
        noise: Standard deviation of the Gaussian noise, as a gray value.
        noise_start: Where the sample reads the stream of noise, as a share of its length, in [0, 1).
        top, bottom: First erased row and the row after the last, int64; equal when nothing is erased.
        left, right: The same for columns.
        noise_seed: Seed of the batch's stream of noise; the only field that is not a tensor.
    """

    flip: Tensor
    angle: Tensor
    shift_x: Tensor
    shift_y: Tensor
    scale: Tensor
    shear: Tensor
    brightness: Tensor
    contrast: Tensor
    gamma: Tensor
    noise: Tensor
    noise_start: Tensor
    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor
    noise_seed: int


class KneeAugment(nn.Module):
    """Random flip, warp, gray values, noise and erasing of a batch, each sample for itself.

    All geometry is one bilinear warp with one composed matrix a sample (flip, then shear, zoom, rotation,
    translation), so the picture is interpolated once. Then follow brightness, contrast, gamma, noise, a clamp
    to [0, 1] and erasing, in this order. Values are drawn uniformly from their range, on the CPU, so that one
    seed gives the same numbers on every device. What is off is skipped. `train()` and `eval()` change
    nothing: whoever calls decides.

    Args:
        flip: Probability of a left-right mirror image, in [0, 1].
        rotation: Largest rotation in degrees, both ways, in [0, 180].
        translation: Largest shift as a share of width and of height, both ways, in [0, 0.5].
        scale: Smallest and largest zoom factor, in [0.1, 10]; (1, 1) is off.
        shear: Largest shear angle in degrees, both ways, in [0, 60].
        brightness: Largest change of the gray value in [0, 1], both ways. Additive, like Kornia's
            `RandomBrightness` and `adjust_brightness` (not multiplicative like its `ColorJiggle`).
        contrast: Largest change of the contrast factor around 1, in [0, 1]. The factor stretches the gray
            values about their mean, like PIL and Kornia's `adjust_contrast_with_mean_subtraction`; a factor
            about zero, as in Kornia's `RandomContrast`, is one more brightness and saturates bone.
        gamma: Smallest and largest exponent, in [0.1, 10]; (1, 1) is off.
        noise: Largest standard deviation of Gaussian noise, as a gray value in [0, 1]; drawn per sample.
        erasing: Probability of a rectangle in the picture's mean gray, in [0, 1] (Zhong et al., 2020).
        erasing_area: Smallest and largest area of the rectangle as a share of the picture, in [0, 1].
        erasing_aspect: Smallest and largest height / width of the rectangle, in [0.1, 10], drawn on a
            logarithmic scale; sides longer than the picture are cut.
        padding: What the warp finds outside the picture: "zeros" (black), "border" or "reflection".

    Raises:
        InputError: A value is outside its range; the message names the argument.
    """

    def __init__(
        self,
        flip: float = 0.0,
        rotation: float = 0.0,
        translation: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        shear: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        gamma: Sequence[float] = (1.0, 1.0),
        noise: float = 0.0,
        erasing: float = 0.0,
        erasing_area: Sequence[float] = (0.02, 0.1),
        erasing_aspect: Sequence[float] = (0.5, 2.0),
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        self.flip = _number("flip", flip, 0.0, 1.0)
        self.rotation = _number("rotation", rotation, 0.0, 180.0)
        self.translation = _number("translation", translation, 0.0, 0.5)
        self.scale = _range("scale", scale, 0.1, 10.0)
        self.shear = _number("shear", shear, 0.0, 60.0)
        self.brightness = _number("brightness", brightness, 0.0, 1.0)
        self.contrast = _number("contrast", contrast, 0.0, 1.0)
        self.gamma = _range("gamma", gamma, 0.1, 10.0)
        self.noise = _number("noise", noise, 0.0, 1.0)
        self.erasing = _number("erasing", erasing, 0.0, 1.0)
        self.erasing_area = _range("erasing_area", erasing_area, 0.0, 1.0)
        self.erasing_aspect = _range("erasing_aspect", erasing_aspect, 0.1, 10.0)
        if padding not in PADDINGS:
            raise InputError(f"augment.padding is {padding!r}: use one of {', '.join(PADDINGS)}")
        self.padding = padding

    def forward(self, image: Tensor, generator: Generator | None = None) -> Tensor:
        """Augment one batch.

        Args:
            image: N x 1 x H x W, uint8 or float in [0, 1]; not changed.
            generator: CPU generator to draw from; without it the global CPU generator of torch.

        Returns:
            N x 1 x H x W, float32 in [0, 1], on the device of the image.

        Raises:
            InputError: The image has another shape or type, or the generator is not one of the CPU.
        """
        _check_image(image)
        n, _, height, width = image.shape
        return self.transform(image, self.draw(n, height, width, generator))

    @torch.no_grad()
    def transform(self, image: Tensor, parameters: AugmentParameters) -> Tensor:
        """Apply drawn parameters (on the CPU) to a batch; shapes, types and errors as in `forward`."""
        _check_image(image)
        output = warp(image, parameters, self.padding)
        stretch_(output, parameters)
        erase_(output, parameters)
        return output

    def draw(self, n: int, height: int, width: int, generator: Generator | None = None) -> AugmentParameters:
        """Draw the parameters of `n` samples of `height` x `width` pixels; raises as `forward` does.

        Every call takes as many random numbers: switching one option leaves the others of a seed alone.
        """
        if generator is not None and generator.device.type != "cpu":
            raise InputError(f"augment: the generator is on {generator.device}: use one on the CPU")
        share = iter(torch.rand(16, n, generator=generator).unbind())

        def within(low: float, high: float) -> Tensor:
            return low + (high - low) * next(share)

        def around(middle: float, reach: float) -> Tensor:
            return within(middle - reach, middle + reach)

        flip = next(share) < self.flip
        angle, shear = around(0.0, self.rotation), around(0.0, self.shear)
        shift_x, shift_y = around(0.0, self.translation * width), around(0.0, self.translation * height)
        scale, gamma = within(*self.scale), within(*self.gamma)
        brightness, contrast = around(0.0, self.brightness), around(1.0, self.contrast)
        noise, noise_start = within(0.0, self.noise), next(share)
        area = within(*self.erasing_area) * (next(share) < self.erasing) * height * width
        aspect = within(*map(math.log, self.erasing_aspect)).exp()
        top, bottom = _span((area * aspect).sqrt(), height, next(share))
        left, right = _span((area / aspect).sqrt(), width, next(share))
        seed = int(torch.randint(2**62, (), generator=generator))
        return AugmentParameters(
            flip, angle, shift_x, shift_y, scale, shear, brightness, contrast, gamma, noise, noise_start,
            top, bottom, left, right, noise_seed=seed,
        )  # fmt: skip


def warp(image: Tensor, parameters: AugmentParameters, padding: str = "zeros") -> Tensor:
    """Flip, shear, zoom, rotate and translate (in this order) by one bilinear interpolation.

    Args:
        image: N x 1 x H x W, uint8 or float in [0, 1].
        parameters: Only the fields of the geometry are read.
        padding: As in `KneeAugment`.

    Returns:
        N x 1 x H x W, float32, new memory; a batch that is only flipped is mirrored exactly.
    """
    p, device, (n, _, height, width) = parameters, image.device, image.shape
    if not torch.stack((p.angle, p.shift_x, p.shift_y, p.shear, p.scale - 1)).any():
        output, flip = _unit(image), p.flip.view(-1, 1, 1, 1).to(device)
        return torch.where(flip, output.flip(-1), output) if p.flip.any() else output
    lines = [(along.to(device), down.to(device)) for along, down in sampling_lines(p, height, width)]
    output = torch.empty(image.shape, device=device)
    step = max(1, CPU_PIXELS // (height * width) if device.type == "cpu" else n)
    for part in (slice(start, start + step) for start in range(0, n, step)):
        grid = torch.empty(len(image[part]), height, width, 2, device=device)
        for axis, (along, down) in enumerate(lines):
            # An outer sum written in place: F.affine_grid costs more than the interpolation itself.
            torch.add(along[part, None, :], down[part, :, None], out=grid[..., axis])
        output[part] = F.grid_sample(_unit(image[part]), grid, padding_mode=padding, align_corners=False)
    return output


def sampling_lines(parameters: AugmentParameters, height: int, width: int) -> list[tuple[Tensor, Tensor]]:
    """Rows (n, width) and columns (n, height) for x and for y; their outer sum is the sampling grid.

    It holds where output pixels read the input, in [-1, 1] from edge to edge: the inverse of (translate .
    rotate . zoom . shear . flip), written out. With c, s of the angle, t of the shear and (x, y) from the
    shifted centre, x_in = +-((c + t s) x + (t c - s) y) / scale and y_in = (s x + c y) / scale.
    """
    p = parameters
    angle, t = p.angle.deg2rad(), p.shear.deg2rad().tan()
    c, s, mirror = angle.cos() / p.scale, angle.sin() / p.scale, 1.0 - 2.0 * p.flip
    x = torch.arange(width) - (width - 1) / 2 - p.shift_x[:, None]  # pixel centres from the shifted centre
    y = torch.arange(height) - (height - 1) / 2 - p.shift_y[:, None]
    factors = ((mirror * (c + t * s), mirror * (t * c - s), 2 / width), (s, c, 2 / height))
    return [((of_x * unit)[:, None] * x, (of_y * unit)[:, None] * y) for of_x, of_y, unit in factors]


def stretch_(image: Tensor, parameters: AugmentParameters) -> None:
    """Brightness, contrast, gamma and noise, in place; the result is clamped to [0, 1]."""
    p = parameters
    b, c, gamma, noise = (x.to(image.device).view(-1, 1, 1, 1) for x in (p.brightness, p.contrast, p.gamma, p.noise))
    if p.brightness.any() or (p.contrast != 1).any():
        # One multiply-add: with the mean m, c (x + b) + (1 - c) (m + b) = c x + b + (1 - c) m.
        shift = b + (1 - c) * image.mean((1, 2, 3), keepdim=True)
        torch.addcmul(shift, image, c, out=image)
    image.clamp_(0, 1)
    if (p.gamma != 1).any():
        image.pow_(gamma)
    if p.noise.any():
        image.addcmul_(noise_fields(parameters, image), noise).clamp_(0, 1)


def noise_fields(parameters: AugmentParameters, like: Tensor) -> Tensor:
    """Standard normal noise of the shape and device of `like`, N x 1 x H x W.

    A normal number for each pixel would cost as much as the warp. So one stream, a few pictures long, is
    drawn and each sample reads a window of it: white within a picture, but two pictures may share a stretch.
    """
    size = like.shape[-2] * like.shape[-1]
    generator = Generator().manual_seed(parameters.noise_seed)
    stream = torch.randn(NOISE_FIELDS * size, generator=generator).to(like.device)
    windows = stream.unfold(0, size, 1)  # a view: row k starts at number k
    start = (parameters.noise_start * len(windows)).long().clamp_(max=len(windows) - 1)
    return windows.index_select(0, start.to(like.device)).view(like.shape)


def erase_(image: Tensor, parameters: AugmentParameters) -> None:
    """Fill each chosen sample's rectangle with the mean gray of that sample, in place."""
    p = parameters
    chosen = ((p.bottom > p.top) & (p.right > p.left)).nonzero().flatten().tolist()
    if not chosen:
        return
    gray = image.mean((1, 2, 3))
    for i in chosen:
        image[i, :, p.top[i] : p.bottom[i], p.left[i] : p.right[i]] = gray[i]


def _unit(image: Tensor) -> Tensor:
    """A copy as float32 in [0, 1]."""
    return image / 255 if image.dtype == torch.uint8 else image.to(torch.float32, copy=True)


def _span(length: Tensor, size: int, place: Tensor) -> tuple[Tensor, Tensor]:
    """First index and the one after the last of `length` pixels within `size`, at `place` in [0, 1)."""
    whole = length.round().clamp(max=size)
    first = ((size - whole + 1) * place).floor().clamp(max=size - whole)
    return first.long(), (first + whole).long()


def _check_image(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 1:
        raise InputError(f"augment: the batch has shape {tuple(image.shape)}: give N x 1 x H x W")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise InputError(f"augment: the batch is {image.dtype}: give uint8, or float in [0, 1]")


def _number(name: str, value: float, low: float, high: float) -> float:
    # a comparison with NaN is false, so it raises too
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"augment.{name} is {value!r}: give a number from {low} to {high}")
    return float(value)


def _range(name: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise InputError(f"augment.{name} is {value!r}: give two numbers [smallest, largest]")
    smallest, largest = (_number(name, number, low, high) for number in value)
    if smallest > largest:
        raise InputError(f"augment.{name} is {list(value)}: the smallest number comes first")
    return smallest, largest
