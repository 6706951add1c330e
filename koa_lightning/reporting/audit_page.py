"""The page of an audit: one self-contained HTML file. Research use only, not a medical device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from koa_lightning.config.places import replace_text
from koa_lightning.data.audit.findings import KINDS, Finding, severity_words
from koa_lightning.data.audit.gather import Knees
from koa_lightning.data.audit.run import Result
from koa_lightning.reporting import audit_figures as figures
from koa_lightning.reporting import embed
from koa_lightning.reporting.saving import save

_GROUP = 6  # pictures per finding, at most
_STYLE = """
:root { --ink: #22282f; --quiet: #6b7580; --line: #e3e7eb; --leakage: #b3261e; --warning: #b26a00; --note: #0b6e99; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: var(--ink); }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 0 0 6px; }
p { margin: 4px 0 10px; } .quiet { color: var(--quiet); } a { color: var(--note); text-decoration: none; }
section { background: white; border: 1px solid var(--line); border-radius: 10px; padding: 18px 22px; margin: 18px 0; }
.cards { display: flex; gap: 14px; flex-wrap: wrap; margin: 18px 0; }
.card { flex: 1 1 150px; background: white; border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.card b { display: block; font-size: 26px; line-height: 1.2; } .card.leakage b { color: var(--leakage); }
.card.warning b { color: var(--warning); } .card.note b { color: var(--note); }
.verdict { border-left: 6px solid var(--clean, #2e7d4f); } .verdict.c1 { border-left-color: var(--warning); }
.verdict.c3 { border-left-color: var(--leakage); }
.badge { display: inline-block; padding: 1px 9px; border-radius: 10px; font-size: 12px; color: white; }
.badge { vertical-align: 2px; }
.badge.leakage { background: var(--leakage); } .badge.warning { background: var(--warning); }
.badge.note { background: var(--note); } .caveat { color: var(--leakage); font-weight: 700; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: 6px 10px 6px 0; vertical-align: top; }
td + td, th + th { padding-left: 6px; } tr + tr td { border-top: 1px solid var(--line); } td.n { text-align: right; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.gallery.groups { grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: 8px; background: #fcfcfd; }
figure.plot { border: 0; padding: 0; background: none; } figure.plot img { max-width: 100%; height: auto; }
.shots { display: flex; gap: 6px; flex-wrap: wrap; } .shot { flex: 1 1 130px; max-width: 224px; min-width: 0; }
.shot img { width: 100%; display: block; border-radius: 4px; background: #000; }
.shot span { display: block; font-size: 11px; color: var(--quiet); line-height: 1.3; margin-top: 3px; }
.shot span { overflow-wrap: anywhere; }
figcaption { font-size: 12px; margin-top: 6px; overflow-wrap: anywhere; line-height: 1.4; }
@media print { body { background: white; } section { break-inside: avoid; } }
"""


def write_page(file: Path, facts: dict[str, Any], knees: Knees, result: Result, n_shown: int = 40) -> Path:
    """Write the self-contained page atomically, and its figures also as files.

    Args:
        file: The page.
        facts: About the whole audit, see `koa_lightning.audit`.
        knees: What was audited.
        result: What was found.
        n_shown: How many findings of each kind to show with pictures; the page says how many it omits.
    """
    sections = [_summary(facts, result.found), _data(facts, knees, result.statistics, file.parent / "figures")]
    shots = _Shots(knees)
    for kind in KINDS:
        some = [finding for finding in result.found if finding.kind == kind]
        if some:
            sections.append(_kind(kind, some, shots, n_shown))
    sections.append(_meaning(facts))
    title = f"Audit of {facts['data']}"
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f"</head><body><main>{_head(title, facts)}{''.join(sections)}</main></body></html>\n"
    )
    replace_text(file, page)
    return file


def _head(title: str, facts: dict[str, Any]) -> str:
    caveats = "".join(f'<p class="caveat">{escape(caveat)}</p>' for caveat in facts["marks"])
    where = f"{facts['source']} · fingerprint {facts['fingerprint']} · koa-lightning {facts['version']}"
    return (
        f"<h1>{escape(title)}</h1><p class='quiet'>{escape(where)}</p>{caveats}"
        f"<p><strong>{escape(facts['note'].capitalize())}.</strong> "
        "A reader should review the findings; no file was changed.</p>"
    )


def _summary(facts: dict[str, Any], found: Sequence[Finding]) -> str:
    """Return the verdict, the cards and the table of contents."""
    code = facts["exit_code"]
    verdict = {
        0: "Clean: no leakage and no warning.",
        1: "Warnings: review them before you train.",
        3: "Leakage: two splits share patients or knees, so evaluation sees knees that training saw.",
    }[code]
    cards = [("", f"{facts['n_knees']:,}", "knees"), ("", f"{facts['n_patients']:,}", "patients")]
    cards += [(severity, f"{n:,}", severity) for severity, n in facts["severities"].items()]
    shown = "".join(f'<div class="card {name}"><b>{number}</b>{words}</div>' for name, number, words in cards)
    present = {kind: [f for f in found if f.kind == kind] for kind in KINDS}
    rows = [
        f'<tr><td><a href="#{kind}">{escape(KINDS[kind].title)}</a></td><td>{_badges(some)}</td>'
        f'<td class="n">{len(some):,}</td></tr>'
        for kind, some in present.items()
        if some
    ]
    contents = "".join(rows) or '<tr><td class="quiet">No findings.</td><td></td><td></td></tr>'
    return (
        f'<div class="cards">{shown}</div><section class="verdict c{code}" id="summary"><h2>{verdict}</h2>'
        f'<table><tr><th>Contents</th><th></th><th style="text-align:right">findings</th></tr>'
        f'<tr><td><a href="#data">The data</a></td><td></td><td></td></tr>{contents}'
        f'<tr><td><a href="#kinds">Checks</a></td><td></td><td></td></tr></table></section>'
    )


def _badges(some: Sequence[Finding]) -> str:
    names = sorted({finding.severity for finding in some})
    return " ".join(f'<span class="badge {name}">{name}</span>' for name in names)


def _data(facts: dict[str, Any], knees: Knees, statistics: pd.DataFrame, folder: Path) -> str:
    readable = knees.readable
    caveats = facts["marks"]
    plots = {
        "grades": (figures.grades_figure(facts["parts"], caveats), "Counts by split and grade"),
        "patients": (figures.patients_figure(knees.rows, caveats), "Patients and sides by split"),
    }
    if readable.any():
        rows, some = knees.rows[readable], statistics[readable]
        plots["statistics"] = (figures.statistics_figure(rows, some, caveats), "Brightness and sharpness")
    shown = ""
    for name, (figure, title) in plots.items():
        shown += f'<figure class="plot">{_picture(embed.png(figure), title)}</figure>'
        save(figure, folder / name)
    words = (
        "These are the splits that training would use. If brightness or sharpness differs by grade, a model can learn "
        "it as a shortcut. If it differs by split, results on one split may not hold on another."
    )
    return f'<section id="data"><h2>The data</h2><p class="quiet">{words}</p>{shown}</section>'


def _kind(kind: str, some: Sequence[Finding], shots: _Shots, n_shown: int) -> str:
    shown = list(some[:n_shown])
    groups = max((min(len(finding.rows), _GROUP) for finding in shown), default=0) > 1
    left = len(some) - len(shown)
    more = f" The first {len(shown):,} of {len(some):,} are shown; findings.csv has them all." if left else ""
    gallery = "".join(_finding(finding, shots) for finding in shown)
    return (
        f'<section id="{kind}"><h2>{escape(KINDS[kind].title)} {_badges(some)}</h2>'
        f'<p>{escape(KINDS[kind].explanation)} <span class="quiet">{len(some):,} found.{more}</span></p>'
        f'<div class="gallery{" groups" if groups else ""}">{gallery}</div></section>'
    )


def _finding(finding: Finding, shots: _Shots) -> str:
    pictures = "".join(shots.one(row) for row in finding.rows[:_GROUP])
    left = len(finding.rows) - _GROUP
    more = f" (and {left:,} more files)" if left > 0 else ""
    badge = (
        f'<span class="badge {finding.severity}">{finding.severity}</span> ' if finding.severity == "leakage" else ""
    )
    return (
        f'<figure><div class="shots">{pictures}</div>'
        f"<figcaption>{badge}{escape(finding.evidence)}{more}</figcaption></figure>"
    )


class _Shots:
    """Thumbnails with split, grade and name; names are relative to the folder that all files share."""

    def __init__(self, knees: Knees) -> None:
        self.knees = knees
        paths = knees.rows["path"].tolist()
        files = paths if len(paths) > 1 and not paths[0].startswith("phantom:") else []
        # a table may mix absolute and relative paths
        self.base = os.path.commonpath([Path(path).absolute() for path in files]) if files else ""

    def one(self, row: int) -> str:
        knee = self.knees.rows.iloc[row]
        path = str(knee["path"])
        name = os.path.relpath(path, self.base) if self.base else path
        about = [str(knee["split"]) or "no split", f"grade {knee['grade']}" if knee["grade"] >= 0 else "grade unknown"]
        unread = row in self.knees.unreadable
        picture = "" if unread else _picture(embed.jpeg(self.knees.images[row]), name)
        return (
            f'<div class="shot" title="{escape(path)}">{picture}<span>{escape(" · ".join(about))}<br>'
            f"{escape(name)}</span></div>"
        )


def _meaning(facts: dict[str, Any]) -> str:
    """Return the table of all kinds of finding: what each means, and how many were found."""
    rows = []
    for name, kind in KINDS.items():
        n = facts["kinds"].get(name)
        count = "not checked" if n is None else f"{n:,}"
        rows.append(
            f"<tr><td>{escape(kind.title)}</td><td>{escape(severity_words(kind))}</td>"
            f'<td>{escape(kind.explanation)}</td><td class="n">{count}</td></tr>'
        )
    return (
        '<section id="kinds"><h2>Checks</h2><table><tr><th>kind</th><th>severity</th><th>meaning</th>'
        f'<th style="text-align:right">found</th></tr>{"".join(rows)}</table></section>'
    )


def _picture(uri: str, words: str) -> str:
    return f'<img src="{uri}" alt="{escape(words)}" loading="lazy">'
