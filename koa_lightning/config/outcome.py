"""How a command ends: its exit code, and the one line of what went wrong."""

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
    errno.ENOENT: "there is no such file or folder, and it cannot be made there",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
    errno.EEXIST: "is there already, and is no folder",
    errno.ENOTDIR: "a part of this path is no folder",
    errno.EISDIR: "is a folder, not a file",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "the file would be larger than the disk or the limit (ulimit -f) allows",
    errno.EIO: "the disk or network drive fails",
    errno.ESTALE: "the network drive has lost it",
    errno.EMFILE: "this program has as many files open as the limit (ulimit -n) allows",
    errno.ENFILE: "this machine has as many files open as it can",
    errno.ENOMEM: "no memory left",
}


def one_line(exception: BaseException, config_name: str = "train") -> str | None:
    """Return the one line that a user should read, or None where the exception is a fault of the program."""
    link: BaseException | None = exception
    while link is not None:  # Hydra wraps what an object's constructor raises
        if isinstance(link, InputError | LostProcessError):
            return str(link)
        if isinstance(link, OSError) and not isinstance(link, HydraException):
            where = f"{link.filename or 'a file or an address'}"
            reason = _DISK.get(link.errno or 0) or link.strerror or str(link) or type(link).__name__
            return f"{where}: {reason}; put it right, or name another folder by out=FOLDER"
        if isinstance(link, yaml.YAMLError):
            file = getattr(getattr(link, "problem_mark", None), "name", "a YAML file")
            return f"{file}: {yaml_fault(link)}; put it right"
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
    """Return the exit code for an exception that `one_line` has a line for."""
    return PARTLY if isinstance(exception, LostProcessError) else BAD_INPUT


def say_error(line: str) -> None:
    """Print one line to the error stream."""
    print(f"error: {' '.join(line.split())}", file=sys.stderr, flush=True)


def bad_input(error: Exception) -> int:
    """Print the one line of an error and return the exit code for it.

    Args:
        error: That is being handled.

    Raises:
        Exception: The error itself, where it is a fault of the program.
    """
    line = one_line(error)
    if line is None:
        raise error
    say_error(line)
    return code_of(error)
