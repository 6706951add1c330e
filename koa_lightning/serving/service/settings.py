"""The settings of the service, as plain values that can be sent to its processes. No heavy imports here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_VARIABLE = "KOA_TOKEN"
_SHORTEST = 16  # characters; a shorter token can be guessed by brute force


@dataclass(frozen=True)
class Grading:
    """How knees are graded; the names are those of `predict`.

    Attributes:
        flip: Also grade the mirrored image.
        calibrated: Whether to return calibrated probabilities.
        alpha: Share of knees whose prediction set may miss the true grade.
        refer_below: Grades with a lower probability are referred to a reader.
    """

    flip: bool
    calibrated: bool
    alpha: float
    refer_below: float


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
        n_bytes: The most bytes of a request, all files together.
        n_files: The most files of a request.
        n_pixels: The most pixels of an image, by its header.
        seconds: The longest time of a request.
        n_waiting: The most images that may wait for a worker; more are refused.
    """

    n_bytes: int
    n_files: int
    n_pixels: int
    seconds: float
    n_waiting: int


@dataclass(frozen=True)
class Access:
    """Where the service listens, and who may use it.

    Attributes:
        host: Name or address of this machine.
        port: TCP port.
        token: The token that clients send as `Authorization: Bearer TOKEN`; empty if none is needed.
    """

    host: str
    port: int
    token: str

    @property
    def is_local(self) -> bool:
        """Return whether only this machine can reach the service."""
        return self.host in LOOPBACK

    @property
    def address(self) -> str:
        """Return the address to open in a browser on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def limits(cfg: DictConfig) -> Limits:
    """Return the limits of a config `serve`."""
    return Limits(
        n_bytes=int(cfg.max_mb) << 20,
        n_files=int(cfg.max_files),
        n_pixels=int(cfg.max_megapixels) * 1_000_000,
        seconds=float(cfg.timeout),
        n_waiting=max(8 * int(cfg.batch_size), 4 * int(cfg.max_files)),
    )


def access(cfg: DictConfig) -> Access:
    """Return where to listen and which token to require.

    Raises:
        InputError: Other machines could reach the service without a token, or the token can be guessed.
    """
    token = str(cfg.token or os.environ.get(TOKEN_VARIABLE) or "")
    found = Access(str(cfg.host), int(cfg.port), token)
    if token and (len(token) < _SHORTEST or not token.isascii() or " " in token):
        raise InputError(
            f"token: must be at least {_SHORTEST} ASCII characters without spaces; make one: openssl rand -hex 16"
        )
    if not (found.is_local or token or cfg.insecure):
        raise InputError(
            f"host={found.host}: other machines could send images and read grades; type token=SECRET "
            f"(or set {TOKEN_VARIABLE}), or insecure=true if you trust the network"
        )
    return found


def folder(cfg: DictConfig, key: str) -> Path | None:
    """Return the folder that a key names, created if needed; None if it names none.

    Raises:
        InputError: It cannot be written to.
    """
    if not cfg[key]:
        return None
    place = user_path(str(cfg[key])).absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        probe = place / f".{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{key}={cfg[key]}: cannot be written to ({error.strerror}); name another folder") from error
    return place
