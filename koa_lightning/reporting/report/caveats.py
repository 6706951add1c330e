"""Sentences about a run, for the model card, the limits and the reporting checklists."""

from __future__ import annotations

from collections.abc import Callable

from koa_lightning.reporting.report import model as of_model
from koa_lightning.reporting.report.blocks import count, percent, sentence, with_interval
from koa_lightning.reporting.report.limits import limits
from koa_lightning.reporting.report.model import SPLIT_NAMES
from koa_lightning.reporting.report_data import ReportData


def phrases(found: ReportData) -> dict[str, str]:
    """Return sentences about a run, by key; an unknown fact has no key.

    Args:
        found: The data of the report.
    """
    said = {name: words for name, make in _PHRASES.items() if (words := make(found))}
    return said | of_model.phrases(found, found.model) if found.model else said


def split_in_words(found: ReportData) -> str:
    """Return the evaluated knees in words, e.g. `the validation split of chen2018`."""
    data = found.about["data"]
    if found.kind == "table":
        return f"the knees of {data['name']}"
    if data["part"] == "out of fold":
        return f"every knee of {data['name']} outside its test split, out of fold"
    split = SPLIT_NAMES.get(data["part"], data["part"])
    return f"all knees of {data['name']}" if data["part"] == "all" else f"the {split} split of {data['name']}"


def title_of_split(found: ReportData) -> str:
    """Return a short title of the evaluated split, for figures."""
    data = found.about["data"]
    return f"{data['name']} {SPLIT_NAMES.get(data['part'], data['part'])}".strip()


def size(found: ReportData) -> str:
    """Return the number of knees and patients."""
    data = found.about["data"]
    return f"{count(data['n_knees'], 'knee')} of {count(data['n_patients'], 'patient')}"


def _goal(found: ReportData) -> str:
    how = {"cross-validation": "developed and internally validated by cross-validation"}.get(found.kind, "evaluated")
    return f"A model that grades knee osteoarthritis (Kellgren-Lawrence 0 to 4) on radiographs is {how} here."


def _summary(found: ReportData) -> str:
    kappa = with_interval(found.metrics.get("quadratic_kappa"))
    accuracy = with_interval(found.metrics.get("accuracy"))
    return f"On {split_in_words(found)} ({size(found)}): quadratic kappa {kappa}, accuracy {accuracy}."


def _use(found: ReportData) -> str:
    return "Research use only; not a medical device, and not for decisions on patients."


def _source(found: ReportData) -> str:
    data, model = found.about["data"], found.model
    trained = f"Trained on {model['data']['name']} (fingerprint {model['data']['fingerprint']}). " if model else ""
    name = f" (fingerprint {data['fingerprint']})" if data["fingerprint"] else ""
    return f"{trained}Evaluated on {split_in_words(found)}{name}."


def _subset(found: ReportData) -> str:
    skipped = [caveat for caveat in found.caveats if "skipped" in caveat]
    return f"{sentence(skipped[0])}." if skipped else ""


def _grades(found: ReportData) -> str:
    names = found.model.get("grade_names") or ("none", "doubtful", "minimal", "moderate", "severe")
    return f"Kellgren-Lawrence grade: {', '.join(f'{grade} {name}' for grade, name in enumerate(names))}."


def _missing(found: ReportData) -> str:
    n = found.about["data"]["n_unknown"]
    left = f"{count(n, 'unlabelled knee')} {'is' if n == 1 else 'are'} omitted from all metrics." if n else ""
    return left or "Every evaluated knee has a grade. The image is the only input, so nothing is imputed."


def _readers(found: ReportData) -> str:
    rows = found.sections.get("readers")
    if not rows:
        return ""
    between = [
        row for row in rows if row["metric"] == "quadratic_kappa" and "truth" not in (row["first"], row["second"])
    ]
    between = [row for row in between if not str(row["second"]).startswith("model")]
    return " ".join(f"Quadratic kappa of {r['first']} and {r['second']}: {with_interval(r)}." for r in between)


def _size(found: ReportData) -> str:
    grades = found.about["data"]["grades"]
    return f"{sentence(size(found))}; by grade 0 to 4: {', '.join(f'{n:,}' for n in grades)}."


def _output(found: ReportData) -> str:
    text = "Five probabilities. The grade is the most probable one, or the rounded expected grade."
    tuned = found.sections.get("thresholds")
    if "quadratic_kappa_tuned" in found.metrics:
        text += " A third rule applies thresholds, tuned on the validation split, to the expected grade."
    elif tuned:
        text += " Thresholds were tuned on this split for use on others; no result here uses them."
    return text


def _software(found: ReportData) -> str:
    code = found.about["code"]
    names = ("koa_lightning", "python", "torch", "lightning", "timm", "kornia", "torchmetrics")
    return "; ".join(f"{name} {code[f'version.{name}']}" for name in names if f"version.{name}" in code) + "."


def _ensembling(found: ReportData) -> str:
    ensemble = found.sections.get("ensemble")
    if ensemble:
        return f"Probabilities averaged: {ensemble['said']}. Calibration: {ensemble['calibrated']}."
    tta = found.about["settings"].get("tta", "none")
    view = " The logits of the image and its mirror image are averaged." if tta == "flip" else ""
    none = {"table": "", "cross-validation": "No ensemble: each fold's network grades the knees of its own fold."}
    return none.get(found.kind, f"No ensemble: one network.{view}")


