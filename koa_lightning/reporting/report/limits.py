"""The limits of a report's results that follow from the run."""

from __future__ import annotations

from koa_lightning.reporting.report.blocks import count, sentence
from koa_lightning.reporting.report.model import is_external
from koa_lightning.reporting.report_data import ReportData

FEW = 30  # knees of a grade; with fewer, its figures are unreliable
_FROM_RANDOM = "Training started from random weights; pretrained ones are usual."
_CAVEATS = {
    "phantom data": "The knees are synthetic (phantoms): nothing here says anything about real radiographs.",
    "no pretrained weights": _FROM_RANDOM,
    "untrained weights": _FROM_RANDOM,  # as 0.1 called it
    "leaky": "Splits share patients or knees, so the results are too good.",
    "patients unknown": "Patients are unknown: two splits may share a patient, and intervals may be too narrow.",
}


def limits(found: ReportData) -> list[str]:
    """Return the limits of the results, one or two sentences each, the most important first.

    Args:
        found: The data of the report.
    """
    said = [_CAVEATS.get(caveat, f"{sentence(caveat)}.") for caveat in found.caveats]
    return [*said, *_of_the_knees(found), *_of_the_methods(found), *_of_the_field(found)]


def _of_the_knees(found: ReportData) -> list[str]:
    data, said = found.about["data"], []
    if data["part"] == "val":
        said.append(
            "The model was evaluated on the validation split, which chose the epoch and fitted the calibration, so "
            "its results are optimistic. Only a split that was used for neither (test, or other data) is a fair test."
        )
    if data["part"] == "out of fold":
        said.append("Each fold's own knees chose its epoch, so the out-of-fold results are slightly optimistic.")
    if found.model and not is_external(found):
        said.append("Training and evaluation share one source: results may not hold for other hospitals or machines.")
    if not found.model:
        said.append("The model is unknown: it may have been trained on these knees.")
    elif data.get("n_trained_on") is None:
        said.append("These knees could not be compared with the training knees: the training manifest is missing.")
    few = [str(grade) for grade, n in enumerate(data["grades"]) if n < FEW]
    if few:
        said.append(f"Grade {', '.join(few)}: fewer than {FEW} knees, too few for reliable results by grade.")
    columns = {row["column"] for row in found.groups}
    if not columns & {"age", "sex", "gender", "ethnicity", "race"}:
        said.append("Age, sex and ethnicity are not in the data, so fairness between these groups was not assessed.")
    return said


def _of_the_methods(found: ReportData) -> list[str]:
    said = []
    if found.sections["calibration"]["method"] == "none":
        said.append("The probabilities were not recalibrated: interpret them with the reliability diagram.")
    tested = found.sections.get("explanations")
    if tested is None:
        said.append("The heat maps were not tested here, so they may mislead.")
    else:
        failed = [name for name, verdict in tested["verdicts"].items() if verdict == "failed"]
        if failed:
            said.append(f"The explanations failed {count(len(failed), 'test')}: {', '.join(failed)}.")
    if "audit" not in found.sections:
        said.append("No audit was given, so duplicates and mislabelled or damaged files are not ruled out.")
    return said


def _of_the_field(found: ReportData) -> list[str]:
    return [
        "Grades are readers' opinions, and readers disagree (quadratic kappa between readers .56 to .97 in the "
        "literature): no result here is agreement with a ground truth.",
        "Intervals reflect only the sampling of patients; another training run would give different results.",
    ]
