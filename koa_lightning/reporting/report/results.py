"""Sections on results: metrics with intervals, confusion, curves, subgroups, readers."""

from __future__ import annotations

from typing import Any

import numpy as np

from koa_lightning.config.metrics import CONFUSION, RULE_TITLES, WHICH_RULE, declared
from koa_lightning.metrics import curves, predictions
from koa_lightning.reporting import figures as common
from koa_lightning.reporting.report import caveats, figures
from koa_lightning.reporting.report.blocks import (
    NOTHING,
    Absent,
    Block,
    Drawing,
    Section,
    Table,
    Text,
    number,
    sentence,
    with_interval,
)
from koa_lightning.reporting.report_data import ReportData


def results(found: ReportData) -> Section:
    """Return the tables of all metrics with their intervals."""
    rules = {rule: words for rule, words in RULE_TITLES.items() if f"accuracy{rule}" in found.metrics}
    rows = [
        [metric.title, *(with_interval(found.metrics.get(f"{metric.name}{rule}")) for rule in rules)]
        for metric in declared()
        if metric.of == CONFUSION and not metric.per_grade
    ]
    shown = [metric for metric in declared() if metric.of != CONFUSION and metric.name in found.metrics]
    of_p = [[metric.title, with_interval(found.metrics[metric.name]), metric.meaning] for metric in shown]
    blocks: list[Block] = [
        Text(f"Evaluated on {caveats.split_in_words(found)}: {caveats.size(found)}. In brackets: 95 % intervals by "
             "bootstrap over patients, both knees together."),
        Table("Agreement of grades", ["metric", *rules.values()], rows),
        Text(WHICH_RULE, "quiet"),
        Table("Quality of the probabilities", ["metric", "value", "meaning"], of_p, words=(0, 2)),
        _per_grade(found),
    ]  # fmt: skip
    notes = {e["note"]: n for n, e in reversed(found.metrics.items()) if e.get("note")}
    blocks += [Text(f"{name}: {note}.", "quiet") for note, name in notes.items()]
    return Section("results", "Results", blocks)


def _per_grade(found: ReportData) -> Table:
    rows, each = [], [metric for metric in declared() if metric.per_grade]
    for grade, n in enumerate(found.about["data"]["grades"]):
        entries = [found.metrics.get(f"{metric.name}_{grade}") for metric in each]
        areas = [number(_finite(area[grade][2])) if grade in area else NOTHING for area in (_rocs(found), _prs(found))]
        rows.append([common.GRADE_NAMES[grade], f"{n:,}", *(with_interval(entry) for entry in entries), *areas])
    heads = ["grade", "knees", *(metric.title for metric in each), "AUROC", "average precision"]
    return Table("By grade, each against the rest (most probable grade)", heads, rows)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _scores(found: ReportData) -> tuple[np.ndarray, np.ndarray]:
    rows = found.labelled
    return rows["grade"].to_numpy(dtype=np.int64), rows[predictions.PROBABILITIES].to_numpy(dtype=np.float64)


def _rocs(found: ReportData) -> dict[int, figures.Curve]:
    grade, p = _scores(found)
    made = {each: curves.roc(grade == each, p[:, each]) for each in range(5)}
    return {each: curve for each, curve in made.items() if len(curve[0])}


def _prs(found: ReportData) -> dict[int, figures.Curve]:
    grade, p = _scores(found)
    made = {each: curves.precision_recall(grade == each, p[:, each]) for each in range(5)}
    return {each: curve for each, curve in made.items() if len(curve[0])}


def confusion(found: ReportData) -> Section:
    """Return the confusion matrix, and how far off the grades are."""
    counts = predictions.confusion(found.table)
    figure = common.confusion_matrix_figure(counts, caveats.title_of_split(found), found.caveats)
    off = np.subtract.outer(np.arange(5), np.arange(5))  # reference minus prediction
    n = max(1, int(counts.sum()))
    rows = []
    for distance, words in ((0, "right"), (1, "one grade off"), (2, "two grades off"), (3, "three or four off")):
        own = np.abs(off) == distance if distance < 3 else np.abs(off) >= 3
        low, high = int(counts[own & (off > 0)].sum()), int(counts[own & (off < 0)].sum())
        both = int(counts[own].sum())
        rows.append(
            [
                words,
                f"{both:,}",
                f"{both / n:.1%}",
                f"{low:,}" if distance else NOTHING,
                f"{high:,}" if distance else NOTHING,
            ]
        )
    heads = ["", "knees", "share", "graded too low", "graded too high"]
    caption = "Number and row share of knees by true grade (rows) and most probable grade (columns)."
    table_ = Table("How far off the most probable grade is", heads, rows)
    return Section("confusion", "Confusion matrix", [Drawing("confusion_matrix", figure, caption), table_])


