"""A portable checkpoint: one small safetensors file with half-precision weights and the record as text.

A training checkpoint also holds the optimizer, and paths and settings of the machine that wrote it. The portable file
is for other people: it holds only what grading needs, nothing that could be executed or resumed.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint.record import RECORD, CheckpointRecord, TrackedRun
from koa_lightning.checkpoint.reference import TENSORS
from koa_lightning.checkpoint.writing import to_plain
from koa_lightning.errors import InputError, naming

SUFFIX = ".safetensors"
LARGEST_HEADER = 8_000_000  # bytes; a record takes about 100,000
_LARGEST_FILE = 4 * 2**30
# Settings that grading, the mean loss and the report use. All others may name folders and servers.
_KEPT = ("name", "seed", "data", "loss", "model", "optimizer", "scheduler", "augment", "mix", "teacher", "resize",
         "trainer")  # fmt: skip


def write(
    path: Path, record: CheckpointRecord, state: dict[str, Tensor], reference: dict[str, Tensor],
    epoch: int, about: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Write a portable checkpoint, in one step.

    Matrices become float16; vectors, e.g. the statistics of batch norm, stay float32.

    Args:
        path: The file, which ends in `.safetensors`.
        record: Written without its places, see `without_places`.
        state: Weights of the network.
        reference: Tensors that recognise out-of-distribution inputs; may be empty.
        epoch: Epoch of the weights, from 0.
        about: More texts for the header, e.g. a licence.
    """
    tensors = {f"net.{name}": _halved(value) for name, value in state.items()}
    tensors |= {f"{TENSORS}.{name}": _halved(value) for name, value in reference.items()}
    header = {
        **(about or {}),
        "note": DISCLAIMER,
        RECORD: json.dumps(to_plain(without_places(record))),
        "epoch": str(epoch),
    }
    part = path.with_name(f"{path.name}.part")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(_in_order(save(tensors, header)))
        part.replace(path)


def _in_order(content: bytes) -> bytes:
    """Return a safetensors file with its header sorted, so that the same checkpoint always gives the same bytes."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def without_places(record: CheckpointRecord) -> CheckpointRecord:
    """Return the record without folders, files, addresses and runs; a setting that holds a path becomes None."""
    config = {key: _without_paths(value) for key, value in record.config.items() if key in _KEPT}
    return dataclasses.replace(record, config=config, tracking=TrackedRun())


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    return None if isinstance(value, str) and ("/" in value or "\\" in value[:3]) else value


def _halved(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() and value.ndim > 1 else value


def read(file: Path) -> dict[str, Any]:
    """Return the content of a file in the layout of a training checkpoint; nothing in it is executed.

    Raises:
        InputError: The file is too large, truncated, or has no record; the message does not name the file.
        Exception: Almost any kind, if the file is damaged.
    """
    _check_size(file)
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if RECORD not in header:
        raise InputError("it holds weights but no record; give a file that koa_lightning wrote")
    state = {name: _whole(value) for name, value in tensors.items() if name.startswith("net.")}
    content = content_of(header, state)
    lead = f"{TENSORS}."
    if reference := {n.removeprefix(lead): _whole(value) for n, value in tensors.items() if n.startswith(lead)}:
        content[TENSORS] = reference
    return content


def content_of(texts: Mapping[str, str], state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the content of a portable file in the layout of a training checkpoint, not yet checked.

    Args:
        texts: Its header, with `record.RECORD` and `epoch`.
        state: Its weights; empty for an exported program.

    Raises:
        ValueError: The record is not JSON.
    """
    epoch = texts.get("epoch", "")
    return {
        RECORD: json.loads(texts[RECORD]),
        "epoch": int(epoch) if epoch.isascii() and epoch.isdecimal() and len(epoch) < 10 else None,
        "global_step": 1,
        "state_dict": state,
    }


def _check_size(file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(8)
    header = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if not 0 < header <= min(LARGEST_HEADER, size - 8) or size > _LARGEST_FILE:
        raise InputError("not a safetensors file, truncated, or with a header larger than 8 MB; give another")


def _whole(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value
