"""Compiled loops over the pixels of channels_last images: batch norm and activation in one pass, forward and backward.

Images are rows x channels in fp32, or the bits of bf16 in uint16, which are computed in fp32 and rounded once. Sums are
kept in fp32 within a block of rows and in fp64 across blocks, separately for each thread. Numba compiles a loop on its
first run, which takes seconds, and caches it for the next process.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, prange, types
from numba.extending import intrinsic

from koa_lightning.models.cpu.activations import RELU6, SILU

_BLOCK = 32  # rows
# NaN and infinity must be preserved: a loss that is not finite has to show.
FAST = {"contract", "nsz", "arcp"}

_ZERO, _ONE, _SIX = np.float32(0), np.float32(1), np.float32(6)
_LARGEST = np.float32(126)  # 2 to this power, and to its negative, are normal numbers
_PER_LN2 = np.float32(1 / np.log(2))
# Adding it to n + f leaves n, rounded, and the last bits are the exponent bits of 2^n.
_ROUNDS = np.float32(1.5 * 2**23 + 127)
_P1, _P2, _P3, _P4, _P5, _P6 = (np.float32(np.log(2) ** k / math.factorial(k)) for k in range(1, 7))  # Taylor of 2^f

_intrinsic: Any = intrinsic  # numba adds the context itself, which its type hints omit
config.THREADING_LAYER = "omp"  # type: ignore[attr-defined]  # the threads that torch already has
MOST_THREADS: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def parallel(loop: Callable[..., None]) -> Any:
    """Compile a loop for all threads, and cache the result beside this file or in the user's cache folder."""
    options: dict[str, Any] = {"parallel": True, "fastmath": FAST, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(loop)
    except RuntimeError:  # neither folder can be written
        warnings.warn("no writable folder for compiled loops; every run compiles them again, for seconds", stacklevel=2)
        return njit(**options)(loop)


@_intrinsic
def _power_of_2(context: Any, rounded: Any) -> Any:
    """Return 2^n of the float32 `_ROUNDS` + n."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(32))
        return builder.bitcast(builder.shl(bits, ir.Constant(ir.IntType(32), 23)), ir.FloatType())

    return types.float32(types.float32), build


@_intrinsic
def fp32(context: Any, stored: Any) -> Any:
    """Return an element of an image as float32."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if stored == types.float32:
            return args[0]
        bits = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(stored), build


@_intrinsic
def like(context: Any, value: Any, stored: Any) -> Any:
    """Return a float32 in the storage type of an image, rounded to the nearest value, ties to even."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if stored.dtype == types.float32:
            return args[0]
        word = ir.IntType(32)
        bits = builder.bitcast(args[0], word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.lshr(builder.add(builder.add(bits, odd), ir.Constant(word, 0x7FFF)), ir.Constant(word, 16))
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.trunc(builder.select(is_nan, ir.Constant(word, 0x7FC0), rounded), ir.IntType(16))

    return stored.dtype(types.float32, stored), build


@njit(fastmath=FAST, error_model="numpy")
def _sigmoid(z: Any) -> Any:
    x = -z * _PER_LN2
    x = x if x < _LARGEST else _LARGEST
    x = x if x > -_LARGEST else -_LARGEST
    rounded = x + _ROUNDS
    f = x - (rounded - _ROUNDS)  # at most a half
    f2 = f * f  # the polynomial is computed in pairs, which do not wait for each other
    p = ((_P6 * f2 + (_P5 * f + _P4)) * f2 + (_P3 * f + _P2)) * f2 + (_P1 * f + _ONE)
    return _ONE / (_ONE + p * _power_of_2(rounded))


@njit(fastmath=FAST, error_model="numpy")
def _activated(z: Any, activation: int) -> Any:
    if activation == SILU:
        return z * _sigmoid(z)
    if activation == RELU6:
        z = _ZERO if z < _ZERO else z
        return _SIX if z > _SIX else z
    return z


@parallel
def moments(image: np.ndarray, shift: np.ndarray, parts: np.ndarray) -> None:
    """Write the sums of each channel of image - shift, and of its square, into parts: threads x 2 x channels, fp64."""
    rows, channels = image.shape
    threads = parts.shape[0]
    for t in prange(threads):
        parts[t] = 0.0
        sums = np.empty((2, channels), np.float32)
        first, end = rows * t // threads, rows * (t + 1) // threads
        for start in range(first, end, _BLOCK):
            sums[:] = _ZERO
            for row in range(start, min(start + _BLOCK, end)):
                for c in range(channels):
                    value = fp32(image[row, c]) - shift[c]
                    sums[0, c] += value
                    sums[1, c] += value * value
            for c in range(channels):
                parts[t, 0, c] += sums[0, c]
                parts[t, 1, c] += sums[1, c]


@parallel
def activate(image: np.ndarray, scale: np.ndarray, offset: np.ndarray, activation: int, out: np.ndarray) -> None:
    """Write activation(image * scale + offset) into out."""
    rows, channels = image.shape
    for row in prange(rows):
        for c in range(channels):
            value = _activated(fp32(image[row, c]) * scale[c] + offset[c], activation)
            out[row, c] = like(value, out.dtype)


@parallel
def slopes(
    image: np.ndarray,
    gradient: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    mean: np.ndarray,
    activation: int,
    out: np.ndarray,
    parts: np.ndarray,
) -> None:
    """Write the sums of the gradient before the activation, and of that gradient * (image - mean), into parts.

    The gradient before the activation goes into out, unless there is no activation and it is the given gradient.
    """
    rows, channels = image.shape
    threads = parts.shape[0]
    for t in prange(threads):
        parts[t] = 0.0
        sums = np.empty((2, channels), np.float32)
        first, end = rows * t // threads, rows * (t + 1) // threads
        for start in range(first, end, _BLOCK):
            sums[:] = _ZERO
            for row in range(start, min(start + _BLOCK, end)):
                if activation == SILU:
                    for c in range(channels):
                        value = fp32(image[row, c])
                        z = value * scale[c] + offset[c]
                        s = _sigmoid(z)
                        slope = fp32(gradient[row, c]) * s * (_ONE + z * (_ONE - s))
                        out[row, c] = like(slope, out.dtype)
                        sums[0, c] += slope
                        sums[1, c] += slope * (value - mean[c])
                elif activation == RELU6:
                    for c in range(channels):
                        value = fp32(image[row, c])
                        z = value * scale[c] + offset[c]
                        slope = fp32(gradient[row, c])
                        slope = _ZERO if z <= _ZERO else slope
                        slope = _ZERO if z >= _SIX else slope
                        out[row, c] = like(slope, out.dtype)
                        sums[0, c] += slope
                        sums[1, c] += slope * (value - mean[c])
                else:
                    for c in range(channels):
                        slope = fp32(gradient[row, c])
                        sums[0, c] += slope
                        sums[1, c] += slope * (fp32(image[row, c]) - mean[c])
            for c in range(channels):
                parts[t, 0, c] += sums[0, c]
                parts[t, 1, c] += sums[1, c]


@parallel
def combine(
    image: np.ndarray,
    of_image: np.ndarray,
    slope: np.ndarray,
    of_slope: np.ndarray,
    offset: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write image * of_image + slope * of_slope + offset into out, which may be the slope."""
    rows, channels = image.shape
    for row in prange(rows):
        for c in range(channels):
            value = fp32(image[row, c]) * of_image[c] + fp32(slope[row, c]) * of_slope[c] + offset[c]
            out[row, c] = like(value, out.dtype)


@parallel
def products(image: np.ndarray, gradient: np.ndarray, out: np.ndarray) -> None:
    """Write the sum of image * gradient over the pixels of each image into out: N x C, from N x pixels x C."""
    count, rows, channels = image.shape
    for n in prange(count):
        sums, total = np.empty(channels, np.float32), np.zeros(channels)
        for start in range(0, rows, _BLOCK):
            sums[:] = _ZERO
            for row in range(start, min(start + _BLOCK, rows)):
                for c in range(channels):
                    sums[c] += fp32(image[n, row, c]) * fp32(gradient[n, row, c])
            for c in range(channels):
                total[c] += sums[c]
        for c in range(channels):
            out[n, c] = total[c]
