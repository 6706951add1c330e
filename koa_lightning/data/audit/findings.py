"""The possible findings of an audit: each kind in one line, and the form of a finding. No heavy imports here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from koa_lightning.config.compose import nearest
from koa_lightning.errors import InputError

LEAKY = "leaky"  # the caveat of a run whose splits share patients or knees
LEAKAGE, WARNING, NOTE = "leakage", "warning", "note"
SEVERITIES = (LEAKAGE, WARNING, NOTE)
EXIT_CODES = {LEAKAGE: 3, WARNING: 1, NOTE: 0}


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        title: Name for users.
        severity: The usual one; for duplicates, of a pair within a split.
        explanation: One line: the observation, its rule, and its possible consequence.
        across: The severity of a pair of files from two splits, if different.
    """

    title: str
    severity: str
    explanation: str
    across: str = ""


KINDS: dict[str, Kind] = {
    "patient_in_two_parts": Kind(
        "Patient in two splits",
        LEAKAGE,
        "Knees of one patient, by the manifest's names, are in two splits: the model is tested on its training data.",
    ),
    "knees_in_two_parts": Kind(
        "The two knees of a patient in two splits",
        LEAKAGE,
        "The left knee is in one split and the right one in another; the two resemble each other in shape and grade.",
    ),
    "same_pixels": Kind(
        "Same pixels",
        WARNING,
        "Two or more files decode to exactly the same pixels, whatever their names, formats and bytes.",
        LEAKAGE,
    ),
    "near_duplicate": Kind(
        "Near duplicate",
        WARNING,
        "Two files show one knee, cropped, scaled, shifted, re-exposed, equalised or re-encoded, by content alone.",
        LEAKAGE,
    ),
    "two_grades": Kind(
        "Same pixels, two grades",
        WARNING,
        "The same pixels are listed under two or more grades, so at least one of these labels is wrong.",
    ),
    "unreadable": Kind(
        "Unreadable", WARNING, "The file is missing, empty, locked, not an image, or of an unsupported kind."
    ),
    "truncated": Kind(
        "Truncated or damaged",
        WARNING,
        "The decoder failed inside the file, or the lower part of the picture is one flat gray, as in a cut-off JPEG.",
    ),
    "blank": Kind("Blank", WARNING, "Blank or nearly so: almost all pixels have one value, so it shows no knee."),
    "exposure": Kind(
        "Extreme exposure",
        WARNING,
        "Most pixels are at the end of the gray scale, or brightness or contrast is far from that of the other files.",
    ),
    "inverted": Kind(
        "Inverted polarity",
        WARNING,
        "Bone is dark: a model can learn this as a shortcut if its share differs by grade; data.fix_polarity=true "
        "repairs it.",
    ),
    "odd_size": Kind(
        "Unusual size or aspect",
        WARNING,
        "Side length or aspect is rare and far from that of the other files: perhaps a whole or cropped film.",
    ),
    "both_knees": Kind(
        "Film of both knees",
        WARNING,
        "The picture shows two knees but has one grade; `prepare` cuts it into knees.",
    ),
    "burnt_in": Kind(
        "Text or mark over the joint (best effort)",
        NOTE,
        "Sharp, flat, white or black shapes in the middle of the picture. Best effort: some are missed; implants and "
        "screws can look alike.",
    ),
    "suspicious_grade": Kind(
        "Suspicious grade",
        NOTE,
        "Out-of-fold probabilities contradict the label (confident learning). A reader should review it; it is "
        "never removed.",
    ),
    "no_patient": Kind(
        "Patient unknown",
        NOTE,
        "Files without a patient: the two knees of one patient may be in two splits unnoticed.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One finding: a row of the table.

    Attributes:
        kind: A key of `KINDS`.
        severity: One of `SEVERITIES`.
        files: Paths, at least one.
        evidence: In words.
        numbers: The evidence by name, for programs.
        rows: Rows of the files in the manifest of the audit.
    """

    kind: str
    severity: str
    files: list[str]
    evidence: str
    numbers: dict[str, Any] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)


def exit_code(found: Iterable[Finding]) -> int:
    """Return 0 for notes or no findings, 1 for warnings, 3 for leakage."""
    return max((EXIT_CODES[finding.severity] for finding in found), default=0)


def chosen(checks: Sequence[str] | None) -> set[str]:
    """Return the kinds to look for; None: all.

    Raises:
        InputError: An entry is not a kind.
    """
    if checks is None:
        return set(KINDS)
    if isinstance(checks, str):
        raise InputError(f"checks={checks}: must be a list; type checks=[{checks}]")
    for kind in checks:
        if kind not in KINDS:
            raise InputError(
                f"checks: {kind} is not a kind of finding{nearest(str(kind), list(KINDS))} ({', '.join(KINDS)})"
            )
    return set(checks)


def in_order(found: Iterable[Finding]) -> list[Finding]:
    """Return findings sorted by severity, worst first, then by kind as in `KINDS`, otherwise in the given order."""
    kinds = list(KINDS)
    return sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), kinds.index(finding.kind)))


def severity_words(kind: Kind) -> str:
    """Return the severity of findings of a kind, in words."""
    return f"{kind.across} across splits, else {kind.severity}" if kind.across else kind.severity


def markdown_table() -> str:
    """Return the kinds as the table of docs/audit.md."""
    rows = [f"| `{name}` | {severity_words(kind)} | {kind.explanation} |" for name, kind in KINDS.items()]
    return "\n".join(["| kind | severity | what it means |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    print(markdown_table())
