"""Near duplicates: the same radiograph cropped, scaled, shifted, re-exposed, equalised or re-encoded.

Only the content counts. None of the three steps compares all pairs:

1. *Keypoints.* Up to 150 upright SIFT keypoints per image (see `features`). Knees look alike as a whole; the fine
   texture of the bone does not.
2. *Index.* Descriptors are reduced to 32 numbers and stored in an inverted file (faiss) of about 4 sqrt(n) cells. Each
      keypoint queries a few cells for its nearest keypoints; two images that share `MIN_VOTES` are a candidate. The
      work grows with n sqrt(n). An index holds at most `INDEXED` keypoints; if there are more, several are built
      in turn, and all keypoints query each. Keypoints and votes lie in temporary files, so memory does not grow with n.
3. *Proof.* The shared keypoints of a candidate must agree on one scale and shift (RANSAC), and the fine structure of
   the two aligned pictures must correlate.

A mirrored knee is not a duplicate: keypoints distinguish left from right.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import cv2
import faiss
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress

from koa_lightning.data.audit import features
from koa_lightning.data.mapped import fetch, scratch
from koa_lightning.data.parallel import in_order
from koa_lightning.errors import naming

DIMENSIONS = 32  # of a reduced descriptor: about 85 % of the variance on knees
NEIGHBOURS = 8  # keypoints that each keypoint votes for
MAX_DISTANCE = 0.06  # between two reduced descriptors, squared
CELLS_ASKED = 4
MIN_VOTES = 6
MIN_INLIERS = 6  # keypoints of a pair that agree on one scale and shift
MIN_CORRELATION = 0.4  # true pairs of real knees reach at least 0.63, others at most 0.24
SCALES = (0.55, 1.8)  # of one picture relative to the other
MAX_TURN = 10.0  # degrees
MIN_OVERLAP = 0.15  # of the first picture
MOST_KEYPOINTS = 6_000_000  # in all, to limit time; over 40,000 images get fewer than 150 each
INDEXED = 6_000_000  # keypoints in an index: 240 MB, and twice that while it grows
COLUMNS = ("row_a", "row_b", "similarity", "scale", "dx", "dy")
CHUNK = 100_000  # keypoints per step
_VOTES_AT_ONCE = 4_000_000  # 32 MB, and several times that to sort them
_SAMPLE = 500  # images that define the reduction
_FINE = 3.0  # pixels: much larger structures are alike in all knees


@dataclass(frozen=True)
class Match:
    """Position of the second picture on the first.

    Attributes:
        similarity: Correlation of the fine structure.
        scale: Pixels of the first picture per pixel of the second.
        dx, dy: Offset of the second picture's centre from the first's, as a share of the width.
    """

    similarity: float
    scale: float
    dx: float
    dy: float


@dataclass(frozen=True)
class _Candidate:
    row_a: int
    row_b: int
    points_a: np.ndarray  # float32 n x 2, of the shared keypoints
    points_b: np.ndarray


def points_each(n_images: int) -> int:
    """Return how many keypoints each of this many images may have."""
    return min(features.POINTS, max(16, MOST_KEYPOINTS // max(1, n_images)))


def find_duplicates(images: np.ndarray, *, quiet: bool = False) -> pd.DataFrame:
    """Return the pairs of images that show the same radiograph.

    Args:
        images: uint8 N x S x S, may be memory-mapped; S about 224, bone bright.
        quiet: No progress bar.

    Returns:
        row_a < row_b, similarity (0 to 1), scale, dx and dy (see `Match`), the most similar first.
    """
    found = []
    with Progress(console=Console(stderr=True), disable=quiet) as bar:
        candidates = Keypoints.of(images, bar).candidates(bar)
        task = bar.add_task("proving pairs", total=len(candidates))
        with closing(in_order(lambda each: _prove(images, each), candidates)) as matches:
            for candidate, match in zip(candidates, matches, strict=True):
                bar.advance(task)
                if match is not None:
                    found.append((candidate.row_a, candidate.row_b, match.similarity, match.scale, match.dx, match.dy))
    frame = pd.DataFrame(found, columns=list(COLUMNS)).astype({"row_a": "int64", "row_b": "int64"})
    return frame.sort_values(["similarity", "row_a", "row_b"], ascending=[False, True, True], ignore_index=True)


class Keypoints:
    """The keypoints of all images, image by image.

    Args:
        reduced: Descriptors, float16 n x 32, may be memory-mapped.
        points: x, y and size in pixels, float32 n x 3, may be memory-mapped.
        counts: Of each image.
    """

    def __init__(self, reduced: np.ndarray, points: np.ndarray, counts: np.ndarray) -> None:
        self.reduced, self.points, self.n_images = reduced, points, len(counts)
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return len(self.reduced)

    @classmethod
    def of(cls, images: np.ndarray, bar: Progress) -> Keypoints:
        """Find the keypoints of images uint8 N x S x S."""
        n = points_each(len(images))
        sample = images[np.unique(np.linspace(0, len(images) - 1, _SAMPLE).astype(int))] if len(images) else images
        reduce = _principal_components([each.descriptors for each in features.extract_all(sample, n)])
        reduced = scratch((len(images) * n, DIMENSIONS), np.float16)
        points = scratch((len(images) * n, 3), np.float32)
        counts, end = np.zeros(len(images), np.int64), 0
        task = bar.add_task("looking for keypoints", total=len(images))
        for i, each in enumerate(features.extract_all(images, n)):
            counts[i] = len(each.points)
            reduced[end : end + counts[i]], points[end : end + counts[i]] = reduce(each.descriptors), each.points
            end += counts[i]
            bar.advance(task)
        return cls(reduced[:end], points[:end], counts)

    def owner(self, keypoints: np.ndarray) -> np.ndarray:
        """Return the image of each of some keypoints, int64."""
        return np.searchsorted(self._ends, keypoints, side="right")

    def candidates(self, bar: Progress) -> list[_Candidate]:
        """Return the pairs of images that share at least `MIN_VOTES` keypoints."""
        parts = range(0, len(self), INDEXED)
        task = bar.add_task("comparing keypoints", total=len(self) * len(parts))
        folder = Path(tempfile.gettempdir())
        with naming(folder), tempfile.TemporaryFile(dir=folder) as votes:
            for first in parts:
                index = self.index(first)
                for start in range(0, len(self), CHUNK):
                    votes.write(self.votes(index, first, start).tobytes())
                    bar.advance(task, min(CHUNK, len(self) - start))
                del index
            return self.counted(votes)

    def votes(self, index: Any, first: int, start: int) -> np.ndarray:
        """Return the two keypoints of each vote of a chunk, int32 V x 2; that of the earlier image comes first.

        Args:
            index: Index of the keypoints from `first` on.
            first: See `index`.
            start: First keypoint of the querying chunk.
        """
        some = self.reduced[start : start + CHUNK].astype(np.float32)
        distance, near = index.search(some, NEIGHBOURS)
        keypoint, other = np.repeat(np.arange(start, start + len(some)), NEIGHBOURS), near.ravel() + first
        keep = (near.ravel() >= 0) & (distance.ravel() < MAX_DISTANCE)
        keypoint, other = keypoint[keep], other[keep]
        size = np.abs(np.log(self.points[keypoint, 2] / self.points[other, 2]))
        keep = (size < np.log(SCALES[1])) & (self.owner(keypoint) != self.owner(other))
        return np.sort(np.stack([keypoint[keep], other[keep]], axis=1).astype(np.int32), axis=1)

    def counted(self, votes: IO[bytes]) -> list[_Candidate]:
        """Return the pairs of images with enough votes, some images at a time, as sorting all votes takes much memory.

        Args:
            votes: A file with the output of `votes`.
        """
        votes.flush()
        n_votes = votes.seek(0, os.SEEK_END) // (2 * np.dtype(np.int32).itemsize)
        if not n_votes:
            return []
        mapped = np.memmap(votes, np.int32, mode="r", shape=(n_votes, 2))
        found: list[_Candidate] = []
        for first, end in pairwise(np.linspace(0, self.n_images, max(1, n_votes // _VOTES_AT_ONCE) + 1).astype(int)):
            low, high = np.concatenate([[0], self._ends])[[first, end]]
            looked = (mapped[start : start + _VOTES_AT_ONCE] for start in range(0, n_votes, _VOTES_AT_ONCE))
            some = [each[(each[:, 0] >= low) & (each[:, 0] < high)] for each in looked]
            found += self._counted(*np.concatenate(some).T)
        return found

    def _counted(self, mine: np.ndarray, other: np.ndarray) -> Iterator[_Candidate]:
        pair = self.owner(mine) * self.n_images + self.owner(other)
        order = np.argsort(pair, kind="stable")
        keys, starts, counts = np.unique(pair[order], return_index=True, return_counts=True)
        for key, start, count in zip(*(each[counts >= MIN_VOTES] for each in (keys, starts, counts)), strict=True):
            votes = order[start : start + count]
            here, there = (np.ascontiguousarray(self.points[each[votes], :2]) for each in (mine, other))
            yield _Candidate(int(key // self.n_images), int(key % self.n_images), here, there)

    def index(self, first: int = 0) -> Any:
        """Return an inverted file of at most `INDEXED` keypoints, from `first` on."""
        reduced = self.reduced[first : first + INDEXED]
        n = len(reduced)
        cells = max(1, int(4 * np.sqrt(n)) if n > 10_000 else n // 100)
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(DIMENSIONS), DIMENSIONS, cells, faiss.ScalarQuantizer.QT_8bit
        )
        index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 40
        rows = np.sort(np.random.default_rng(0).choice(n, min(n, 40 * cells), replace=False)) if cells > 1 else slice(n)
        index.train(reduced[rows].astype(np.float32))
        for start in range(0, n, CHUNK):
            index.add(reduced[start : start + CHUNK].astype(np.float32))
        index.nprobe = CELLS_ASKED
        return index


def _principal_components(descriptors: list[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that reduces descriptors n x 128 to n x 32."""
    some = np.concatenate([np.zeros((0, 128), np.float32), *descriptors])
    mean = some.mean(0) if len(some) else np.zeros(128, np.float32)
    _, axes = np.linalg.eigh((some - mean).T @ (some - mean))
    turn = axes[:, ::-1][:, :DIMENSIONS].astype(np.float32)
    return lambda each: (each - mean) @ turn


