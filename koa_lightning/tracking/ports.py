"""Check the ports that a server of this package listens on."""

from __future__ import annotations

import socket

import psutil

from koa_lightning.errors import InputError


def check_port(host: str, port: int, advice: str) -> None:
    """Check that this user can listen on a port.

    Args:
        host: The address.
        port: The port at that address.
        advice: The end of the error message.

    Raises:
        InputError: The port is in use or reserved; the message names its process, if this user can see it.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            raise InputError(f"host={host} port={port}: {error.strerror}{_by_whom(port)}; {advice}") from error


def _by_whom(port: int) -> str:
    """Return in brackets the process that listens on a port; empty if this user cannot see it."""
    try:
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                return f" (process {found.pid}, {psutil.Process(found.pid).name()})"
    except (psutil.Error, OSError):
        return ""
    return ""
