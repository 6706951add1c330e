"""Sections on where the network looks, the tests of its heat maps, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from koa_lightning.config.heat_maps import titles
from koa_lightning.reporting import embed
from koa_lightning.reporting.report import figures, thumbnails
from koa_lightning.reporting.report.blocks import (
    Absent,
    Block,
    Drawing,
    Pictures,
    Section,
    Table,
    Text,
    count,
    number,
    percent,
)
from koa_lightning.reporting.report_data import ReportData

N_WORST = 12
_TESTS = {
    "deletion": ("Deletion", "the output falls as the hottest pixels are removed; lower is better"),
    "insertion": ("Insertion", "the output rises as the hottest pixels are inserted; higher is better"),
    "road": ("ROAD", "the same, with pixels replaced so that the hole itself reveals nothing"),
    "sanity": ("Model randomisation", "the map changes when the network's weights are randomised"),
    "noise": ("Input noise", "the map stays the same when the image changes imperceptibly"),
    "localisation": ("Localisation", "the heat lies where the signs of the disease are"),
    "shortcut": ("Shortcut", "the grade is lost when the joint is hidden, and kept when all else is"),
}
_PANELS = {
    "panel_by_grade": "Heat maps of knees of each grade.",
    "panel_by_mistake": "Heat maps of knees of each kind of mistake.",
    "panel_most_certain": "Heat maps of the most certain knees.",
    "panel_least_certain": "Heat maps of the least certain knees.",
}


def explanations(found: ReportData) -> Section:
    """Return the section on explanations: the panels, and the tests of the maps with their verdicts."""
    blocks: list[Block] = []
    tested = found.sections.get("explanations")
    if tested is None:
        blocks.append(Absent(found.absent["explanations"]))
    else:
        blocks += _tests(found, tested)
    panels = _panels(found)
    if panels:
        blocks += [Pictures([(address, words)], words, large=True) for address, words in panels]
    elif found.kind == "checkpoint":
        how = "evaluate with explain=gradcam and figures.format=[png]"
        blocks.append(Absent(f"No panel of heat maps: the evaluation drew none as PNG or SVG; {how}."))
    else:
        blocks.append(Absent("No panel of heat maps: they belong to one network; evaluate a single checkpoint."))
    return Section("explanations", "Explanations and their tests", blocks)


def _panels(found: ReportData) -> list[tuple[str, str]]:
    """Return the data URI and caption of each panel that the evaluation drew."""
    if found.folder is None:
        return []
    of_grades = "one knee of each grade, and the worst mistakes."
    panels = {name: f"{title}: {of_grades}" for name, title in titles().items()} | _PANELS
    shown = []
    for name, words in panels.items():
        as_pixels, as_lines = (found.folder / f"{name}.{kind}" for kind in ("png", "svg"))
        if as_pixels.is_file():
            shown.append((thumbnails.of_file(as_pixels), words))
        elif as_lines.is_file():
            shown.append((embed.uri("svg+xml", as_lines.read_bytes()), words))
    return shown


def _tests(found: ReportData, tested: dict[str, Any]) -> list[Block]:
    flat = {**tested.get("faithfulness", {}), **{name: tested[name] for name in _TESTS if name in tested}}
    rows = [[words, meaning, _numbers(name, flat[name]), tested["verdicts"].get(name, "not judged")]
            for name, (words, meaning) in _TESTS.items() if name in flat]  # fmt: skip
    patients = f" of {count(tested['n_patients'], 'patient')}" if "n_patients" in tested else ""
    failed = [name for name, verdict in tested["verdicts"].items() if verdict == "failed"]
    blocks: list[Block] = [
        Text(f"Maps by {tested['method']} (target: {tested.get('target', 'grade')}), tested on "
             f"{count(tested['n'], 'knee')}{patients} against random and centre-prior maps; each verdict follows "
             "from a rule fixed beforehand."),
    ]  # fmt: skip
    if failed:
        blocks.append(Text(f"Failed: {', '.join(failed)}. Do not read these maps as explanations.", "loud"))
    blocks.append(
        Table("Tests of the explanations", ["test", "expected", "found", "verdict"], rows, words=(0, 1, 2, 3))
    )
    for name in ("deletion", "insertion"):
        if flat.get(name, {}).get("curve"):
            drawing = figures.answers_figure(flat[name], f"{_TESTS[name][0]} by heat", found.caveats)
            blocks.append(Drawing(name, drawing, f"{_TESTS[name][0]}: {_TESTS[name][1]}.", "half"))
    if flat.get("sanity", {}).get("layers"):
        drawing = figures.layers_figure(flat["sanity"]["layers"], found.caveats)
        blocks.append(
            Drawing("randomisation", drawing, "Rank correlation of the maps with those of the trained network.")
        )
    rules = {flat[name]["rule"]: words for name, (words, _) in _TESTS.items() if flat.get(name, {}).get("rule")}
    blocks += [Text(f"{words} passes if {rule}.", "quiet") for rule, words in rules.items()]
    return blocks


def _numbers(name: str, test: dict[str, Any]) -> str:
    if name in ("deletion", "insertion", "road"):
        own = f"{number(test.get('map'))}, random {number(test.get('random'))}, centre {number(test.get('centre'))}"
        return f"{own}; better by {number(test.get('difference'))}{_ends(test)}"
    if name == "sanity":
        last = test["layers"][-1] if test.get("layers") else {}
        return f"similarity {number(last.get('similarity'), 2)}{_ends(last, 2)} with all layers randomised"
    if name == "noise":
        return f"similarity {number(test.get('similarity'), 2)}{_ends(test, 2)}"
    if name == "localisation":
        share = test.get("share", {})
        others = f"random {percent(share.get('random'))}, centre {percent(share.get('centre'))}"
        place = f"{test.get('region', 'region')} ({percent(test.get('area'))} of the picture)"
        return f"{percent(share.get('map'))} of the heat in the {place}, {others}"
    hidden, only = test.get("without_joint"), test.get("only_joint")
    survives = percent(test.get("survives"))
    kappas = f"kappa {number(test.get('kappa'))}; joint hidden {number(hidden)} ({survives} survives)"
    return f"{kappas}, all but the joint hidden {number(only)}"


def _ends(test: dict[str, Any], digits: int = 3) -> str:
    if test.get("low") is None or test.get("high") is None:
        return ""
    return f" ({test['low']:.{digits}f} to {test['high']:.{digits}f})"


def failures(found: ReportData) -> Section:
    """Return the worst mistakes, by a fixed rule: largest distance between expected and true grade."""
    labelled = found.labelled
    distance = (labelled["expected_grade"] - labelled["grade"].astype("float64")).abs()
    wrong = labelled["predicted"].to_numpy() != labelled["grade"].to_numpy(dtype="int64")
    worst = labelled[wrong].assign(distance=distance[wrong]).sort_values(["distance", "path"], ascending=[False, True])
    if worst.empty:
        words = "No failures to show: every grade is right, which is worth a second look."
        return Section("failures", "Failures", [Absent(words)])
    shown = worst.head(N_WORST)
    heads = ["file", "side", "true", "graded", "expected", "p of true", "p of graded"]
    rows = [
        [
            _file(row["path"]), str(row["side"] or ""), str(int(row["grade"])), str(row["predicted"]),
            number(row["expected_grade"], 2), percent(row[f"p{int(row['grade'])}"]), percent(_given(row)),
        ]
        for row in shown.to_dict("records")
    ]  # fmt: skip
    words = (
        f"{count(len(worst), 'knee')} of {len(labelled):,} graded wrongly. The {len(shown)} shown were not picked by "
        "hand: they have the largest distance between expected and true grade. Some labels may be wrong."
    )
    table = Table("The worst mistakes", heads, rows, words=(0, 1))
    return Section("failures", "Failures", [Text(words), *_pictures(found, shown), table])


def _given(row: Mapping[Any, Any]) -> float:
    """Return the probability of the predicted grade."""
    return float(row[f"p{row['predicted']}"])


def _pictures(found: ReportData, shown: pd.DataFrame) -> list[Block]:
    pictures = thumbnails.of_knees(found, shown)
    words = [
        f"true {int(row['grade'])}, graded {row['predicted']} ({percent(_given(row))})"
        for row in shown.to_dict("records")
    ]
    items = [(address, text) for address, text in zip(pictures, words, strict=True) if address]
    if not items:
        return [Absent("No pictures of these knees: their files are not where the table says.")]
    left = len(shown) - len(items)
    more = f" {count(left, 'file')} not found." if left else ""
    caveats = f" {'; '.join(found.caveats)}." if found.caveats else ""
    return [Pictures(items, f"The worst mistakes, as the network sees them.{more}{caveats}")]


def _file(path: str) -> str:
    """Return a file's name without its folders, which are private."""
    return path.rsplit("/", 1)[-1]
