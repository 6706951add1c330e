"""How a command ends: its exit code and its one-line error message."""

from __future__ import annotations

import errno
import sys

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from koa_lightning.config import keys
from koa_lightning.config.places import yaml_fault
from koa_lightning.errors import InputError, LostProcessError

DONE, PARTLY, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


_DISK = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOENT: "there is no such file or folder, and it cannot be created",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
    errno.EEXIST: "already exists and is not a folder",
    errno.ENOTDIR: "part of the path is not a folder",
    errno.EISDIR: "is a folder, not a file",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "the file would be larger than the disk or the limit (ulimit -f) allows",
    errno.EIO: "the disk or network drive has failed",
    errno.ESTALE: "the network drive no longer has this file",
    errno.EMFILE: "this program has reached the limit of open files (ulimit -n)",
    errno.ENFILE: "this machine has reached its limit of open files",
    errno.ENOMEM: "no memory left",
}


def one_line(exception: BaseException, config_name: str = "train") -> str | None:
    """Return the one line for the user, or None if the exception is a fault of the program."""
    link: BaseException | None = exception
    while link is not None:  # Hydra wraps the exceptions of constructors
        if isinstance(link, InputError | LostProcessError):
            return str(link)
        if isinstance(link, OSError) and not isinstance(link, HydraException):
            where = f"{link.filename or 'a file or an address'}"
            reason = _DISK.get(link.errno or 0) or link.strerror or str(link) or type(link).__name__
            return f"{where}: {reason}; fix this, or name another folder with out=FOLDER"
        if isinstance(link, yaml.YAMLError):
            file = getattr(getattr(link, "problem_mark", None), "name", "a YAML file")
            return f"{file}: {yaml_fault(link)}; fix this"
        link = link.__cause__
    if isinstance(exception, HydraException):
        cause = f"{exception}\n{exception.__cause__ or ''}"
        return keys.explain_hydra(cause, config_name) if "instantiat" not in cause else None
    if isinstance(exception, OmegaConfBaseException):
        first = str(exception).splitlines()[0]
        key = getattr(exception, "full_key", None) or ""
        if "Missing mandatory value" in first or "???" in first:
            return f"{key}: must be given; type {key}=VALUE"
        return f"{key + ': ' if key else ''}{first}"
    return None


def code_of(exception: BaseException) -> int:
    """Return the exit code for an exception with a line from `one_line`."""
    return PARTLY if isinstance(exception, LostProcessError) else BAD_INPUT


def say_error(line: str) -> None:
    """Print one line to the error stream."""
    print(f"error: {' '.join(line.split())}", file=sys.stderr, flush=True)


def bad_input(error: Exception) -> int:
    """Print the one line of an error and return the exit code for it.

    Args:
        error: The exception being handled.

    Raises:
        Exception: The error itself, if it is a fault of the program.
    """
    line = one_line(error)
    if line is None:
        raise error
    say_error(line)
    return code_of(error)
