"""Results as a table and methods as a paragraph for a paper: LaTeX, Markdown or CSV. Research use only."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koa_lightning import DISCLAIMER
from koa_lightning.config.metrics import RULE_TITLES, best_is, declared
from koa_lightning.config.places import replace_text
from koa_lightning.reporting.report import caveats
from koa_lightning.reporting.report.blocks import NOTHING, sentence
from koa_lightning.reporting.report_data import ReportData

_NOTE_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "\N{EN DASH}": "--", "≥": r"$\geq$", "±": r"$\pm$", "\N{MULTIPLICATION SIGN}": r"$\times$",
    "·": r"\textperiodcentered{}", "…": r"\dots{}",
}  # fmt: skip
_MOST_BESIDE = 3  # columns that fit within the width of a page
# Sentences of `caveats.phrases`, in the order of a methods section.
_METHODS = (
    "source", "size", "missing", "disjoint", "preprocessing", "model", "weights", "training", "augmentation",
    "selection", "ensembling", "output", "calibration", "uncertainty", "software",
)  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """A table of results.

    Attributes:
        title: Title, which names what was evaluated.
        heads: Heads of the columns, the first for the metrics.
        rows: Name of the metric, its title, and {value, low, high[, note]} or None per column.
        notes: Sentences below the table.
    """

    title: str
    heads: list[str]
    rows: list[tuple[str, str, list[dict[str, Any] | None]]]
    notes: list[str]


def grid(found: ReportData) -> Grid:
    """Return the table of results: one column per decision rule and, for an ensemble, one per member."""
    rules = [rule for rule in RULE_TITLES if f"accuracy{rule}" in found.metrics]
    members = found.sections.get("ensemble", {}).get("members", [])
    rows = []
    for metric in declared():
        if not metric.per_grade:
            entries = [found.metrics.get(f"{metric.name}{rule}") for rule in rules]
            entries += [_of_member(member, metric.name) for member in members]
            if any(entry and entry.get("value") is not None for entry in entries):
                rows.append((metric.name, metric.title, entries))
    heads = ["metric", *(RULE_TITLES[rule] for rule in rules), *(str(member["name"]) for member in members)]
    title = f"Results on {caveats.split_in_words(found)} ({caveats.size(found)})"
    notes = ["95 % intervals in brackets, by bootstrap over patients, both knees of a patient together"]
    if len(heads) > 2:
        notes.append("bold: the best value in a row")
    notes += [*found.caveats, DISCLAIMER]
    return Grid(title, heads, rows, [f"{sentence(note)}." for note in notes])


def _of_member(member: dict[str, Any], name: str) -> dict[str, Any] | None:
    interval = (member.get("intervals") or {}).get(name)
    value = (member.get("metrics") or {}).get(name)
    return interval or (None if value is None else {"value": value, "low": None, "high": None})


def best(name: str, entries: Sequence[dict[str, Any] | None], digits: int = 3) -> set[int]:
    """Return the columns with the best value of a metric, rounded as printed; none if there is nothing to compare."""
    values = {i: round(e["value"], digits) for i, e in enumerate(entries) if e and e.get("value") is not None}
    direction = best_is(name)
    if len(values) < 2 or not direction or len(set(values.values())) == 1:
        return set()
    top = (min if direction == "min" else max)(values.values())
    return {i for i, value in values.items() if value == top}


def methods(found: ReportData) -> str:
    """Return a paragraph on methods with the facts and numbers of this evaluation."""
    said = caveats.phrases(found)
    text = " ".join(said[name] for name in _METHODS if name in said)
    warned = f" Caveats: {', '.join(found.caveats)}." if found.caveats else ""
    return f"{text}{warned} {sentence(DISCLAIMER)}."


def write(found: ReportData, folder: Path, kind: str) -> list[Path]:
    """Write results and methods; return the files.

    Args:
        found: The data of the report.
        folder: Output folder.
        kind: `latex`, `markdown` or `csv` (with the paragraph as plain text).
    """
    ending, text = {"latex": ("tex", "tex"), "markdown": ("md", "md"), "csv": ("csv", "txt")}[kind]
    paragraph = methods(found)
    files = [folder / f"results.{ending}", folder / f"methods.{text}"]
    replace_text(files[0], {"latex": as_latex, "markdown": as_markdown, "csv": as_csv}[kind](grid(found)))
    replace_text(files[1], f"{escaped(paragraph) if kind == 'latex' else paragraph}\n")
    return files


def escaped(words: str) -> str:
    """Return text with special characters escaped for LaTeX."""
    return "".join(_SPECIAL.get(letter, letter) for letter in words)


def _lettered(table: Grid) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the footnote letter of each row (empty: no note), and the footnotes as (letter, text)."""
    letters: dict[str, str] = {}
    letter_of_row = []
    for _, _, entries in table.rows:
        note = next((str(entry["note"]) for entry in entries if entry and entry.get("note")), "")
        if note and note not in letters and len(letters) < len(_NOTE_LETTERS):
            letters[note] = _NOTE_LETTERS[len(letters)]
        letter_of_row.append(letters.get(note, ""))
    return letter_of_row, [(letter, f"{sentence(note)}.") for note, letter in letters.items()]


