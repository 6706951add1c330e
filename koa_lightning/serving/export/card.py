"""The card in an exported file: what the file is, its inputs and outputs, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koa_lightning import DISCLAIMER, __version__
from koa_lightning.evaluation.predictor import Predictor
from koa_lightning.serving.export.parity import Parity


def card(predictor: Predictor, facts: Mapping[str, Any], agreement: Parity) -> str:
    """Return the card as Markdown.

    Args:
        predictor: The exported predictor.
        facts: `format`, `precision`, and `price` (None if it was not measured).
        agreement: Agreement of the file with the checkpoint.
    """
    first, n = predictor.checkpoints[0], len(predictor.members)
    record, preprocessing = first.record, first.preprocessing
    size = preprocessing.image_size
    calibrated = record.fitted.method if n == 1 else "each member, then averaged"
    grades = ", ".join(f"{grade} {name}" for grade, name in enumerate(record.grade_names))
    train = sum(record.data.counts.get("train", []))
    lines = [
        f"# {record.name}{f', an ensemble of {n}' if n > 1 else ''}",
        f"{DISCLAIMER.capitalize()}. Not for diagnosis, triage or treatment of patients.",
        f"- Task: Kellgren-Lawrence grade of one knee joint on a frontal radiograph ({grades}).",
        f"- Network: {', '.join(dict.fromkeys(each.record.net.name for each in predictor.checkpoints))}; weights at "
        f"first: {record.weights}; written by koa-lightning {__version__}.",
        f"- Trained on {record.data.name}, {train:,} knees, fingerprint {record.data.fingerprint or 'unknown'}.",
        f"- Takes `image`, uint8 N x 1 x {size} x {size}, prepared as the record "
        "says (`koa_lightning` in the metadata): gray, bone bright, rows "
        f"{preprocessing.top:.0%} to {preprocessing.bottom:.0%} of the height, fit {preprocessing.fit}.",
        "- Gives `probabilities` (N x 5, calibrated: "
        f"{calibrated}), `expected_grade`, `median_grade`, `grade`, "
        "`logits`, pooled `features`, and `cam`, the class activation map of `grade` if the network has one.",
        f"- Format {facts['format']}, {facts['precision']}. {agreement.words()}.",
    ]
    if price := facts["price"]:
        each = [
            f"{words} {price[f'{name}_checkpoint']:.4f} -> {price[f'{name}_export']:.4f}"
            for name, words in (("quadratic_kappa", "quadratic kappa"), ("accuracy", "accuracy"))
        ]
        lines.append(f"- Price of {facts['precision']} on validation: {', '.join(each)}.")
    caveats = ", ".join(predictor.caveats) or "none recorded"
    return "\n".join([lines[0], "", lines[1], "", *lines[2:], f"- Caveats: {caveats}.", ""])
