"""The one exception for everything that the user can put right, and where a disk was full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """Bad input or configuration: one line that says what is wrong, where, and what to do.

    Every entry point prints it as a single line and ends with exit code 2.
    """


class DivergedError(InputError):
    """The loss left the numbers: other settings may do better."""


class LostProcessError(RuntimeError):
    """A process that worked together with this one died: one line; nothing of the user's is wrong, so exit code 1."""


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Give an error of the disk the name of what was being written, which the system tells of opening alone.

    Args:
        place: A file, or its folder.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(place)
        raise
