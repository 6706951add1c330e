"""How figures are saved and drawn: the config group `figures`, in force while a command runs. No heavy imports here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from omegaconf import DictConfig

from koa_lightning.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")
FORMATS = ("png", "svg", "pdf")
PALETTES = ("okabe_ito", "tol", "gray")
WIDTHS = {"single": 85.0, "double": 174.0}
"""Width of one and of two columns in millimetres, as in most journals."""
NARROWEST, WIDEST = 75.0, 400.0
SMALLEST_FONT = 7.0
"""Points; journals refuse smaller letters."""
OWN_FONT = "DejaVu Sans"  # shipped with matplotlib
_INCH = 25.4  # mm


@dataclass(frozen=True)
class FigureSettings:
    """The config group `figures`.

    Attributes:
        formats: Endings of the files, of `FORMATS`.
        dpi: Pixels per inch.
        width: Millimetres; None: each figure's own width, at most two columns.
        font: Name of a font.
        font_size: Of labels, in points at the printed width.
        palette: Of `PALETTES`.
        stamp: Whether a figure without caveats shows the research-use line.
    """

    formats: tuple[str, ...] = ("png",)
    dpi: int = 150
    width: float | None = None
    font: str = OWN_FONT
    font_size: float = 8.5
    palette: str = "okabe_ito"
    stamp: bool = True

    @classmethod
    def of(cls, group: Mapping[str, Any] | DictConfig | None) -> FigureSettings:
        """Return the settings of the config group `figures`; the defaults for the screen if a config has none."""
        if group is None:
            return cls()
        formats = group["format"]
        width = group["width"]
        return cls(
            formats=(formats,) if isinstance(formats, str) else tuple(formats),
            dpi=int(group["dpi"]),
            width=WIDTHS[width] if isinstance(width, str) else width,
            font=str(group["font"]),
            font_size=float(group["font_size"]),
            palette=str(group["palette"]),
            stamp=bool(group["stamp"]),
        )

    def inches(self, wanted: float) -> float:
        """Return the width at which a figure is drawn and printed, in inches.

        Args:
            wanted: The figure's own width in inches; it counts if no width is set.
        """
        return min(wanted, WIDTHS["double"] / _INCH) if self.width is None else self.width / _INCH


_current: ContextVar[FigureSettings] = ContextVar("figures", default=FigureSettings())  # noqa: B039 (frozen)


def current() -> FigureSettings:
    """Return the settings in force."""
    return _current.get()


@contextmanager
def using(settings: FigureSettings) -> Iterator[None]:
    """Draw and save with these settings."""
    token = _current.set(settings)
    try:
        yield
    finally:
        _current.reset(token)


def configured(command: Callable[Concatenate[DictConfig, P], T]) -> Callable[Concatenate[DictConfig, P], T]:
    """Let a command draw with the group `figures` of its config."""

    @functools.wraps(command)
    def call(cfg: DictConfig, *args: P.args, **kwargs: P.kwargs) -> T:
        with using(FigureSettings.of(cfg.get("figures"))):
            return command(cfg, *args, **kwargs)

    return call


def check(group: Mapping[str, Any] | DictConfig) -> None:
    """Stop before any work if figures could not be drawn with these settings.

    Raises:
        InputError: No format is named, or this machine has no such font.
    """
    if not group["format"]:
        raise InputError(f"figures.format=[]: the list is empty; type one or more of {', '.join(FORMATS)}")
    font = str(group["font"])
    if font == OWN_FONT:
        return
    from matplotlib import font_manager  # takes seconds the first time on a machine

    names = sorted({entry.name for entry in font_manager.fontManager.ttflist})
    if font not in names:
        ours = [name for name in names if not name.startswith(("STIX", "cm"))]
        some = f"{', '.join(ours[:12])}{' ...' if len(ours) > 12 else ''}"
        raise InputError(f"figures.font={font}: this machine has no such font; it has {some}")
