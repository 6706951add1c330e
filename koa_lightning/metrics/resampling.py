"""Resampled patients, as weights: how often each is in a resample."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

_CELLS = 2**21  # weights of knees in one block: 16 MB per array


def bootstrap_weights(n_patients: int, n_resamples: int, seed: int, block: int) -> Iterator[np.ndarray]:
    """Yield how often each patient is drawn, with replacement, in each resample; the same for every `block`.

    Args:
        n_patients: Number of patients, and of draws in each resample.
        n_resamples: Number of resamples in all.
        seed: Of the draws.
        block: Number of resamples in a block.

    Yields:
        float64 b x n_patients, rows sum to n_patients; b is `block`, or fewer in the last one.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, n_resamples, block):
        b = min(block, n_resamples - start)
        drawn = rng.integers(n_patients, size=(b, n_patients)) + n_patients * np.arange(b)[:, None]
        yield np.bincount(drawn.ravel(), minlength=b * n_patients).reshape(b, n_patients).astype(np.float64)


def block_size(n_knees: int) -> int:
    """Return how many resamples of `n_knees` knees to compute at once, so that memory stays bounded."""
    return max(1, _CELLS // max(1, n_knees))


def gather(
    blocks: Iterator[np.ndarray], compute: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return each metric over the resamples of all blocks."""
    parts = [compute(weights) for weights in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
