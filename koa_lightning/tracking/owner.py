"""Identify the process that writes a run, to close runs whose process was killed. No heavy imports here.

A killed process does not end its run, which would appear as running for ever. So each run names the process that
writes it, and the next command that opens the store closes the runs whose process has ended. It leaves alone the runs
of other machines, and runs that a container on this machine may be writing, as its processes cannot be seen from here.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

PREFIX = "process."
UNKNOWN = "unknown"


class Process(NamedTuple):
    """A process, described so that another one with the same number is not mistaken for it.

    Attributes:
        host: The name of the machine, and a fingerprint that distinguishes it from others of that name.
        boot: Changes with each start of the machine.
        space: The namespace of the number; a container has its own.
        pid: The process id.
        started: Start of the process, in ticks since the machine started.
    """

    host: str
    boot: str
    space: str
    pid: str
    started: str

    def tags(self) -> dict[str, str]:
        """Return the process as tags of a run."""
        return {f"{PREFIX}{name}": value for name, value in self._asdict().items()}


def this() -> Process:
    """Return this process."""
    return Process(host(), _first_line("/proc/sys/kernel/random/boot_id"), _space(), str(os.getpid()), started("self"))


def of(tags: Mapping[str, str]) -> Process | None:
    """Return the process that the tags of a run name; None if a tag is missing."""
    values = {name: tags.get(f"{PREFIX}{name}", "") for name in Process._fields}
    return Process(**values) if all(value not in ("", UNKNOWN) for value in values.values()) else None


def has_ended(process: Process) -> bool:
    """Return whether a process of this machine has ended; one of another machine counts as running."""
    here = this()
    if process.host != here.host or UNKNOWN in here:
        return False
    if process.boot != here.boot:
        return is_certain(here.host)  # the machine was rebooted since, if it is the same one
    return process.space == here.space and started(process.pid) != process.started


def host() -> str:
    """Return the name of this machine with a fingerprint of its id and network cards; `-` if it has neither."""
    return f"{socket.gethostname()} {_fingerprint()}"


def is_certain(name: str) -> bool:
    """Return whether no other machine has this name: containers of one image may share theirs."""
    return not name.endswith(" -")


def started(pid: str) -> str:
    """Return when a process was started, in ticks since the machine started; `unknown` if it does not run.

    Args:
        pid: Its number, or `self`.
    """
    # The name of the program is in brackets and may contain spaces and brackets itself.
    fields = _first_line(f"/proc/{pid}/stat").rpartition(")")[2].split() if pid == "self" or pid.isdigit() else []
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else UNKNOWN


@cache
def _fingerprint() -> str:
    cards = Path("/sys/class/net")
    # A container's cards have no device; without one, the machine id may be that of the container's image.
    own = sorted(_first_line(str(card / "address")) for card in cards.glob("*") if (card / "device").exists())
    if not own:
        return "-"
    return hashlib.blake2b(" ".join([_first_line("/etc/machine-id"), *own]).encode(), digest_size=6).hexdigest()


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return UNKNOWN


def _first_line(file: str) -> str:
    try:
        return (Path(file).read_text(errors="replace").splitlines() or [UNKNOWN])[0]
    except OSError:
        return UNKNOWN