def _metrics(found: ReportData) -> str:
    return (
        "Accuracy, balanced accuracy, F1, precision, recall, quadratic and linear kappa, mean absolute error, AUROC "
        "and average precision for grade ≥ 2 and ≥ 3, ranked probability score, Brier score, log loss, ECE."
    )


def _uncertainty(found: ReportData) -> str:
    return "95 % intervals by bootstrap over patients, both knees together; no correction for multiple comparisons."


def _robustness(found: ReportData) -> str:
    columns = _grouped_by(found)
    noise = found.sections.get("explanations", {}).get("noise")
    said = [f"Subgroups: {', '.join(columns)}." if columns else ""]
    said.append(f"Heat maps under input noise: {noise['verdict']}." if noise else "")
    return " ".join(item for item in said if item)


def _grouped_by(found: ReportData) -> list[str]:
    """Return the columns by which knees were grouped, each once."""
    return list(dict.fromkeys(row["column"] for row in found.groups if row["column"] != "all"))


def _explanations(found: ReportData) -> str:
    tested = found.sections.get("explanations")
    if not tested:
        return ""
    verdicts = ", ".join(f"{name} {verdict}" for name, verdict in tested["verdicts"].items())
    return f"Class activation maps ({tested['method']}), tested on {count(tested['n'], 'knee')}: {verdicts}."


def _flow(found: ReportData) -> str:
    data = found.about["data"]
    reach = sum(data["grades"][2:])
    share = percent(reach / max(1, sum(data["grades"])))
    return f"{sentence(size(found))} evaluated; {count(reach, 'knee')} ({share}) of grade 2 or more."


def _characteristics(found: ReportData) -> str:
    columns = _grouped_by(found)
    sides = ", ".join(f"{side} {n:,}" for side, n in found.about["data"]["sides"].items())
    further = f" Further columns: {', '.join(c for c in columns if c != 'side')}." if set(columns) - {"side"} else ""
    return f"Grades and sides of each split are in this report (sides evaluated: {sides}).{further}"


def _failures(found: ReportData) -> str:
    labelled = found.labelled
    off = (labelled["predicted"] - labelled["grade"].astype("int64")).abs()
    return (
        f"{count(int((off > 0).sum()), 'knee')} graded wrongly ({percent((off > 0).mean())}), "
        f"{int((off > 1).sum())} of them by two grades or more; the worst are shown."
    )


def _limits(found: ReportData) -> str:
    return f"This report lists {len(limits(found))} limits that follow from the run."


def _code(found: ReportData) -> str:
    code = found.about["code"]
    commit = code.get("git.commit", "unknown")
    state = " with uncommitted changes" if code.get("git.dirty") == "true" else ""
    return f"koa-lightning {code.get('version.koa_lightning', '')}, commit {commit[:12]}{state} (of this evaluation)."


def _quality(found: ReportData) -> str:
    audit = found.sections.get("audit")
    if not audit:
        return ""
    counts = ", ".join(f"{name} {n}" for name, n in audit["severities"].items())
    return f"Audit of {audit['data']} ({audit['n_knees']:,} knees): {counts}."


def _fairness(found: ReportData) -> str:
    columns = _grouped_by(found)
    return f"Performance by {', '.join(columns)} is given with intervals; no correction was applied." if columns else ""


def _clusters(found: ReportData) -> str:
    columns = {row["column"] for row in found.groups} & {"site", "centre", "center", "hospital", "scanner"}
    return f"Performance by {', '.join(sorted(columns))} is given in this report." if columns else ""


def _calibration(found: ReportData) -> str:
    fitted = found.sections["calibration"]
    if fitted["method"] == "none":
        return f"No recalibration ({fitted.get('left_out') or fitted.get('lost', 'not requested')})."
    before, after = fitted["before"]["ece"], fitted["after"]["ece"]
    how = f"Recalibrated by {fitted['method']} on the validation split"
    return f"{how}: calibration error {before:.3f} before, {after:.3f} after."


def _calculated(found: ReportData) -> str:
    command = found.about.get("command") or ""
    return f"Computed by the package from the checkpoint: {command}" if command and found.model else ""


def _input(found: ReportData) -> str:
    inputs = found.sections.get("inputs") or {}
    flagged = "" if "n_flagged" not in inputs else "Out-of-distribution inputs are flagged; "
    return f"{flagged}a file that cannot be read is reported and not graded." if flagged else ""


_PHRASES: dict[str, Callable[[ReportData], str]] = {
    "goal": _goal, "summary": _summary, "use": _use, "source": _source, "subset": _subset, "grades": _grades,
    "missing": _missing, "readers": _readers, "size": _size, "output": _output, "software": _software,
    "ensembling": _ensembling, "metrics": _metrics, "uncertainty": _uncertainty, "robustness": _robustness,
    "explanations": _explanations, "flow": _flow, "characteristics": _characteristics, "performance": _summary,
    "failures": _failures, "limits": _limits, "code": _code, "quality": _quality, "fairness": _fairness,
    "clusters": _clusters, "calibration": _calibration, "calculated": _calculated, "input": _input,
    "predictors": lambda found: "Only the radiograph of one knee; no clinical variables.",
    "no_judgement": lambda found: "No judgement is needed: pixels are the only predictors.",
}  # fmt: skip
