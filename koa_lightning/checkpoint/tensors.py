"""Checks of tensors and texts from an untrusted file, before anything uses them."""

from __future__ import annotations

import re
from typing import Any

import torch

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


SHOWN = 80  # characters of a value in a message


_DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool,
)  # fmt: skip


LARGEST = 2**53


def shown(value: Any, most: int = SHOWN) -> str:
    """Return a value from a file as one short line for a message."""
    text = ascii(value) if isinstance(value, str) and CONTROL.search(value) else " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def wrong_tensors(state: Any, name: str = "state_dict") -> str:
    """Return what is wrong with the first wrong tensor of the weights in a file, or an empty string.

    `Checkpoint.network` compares names and shapes with those of the network.

    Args:
        state: The weights, as loaded.
        name: Name of the entry.
    """
    if not isinstance(state, dict) or not all(isinstance(k, str) and torch.is_tensor(v) for k, v in state.items()):
        return f"its {name} is not a dict of tensors"
    for key, tensor in state.items():
        if misfit := wrong_tensor(tensor):
            return f"in its {name}, {shown(key)[1:-1]} is {misfit}"
    return ""


def wrong_tensor(tensor: torch.Tensor) -> str:
    """Return why a tensor of a file cannot be used as plain numbers, or an empty string."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return "not a plain tensor"
    if tensor.dtype not in _DTYPES:
        return f"of type {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"of shape {tuple(tensor.shape)}, more numbers than the file holds"
    return ""
