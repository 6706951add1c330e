"""Turn the files of a request into jobs, and their results into the entries of a response."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import UploadFile

from koa_lightning.serving.service.answers import About, Fault, Knee
from koa_lightning.serving.service.job import Job, Result
from koa_lightning.serving.service.problems import Problem
from koa_lightning.serving.service.settings import Limits

_LONGEST = 200  # characters of a file's name


@dataclass(frozen=True)
class Asked:
    """The options of a request, for each of its files; see `Job`."""

    method: str = ""
    target: str = "grade"
    picture: bool = False
    side: str = ""
    films: str = "auto"


def checked_method(method: str, about: About) -> str:
    """Return a method of heat maps.

    Raises:
        Problem: There is no such method, or none at all for this model.
    """
    if not about.methods:
        raise Problem("no_heat_map", "this model has no heat maps; send heatmap=false")
    if method not in about.methods:
        raise Problem("bad_request", f"method={method}: must be one of {', '.join(about.methods)}")
    return method


async def jobs(files: Sequence[UploadFile], asked: Asked, limits: Limits) -> list[Job]:
    """Read the files of a request into memory.

    Raises:
        Problem: There are too many files.
    """
    if len(files) > limits.n_files:
        raise Problem("too_many_files", f"{len(files)} files are more than {limits.n_files}; send some at a time")
    until = time.monotonic() + limits.seconds
    return [
        Job(
            file_name(file.filename or "", number), await file.read(), side=asked.side, films=asked.films,
            method=asked.method, target=asked.target, picture=asked.picture, until=until,
        )
        for number, file in enumerate(files, start=1)
    ]  # fmt: skip


def file_name(sent: str, number: int) -> str:
    """Return a file's name without folders and unprintable characters.

    Args:
        sent: The name that the client sent.
        number: Number of the file in its request, from 1.
    """
    last = sent.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(letter for letter in last if letter.isprintable() and not "\ud800" <= letter <= "\udfff").strip()
    if len(name) > _LONGEST:
        stem, dot, ending = name.rpartition(".")
        name = name[:_LONGEST] if not dot or len(ending) > 10 else f"{stem[: _LONGEST - 11]}.{ending}"
    return name if name.strip(".") else f"image {number}"


def knee(job: Job, result: Result) -> Knee:
    """Return the entry of a file."""
    if result.problem is not None:
        return Knee(file=job.name, error=Fault(code=result.problem.code, message=result.problem.message))
    return Knee(file=job.name, **(result.fields or {}))
