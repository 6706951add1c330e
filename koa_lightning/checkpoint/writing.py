"""Write a checkpoint's record, in the file layout of version 0.1."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from koa_lightning.checkpoint.files import write_whole
from koa_lightning.checkpoint.fitted import Fitted
from koa_lightning.checkpoint.record import RECORD, CheckpointRecord
from koa_lightning.checkpoint.reference import TENSORS


def to_plain(record: CheckpointRecord) -> dict[str, Any]:
    """Return the record as it is stored in a file; `koa_lightning.checkpoint.reading.record_of` is the inverse."""
    data = {name: value for name, value in asdict(record.data).items() if value is not None}
    optional = {"loss": record.loss, "made_of": record.made_of, "weights_reason": record.weights_reason}
    return {
        "format": record.schema_version,
        "version": record.version,
        "net": record.net.to_dict(),
        "preprocessing": asdict(record.preprocessing),
        "grade_names": list(record.grade_names),
        "config": dict(record.config),
        "data": data,
        "marks": list(record.caveats),
        "weights": record.weights,
        "plan": asdict(record.plan),
        "tracking": {name: value for name, value in asdict(record.tracking).items() if value is not None},
        **{name: value for name, value in optional.items() if value is not None},
        **record.fitted.to_plain(),
    }


def store_fitted(path: Path, fitted: Fitted, reference: dict[str, Tensor]) -> None:
    """Replace the fitted entries of a checkpoint, in one step; everything else in the file stays.

    Args:
        path: A file that `koa_lightning.checkpoint.reading.read` has read.
        fitted: The entries; None keeps the one in the file.
        reference: Tensors of `koa_lightning.uncertainty.out_of_distribution.fit`; may be empty.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    content[RECORD] = {**content[RECORD], **fitted.to_plain()}
    content.pop(TENSORS, None)
    if reference:
        content[TENSORS] = reference
    write_whole(content, path)