def roc(found: ReportData) -> Section:
    """Return ROC and precision-recall curves of each grade."""
    rocs, prs = _rocs(found), _prs(found)
    if not rocs:
        return Section("roc", "ROC and precision-recall", [Absent("No curves: all knees have the same true grade.")])
    grade, _ = _scores(found)
    shares = {each: float((grade == each).mean()) for each in prs}
    words = "Precision against recall; the ticks at the right edge mark the level of chance."
    drawn = figures.roc_figure(rocs, found.caveats), figures.precision_recall_figure(prs, shares, found.caveats)
    blocks: list[Block] = [
        Drawing("roc", drawn[0], "ROC of each grade against the rest, from its probability.", "half"),
        Drawing("precision_recall", drawn[1], words, "half"),
    ]
    absent = [common.GRADE_NAMES[each] for each in range(5) if each not in rocs]
    if absent:
        blocks.append(Text(f"No curve for {', '.join(absent)}: no knee has that grade.", "quiet"))
    return Section("roc", "ROC and precision-recall", blocks)


def subgroups(found: ReportData) -> Section:
    """Return the metrics by subgroup."""
    if not found.groups:
        return Section("groups", "Subgroups", [Absent(found.absent["groups"])])
    by_group: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in found.groups:
        by_group.setdefault((row["column"], row["group"]), {})[row["metric"]] = row
    rows, notes = [], []
    columns = {metric.name: metric.title for metric in declared() if "" in metric.by_subgroup}
    for (column, group), metrics in by_group.items():
        first = next(iter(metrics.values()))
        name = "all knees" if column == "all" else f"{column}: {group}"
        shown = [with_interval(metrics.get(metric)) for metric in columns]
        rows.append([name, f"{first['n_knees']:,}", f"{first['n_patients']:,}", *shown])
        if first.get("note") and first.get("value") is None:
            notes.append(f"{name} is {first['note']}")
    kappas = [(row[0], own.get("quadratic_kappa", {})) for row, own in zip(rows, by_group.values(), strict=True)]
    whole = kappas[0][1].get("value") if kappas[0][0] == "all knees" else None
    drawing = figures.forest_figure(kappas, "Quadratic kappa by subgroup", "quadratic kappa, 95 % interval by patient",
                                    found.caveats, reference=whole)  # fmt: skip
    heads = ["group", "knees", "patients", *columns.values()]
    note = "; ".join([*notes, "differences between groups are not corrected for multiple comparisons"])
    caption = "Quadratic kappa of each group; the dashed line is the value for all knees."
    table_ = Table("Metrics by subgroup", heads, rows, f"{sentence(note)}.")
    return Section("groups", "Subgroups", [table_, Drawing("subgroups", drawing, caption)])


def readers(found: ReportData) -> Section:
    """Return agreement between readers, reference and model."""
    agreement = found.sections.get("readers")
    if not agreement:
        return Section("readers", "Readers", [Absent(found.absent["readers"])])
    pairs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in agreement:
        pairs.setdefault((row["first"], row["second"]), {})[row["metric"]] = row
    rows = []
    for (first, second), metrics in pairs.items():
        shown = [with_interval(metrics.get(name)) for name in ("quadratic_kappa", "linear_kappa", "accuracy")]
        rows.append([first, second, f"{next(iter(metrics.values()))['n_knees']:,}", *shown])
    heads = ["first", "second", "knees", "quadratic kappa", "linear kappa", "same grade"]
    return Section(
        "readers", "Readers", [Table("Agreement of reference, readers and model", heads, rows, words=(0, 1))]
    )
