"""Terminal tables of `eval` and `compare_predictions`, at most 80 columns wide."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from koa_lightning.config.metrics import RULE_TITLES, WHICH_RULE, declared
from koa_lightning.metrics.comparison import Difference
from koa_lightning.metrics.intervals import Interval
from koa_lightning.metrics.weighted import RULES, is_of_grade
from koa_lightning.models.outputs import N_GRADES

_SIDE_BY_SIDE = 3  # columns of intervals that fit in 80 characters


def say(
    found: Mapping[str, Interval],
    title: str,
    others: Mapping[str, float | None],
    *,
    groups: pd.DataFrame,
    agreement: pd.DataFrame,
    remarks: Sequence[str],
) -> None:
    """Print the tables of metrics with intervals, of each grade, of subgroups and of readers, and the remarks.

    Args:
        found: Metrics by name.
        title: Title of the first table.
        others: Metrics without an interval, e.g. the loss.
        groups: Metrics by subgroup; empty if not requested.
        agreement: Agreement between readers; empty if not requested.
        remarks: Lines to print below.
    """
    console = Console()
    rules = [rule for rule in RULE_TITLES if f"accuracy{rule}" in found]
    for start in range(0, len(rules), _SIDE_BY_SIDE):
        own = rules[start : start + _SIDE_BY_SIDE]
        console.print(_of_rules(found, own, title if start == 0 else "", others if start == 0 else {}))
    if len(rules) > 1:
        print(WHICH_RULE)
    each = [metric.name for metric in declared() if metric.per_grade]
    of_grades = Table("grade", *each, title="by grade, arg-max")
    for grade in range(N_GRADES):
        of_grades.add_row(str(grade), *(text(found[f"{name}_{grade}"]) for name in each))
    console.print(of_grades)
    if len(groups):
        console.print(_long(groups, ["column", "group"], "by subgroup"))
    if len(agreement):
        console.print(_long(agreement, ["first", "second"], "agreement between readers"))
    for line in [*_notes(found), *remarks]:
        print(line)


def _of_rules(
    found: Mapping[str, Interval], rules: Sequence[str], title: str, others: Mapping[str, float | None]
) -> Table:
    """Return the table of metrics by some rules; only the first, with arg-max, has the metrics of probabilities."""
    padding = 0 if len(rules) == _SIDE_BY_SIDE else (0, 1)
    shown = Table("metric", title=title, caption="95 % intervals by bootstrap over patients", padding=padding)
    for rule in rules:
        shown.add_column(RULE_TITLES[rule], justify="right")
    for name, value in others.items():
        shown.add_row(name, "undefined" if value is None else short(value))
    for name in found:
        if not name.endswith(tuple(RULES[1:])) and not is_of_grade(name):
            cells = [text(found.get(f"{name}{rule}")) for rule in rules]
            if any(cells):
                shown.add_row(name, *cells)
    return shown


def say_caveats(caveats: Sequence[str]) -> None:
    """Print the caveats, if any, in bold red."""
    if caveats:
        Console().print(f"[bold red]{', '.join(caveats)}[/]")


def say_comparison(found: Mapping[str, Difference], names: Mapping[str, str], title: str) -> None:
    """Print the table of two models, the notes on metrics, and a warning if there are several metrics.

    Args:
        found: Name of a metric -> difference.
        names: Letter, A or B -> name of that table.
        title: Title of the table.
    """
    for letter, name in names.items():
        print(f"{letter}: {name}")
    shown = Table("metric", title=title, caption="95 % intervals and permutation test by patient", padding=0)
    for name in (*names, " - ".join(names), "p", "p (Holm)"):
        shown.add_column(name, justify="right")
    for name, each in found.items():
        shown.add_row(name, _value(each.first), _value(each.second), _difference(each), _p(each.p), _p(each.p_holm))
    Console().print(shown)
    for name, each in found.items():
        if each.note:
            print(f"{name}: {each.note}")
    if len(found) > 1:
        print(
            f"WARNING: {len(found)} metrics are compared, so by chance alone one of them may have p < .05. Use\n"
            "p (Holm), or name one metric before you look: metrics=[quadratic_kappa]. Comparing more models on the\n"
            "same knees adds more such chances, which p (Holm) does not count."
        )


def text(interval: Interval | None, digits: int = 3) -> str:
    """Return an interval as text, e.g. `.812 (.794, .829)`."""
    if interval is None:
        return ""
    if interval.value is None:
        return "undefined"
    if interval.low is None or interval.high is None:
        return f"{short(interval.value, digits)} (no interval)"
    return f"{short(interval.value, digits)} ({short(interval.low, digits)}, {short(interval.high, digits)})"


def short(value: float, digits: int = 3, sign: str = "") -> str:
    """Return a number without its leading zero, e.g. `.812`, so that a table fits in 80 columns."""
    return re.sub(r"^([+-]?)0\.", r"\1.", f"{value:{sign}.{digits}f}")


def _long(rows: pd.DataFrame, first: Sequence[str], title: str) -> Table:
    """Return a table of the kappa, accuracy and counts of each group or pair."""
    columns = ("quadratic_kappa", "accuracy")
    shown = Table(*first, "knees", "patients", "kappa", "accuracy", title=title, padding=0)
    for key, own in rows.groupby([*first, "n_knees", "n_patients"], sort=False):
        by_name = {str(row["metric"]): row for row in own.astype("object").where(own.notna(), None).to_dict("records")}
        cells = [Interval(each["value"], each["low"], each["high"]) for each in (by_name[name] for name in columns)]
        small = all(cell.value is None for cell in cells)
        shown.add_row(*map(str, key), *(["too small"] * len(cells) if small else (text(cell, 2) for cell in cells)))
    return shown


def _notes(found: Mapping[str, Interval]) -> list[str]:
    """Return the notes on metrics, each once, with the names of its metrics."""
    by_note: dict[str, list[str]] = {}
    for name, each in found.items():
        if each.note:
            by_note.setdefault(each.note, []).append(name)
    return [
        f"{', '.join(of[:4])}{f' and {len(of) - 4} more' if len(of) > 4 else ''}: {note}"
        for note, of in by_note.items()
    ]


def _value(value: float | None) -> str:
    return "undefined" if value is None else short(value)


def _difference(each: Difference) -> str:
    if each.difference is None:
        return ""
    difference = short(each.difference, sign="+")
    if each.low is None or each.high is None:
        return difference
    return f"{difference} ({short(each.low, sign='+')}, {short(each.high, sign='+')})"


def _p(p: float | None) -> str:
    return "" if p is None else "< .001" if p < 0.001 else short(p)
