"""Choose the knees of a panel by fixed rules, so that nobody picks the pretty ones."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

Chosen = tuple[list[int], list[str]]  # row numbers, and a note on each


def of_each_grade(grade: Sequence[int] | np.ndarray, n: int = 4) -> Chosen:
    """Choose the first n knees of each true grade, right or wrong, grades ascending.

    Args:
        grade: True grade, N.
        n: Most knees of each grade.
    """
    grade = np.asarray(grade)
    rows = [int(row) for each in np.unique(grade) for row in np.flatnonzero(grade == each)[:n]]
    return rows, [""] * len(rows)


def of_each_mistake(
    grade: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray, probabilities: np.ndarray, n: int = 12
) -> Chosen:
    """Choose the surest mistake of each kind (true and predicted grade), the commonest kinds first.

    Args:
        grade: True grade, N.
        predicted: Predicted grade, N.
        probabilities: Float, N x 5.
        n: Most kinds.
    """
    pairs = list(zip(np.asarray(grade).tolist(), np.asarray(predicted).tolist(), strict=True))
    kinds = Counter(pair for pair in pairs if pair[0] != pair[1])
    rows, notes = [], []
    for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:n]:
        of_kind = [row for row, pair in enumerate(pairs) if pair == kind]
        rows.append(max(of_kind, key=lambda row: probabilities[row, kind[1]]))
        notes.append(f"{kind[0]} graded {kind[1]}: {count} knee{'s' if count > 1 else ''}")
    return rows, notes


def by_certainty(probabilities: np.ndarray, n: int = 6) -> tuple[Chosen, Chosen]:
    """Choose the n knees with the surest grade and, from the rest, the n least sure, by the largest probability.

    Args:
        probabilities: Float, N x 5.
        n: Most knees of each kind.

    Returns:
        The most certain, the surest first; and the least certain, the least sure first.
    """
    largest = probabilities.max(1)
    order = np.argsort(-largest, kind="stable").tolist()
    most, least = order[:n], order[n:][::-1][:n]
    notes = [[f"{largest[row]:.0%} sure" for row in rows] for rows in (most, least)]
    return (most, notes[0]), (least, notes[1])
