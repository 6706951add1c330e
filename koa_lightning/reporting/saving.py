"""Save figures: the stamp on each, and a file in each configured format. Research use only."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import FORMATS, current
from koa_lightning.reporting import style

# without software version and time, the same figure gives the same file
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@style.drawn
def stamp(figure: Figure, caveats: Sequence[str] = ()) -> None:
    """Print caveats (bold, red) and the research-use sentence in a margin along the bottom.

    A second stamp replaces the first. Stamp a figure last: this prints every text literally, dollar signs included.
    `figures.stamp=false` omits the stamp, except on a figure with caveats.

    Args:
        figure: Any figure; its layout is moved up by the height of the text.
        caveats: Short reasons why the figure is not a result, e.g. "phantom data".
    """
    for old in [text for text in figure.texts if text.get_gid() == "stamp"]:
        old.remove()
    width, height = figure.get_size_inches()
    lines: list[tuple[str, dict[str, Any]]] = []
    if caveats or current().stamp:
        room = width - 0.16
        red = {"color": style.palette().caveat, "fontweight": "bold"}
        words = style.wrap("  ·  ".join(caveats), room, style.small(), bold=True) if caveats else ""
        lines += [(line, red) for line in words.split("\n") if line]
        lines += [(line, {"color": style.QUIET}) for line in style.wrap(DISCLAIMER, room, style.small()).split("\n")]
    leading = 1.35 * style.small() / 72 / height  # as a share of the figure
    left, bottom = 0.08 / width, 0.06 / height
    for row, (line, look) in enumerate(reversed(lines)):
        place = (left, bottom + row * leading)
        figure.text(*place, line, ha="left", va="bottom", fontsize=style.small(), gid="stamp", **look)
    top = bottom + len(lines) * leading
    for legend in figure.legends:  # between the panels and the stamp
        legend.set_bbox_to_anchor((0, top, 1, 1 - top), figure.transFigure)
        renderer = FigureCanvasAgg(figure).get_renderer()
        top += legend.get_window_extent(renderer).height / figure.bbox.height + 0.05 / height
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, top, 1, 1 - top), w_pad=0.06, h_pad=0.06)
    else:
        labels = 0.5 / height  # tick labels and axis label of the lowest axes
        figure.subplots_adjust(bottom=max(figure.subplotpars.bottom, top + labels))
    for text in figure.findobj(Text):  # names of files, groups and runs may contain dollar signs
        text.set_parse_math(False)


def save(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Write a figure in each configured format, and close it.

    Each file is written atomically, so no reader sees half of it. If a file cannot be written (e.g. no space), a
    one-line warning is printed and the run continues.

    Args:
        figure: The figure; empty afterwards.
        path: Without an extension, e.g. `FOLDER/roc`; with one, e.g. `FOLDER/roc.svg`, only that format is written.
            Missing folders are created.

    Returns:
        The files written.
    """
    target = Path(path)
    one = target.suffix[1:]
    formats = (one,) if one in FORMATS else current().formats
    base = target.with_name(target.stem) if one in FORMATS else target
    made = []
    try:
        for kind in formats:
            file = base.with_name(f"{base.name}.{kind}")
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                _write(figure, file, kind)
                made.append(file)
            except OSError as error:
                why = error.strerror or str(error)
                print(f"WARNING: {file}: this figure could not be written ({why})", file=sys.stderr, flush=True)
    finally:
        figure.clear()
        plt.close(figure)  # in case the caller made the figure with pyplot
    return made


def _write(figure: Figure, file: Path, kind: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with style.in_force():
            figure.savefig(partial, format=kind, dpi=current().dpi, facecolor="white", metadata=_METADATA[kind])
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
