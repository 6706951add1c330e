"""What goes to a worker and comes back from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from koa_lightning.serving.service.problems import Problem


@dataclass(frozen=True)
class Job:
    """One file that was sent, and what is asked about it.

    Attributes:
        name: Of the file, without folders.
        data: Its content.
        side: L, R, or empty: as the file tells.
        films: `auto` or `never`, see `koa_lightning.data.one_knee.Reader`.
        method: Of the heat map; empty: none is asked for.
        target: Of the heat map.
        picture: Whether the gray values are asked for.
        until: Seconds of the monotonic clock after which nobody waits for it.
    """

    name: str
    data: bytes = field(repr=False)
    side: str = ""
    films: str = "auto"
    method: str = ""
    target: str = "grade"
    picture: bool = False
    until: float = float("inf")


@dataclass(frozen=True)
class Result:
    """What became of a job: either fields of an answer, or a problem.

    Attributes:
        fields: Of `koa_lightning.serving.service.answers.Knee`.
        problem: Why there are none.
        n_together: How many images were graded in the same batch; 0 where it was not graded.
    """

    fields: dict[str, Any] | None = None
    problem: Problem | None = None
    n_together: int = 0
