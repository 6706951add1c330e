"""Sections on how far to trust a grade: calibration, abstention, prediction sets, out-of-distribution inputs."""

from __future__ import annotations

from koa_lightning.reporting import uncertainty_figures
from koa_lightning.reporting.report import caveats, figures
from koa_lightning.reporting.report.blocks import Absent, Block, Drawing, Section, Table, Text, number, percent
from koa_lightning.reporting.report_data import ReportData

_SCORES = {"ece": "expected calibration error", "ece_classwise": "class-wise calibration error", "log_loss": "log loss",
           "brier": "Brier score", "rps": "ranked probability score"}  # fmt: skip


def calibration(found: ReportData) -> Section:
    """Return the section on calibration: reliability before and, if a calibration was fitted, after it."""
    fitted = found.sections["calibration"]
    sides = [side for side in ("before", "after") if side in fitted]
    if fitted["method"] == "none":
        sides = sides[:1]
        words = Text(f"Not recalibrated: {fitted.get('left_out') or fitted.get('lost', 'not requested')}.")
    else:
        values = ", ".join(f"{name} {value:.3f}" for name, value in fitted["parameters"].items())
        words = Text(f"Recalibrated by {fitted['method']} ({values}), fitted on the validation split. The scores "
                     f"are {fitted['measured']}.")  # fmt: skip
    heads = {"before": "before recalibration" if len(sides) > 1 else "value", "after": "after recalibration"}
    rows = [
        [name, *(number(fitted[side].get(key)) for side in sides)]
        for key, name in _SCORES.items()
        if key in fitted[sides[0]]
    ]
    bare = {key: value for key, value in fitted.items() if key not in ("measured", "left_out", "lost")}  # in the text
    figure = uncertainty_figures.reliability_figure(bare, caveats.title_of_split(found), found.caveats)
    caption = "Observed frequency of each grade against its predicted probability; number of knees in each bin below."
    table = Table("Scores of the probabilities", ["score", *(heads[side] for side in sides)], rows)
    return Section("calibration", "Calibration", [words, Drawing("reliability", figure, caption), table])


def abstention(found: ReportData) -> Section:
    """Return the section on abstention: the risk-coverage curve and the effect of a threshold."""
    curve = found.sections["abstention"]
    if "curve" not in curve:
        return Section("abstention", "Abstention", [Absent(f"No risk-coverage curve: {curve['left_out']}.")])
    figure = uncertainty_figures.risk_coverage_figure(curve, caveats.title_of_split(found), found.caveats)
    caption = "Error rate of the graded knees against the share that is graded, most certain first."
    drawing = Drawing("risk_coverage", figure, caption)
    others = f"at best {curve['best_aurc']:.3f}; at random {curve['risk']:.3f}"
    area = f"Area under the curve: {curve['aurc']:.3f} ({others})."
    if curve.get("threshold") and curve.get("risk_at_threshold") is not None:
        at = percent(curve["coverage_at_threshold"], 1)
        own = (f"At the threshold {curve['threshold']:.3f}, {at} of the knees are graded and "
               f"{percent(curve['risk_at_threshold'], 1)} of these wrongly; the others go to a reader.")  # fmt: skip
    else:
        own = "No threshold was set: every knee is graded (refer_below=0.6 would refer less certain ones to a reader)."
    rows = [[f"{part:.0%}", percent(_risk_at(curve["curve"], part), 1)] for part in (1.0, 0.9, 0.8, 0.7, 0.5)]
    table = Table("Error rate when only the most certain knees are graded", ["knees graded", "graded wrongly"], rows)
    return Section("abstention", "Abstention", [Text(f"{area} {own}"), drawing, table])


def _risk_at(curve: list[list[float]], coverage: float) -> float | None:
    """Return the error rate at the curve's smallest coverage that is at least this one."""
    reached = [row for row in curve if row[0] >= coverage - 1e-9]
    return min(reached)[1] if reached else None


def conformal(found: ReportData) -> Section:
    """Return the section on prediction sets: their coverage and sizes."""
    if "conformal" in found.absent:
        return Section("conformal", "Prediction sets", [Absent(found.absent["conformal"])])
    sets = found.sections["conformal"]
    by_grade = {int(grade): entry for grade, entry in sets["by_grade"].items()}
    rows = [[str(g), f"{e['n']:,}", percent(e["coverage"], 1), number(e["size"], 2)] for g, e in by_grade.items()]
    n = sum(entry["n"] for entry in by_grade.values())
    rows.append(["all", f"{n:,}", percent(sets["coverage"], 1), number(sets["mean_size"], 2)])
    how = f" ({sets['measured']})" if "measured" in sets else ""
    nominal, kept = percent(1 - sets["alpha"]), percent(sets["coverage"], 1)
    words = (
        f"Sets of consecutive grades. Nominal coverage {nominal}, observed coverage {kept}{how}. "
        "The guarantee is for all knees together, not for each grade."
    )
    blocks: list[Block] = [
        Text(words),
        Drawing("prediction_sets", figures.coverage_figure(sets, found.caveats),
                "Coverage by true grade, against the nominal coverage."),
        Table("Prediction sets by true grade", ["true grade", "knees", "coverage", "mean size"], rows, last=True),
    ]  # fmt: skip
    if "sizes" in sets:
        shown = [[size, f"{int(k):,}", percent(k / max(1, n), 1)] for size, k in sets["sizes"].items()]
        blocks.append(Table("Sizes of the sets", ["grades in the set", "knees", "share"], shown))
    return Section("conformal", "Prediction sets", blocks)


def inputs(found: ReportData) -> Section:
    """Return the section on out-of-distribution inputs."""
    if "inputs" in found.absent:
        return Section("inputs", "Out-of-distribution inputs", [Absent(found.absent["inputs"])])
    seen = found.sections["inputs"]
    share = seen["n_flagged"] / max(1, seen["n_inputs"])
    words = (
        f"{seen['n_flagged']:,} of {seen['n_inputs']:,} images ({share:.1%}) look out-of-distribution; "
        f"{seen['expected_share']:.1%} of ordinary knees are expected to. This share is {seen['measured']}."
    )
    return Section("inputs", "Out-of-distribution inputs", [Text(words)])
