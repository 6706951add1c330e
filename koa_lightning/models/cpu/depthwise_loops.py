"""Compiled gradients of depthwise convolutions, over images in fp32 or the bits of bf16, in channels_last.

Rows of an image are widened to fp32 once, into buffers that stay in the processor's cache. With a stride of s, every
s-th column goes into a part of its own (a phase), so that each loop runs over neighbouring columns. Loops run over some
columns at once, as those over few channels are too short to be fast. Sums are as in `kernels`.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from koa_lightning.models.cpu.kernels import FAST, fp32, like, parallel

_ROWS = 8  # whose products are summed in fp32, before the sums are added in fp64
_LONG = 256  # values in a loop
_ZERO = np.float32(0)


@parallel
def of_weight(
    image: np.ndarray, gradient: np.ndarray, stride: tuple[int, int], padding: tuple[int, int], parts: np.ndarray
) -> None:
    """Write the gradient of the weight into parts: threads x kernel height x kernel width x C, fp64, to be summed.

    Image and gradient are N x H x (W * C).
    """
    threads, kernel_height, kernel_width, channels = parts.shape
    count, height, width = image.shape[0], image.shape[1], image.shape[2] // channels
    out_height, out_width = gradient.shape[1], gradient.shape[2] // channels
    (down, right), (top, left) = stride, padding
    long = channels * max(1, _LONG // channels)
    blocks = (channels * out_width + 4 * long - 1) // (4 * long)
    rows = count * out_height
    for t in prange(threads):
        parts[t] = 0.0
        sums = np.zeros((kernel_height, kernel_width, long), np.float32)
        slope = np.zeros(4 * long * blocks, np.float32)
        size = max(4 * long * blocks + kernel_width * channels, (left + width + 1) * channels)
        pixel = np.zeros((kernel_height, right, size), np.float32)
        held = np.full(kernel_height, -1)  # which rows are widened
        first, end = rows * t // threads, rows * (t + 1) // threads
        for row in range(first, end):
            n, y = row // out_height, row % out_height
            _widen(gradient[n, y], slope)
            for k in range(kernel_height):
                above = down * y + k - top
                if above < 0 or above >= height:
                    continue
                at = above % kernel_height
                if held[at] != n * height + above:
                    held[at] = n * height + above
                    _widen_phases(image[n, above], pixel[at], left, channels)
                for j in range(kernel_width):
                    _add_products(slope, pixel[at, j % right, j // right * channels :], sums[k, j], blocks)
            if (row - first) % _ROWS == _ROWS - 1 or row == end - 1:
                for k in range(kernel_height):
                    for j in range(kernel_width):
                        for i in range(0, long, channels):
                            for c in range(channels):
                                parts[t, k, j, c] += sums[k, j, i + c]
                sums[:] = _ZERO


@parallel
def of_image(
    gradient: np.ndarray, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int], threads: int,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Write the gradient of the image into out.

    Gradient and out are N x H x (W * C), the weight is kernel height x kernel width x C, fp32.
    """
    kernel_height, kernel_width, channels = weight.shape
    count, height, width = out.shape[0], out.shape[1], out.shape[2] // channels
    out_height, out_width = gradient.shape[1], gradient.shape[2] // channels
    (down, right), (top, left) = stride, padding
    at_once = max(1, _LONG // channels)
    long = channels * at_once
    taps = (kernel_width - 1) // right + 1  # of a phase; those that it lacks are 0
    tiled = np.zeros((kernel_height, right, taps, long), np.float32)
    for k in range(kernel_height):
        for j in range(kernel_width):
            for i in range(long):
                tiled[k, j % right, j // right, i] = weight[k, j, i % channels]
    blocks = ((left + width - 1) // right + at_once) // at_once
    margin = (taps - 1) * channels
    rows = count * height
    for t in prange(threads):
        sums = np.empty((right, blocks * long), np.float32)
        slope = np.zeros((kernel_height, margin + max(blocks * long, out_width * channels)), np.float32)
        held = np.full(kernel_height, -1)
        for row in range(rows * t // threads, rows * (t + 1) // threads):
            n, y = row // height, row % height
            sums[:] = _ZERO
            for k in range(kernel_height):
                below = y + top - k
                if below < 0 or below % down or below // down >= out_height:
                    continue
                below //= down
                at = below % kernel_height
                if held[at] != n * out_height + below:
                    held[at] = n * out_height + below
                    _widen(gradient[n, below], slope[at, margin:])
                for phase in range(right):
                    _add_taps(slope[at], tiled[k, phase], sums[phase], channels)
            _narrow_phases(sums, out[n, y], left, channels)


@njit(fastmath=FAST, error_model="numpy")
def _widen(source: np.ndarray, target: np.ndarray) -> None:
    for i in range(len(source)):
        target[i] = fp32(source[i])


@njit(fastmath=FAST, error_model="numpy")
def _widen_phases(source: np.ndarray, target: np.ndarray, left: int, channels: int) -> None:
    """Widen a row, each column into its phase; the first `left` columns stay 0."""
    phases = len(target)
    if phases == 1:
        _widen(source, target[0, left * channels :])
        return
    for x in range(len(source) // channels):
        at = (left + x) // phases * channels
        _widen(source[x * channels : (x + 1) * channels], target[(left + x) % phases, at:])


@njit(fastmath=FAST, error_model="numpy")
def _narrow(source: np.ndarray, target: np.ndarray) -> None:
    for i in range(len(target)):
        target[i] = like(source[i], target.dtype)


@njit(fastmath=FAST, error_model="numpy")
def _narrow_phases(source: np.ndarray, target: np.ndarray, left: int, channels: int) -> None:
    phases = len(source)
    if phases == 1:
        _narrow(source[0, left * channels :], target)
        return
    for x in range(len(target) // channels):
        at = (left + x) // phases * channels
        _narrow(source[(left + x) % phases, at:], target[x * channels : (x + 1) * channels])


@njit(fastmath=FAST, error_model="numpy")
def _add_products(a: np.ndarray, b: np.ndarray, sums: np.ndarray, blocks: int) -> None:
    """Add a * b to the sums, which are read and written once for four pieces of their length."""
    long = len(sums)
    for block in range(blocks):
        a0, b0 = a[4 * long * block :], b[4 * long * block :]
        a1, a2, a3 = a0[long:], a0[2 * long :], a0[3 * long :]
        b1, b2, b3 = b0[long:], b0[2 * long :], b0[3 * long :]
        for i in range(long):
            sums[i] += (a0[i] * b0[i] + a1[i] * b1[i]) + (a2[i] * b2[i] + a3[i] * b3[i])


@njit(fastmath=FAST, error_model="numpy")
def _add_taps(slope: np.ndarray, weight: np.ndarray, sums: np.ndarray, channels: int) -> None:
    """Add a convolution of neighbouring columns to the sums: tap j sees what lies j columns to the left."""
    taps, long = weight.shape
    for at in range(0, len(sums), long):
        total, last = sums[at : at + long], at + (taps - 1) * channels
        first = 0
        if taps % 2:
            s0, w0 = slope[last:], weight[0]
            for i in range(long):
                total[i] += s0[i] * w0[i]
            first = 1
        for j in range(first, taps, 2):
            s0, s1 = slope[last - j * channels :], slope[last - (j + 1) * channels :]
            w0, w1 = weight[j], weight[j + 1]
            for i in range(long):
                total[i] += s0[i] * w0[i] + s1[i] * w1[i]
