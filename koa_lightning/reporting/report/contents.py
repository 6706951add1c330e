"""The sections of the report, in order. An empty section says in one sentence why it is empty."""

from __future__ import annotations

from typing import Any

from koa_lightning.reporting.report import caveats, data, explanations, results, uncertainty
from koa_lightning.reporting.report.blocks import Checklist, Facts, Section, Text
from koa_lightning.reporting.report.checklists import CLAIM, TRIPOD_AI, Answer, fill
from koa_lightning.reporting.report.limits import limits
from koa_lightning.reporting.report_data import ReportData


def sections(found: ReportData) -> list[Section]:
    """Return all sections of the report.

    Args:
        found: The data of the report.
    """
    said = caveats.phrases(found)
    made = [
        data.model_card(found, said),
        data.data(found, said),
        results.results(found),
        results.confusion(found),
        results.roc(found),
        uncertainty.calibration(found),
        uncertainty.abstention(found),
        uncertainty.conformal(found),
        uncertainty.inputs(found),
        results.subgroups(found),
        results.readers(found),
        data.members(found),
        explanations.explanations(found),
        explanations.failures(found),
        Section("limits", "Limits", [Text(line) for line in limits(found)]),
        _checklist("claim", "CLAIM", "Checklist for Artificial Intelligence in Medical Imaging (2020, PMC8017414)",
                   fill(CLAIM, said)),
        _checklist("tripod", "TRIPOD+AI", "reporting of prediction models (2024, doi 10.1136/bmj-2023-078378)",
                   fill(TRIPOD_AI, said)),
        _made_with(found),
    ]  # fmt: skip
    return [section for section in made if section is not None]


def _checklist(name: str, title: str, what: str, answers: list[Answer]) -> Section:
    n = {status: sum(answer.status == status for answer in answers) for status in ("run", "in part", "author")}
    words = (
        f"{title}: {what}. The items are in our own short words: read them beside the published list. Of "
        f"{len(answers)} items, the run answers {n['run']} fully and {n['in part']} in part; "
        f"{n['author']} are for the author."
    )
    return Section(name, title, [Text(words), Checklist(answers)])


def _made_with(found: ReportData) -> Section:
    about, code = found.about, found.about["code"]
    commit = code.get("git.commit", "unknown")
    rows = [
        ("Time", about["time"]),
        ("Code", f"koa-lightning {code.get('version.koa_lightning', '')}, commit {commit}"
                 f"{' (with uncommitted changes)' if code.get('git.dirty') == 'true' else ''}"),
        ("Versions", ", ".join(f"{key.removeprefix('version.')} {value}" for key, value in code.items()
                               if key.startswith("version.") and key != "version.koa_lightning")),
        ("Machine", f"{code.get('machine.cpu', '')}, {code.get('machine.threads', '')} threads"),
        ("Command", about.get("command") or "called from Python"),
        ("Tracked run", about["tracking"].get("run_id") or "none"),
    ]  # fmt: skip
    settings = ", ".join(f"{key}={value}" for key, value in about["settings"].items())
    return Section("made", "How this report was made", [Facts([*rows, ("Settings", settings or "none")])])


def title(found: ReportData) -> str:
    """Return the title of the page."""
    return f"Knee osteoarthritis grading: {caveats.split_in_words(found)}"


def subtitle(found: ReportData) -> str:
    """Return one line on the model and the number of knees."""
    if not found.model:
        return f"Predictions from a table, {caveats.size(found)}"
    return f"{data.name(found)}, {data.network(found.model)}; {caveats.size(found)}"


def as_json(found: ReportData) -> dict[str, Any]:
    """Return `report.json`: each metric by its name as {value, low, high[, note]}, and all else in `about`."""
    said = caveats.phrases(found)
    lists = {
        name: [{"item": a.number, "status": a.status, "known": a.known, "author": a.author} for a in fill(items, said)]
        for name, items in (("claim", CLAIM), ("tripod_ai", TRIPOD_AI))
    }
    of_files = ("calibration", "conformal", "abstention", "inputs", "explanations", "ensemble", "audit", "readers")
    sections = {name: found.sections[name] for name in of_files if name in found.sections}
    about = {**found.about, "marks": found.caveats, "subgroups": found.groups, "limits": limits(found)}
    return {**found.metrics, "about": {**about, "absent": found.absent, "checklists": lists, **sections}}