def _text(entry: dict[str, Any] | None, between: str) -> str:
    if not entry or entry.get("value") is None:
        return NOTHING
    if entry.get("low") is None or entry.get("high") is None:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} ({entry['low']:.3f}{between}{entry['high']:.3f})"


def _latex_cell(entry: dict[str, Any] | None, top: bool) -> str:
    """Return a value with its interval in small type; the best value is bold."""
    value, bracket, interval = escaped(_text(entry, ", ")).partition(" (")
    bold = f"\\textbf{{{value}}}" if top else value
    return f"{bold} {{\\scriptsize({interval}}}" if bracket else bold


def _tabular(table: Grid, letter_of_row: Sequence[str], columns: range) -> list[str]:
    """Return the LaTeX lines of some columns, without the rows that are empty in them."""
    lines = [
        f"  \\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}",
        "    \\toprule",
        f"    {' & '.join(escaped(table.heads[i]) for i in (0, *(i + 1 for i in columns)))} \\\\",
        "    \\midrule",
    ]
    for (name, title, entries), letter in zip(table.rows, letter_of_row, strict=True):
        top, shown = best(name, entries), [entries[i] for i in columns]
        if any(entry and entry.get("value") is not None for entry in shown):
            cells = [_latex_cell(entry, i in top) for i, entry in zip(columns, shown, strict=True)]
            noted = f"\\textsuperscript{{{letter}}}" if letter else ""
            lines.append(f"    {escaped(title)}{noted} & {' & '.join(cells)} \\\\")
    return [*lines, "    \\bottomrule", "  \\end{tabular}", "", "  \\medskip"]


def as_latex(table: Grid) -> str:
    """Return a LaTeX table float with booktabs to include in a document; many columns are split into blocks."""
    letter_of_row, notes = _lettered(table)
    n = len(table.heads) - 1
    blocks = [range(first, min(first + _MOST_BESIDE, n)) for first in range(0, n, _MOST_BESIDE)]
    below = [f"\\textsuperscript{{{letter}}} {escaped(words)}" for letter, words in notes]
    below += [escaped(words) for words in table.notes]
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        "  \\footnotesize",
        "  \\setlength{\\tabcolsep}{3pt}",
        f"  \\caption{{{escaped(table.title)}.}}",
        "  \\label{tab:koa-results}",
        *(line for columns in blocks for line in _tabular(table, letter_of_row, columns)),
        f"  \\parbox{{0.95\\linewidth}}{{\\footnotesize {' '.join(below)}}}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def as_markdown(table: Grid) -> str:
    """Return the table and its notes as Markdown."""
    letter_of_row, notes = _lettered(table)

    def cell(words: str) -> str:
        return re.sub(r"([|*_\\])", r"\\\1", words)

    lines = [f"{table.title}.", "", f"| {' | '.join(map(cell, table.heads))} |"]
    lines.append(f"| :-- |{' --: |' * (len(table.heads) - 1)}")
    for (name, title, entries), letter in zip(table.rows, letter_of_row, strict=True):
        top = best(name, entries)
        cells = [
            re.sub(r"^\S+", r"**\g<0>**", _text(e, ", ")) if i in top else _text(e, ", ") for i, e in enumerate(entries)
        ]
        lines.append(f"| {cell(title)}{f'<sup>{letter}</sup>' if letter else ''} | {' | '.join(cells)} |")
    below = [*(f"<sup>{letter}</sup> {words}" for letter, words in notes), *table.notes]
    lines += ["", *(f"{each}  " for each in below)]
    return "\n".join(lines) + "\n"


def as_csv(table: Grid) -> str:
    """Return CSV, one row per value: metric, title, column, value, low, high, best, note; without `notes`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["metric", "title", "column", "value", "low", "high", "best", "note"])
    for name, title, entries in table.rows:
        top = best(name, entries)
        for i, (head, entry) in enumerate(zip(table.heads[1:], entries, strict=True)):
            if entry and entry.get("value") is not None:
                ends, note = [entry.get(key) for key in ("low", "high")], entry.get("note") or ""
                writer.writerow([name, title, head, entry["value"], *ends, str(i in top).lower(), note])
    return stream.getvalue()
