"""Near duplicates: the same radiograph cropped, scaled, shifted, re-exposed, equalised or re-encoded.

By content alone, in three steps, none of which compares all pairs:

1. *Keypoints.* Up to 150 upright SIFT keypoints an image (see `features`). Knees look alike as a whole; the fine
   texture of the bone does not.
2. *Index.* Descriptors are reduced to 32 numbers and put into an inverted file (faiss) of about 4 sqrt(n) cells. Each
   keypoint asks a few cells for the keypoints nearest to it; two images that share `MIN_VOTES` are a candidate. The
   work grows with n sqrt(n).
3. *Proof.* The keypoints that a candidate shares must agree on one scale and shift (RANSAC), and then the fine
   structure of the two pictures, one laid upon the other, must correlate.

A mirrored knee is no duplicate: keypoints know left from right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import faiss
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress

from koa_lightning.data.audit import features
from koa_lightning.data.mapped import fetch
from koa_lightning.data.parallel import in_order

DIMENSIONS = 32  # of a reduced descriptor: about 85 % of the variance on knees
NEIGHBOURS = 8  # keypoints that each keypoint votes for
MAX_DISTANCE = 0.06  # between two reduced descriptors, squared
CELLS_ASKED = 4
MIN_VOTES = 6
MIN_INLIERS = 6  # keypoints of a pair that agree on one scale and shift
MIN_CORRELATION = 0.4  # true pairs of real knees reach 0.63 and more, others 0.24 and less
SCALES = (0.55, 1.8)  # of one picture to the other
MAX_TURN = 10.0  # degrees
MIN_OVERLAP = 0.15  # of the first picture
MOST_KEYPOINTS = 6_000_000  # in all, for the memory; with more than 40,000 images each gets fewer than 150
COLUMNS = ("row_a", "row_b", "similarity", "scale", "dx", "dy")
CHUNK = 100_000  # keypoints a step
_VOTES_AT_ONCE = 4_000_000  # 32 MB, and some times that to sort them
_SAMPLE = 500  # images from which the reduction is learned
_FINE = 3.0  # pixels: structure much larger than this is the same in all knees


@dataclass(frozen=True)
class Match:
    """How the second picture lies on the first.

    Attributes:
        similarity: Correlation of the fine structure.
        scale: Of the second picture in pixels of the first.
        dx, dy: Where the second picture's middle lies, from the first's, as a share of the width.
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
    """Return how many keypoints each of so many images may have."""
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
    """The keypoints of all images: reduced descriptors float16 n x 32, points float32 n x 3, and the image of each."""

    def __init__(self, reduced: np.ndarray, points: np.ndarray, owner: np.ndarray, n_images: int) -> None:
        self.reduced, self.points, self.owner, self.n_images = reduced, points, owner, n_images

    @classmethod
    def of(cls, images: np.ndarray, bar: Progress) -> Keypoints:
        """Find the keypoints of images uint8 N x S x S."""
        n = points_each(len(images))
        sample = images[np.unique(np.linspace(0, len(images) - 1, _SAMPLE).astype(int))] if len(images) else images
        reduce = _principal_components([each.descriptors for each in features.extract_all(sample, n)])
        reduced = np.empty((len(images) * n, DIMENSIONS), np.float16)  # pages that are not written take no memory
        points, counts, end = np.empty((len(images) * n, 3), np.float32), list[int](), 0
        task = bar.add_task("looking for keypoints", total=len(images))
        for each in features.extract_all(images, n):
            counts.append(len(each.points))
            reduced[end : end + counts[-1]], points[end : end + counts[-1]] = reduce(each.descriptors), each.points
            end += counts[-1]
            bar.advance(task)
        owner = np.repeat(np.arange(len(images), dtype=np.int32), counts)
        return cls(reduced[:end], points[:end], owner, len(images))

    def candidates(self, bar: Progress) -> list[_Candidate]:
        """Return the pairs of images that share at least `MIN_VOTES` keypoints."""
        task = bar.add_task("comparing keypoints", total=len(self.owner))
        votes, index = [], self.index() if len(self.owner) else None
        for start in range(0, len(self.owner), CHUNK):
            votes.append(self.votes(index, start))
            bar.advance(task, min(CHUNK, len(self.owner) - start))
        del index
        return self.counted(votes)

    def votes(self, index: Any, start: int) -> np.ndarray:
        """Return the two keypoints of each vote of a chunk, int32 2 x V; that of the earlier image is the first."""
        some = self.reduced[start : start + CHUNK].astype(np.float32)
        distance, near = index.search(some, NEIGHBOURS)
        keypoint, other = np.repeat(np.arange(start, start + len(some)), NEIGHBOURS), near.ravel()
        size = np.abs(np.log(self.points[keypoint, 2] / self.points[other, 2]))
        keep = (other >= 0) & (distance.ravel() < MAX_DISTANCE) & (size < np.log(SCALES[1]))
        keep &= self.owner[keypoint] != self.owner[other]
        return np.sort(np.stack([keypoint[keep], other[keep]]).astype(np.int32), axis=0)  # keypoints lie image by image

    def counted(self, votes: list[np.ndarray]) -> list[_Candidate]:
        """Return the pairs of images with enough votes, some images at a time: sorting all votes takes much memory."""
        found: list[_Candidate] = []
        parts = max(1, sum(each.shape[1] for each in votes) // _VOTES_AT_ONCE)
        for first, end in pairwise(np.linspace(0, self.n_images, parts + 1).astype(int)):
            low, high = np.searchsorted(self.owner, [first, end])
            some = [each[:, (each[0] >= low) & (each[0] < high)] for each in votes]
            found += self._counted(*np.concatenate([np.zeros((2, 0), np.int32), *some], axis=1))
        return found

    def _counted(self, mine: np.ndarray, other: np.ndarray) -> Iterator[_Candidate]:
        pair = self.owner[mine].astype(np.int64) * self.n_images + self.owner[other]
        order = np.argsort(pair, kind="stable")
        keys, starts, counts = np.unique(pair[order], return_index=True, return_counts=True)
        for key, start, count in zip(*(each[counts >= MIN_VOTES] for each in (keys, starts, counts)), strict=True):
            votes = order[start : start + count]
            here, there = (np.ascontiguousarray(self.points[each[votes], :2]) for each in (mine, other))
            yield _Candidate(int(key // self.n_images), int(key % self.n_images), here, there)

    def index(self) -> Any:
        """Return an inverted file of all keypoints."""
        n = len(self.reduced)
        cells = max(1, int(4 * np.sqrt(n)) if n > 10_000 else n // 100)
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(DIMENSIONS), DIMENSIONS, cells, faiss.ScalarQuantizer.QT_8bit
        )
        index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 40
        rows = np.sort(np.random.default_rng(0).choice(n, min(n, 40 * cells), replace=False)) if cells > 1 else slice(n)
        index.train(self.reduced[rows].astype(np.float32))
        for start in range(0, n, CHUNK):
            index.add(self.reduced[start : start + CHUNK].astype(np.float32))
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
    """Return how the second picture lies on the first; None where they do not show the same radiograph.

    Args:
        first: uint8 S x S.
        second: The same.
        points_a: float32 n x 2 (x, y in pixels): where the keypoints that both have lie on the first.
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
    """Return the correlation of the fine structure where both pictures show something; -1 where that is too little."""
    equaliser = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8))
    size = first.shape[::-1]
    a, b = (equaliser.apply(np.ascontiguousarray(image)) for image in (first, second))
    shown = np.minimum(first > 0, cv2.warpAffine((second > 0).astype(np.uint8), placed, size))
    common = cv2.erode(shown.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0  # off the edges of what was padded
    if common.mean() < MIN_OVERLAP:
        return -1.0
    x, y = (_fine(image)[common] for image in (a, cv2.warpAffine(b, placed, size)))
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(float(np.sqrt((x @ x) * (y @ y))), 1e-6))


def _fine(image: np.ndarray) -> np.ndarray:
    """Return the structure of a few pixels, of even strength all over the picture."""
    values = image.astype(np.float32)
    values -= cv2.GaussianBlur(values, (0, 0), _FINE)
    return values / (np.sqrt(cv2.GaussianBlur(values * values, (0, 0), 2 * _FINE)) + 2.0)
