"""Run an exported grader as a network: ONNX Runtime or OpenVINO computes, behind the interface of a `KneeNet`.

A TorchScript file is a program, so an untrusted one is not run here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from koa_lightning.errors import InputError
from koa_lightning.models import outputs
from koa_lightning.models.net import KneeNet, NetSpec

OUTPUTS = ("probabilities", "expected_grade", "median_grade", "grade", "logits", "features", "cam")
"""Outputs of an exported grader, in order; `cam` may be missing."""
INPUT = "image"
ONNX, OPENVINO, TORCHSCRIPT = ".onnx", ".xml", ".ts"
SUFFIXES = (ONNX, OPENVINO, TORCHSCRIPT)
LARGEST_FILE = 2 * 2**30
Program = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps uint8 N x 1 x S x S to the outputs by name."""


class _Head(nn.Module):
    """Provides what `koa_lightning.uncertainty.out_of_distribution.watching` needs of a network: pooled features."""

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features


class ExportedNet(KneeNet):
    """A program with the interface of a `KneeNet`: it takes uint8 images and returns logits.

    Args:
        program: Computes the outputs.
        spec: Specification of the exported network.
    """

    def __init__(self, program: Program, spec: NetSpec) -> None:
        nn.Module.__init__(self)  # there is no timm model
        self.program, self.spec = program, spec
        self.last_map, self.net = nn.Identity(), _Head()

    def normalise(self, image: Tensor) -> Tensor:
        """Return the images as they are: the program normalises."""
        return image

    def forward(self, image: Tensor) -> Tensor:
        """Return logits float32 N x K of images uint8 N x 1 x H x W."""
        given = self._run(image)
        self.last_map(torch.from_numpy(given["features"]))
        return torch.from_numpy(given["logits"])

    def cams(self, image: Tensor) -> np.ndarray:
        """Return the class activation maps of the predicted grades, float32 N x h x w, at least 0.

        Raises:
            InputError: The file was exported without them.
        """
        given = self._run(image)
        if "cam" not in given:
            raise InputError(f"this export of {self.spec.name} has no heat map, as its head has no closed form")
        return given["cam"]

    def _run(self, image: Tensor) -> dict[str, np.ndarray]:
        try:
            given = self.program(np.ascontiguousarray(image.cpu().numpy()))
            n = len(image)
            fits = given["logits"].shape == (n, outputs.n_outputs(self.spec.link)) and given["features"].shape[0] == n
        except Exception as error:  # each runtime raises its own kinds
            why = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
            raise InputError(f"the exported file does not accept images of shape {tuple(image.shape)}: {why}") from None
        if not fits:
            raise InputError("the outputs of the exported file do not have the shapes in its record; export it again")
        return given


def onnx_program(content: bytes) -> tuple[Program, Mapping[str, str]]:
    """Return an ONNX model as a program, and its metadata.

    Args:
        content: The bytes of the file. A model whose weights are in other files is refused.

    Raises:
        InputError: The model names other files; the message does not name this one.
        Exception: Almost any kind, if the file is damaged.
    """
    onnx, runtime = _imported("onnx"), _imported("onnxruntime")
    model = onnx.load_model_from_string(content)
    if _names_files(model, onnx):
        raise InputError("its weights are in other files, which are never opened; export it again as one file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {INPUT: image}), strict=True))

    return run, dict(session.get_modelmeta().custom_metadata_map)


def _names_files(model: Any, onnx: Any) -> bool:
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    return any(uses_external_data(tensor) for tensor in _get_all_tensors(model))


def openvino_program(file: Path) -> tuple[Program, Mapping[str, str]]:
    """Return an OpenVINO model (`.xml` with its `.bin`) as a program, and its metadata.

    Raises:
        Exception: Almost any kind, if the file is damaged.
    """
    openvino = _imported("openvino")
    core = openvino.Core()
    model = core.read_model(str(file))
    names = [port.get_any_name() for port in model.outputs]
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        given = request.infer({INPUT: image})
        return {name: np.array(given[name]) for name in names}

    metadata = {}
    if model.has_rt_info(["koa"]):
        metadata = {str(key): str(value) for key, value in dict(model.get_rt_info(["koa"]).value).items()}
    return run, metadata


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f'{name} is not installed; type: pip install "koa-lightning[export]"') from None
