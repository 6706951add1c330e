"""The messages to a worker and from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from koa_lightning.serving.service.problems import Problem


@dataclass(frozen=True)
class Job:
    """One uploaded file, and the options of its request.

    Attributes:
        name: Name of the file, without folders.
        data: Its content.
        side: L, R, or empty: taken from the file.
        films: `auto` or `never`, see `koa_lightning.data.one_knee.Reader`.
        method: Method of the heat map; empty: no heat map.
        target: Target of the heat map.
        picture: Whether to return the gray values.
        until: Time of the monotonic clock, in seconds, after which nobody waits for it.
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
    """The result of a job: either fields of a response, or a problem.

    Attributes:
        fields: Fields of `koa_lightning.serving.service.answers.Knee`.
        problem: Why there are no fields.
        n_together: How many images were graded in the same batch; 0 if it was not graded.
    """

    fields: dict[str, Any] | None = None
    problem: Problem | None = None
    n_together: int = 0
