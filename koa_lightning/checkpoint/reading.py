"""Read checkpoints; nothing in a file is executed, and no path or address in it is followed."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint import exported, portable, validation
from koa_lightning.checkpoint.fitted import Fitted
from koa_lightning.checkpoint.record import FORMAT, RECORD, CheckpointRecord, TrackedRun, TrainingData
from koa_lightning.checkpoint.reference import TENSORS
from koa_lightning.config.compose import choices_of, compose, validate, without_targets
from koa_lightning.config.places import user_path
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.errors import InputError
from koa_lightning.models.exported import SUFFIXES, ExportedNet, Program
from koa_lightning.models.net import KneeNet, NetSpec, build
from koa_lightning.models.plan import Plan
from koa_lightning.models.weights import tensors_of


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read from a file.

    Attributes:
        path: The file.
        record: The facts that it records about itself.
        epoch: Number of the epoch, from 0, that had just ended.
        epochs_done: Number of finished epochs; 0 for a checkpoint written before the first.
        state: Tensors of the network, under the network's own names.
        reference: Tensors that recognise out-of-distribution inputs, see `koa_lightning.checkpoint.reference`; may be
            empty.
        program: Computes in place of a network, if the file is an export; `state` is then empty.
    """

    path: Path
    record: CheckpointRecord
    epoch: int
    epochs_done: int
    state: dict[str, torch.Tensor]
    reference: dict[str, torch.Tensor] = field(default_factory=dict)
    program: Program | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how an image is prepared."""
        return self.record.preprocessing

    @property
    def caveats(self) -> list[str]:
        """Return the caveats that every figure must show."""
        return list(self.record.caveats)

    def network(self) -> KneeNet:
        """Build the network with these weights, in eval mode.

        Raises:
            InputError: The weights do not fit the network in the record.
        """
        if self.program is not None:
            exported_net: KneeNet = ExportedNet(self.program, self.record.net)
            return exported_net.eval()
        net = build(self.record.net)
        own, given = (
            {key: (value.shape, value.dtype) for key, value in each.items()} for each in (net.state_dict(), self.state)
        )
        wrong = [key for key in {**own, **given} if own.get(key) != given.get(key)]
        if wrong:
            raise InputError(
                f"{self.path}: its weights do not fit its network {self.record.net.name} ({wrong[0]} and "
                f"{len(wrong) - 1} more differ); it may be damaged, give another"
            )
        net.load_state_dict(self.state)
        return net.to(memory_format=torch.channels_last).eval()

    def check_is_of_training(self, why: str) -> None:
        """Stop if this is a portable file (safetensors or an export): it holds no optimizer and is never changed.

        Args:
            why: What cannot be done with it.

        Raises:
            InputError: It is a portable file.
        """
        if self.path.suffix == portable.SUFFIX or self.program is not None:
            raise InputError(f"ckpt={self.path}: a portable file, {why}; give the checkpoint of its training")

    def data_config(self) -> DictConfig:
        """Return the data config of the run that wrote it; all code in it comes from the installed package.

        Raises:
            InputError: This version does not have the data source, or its settings are not plain values.
        """
        name, values = self.record.data.name, self.record.data_settings
        if name not in choices_of("data"):
            raise InputError(f"{self.path}: its data source '{name}' is not installed; type data=... for another")
        cfg = copy.deepcopy(_settings_of(name))
        # `${...}` in a value would be resolved when it is read, and could reintroduce a `_target_`
        if not isinstance(values, dict) or "${" in repr(values) or not _fill(cfg, without_targets(values)):
            raise InputError(f"{self.path}: its data settings do not fit data={name}; type data=... for another")
        cfg.cache_dir = None
        try:
            validate(OmegaConf.create({"data": cfg}))
        except InputError as error:
            raise InputError(f"{self.path}: {error}; give another checkpoint, or type data=... for another") from None
        return cfg


@functools.cache
def _settings_of(data: str) -> DictConfig:
    """Return the installed data config of a source."""
    cfg = compose("train", [f"data={data}"]).data
    cfg._set_parent(None)
    return cfg


def _fill(cfg: DictConfig, values: Mapping[str, Any]) -> bool:
    """Set the values of keys that the config has, never one that names code; return whether all fit."""
    for key in [key for key in map(str, cfg) if not key.startswith("_") and key in values]:
        node = cfg._get_node(key)
        if isinstance(node, DictConfig):
            if not isinstance(values[key], dict) or not _fill(cfg[key], values[key]):
                return False
        elif not _is_alike(values[key], node._value()):  # type: ignore[union-attr]
            return False
        else:
            cfg[key] = values[key]
    return True


def _is_alike(value: Any, installed: Any) -> bool:
    """Return whether a recorded value has a type that may replace the installed value."""
    if isinstance(value, dict) or value == "???":
        return False
    if isinstance(value, list):
        return (installed is None or isinstance(installed, list)) and not any(isinstance(v, dict | list) for v in value)
    if value is None or installed is None:
        return True
    if isinstance(installed, bool) or isinstance(value, bool):
        return isinstance(installed, bool) and isinstance(value, bool)
    return isinstance(value, str) == isinstance(installed, str)


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint of koa_lightning; nothing in it is executed.

    Raises:
        InputError: The file is missing, truncated, from another program, or holds a pickled object.
    """
    file = user_path(path)
    if not file.is_file():
        raise InputError(
            f"ckpt={path}: " + ("is a folder; name the file" if file.is_dir() else "there is no such file")
        )
    try:
        if file.suffix == portable.SUFFIX:
            return _checked(path, file, portable.read(file))
        if file.suffix in SUFFIXES:
            program, content = exported.read(file)
            return dataclasses.replace(_checked(path, file, content), program=program)
        content = tensors_of(file)
        changed = zipfile.is_zipfile(file) and zipfile.ZipFile(file).testzip()  # torch does not check
    except pickle.UnpicklingError as error:
        raise InputError(f"ckpt={path}: {_why_not(error)}") from None
    except PermissionError:
        raise InputError(f"ckpt={path}: no permission to read it") from None
    except InputError as error:
        raise InputError(str(error) if str(error).startswith("ckpt=") else f"ckpt={path}: {error}") from None
    except Exception:  # a damaged file makes torch raise nearly anything
        raise InputError(f"ckpt={path}: not a checkpoint, or truncated while it was written; give another") from None
    if changed:
        raise InputError(f"ckpt={path}: damaged: its checksums do not match ({changed}); give another")
    return _checked(path, file, content)


