"""What limits the results of a report, as far as the run itself tells."""

from __future__ import annotations

from koa_lightning.reporting.report.blocks import count, sentence
from koa_lightning.reporting.report.model import is_external
from koa_lightning.reporting.report_data import ReportData

FEW = 30  # knees of a grade, below which its figures say little
_CAVEATS = {
    "phantom data": "The knees are synthetic (phantoms): nothing here says anything about real radiographs.",
    "untrained weights": "The network began from random weights, where pretrained ones are usual.",
    "leaky": "Splits of the data share patients or knees: the figures are too good.",
    "patients unknown": "Patients are unknown: two splits may share one, and intervals may be too narrow.",
}


def limits(found: ReportData) -> list[str]:
    """Return what limits the results, a sentence or two each, what weighs most first.

    Args:
        found: All that the report knows.
    """
    said = [_CAVEATS.get(caveat, f"{sentence(caveat)}.") for caveat in found.caveats]
    return [*said, *_of_the_knees(found), *_of_the_methods(found), *_of_the_field(found)]


def _of_the_knees(found: ReportData) -> list[str]:
    data, said = found.about["data"], []
    if data["part"] == "val":
        said.append(
            "The model was evaluated on the validation split, which chose the epoch and fitted the calibration, so "
            "its figures are optimistic. Only a split that chose nothing (test, or other data) is a fair test."
        )
    if data["part"] == "out of fold":
        said.append("Out of fold, each fold's own knees chose its epoch, so the figures flatter a little.")
    if found.model and not is_external(found):
        said.append("One source: training and evaluation share it; nothing is said about other hospitals or machines.")
    if not found.model:
        said.append("The model is unknown: whether it was trained on these knees cannot be told.")
    elif data.get("n_trained_on") is None:
        said.append("What the model was trained on could not be compared with these knees: its manifest is lost.")
    few = [str(grade) for grade, n in enumerate(data["grades"]) if n < FEW]
    if few:
        said.append(f"Grade {', '.join(few)}: fewer than {FEW} knees, so its own figures say little.")
    columns = {row["column"] for row in found.groups}
    if not columns & {"age", "sex", "gender", "ethnicity", "race"}:
        said.append("Age, sex and ethnicity are not in the data, so fairness between such groups was not judged.")
    return said


def _of_the_methods(found: ReportData) -> list[str]:
    said = []
    if found.sections["calibration"]["method"] == "none":
        said.append("The probabilities were not recalibrated: read them with the reliability diagram.")
    tested = found.sections.get("explanations")
    if tested is None:
        said.append("The heat maps were not tested here: they may be pretty and wrong.")
    else:
        failed = [name for name, verdict in tested["verdicts"].items() if verdict == "failed"]
        if failed:
            said.append(f"The explanations failed {count(len(failed), 'test')}: {', '.join(failed)}.")
    if "audit" not in found.sections:
        said.append("No audit was given: duplicates, mislabelled and damaged files are not ruled out.")
    return said


def _of_the_field(found: ReportData) -> list[str]:
    return [
        "Grades are opinions of readers, who differ themselves (quadratic kappa between readers .56 to .97 in the "
        "literature): no figure here is agreement with a ground truth.",
        "Intervals are for the knees of this sample, drawn by patient; another training would give other figures.",
    ]
