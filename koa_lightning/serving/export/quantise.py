"""Quantise to eight-bit integers, with ranges of activations from training knees (ONNX Runtime, static)."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from koa_lightning.models.exported import INPUT

_BATCH = 16


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime's messages, which go to the root logger, during the block."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def quantised(model: Any, images: Tensor) -> Any:
    """Return an ONNX model whose convolutions compute with eight bits, weights by channel.

    The head and everything after it stay in fp32: they cost little time, and determine the probabilities.

    Args:
        model: In fp32, a protobuf.
        images: uint8 N x 1 x S x S of training knees, prepared.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Knees(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter([batch.numpy() for batch in images.split(_BATCH)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        plain, ready, made = (Path(folder) / name for name in ("plain.onnx", "ready.onnx", "int8.onnx"))
        onnx.save(model, plain)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(made),
            Knees(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(made)
