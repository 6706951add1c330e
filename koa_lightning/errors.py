"""The exception for every error that the user can correct, and the file name for errors of the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """Bad input or configuration: one line that says what is wrong, where, and what to do.

    Every entry point prints it as a single line and ends with exit code 2.
    """


class DivergedError(InputError):
    """The loss is no longer finite: other settings may do better."""


class LostProcessError(RuntimeError):
    """A process that worked with this one died: one line, and exit code 1, as the user's input is not at fault."""


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Add the name of the written file to an error of the disk: the system names it only if opening fails.

    Args:
        place: A file, or its folder.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(place)
        raise
