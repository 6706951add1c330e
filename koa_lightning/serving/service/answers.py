"""The JSON responses of the service; the OpenAPI page is built from these classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from koa_lightning import DISCLAIMER
from koa_lightning.evaluation import referral
from koa_lightning.metrics.predictions import PROBABILITIES


class PredictionSet(BaseModel):
    """The conformal set: grades low to high."""

    low: int = Field(ge=0, le=4)
    high: int = Field(ge=0, le=4)
    words: str = Field(description='E.g. "1 or 2"')


class OutOfDistribution(BaseModel):
    """Whether the image differs in kind from those of the validation split."""

    flagged: bool
    score: float = Field(description="Flagged above 1")


class Fault(BaseModel):
    """An error."""

    code: str = Field(description="For programs, e.g. `unreadable`")
    message: str = Field(description="For people, one line")


class Knee(BaseModel):
    """One file: its grade, or the reason why it has none."""

    file: str = Field(description="Name of the uploaded file")
    error: Fault | None = Field(default=None, description="Why there is no grade; null if there is one")
    patient: str = Field(default="", description="From the file's name; for DICOM a hash, new at each start")
    side: str = Field(default="", description="L, R or empty")
    grade: int | None = Field(default=None, description="Kellgren-Lawrence grade, 0 to 4")
    name: str | None = Field(default=None, description="Name of the grade")
    probabilities: list[float] | None = Field(default=None, description="Probabilities of grades 0 to 4")
    expected_grade: float | None = None
    median_grade: int | None = None
    prediction_set: PredictionSet | None = Field(default=None, description="null if the model has none")
    out_of_distribution: OutOfDistribution | None = Field(default=None, description="null if the model cannot tell")
    acquisition: str | None = Field(
        default=None, description="What differs from the training images; the calibration may then not hold"
    )
    refer: bool | None = Field(default=None, description="Whether to refer the knee to a reader")
    refer_why: str = ""
    heatmap: str | None = Field(
        default=None, description="PNG in base64: colours with transparency, to overlay on the picture"
    )
    picture: str | None = Field(default=None, description="PNG in base64: the gray values that were graded")


class Answer(BaseModel):
    """The response to a request: one entry per file, in their order."""

    note: str = DISCLAIMER
    caveats: list[str] = Field(description="Limits of every result, e.g. phantom data")
    knees: list[Knee]


class Refusal(BaseModel):
    """The response to a request without any grade."""

    note: str = DISCLAIMER
    error: Fault
    knees: list[Knee] = Field(default=[], description="One entry per file, if the files were read")


class Unread(BaseModel):
    """One file of a reader study: what the reader may see before grading."""

    file: str
    error: Fault | None = Field(default=None, description="Why it cannot be read")
    id: str = Field(default="", description="Id for the reading; empty if it was read before")
    patient: str = ""
    side: str = ""
    picture: str | None = Field(default=None, description="PNG in base64")
    reading: int | None = Field(default=None, description="The reader's grade, if it was read before")
    knee: Knee | None = Field(default=None, description="The model's result, if it was read before")


class UnreadKnees(BaseModel):
    """The files of a request, in their order."""

    note: str = DISCLAIMER
    caveats: list[str]
    knees: list[Unread]


class StudyState(BaseModel):
    """The progress of a reader study."""

    note: str = DISCLAIMER
    file: str
    n_readings: int


class Reading(BaseModel):
    """A reader's grade of a knee."""

    id: str = Field(max_length=32)
    grade: int = Field(ge=0, le=4)


class Recorded(BaseModel):
    """The model's result, once the reader's grade is in the file."""

    note: str = DISCLAIMER
    knee: Knee


class Metric(BaseModel):
    """A metric of reader against model, with its 95 % interval by bootstrap over patients; null where undefined."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    note: str


class Agreement(BaseModel):
    """The agreement of a reader and the model."""

    note: str = DISCLAIMER
    study: str
    file: str
    n_readings: int
    metrics: list[Metric]
    confusion: list[list[int]] = Field(description="Rows: the reader's grade; columns: the model's")


class About(BaseModel):
    """The model, and the limits of the service."""

    note: str = DISCLAIMER
    version: str
    models: list[str]
    caveats: list[str]
    grade_names: list[str]
    calibration: str
    alpha: float
    refer_below: float
    methods: dict[str, str] = Field(description="Heat maps that a request may name, with their titles; may be empty")
    formats: list[str] = ["PNG", "JPEG", "TIFF", "WebP", "BMP", "DICOM"]
    max_bytes: int
    max_files: int
    max_pixels: int
    study: bool = Field(description="Whether readings are recorded (study=FOLDER)")
    token: bool = Field(description="Whether the service needs a token")


def of_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of `Predictor.grade` as the fields of `Knee`, without rounding.

    Args:
        row: A row of the table.
    """
    shares = [float(row[column]) for column in PROBABILITIES]
    advice = referral.as_json(row)
    known = advice["set"] is not None
    flagged = advice["foreign"]
    return {
        "patient": row["patient"],
        "side": row["side"],
        "grade": int(row["predicted"]),
        "name": row["name"],
        "probabilities": shares,
        "expected_grade": float(row["expected_grade"]),
        "median_grade": int(row["median_grade"]),
        "prediction_set": {"low": advice["set_low"], "high": advice["set_high"], "words": advice["set"]}
        if known
        else None,
        "out_of_distribution": None if flagged is None else {"flagged": flagged, "score": advice["foreign_score"]},
        "acquisition": advice["acquisition"],
        "refer": bool(advice["refer"]),
        "refer_why": advice["refer"],
    }