def _prove(images: np.ndarray, candidate: _Candidate) -> Match | None:
    first, second = fetch(images, np.array([candidate.row_a, candidate.row_b]))
    return prove(first, second, candidate.points_a, candidate.points_b)


def prove(first: np.ndarray, second: np.ndarray, points_a: np.ndarray, points_b: np.ndarray) -> Match | None:
    """Return the position of the second picture on the first; None if they show different radiographs.

    Args:
        first: uint8 S x S.
        second: The same.
        points_a: float32 n x 2 (x, y in pixels): positions of the shared keypoints on the first picture.
        points_b: ... and on the second, row by row.
    """
    placed, inliers = cv2.estimateAffinePartial2D(points_b, points_a, ransacReprojThreshold=3.0)
    if placed is None or int(inliers.sum()) < MIN_INLIERS:
        return None
    scale, turn = float(np.hypot(placed[0, 0], placed[1, 0])), float(np.arctan2(placed[1, 0], placed[0, 0]))
    if not SCALES[0] < scale < SCALES[1] or abs(np.degrees(turn)) > MAX_TURN:
        return None
    similarity = _correlation(first, second, placed)
    if similarity < MIN_CORRELATION:
        return None
    height, width = second.shape
    x, y = placed @ np.array([width / 2, height / 2, 1.0])
    return Match(min(similarity, 1.0), scale, float(x / width - 0.5), float(y / height - 0.5))


def _correlation(first: np.ndarray, second: np.ndarray, placed: np.ndarray) -> float:
    """Return the correlation of the fine structure in the area that both pictures show; -1 if it is too small."""
    equaliser = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8))
    size = first.shape[::-1]
    a, b = (equaliser.apply(np.ascontiguousarray(image)) for image in (first, second))
    shown = np.minimum(first > 0, cv2.warpAffine((second > 0).astype(np.uint8), placed, size))
    common = cv2.erode(shown.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0  # away from the edges of the padding
    if common.mean() < MIN_OVERLAP:
        return -1.0
    x, y = (_fine(image)[common] for image in (a, cv2.warpAffine(b, placed, size)))
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(float(np.sqrt((x @ x) * (y @ y))), 1e-6))


def _fine(image: np.ndarray) -> np.ndarray:
    """Return the structure of a few pixels, normalised to even strength across the picture."""
    values = image.astype(np.float32)
    values -= cv2.GaussianBlur(values, (0, 0), _FINE)
    return values / (np.sqrt(cv2.GaussianBlur(values * values, (0, 0), 2 * _FINE)) + 2.0)
