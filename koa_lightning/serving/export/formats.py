"""Write a `Grader` in each format, and run the written file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from koa_lightning.errors import InputError, naming
from koa_lightning.models.exported import INPUT, ONNX, OPENVINO, TORCHSCRIPT, Program, onnx_program, openvino_program
from koa_lightning.serving.export.graph import Grader

SUFFIX = {"onnx": ONNX, "openvino": OPENVINO, "torchscript": TORCHSCRIPT}
_OPSET = 18  # the version that torch's exporter writes; ONNX Runtime 1.14 and OpenVINO 2023 read it


def onnx_model(grader: Grader, image_size: int) -> Any:
    """Return the grader as an ONNX model (a protobuf) in fp32, with any number of images per batch.

    Raises:
        InputError: The network has an operation that cannot be exported.
    """
    example = torch.zeros(2, 1, image_size, image_size, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                grader,
                (example,),
                input_names=[INPUT],
                output_names=list(grader.outputs),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # torch's exporter raises its own errors and those of the code it calls
            why = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            raise InputError(f"format: this network cannot be exported ({why}); choose another network") from None
    assert program is not None
    return program.model_proto


def torchscript(grader: Grader, image_size: int) -> torch.jit.ScriptModule:
    """Return the grader traced for TorchScript."""
    example = torch.zeros(2, 1, image_size, image_size, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.jit.trace(grader, example, check_trace=False)


def save_onnx(model: Any, file: Path, texts: Mapping[str, str]) -> None:
    """Write an ONNX model with its metadata, in one step."""
    del model.metadata_props[:]
    for key, value in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    _write(file, model.SerializeToString())


def save_openvino(model: Any, file: Path, texts: Mapping[str, str], *, half: bool) -> None:
    """Write an OpenVINO model as a pair of files, with its metadata."""
    import openvino

    for key, value in texts.items():
        model.set_rt_info(value, ["koa", key])
    with naming(file):
        openvino.save_model(model, str(file), compress_to_fp16=half)


def save_torchscript(module: torch.jit.ScriptModule, file: Path, texts: Mapping[str, str]) -> None:
    """Write a traced module with its metadata as extra files, in one step."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer, _extra_files={key: value.encode() for key, value in texts.items()})
    _write(file, buffer.getvalue())


def from_onnx(model: Any) -> Any:
    """Return an ONNX model as one of OpenVINO."""
    import openvino

    return openvino.convert_model(io.BytesIO(model.SerializeToString()))


def halved(model: Any) -> Any:
    """Return an ONNX model with weights in half precision; inputs and outputs stay in fp32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about numbers too small for half precision
        return convert_float_to_float16(model, keep_io_types=True)


def program_of(file: Path, grader: Grader) -> Program:
    """Return the written file as a program; TorchScript is safe to run here, as we wrote the file ourselves."""
    runs: dict[str, Callable[[], Program]] = {
        ONNX: lambda: onnx_program(file.read_bytes())[0],
        OPENVINO: lambda: openvino_program(file)[0],
        TORCHSCRIPT: lambda: _scripted(file, grader),
    }
    return runs[file.suffix]()


def _scripted(file: Path, grader: Grader) -> Program:
    module = torch.jit.load(str(file))

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            given: tuple[Tensor, ...] = module(torch.from_numpy(image))
        return {name: value.numpy() for name, value in zip(grader.outputs, given, strict=True)}

    return run


def _write(file: Path, content: bytes) -> None:
    part = file.with_name(f"{file.name}.part")
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(file)
