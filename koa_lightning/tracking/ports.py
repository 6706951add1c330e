"""Ports that a server of this package is to listen on."""

from __future__ import annotations

import socket

import psutil

from koa_lightning.errors import InputError


def check_port(host: str, port: int, advice: str) -> None:
    """Stop where a port cannot be listened on.

    Args:
        host: The address.
        port: On it.
        advice: Ends the line.

    Raises:
        InputError: It is in use, or not this user's to take; the process that has it is named where it can be seen.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            raise InputError(f"host={host} port={port}: {error.strerror}{_by_whom(port)}; {advice}") from error


def _by_whom(port: int) -> str:
    """Return in brackets which process listens on a port, or an empty string: those of other users cannot be seen."""
    try:
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                return f" (process {found.pid}, {psutil.Process(found.pid).name()})"
    except (psutil.Error, OSError):
        return ""
    return ""
