"""The record inside an exported grader (ONNX, OpenVINO), so that an export loads like a checkpoint."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint.portable import content_of, without_places
from koa_lightning.checkpoint.record import RECORD, CheckpointRecord
from koa_lightning.checkpoint.reference import TENSORS
from koa_lightning.checkpoint.writing import to_plain
from koa_lightning.errors import InputError
from koa_lightning.models.exported import LARGEST_FILE, ONNX, OPENVINO, Program, onnx_program, openvino_program

_LARGEST_TEXT = 8_000_000


def metadata(
    record: CheckpointRecord, reference: Mapping[str, Tensor], epoch: int, about: Mapping[str, str]
) -> dict[str, str]:
    """Return the metadata of an exported file: one text per name.

    Args:
        record: Written without its places, see `portable.without_places`.
        reference: Tensors that recognise out-of-distribution inputs; may be empty.
        epoch: Epoch of the weights, from 0.
        about: More texts, e.g. the licence, the card, and the agreement with the checkpoint.
    """
    texts = {**about, "note": DISCLAIMER, RECORD: json.dumps(to_plain(without_places(record))), "epoch": str(epoch)}
    if reference:
        texts[TENSORS] = base64.b64encode(save(dict(reference))).decode()
    return texts


def read(file: Path) -> tuple[Program, dict[str, Any]]:
    """Return an exported grader as a program, and the content of its file in the layout of a training checkpoint.

    Raises:
        InputError: The file is TorchScript, too large, or not an export of koa_lightning; the message does not name
            the file.
        Exception: Almost any kind, if the file is damaged.
    """
    if file.suffix not in (ONNX, OPENVINO):
        raise InputError(
            "a TorchScript file is a program, and programs from files are never run; give the ONNX or OpenVINO export"
        )
    if file.stat().st_size > LARGEST_FILE:
        raise InputError(f"larger than {LARGEST_FILE >> 30} GB, the limit for an export; give another file")
    if file.suffix == OPENVINO and not file.with_suffix(".bin").is_file():
        raise InputError(f"{file.with_suffix('.bin').name} is missing next to it; OpenVINO exports are pairs of files")
    program, texts = onnx_program(file.read_bytes()) if file.suffix == ONNX else openvino_program(file)
    if RECORD not in texts or len(texts[RECORD]) > _LARGEST_TEXT:
        raise InputError("written by another program; give a file that koa_lightning.export wrote")
    content = content_of(texts, {})
    if reference := texts.get(TENSORS):
        content[TENSORS] = load(base64.b64decode(reference, validate=True))
    return program, content
