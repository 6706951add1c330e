"""The report as one self-contained HTML file. Research use only, not a medical device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from koa_lightning import DISCLAIMER, __version__
from koa_lightning.config.places import replace_text
from koa_lightning.errors import InputError
from koa_lightning.reporting import embed, report_data
from koa_lightning.reporting.report import contents, data
from koa_lightning.reporting.report.blocks import Drawing, Pictures, Section
from koa_lightning.reporting.report.figures import save_both
from koa_lightning.reporting.report_data import ReportData

LARGEST = 5_000_000  # bytes of the page


def write(found: ReportData, folder: Path) -> list[Path]:
    """Write report.html, report.json and the figures, in the formats of `figures.format`; return the paths.

    Args:
        found: The data of the report.
        folder: Output folder.

    Raises:
        InputError: The page is larger than 5 MB even without its large pictures.
    """
    sections = contents.sections(found)
    drawn = {
        block.name: embed.uri("svg+xml", save_both(block.figure, folder / "figures", block.name))
        for section in sections
        for block in section.blocks
        if isinstance(block, Drawing)
    }
    page = render(found, sections, drawn)
    if len(page.encode()) > LARGEST:
        page = render(found, [_without_large_pictures(section) for section in sections], drawn)
    if len(page.encode()) > LARGEST:
        raise InputError(f"{folder}: the page would be larger than {LARGEST / 1e6:g} MB; request fewer subgroups")
    replace_text(folder / "report.html", page)
    files = [folder / name for name in ("report.html", "report.json", "figures")]
    files[1].write_text(json.dumps(contents.as_json(found), indent=1))
    return files


def _without_large_pictures(section: Section) -> Section:
    kept = [block for block in section.blocks if not (isinstance(block, Pictures) and block.large)]
    return Section(section.name, section.title, kept)


def render(found: ReportData, sections: list[Section], drawn: dict[str, str]) -> str:
    """Return the page as HTML.

    Args:
        found: The data of the report.
        sections: From `contents.sections`.
        drawn: Figure name -> data URI of its SVG.
    """
    environment = Environment(
        loader=PackageLoader("koa_lightning.reporting.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    values: dict[str, Any] = {
        "title": contents.title(found),
        "subtitle": contents.subtitle(found),
        "disclaimer": DISCLAIMER,
        "version": __version__,
        "caveats": found.caveats,
        "cards": data.summary(found),
        "time": found.about["time"],
        "sections": sections,
        "drawn": drawn,
    }
    return environment.get_template("report.html.j2").render(values)


def at_end(folder: Path, audit: str | None, run: Any, place: str) -> None:
    """Write the report of an evaluation into its folder and log it, as the last step of `eval`.

    Args:
        folder: Folder of the evaluation.
        audit: Audit of its data, if there is one.
        run: The tracked run, still open.
        place: Folder among the run's artifacts.
    """
    for file in write(report_data.read(folder, audit), folder):
        run.log_artifact(file, place)
    print(f"report: {folder / 'report.html'}", flush=True)
