"""Sections on models and data: the model card, the data, the members of an ensemble, the folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koa_lightning import DISCLAIMER
from koa_lightning.reporting.report import caveats, figures
from koa_lightning.reporting.report.blocks import (
    NOTHING,
    Absent,
    Block,
    Drawing,
    Facts,
    Section,
    Table,
    Text,
    count,
    number,
    sentence,
    with_interval,
)
from koa_lightning.reporting.report.limits import limits
from koa_lightning.reporting.report.model import network
from koa_lightning.reporting.report_data import ReportData

_GRADES = ("0", "1", "2", "3", "4")
_SHOWN = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "quadratic_kappa": "quadratic kappa",
    "mae": "MAE", "auroc_oa": "AUROC, grade ≥ 2", "ece": "ECE",
}  # fmt: skip


def model_card(found: ReportData, said: Mapping[str, str]) -> Section:
    """Return the model card (Mitchell 2019), filled in as far as the run knows."""
    if not found.model:
        words = "No model card: the predictions came as a table, so the model behind them is unknown."
        return Section("card", "Model card", [Absent(words)])

    def join(*keys: str) -> str:
        return " ".join(said[key] for key in keys if key in said)

    model = found.model
    rows = [
        ("Model", f"{name(found)}. {join('model', 'weights', 'ensembling')}"),
        ("Version", f"koa-lightning {model['version']}. {join('specification')}"),
        ("Intended use", f"{join('use')} Intended for studies of grading, by people who know its limits."),
        ("Out of scope", "Diagnosis, triage or treatment of patients; films of other joints, views or species; "
                         "knees with implants, and children, unless the training data include them."),
        ("Factors", join("characteristics", "fairness") or "None were examined."),
        ("Metrics", join("metrics", "uncertainty")),
        ("Training data", join("source", "partition", "disjoint", "quality", "imbalance")),
        ("Training", join("training", "augmentation", "selection")),
        ("Preprocessing", join("preprocessing", "input")),
        ("Evaluation data", f"{sentence(caveats.split_in_words(found))}: {caveats.size(found)}. {join('external')}"),
        ("Result", join("summary", "calibration", "explanations")),
        ("Ethical considerations", f"{DISCLAIMER.capitalize()}. Radiographs are personal data: respect consent and "
                                   "licence. A wrong grade can harm a patient if someone acts on it."),
        ("Caveats", f"{limits(found)[0]} See Limits for more."),
        ("Licence and contact", "For the author to fill in: the licence of weights and data, and a contact."),
    ]  # fmt: skip
    return Section("card", "Model card", [Facts(rows)])


def name(found: ReportData) -> str:
    """Return the name of the model."""
    config, n = found.model["config"], len(found.about["models"])
    label = config.get("name") or config.get("model", {}).get("label") or found.model["net"]["name"]
    several = {"ensemble": f"Ensemble of {n}", "cross-validation": f"Cross-validation of {n} folds"}
    return f"{several[found.kind]}: {label}" if found.kind in several else str(label)


def data(found: ReportData, said: Mapping[str, str]) -> Section:
    """Return the section on splits, fingerprints and the audit."""
    model, evaluated = found.model, found.about["data"]
    rows = []
    if model and found.kind != "cross-validation":
        of_splits = model["training"].get("parts", {})
        for split, grades in model["data"]["counts"].items():
            own = of_splits.get(split, {})
            patients = f"{own['n_patients']:,}" if own else NOTHING
            rows.append(
                [caveats.SPLIT_NAMES.get(split, split), f"{sum(grades):,}", patients, *(f"{n:,}" for n in grades)]
            )
    row = [f"{evaluated['n_knees']:,}", f"{evaluated['n_patients']:,}", *(f"{n:,}" for n in evaluated["grades"])]
    rows.append([f"evaluated: {caveats.SPLIT_NAMES.get(evaluated['part'], evaluated['part']) or 'the table'}", *row])
    prints = [("Evaluated on", f"{evaluated['name']}, fingerprint {evaluated['fingerprint'] or 'not computed'}")]
    if model:
        own = {each["data"]["fingerprint"]: each["data"]["name"] for each in found.about["models"]}
        trained = ", ".join(f"{name}, fingerprint {fingerprint}" for fingerprint, name in own.items())
        prints = [("Trained on", trained), ("Split", model["data"].get("split") or "not recorded"), *prints]
        prints.append(("Disjoint by", said["disjoint"]))
    blocks: list[Block] = [
        Table("Knees by split and grade", ["split", "knees", "patients", *(f"grade {g}" for g in _GRADES)], rows,
              note="A fingerprint identifies exactly these knees, grades and splits, wherever the files are."),
        Facts(prints),
        *_audit(found),
    ]  # fmt: skip
    return Section("data", "Training and evaluation data", blocks)


def _audit(found: ReportData) -> list[Block]:
    audit = found.sections.get("audit")
    if audit is None:
        return [Absent(found.absent["audit"])]
    verdict = {0: "clean", 1: "warnings", 3: "LEAKAGE"}[audit["exit_code"]]
    n = {split: sum(grades) for split, grades in audit["parts"].items()}
    words = f"Audit of {audit['data']} ({audit['n_knees']:,} knees, fingerprint {audit['fingerprint']}): {verdict}."
    blocks: list[Block] = [Text(words, "loud" if audit["exit_code"] == 3 else "")]
    rows = [[kind.replace("_", " "), f"{found_:,}"] for kind, found_ in audit["kinds"].items() if found_]
    if rows:
        blocks.append(Table("Findings of the audit", ["kind", "findings"], rows))
    counts = found.model.get("data", {}).get("counts", {}) if found.kind == "checkpoint" else {}
    other = [split for split, grades in counts.items() if split in n and n[split] != sum(grades)]
    if other:
        words = (
            f"The audit saw {n[other[0]]:,} knees in {other[0]}, training {sum(counts[other[0]]):,}: the data differ."
        )
        blocks.append(Text(words, "loud"))
    return blocks


def members(found: ReportData) -> Section | None:
    """Return the section on the members of an ensemble or the folds of a cross-validation; None for one model."""
    if found.kind == "ensemble":
        return _of_ensemble(found)
    return _of_folds(found) if found.kind == "cross-validation" else None


def _of_ensemble(found: ReportData) -> Section:
    ensemble = found.sections["ensemble"]
    rows = [
        [entry["name"], f"{entry['n_knees']:,}", *(with_interval(entry["intervals"].get(name)) for name in _SHOWN)]
        for entry in ensemble["members"]
    ]
    whole = [with_interval(found.metrics.get(name)) for name in _SHOWN]
    rows.append(["ensemble", f"{found.about['data']['n_knees']:,}", *whole])
    own = [[each["name"], network(each), each["data"]["fingerprint"], each["data"].get("split", ""), str(each["epoch"])]
           for each in found.about["models"]]  # fmt: skip
    blocks: list[Block] = [
        Text(f"{sentence(ensemble['said'])}."),
        Table("Members and ensemble", ["", "knees", *_SHOWN.values()], rows, last=True,
              note=f"Calibrated: {ensemble['calibrated']}. In brackets: 95 % intervals by patient."),
        Table("Networks of the members", ["member", "network", "trained on", "split", "epoch"], own,
              words=(0, 1, 2, 3)),
    ]  # fmt: skip
    return Section("members", "Members of the ensemble", blocks)


def _of_folds(found: ReportData) -> Section:
    metrics = found.sections.get("metrics", {})
    folds, spread = metrics.get("folds", []), metrics.get("between_folds", {})
    rows = [_row(f"fold {fold}", own["n_knees"], own) for fold, own in enumerate(folds)]
    if spread:
        for key, words in (("mean", "mean of the folds"), ("sd", "sd between folds")):
            values = {name: spread[name][key] for name in _SHOWN if name in spread}
            rows.append([words, number(spread["n_knees"][key], 1), *(number(values.get(name)) for name in _SHOWN)])
    pooled = [with_interval(found.metrics.get(name)) for name in _SHOWN]
    note = "The folds share most of their training knees: the sd shows how much they differ and is not an interval."
    rows.append(["out of fold, pooled", f"{found.about['data']['n_knees']:,}", *pooled])
    table = Table("Folds, and all knees out of fold", ["", "knees", *_SHOWN.values()], rows, note, last=True)
    entries = [(f"fold {fold}", {"value": own["quadratic_kappa"]}) for fold, own in enumerate(folds)]
    whole = found.metrics.get("quadratic_kappa", {})
    drawing = figures.forest_figure([*entries, ("pooled", whole)], "Quadratic kappa of the folds", "quadratic kappa",
                                    found.caveats, reference=whole.get("value"))  # fmt: skip
    caption = "Quadratic kappa of each fold, and pooled with its 95 % interval by patient."
    return Section("members", "Folds", [table, Drawing("folds", drawing, caption)])


def _row(name: str, n: int, metrics: Mapping[str, Any]) -> list[str]:
    return [name, f"{n:,}", *(number(metrics.get(key)) for key in _SHOWN)]


def summary(found: ReportData) -> list[tuple[str, str, str]]:
    """Return the headline metrics: name, value, interval."""
    shown = {"quadratic_kappa": "quadratic kappa", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
             "mae": "mean absolute error", "auroc_oa": "AUROC, grade ≥ 2"}  # fmt: skip
    cards = []
    for name, words in shown.items():
        entry = found.metrics.get(name) or {}
        low, high = entry.get("low"), entry.get("high")
        ends = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
        cards.append((words, number(entry.get("value")), ends))
    evaluated = found.about["data"]
    return [*cards, ("knees", f"{evaluated['n_knees']:,}", count(evaluated["n_patients"], "patient"))]
