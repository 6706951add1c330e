"""What a checkpoint carries, and how it becomes a network again without trusting it."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from koa_lightning import __version__
from koa_lightning.config import choices_of, compose, plain, without_targets
from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.manifest import GRADE_NAMES
from koa_lightning.errors import InputError
from koa_lightning.models.net import KneeNet, NetSpec, build

FORMAT = 1
RECORD = "koa_lightning"


def make_record(
    *,
    cfg: DictConfig,
    spec: NetSpec,
    preprocessing: Preprocessing,
    data: dict[str, Any],
    marks: list[str],
    weights: str,
    plan: dict[str, Any],
) -> dict[str, Any]:
    """Return the plain values that every checkpoint carries; nothing in them names code to run.

    Args:
        cfg: The run's config; stored resolved, without its `_target_` entries.
        spec: Of the network.
        preprocessing: Of the images.
        data: Name, fingerprint and grade counts by part.
        marks: What no figure may hide, e.g. phantom data.
        weights: Where the first weights came from.
        plan: Precision and memory format.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "net": spec.to_dict(),
        "preprocessing": asdict(preprocessing),
        "grade_names": list(GRADE_NAMES),
        "config": without_targets(plain(cfg)),
        "data": data,
        "marks": list(marks),
        "weights": weights,
        "plan": plan,
        "tracking": {},
    }


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        path: The file.
        record: See `make_record`.
        epoch: Number of the epoch, from 0, at whose end it was written.
        epochs_done: 0 for the one that is written before the first epoch.
        state: Tensors of the network, under the network's own names.
    """

    path: Path
    record: dict[str, Any]
    epoch: int
    epochs_done: int
    state: dict[str, torch.Tensor]

    @property
    def preprocessing(self) -> Preprocessing:
        """Return what is to be done to an image."""
        return Preprocessing(**self.record["preprocessing"])

    @property
    def marks(self) -> list[str]:
        """Return what no figure may hide."""
        return [str(mark) for mark in self.record["marks"]]

    def network(self) -> KneeNet:
        """Build the network with these weights, in eval mode.

        Raises:
            InputError: The weights do not fit what the record says.
        """
        try:
            net = build(NetSpec(**self.record["net"]))
            net.load_state_dict(self.state)
        except (TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.path}: its network cannot be rebuilt ({reason}); it may be damaged") from None
        return net.to(memory_format=torch.channels_last).eval()

    def data_config(self) -> DictConfig:
        """Return the data config of the run that wrote it, with code taken from the installed package alone.

        Raises:
            InputError: The data source is not one of this version's.
        """
        name = str(self.record["data"]["name"])
        if name not in choices_of("data"):
            raise InputError(f"{self.path}: its data source '{name}' is not here; type data=... for another")
        cfg = compose("train", [f"data={name}"]).data
        cfg._set_parent(None)
        _fill(cfg, without_targets(self.record["config"]["data"]))
        cfg.cache_dir = None
        return cfg


def _fill(cfg: DictConfig, values: dict[str, Any]) -> None:
    """Set the values of keys that the config has; never one that names code."""
    for key in [key for key in cfg if not str(key).startswith("_") and key in values]:
        if isinstance(values[key], dict) and isinstance(cfg._get_node(key), DictConfig):
            _fill(cfg[key], values[key])
        else:
            cfg[key] = values[key]


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint of this program; nothing in it is executed.

    Raises:
        InputError: It is missing, truncated, of another program, or holds a pickled object.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(
            f"ckpt={path}: " + ("is a folder; name the file" if file.is_dir() else "there is no such file")
        )
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"ckpt={path}: {_why_not(error)}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError):
        raise InputError(f"ckpt={path}: not a checkpoint, or cut off while it was written; give another") from None
    record = content.get(RECORD) if isinstance(content, dict) else None
    if not isinstance(record, dict) or "net" not in record:
        raise InputError(f"ckpt={path}: a checkpoint of another program; give one that koa_lightning.train wrote")
    if record.get("format") != FORMAT:
        raise InputError(f"ckpt={path}: format {record.get('format')}, but this version reads {FORMAT}")
    state = {k.removeprefix("net."): v for k, v in content["state_dict"].items() if k.startswith("net.")}
    epoch = int(content.get("epoch", 0))
    return Checkpoint(file, record, epoch, epoch + 1 if content.get("global_step") else 0, state)


def _why_not(error: Exception) -> str:
    if "Unsupported global" in str(error) or "Weights only load failed" in str(error):
        return "refused: it holds a pickled object, or is no checkpoint; loading such a file could run code"
    return "not a checkpoint; give one that koa_lightning.train wrote"
