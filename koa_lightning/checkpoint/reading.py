"""The one reader of checkpoints; nothing in a file is executed, and nothing in it is followed."""

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
    """A checkpoint that was read.

    Attributes:
        path: The file.
        record: What it says of itself.
        epoch: Number of the epoch, from 0, at whose end it was written.
        epochs_done: 0 for the one that is written before the first epoch.
        state: Tensors of the network, under the network's own names.
        reference: Tensors to recognise an out-of-distribution input by, see `koa_lightning.checkpoint.reference`;
            empty where there are none.
        program: That computes in place of a network, where the file is an export; it has no `state` then.
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
        """Return what is to be done to an image."""
        return self.record.preprocessing

    @property
    def caveats(self) -> list[str]:
        """Return what no figure may hide."""
        return list(self.record.caveats)

    def network(self) -> KneeNet:
        """Build the network with these weights, in eval mode.

        Raises:
            InputError: The weights do not fit what the record says.
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
                f"{self.path}: its weights are not those of its network {self.record.net.name} ({wrong[0]} and "
                f"{len(wrong) - 1} more differ); it may be damaged, give another"
            )
        net.load_state_dict(self.state)
        return net.to(memory_format=torch.channels_last).eval()

    def check_is_of_training(self, why: str) -> None:
        """Stop where this is a file for others (safetensors or an export), which holds no optimizer and stays as it is.

        Args:
            why: What cannot be done with it.

        Raises:
            InputError: It is one.
        """
        if self.path.suffix == portable.SUFFIX or self.program is not None:
            raise InputError(f"ckpt={self.path}: a file for others, {why}; give the checkpoint of its training")

    def data_config(self) -> DictConfig:
        """Return the data config of the run that wrote it, with code taken from the installed package alone.

        Raises:
            InputError: The data source is not one of this version's, or its settings are not plain values.
        """
        name, values = self.record.data.name, self.record.data_settings
        if name not in choices_of("data"):
            raise InputError(f"{self.path}: its data source '{name}' is not here; type data=... for another")
        cfg = copy.deepcopy(_settings_of(name))
        # `${...}` in a value would be worked out when it is read, and could bring a `_target_` in again
        if not isinstance(values, dict) or "${" in repr(values) or not _fill(cfg, without_targets(values)):
            raise InputError(f"{self.path}: its data settings are not those of data={name}; type data=... for another")
        cfg.cache_dir = None
        try:
            validate(OmegaConf.create({"data": cfg}))
        except InputError as error:
            raise InputError(f"{self.path}: {error}; give another checkpoint, or type data=... for another") from None
        return cfg


@functools.cache
def _settings_of(data: str) -> DictConfig:
    """Return the data config of a source, as it is installed."""
    cfg = compose("train", [f"data={data}"]).data
    cfg._set_parent(None)
    return cfg


def _fill(cfg: DictConfig, values: Mapping[str, Any]) -> bool:
    """Set the values of keys that the config has, never one that names code; tell whether they fit."""
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
    """Tell whether a recorded value is of a kind that may stand in the place of an installed one."""
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
    """Read a checkpoint of this program; nothing in it is executed.

    Raises:
        InputError: It is missing, truncated, of another program, or holds a pickled object.
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
        changed = zipfile.is_zipfile(file) and zipfile.ZipFile(file).testzip()  # torch does not look
    except pickle.UnpicklingError as error:
        raise InputError(f"ckpt={path}: {_why_not(error)}") from None
    except PermissionError:
        raise InputError(f"ckpt={path}: no permission to read it") from None
    except InputError as error:
        raise InputError(str(error) if str(error).startswith("ckpt=") else f"ckpt={path}: {error}") from None
    except Exception:  # a damaged file makes torch raise nearly anything
        raise InputError(f"ckpt={path}: not a checkpoint, or cut off while it was written; give another") from None
    if changed:
        raise InputError(f"ckpt={path}: damaged: its bytes are not those that were written ({changed}); give another")
    return _checked(path, file, content)


def _checked(path: str | Path, file: Path, content: Any) -> Checkpoint:
    """Return the checkpoint of a file's content, each field of which is checked."""
    record = content.get(RECORD) if isinstance(content, dict) else None
    if not isinstance(record, dict) or "net" not in record:
        raise InputError(f"ckpt={path}: a checkpoint of another program; give one that koa_lightning.train wrote")
    if record.get("format") != FORMAT:
        raise InputError(f"ckpt={path}: format {record.get('format')}, but this version reads {FORMAT}")
    if wrong := validation.wrong(content, record):
        raise InputError(f"ckpt={path}: damaged, or changed by another program: {wrong}; give another")
    state = {k.removeprefix("net."): v for k, v in content["state_dict"].items() if k.startswith("net.")}
    done = content["epoch"] + 1 if content["global_step"] else 0
    return Checkpoint(file, record_of(record), content["epoch"], done, state, content.get(TENSORS) or {})


def record_of(values: Mapping[str, Any]) -> CheckpointRecord:
    """Return the record of a file, in which `koa_lightning.checkpoint.validation.wrong` finds nothing.

    Keys that a later version adds are passed over.

    Args:
        values: Plain, as the file holds them.
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
        return "refused: it holds a pickled object, or is no checkpoint; loading such a file could run code"
    return "not a checkpoint; give one that koa_lightning.train wrote"
