"""What a checkpoint carries of all this: plain numbers and tensors, checked when they are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from koa_lightning.metrics import thresholds
from koa_lightning.uncertainty import calibration, conformal, out_of_distribution, selective_prediction

TENSORS = "koa_lightning_inputs"  # beside the record, which holds plain values only
KEYS = ("calibration", "conformal", "abstention", "inputs")
ALL = (*KEYS, "thresholds")  # which the metrics `_tuned` take
_CHECKS = {
    "calibration": calibration.wrong, "conformal": conformal.wrong, "abstention": selective_prediction.wrong,
    "thresholds": thresholds.wrong,
}  # fmt: skip


def wrong(record: dict[str, Any], tensors: object) -> str:
    """Return what is wrong with these entries of a checkpoint, all of them optional, or an empty string.

    Args:
        record: What `checkpoint.make_record` made.
        tensors: What the file holds under `TENSORS`, None where it holds nothing.
    """
    for key in ALL:
        entry = record.get(key, {"left_out": "unknown"})
        if not isinstance(entry, dict):
            return f"{key} is not a dict"
        if "left_out" in entry and (not left_out(entry) or len(entry) > 1):
            return f"{key}.left_out stands beside values, or is no text"
        flagged = entry.get("flagged")
        if key == "inputs" and not left_out(entry) and not (isinstance(flagged, float) and 0 <= flagged <= 1):
            return "inputs.flagged is not a number from 0 to 1"
        if key in _CHECKS and not left_out(entry) and (misfit := _CHECKS[key](entry)):
            return f"{key}.{misfit}"
    if tensors is not None and (misfit := out_of_distribution.wrong(tensors)):
        return f"{TENSORS}: {misfit}"
    return ""


def left_out(entry: Any) -> str:
    """Return the reason for which an entry holds nothing, or an empty string."""
    reason = entry.get("left_out") if isinstance(entry, dict) else None
    return reason if isinstance(reason, str) else ""


def save(path: Any, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write these entries into a checkpoint of this program, in one step, in place of those it has.

    Args:
        path: Of a file that `checkpoint.read` has read.
        record: The entries `ALL` of its record.
        tensors: Of `out_of_distribution.fit`; empty: none.
    """
    from koa_lightning.checkpoint.files import write_whole
    from koa_lightning.checkpoint.record import RECORD

    content = torch.load(path, map_location="cpu", weights_only=True)
    content[RECORD] = {**content[RECORD], **record}
    content.pop(TENSORS, None)
    if tensors:
        content[TENSORS] = tensors
    write_whole(content, path)