def _checked(path: str | Path, file: Path, content: Any) -> Checkpoint:
    """Check every field of a file's content, and return it as a checkpoint."""
    record = content.get(RECORD) if isinstance(content, dict) else None
    if not isinstance(record, dict) or "net" not in record:
        raise InputError(f"ckpt={path}: written by another program; give one that koa_lightning.train wrote")
    if record.get("format") != FORMAT:
        raise InputError(f"ckpt={path}: format {record.get('format')}, but this version reads {FORMAT}")
    if wrong := validation.wrong(content, record):
        raise InputError(f"ckpt={path}: damaged, or changed by another program: {wrong}; give another")
    state = {k.removeprefix("net."): v for k, v in content["state_dict"].items() if k.startswith("net.")}
    done = content["epoch"] + 1 if content["global_step"] else 0
    return Checkpoint(file, record_of(record), content["epoch"], done, state, content.get(TENSORS) or {})


def record_of(values: Mapping[str, Any]) -> CheckpointRecord:
    """Return the record of a file, in which `koa_lightning.checkpoint.validation.wrong` finds nothing.

    Keys that a later version adds are ignored.

    Args:
        values: Plain, as in the file.
    """
    data, tracking = values["data"], values["tracking"]
    return CheckpointRecord(
        schema_version=values["format"],
        version=values["version"],
        net=NetSpec(**values["net"]),
        preprocessing=Preprocessing(**values["preprocessing"]),
        grade_names=tuple(values["grade_names"]),
        config=values["config"],
        data=TrainingData(data["name"], data["fingerprint"], data.get("counts", {}), data.get("split")),
        caveats=tuple(values["marks"]),
        weights=values["weights"],
        plan=Plan(**values["plan"]),
        tracking=TrackedRun(tracking.get("uri"), tracking.get("run_id")),
        loss=values.get("loss"),
        made_of=values.get("made_of"),
        weights_reason=values.get("weights_reason"),
        fitted=Fitted.from_plain(values),
    )


def _why_not(error: Exception) -> str:
    if "Unsupported global" in str(error) or "Weights only load failed" in str(error):
        return "refused: it holds a pickled object, or is not a checkpoint; loading such a file could run code"
    return "not a checkpoint; give one that koa_lightning.train wrote"
