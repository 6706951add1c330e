"""From a config to the augmentation of a run; what is wrong with an operation is reported before the run begins."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import get_class
from kornia import augmentation as ka
from omegaconf import DictConfig, OmegaConf

from koa_lightning.config.augment import check_not_old
from koa_lightning.config.compose import nearest
from koa_lightning.errors import InputError
from koa_lightning.training.augmentation import radiograph
from koa_lightning.training.augmentation.container import FusedAugmentation
from koa_lightning.training.augmentation.tensors import Operation

_OURS = "koa_lightning.training.augmentation"


def augmentation(cfg: DictConfig | Mapping[str, Any], size: int) -> FusedAugmentation:
    """Return the augmentation of a config.

    Args:
        cfg: Of a file in conf/augment/: `ops`, operations by name with `_target_` and arguments, or null.
        size: Side of the pictures in pixels, on which each operation is tried.

    Raises:
        InputError: An operation is unknown, refuses its arguments, or does not run on gray pictures of this size.
    """
    plain = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else dict(cfg)
    check_not_old(plain)  # type: ignore[arg-type]
    ops = plain.get("ops") or {}  # type: ignore[union-attr]
    if not isinstance(ops, Mapping):
        raise InputError("augment.ops: must be operations by name, e.g. augment.ops.flip.p=0.5")
    made = {str(name): _operation(f"augment.ops.{name}", node) for name, node in ops.items() if node is not None}
    for name, operation in made.items():
        _try(f"augment.ops.{name}", operation, size)
    return FusedAugmentation(made)


def _operation(key: str, node: Any) -> Operation:
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise InputError(f"{key}: has no _target_; type e.g. {key}={{_target_:kornia.augmentation.RandomAffine,p:1}}")
    target, made = str(node["_target_"]), _class(key, str(node["_target_"]))
    arguments = {str(name): _tuples(value) for name, value in node.items() if name != "_target_"}
    known = list(inspect.signature(made).parameters)
    wrong = next((name for name in arguments if name not in known), None)
    if wrong is not None:
        raise InputError(
            f"{key}.{wrong}: {target} has no such argument{nearest(wrong, known)} (it takes {', '.join(known)})"
        )
    try:
        operation: Operation = made(**arguments)
    except Exception as error:  # Kornia raises what it likes, bare Exception too
        raise InputError(f"{key}: {target} refuses its arguments: {_first_line(error)}") from error
    if not isinstance(operation.p, int | float) or not 0 <= operation.p <= 1:
        raise InputError(f"{key}.p={operation.p}: must be a number from 0 to 1")
    return operation


def _class(key: str, target: str) -> type[Operation]:
    try:
        found = get_class(target)
    except Exception as error:  # of a module that cannot be imported too
        raise InputError(f"{key}._target_={target}: there is no such operation{_hint(target)}") from error
    if isinstance(found, type) and issubclass(found, ka.MixAugmentationBaseV2):
        raise InputError(f"{key}._target_={target}: mixes pictures and their grades; type mix=mixup or mix=cutmix")
    if not (isinstance(found, type) and issubclass(found, Operation)):
        raise InputError(
            f"{key}._target_={target}: is no 2D augmentation of Kornia (a class of its AugmentationBase2D); "
            f"see docs/augmentation.md{_hint(target)}"
        )
    return found


def _hint(target: str) -> str:
    names = {name: "kornia.augmentation" for name, made in vars(ka).items() if _is_operation(made)}
    names |= {name: _OURS for name, made in vars(radiograph).items() if _is_operation(made) and name not in names}
    return nearest(target, [f"{module}.{name}" for name, module in names.items() if not name.endswith("2D")])


def _is_operation(made: Any) -> bool:
    return isinstance(made, type) and issubclass(made, Operation)


def _tuples(value: Any) -> Any:
    """Return lists as tuples, which some operations of Kornia insist on."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _try(key: str, operation: Operation, size: int) -> None:
    """Run an operation on two gray pictures, both drawn, without touching the random numbers of the run."""
    name = type(operation).__name__
    image = torch.linspace(0, 1, 2 * size * size).view(2, 1, size, size)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            params = operation.forward_parameters(image.shape)
            params["batch_prob"] = torch.ones(2)
            changed = operation(image, params=params)
        except Exception as error:  # Kornia raises what it likes, bare Exception too
            reason = _first_line(error)
            raise InputError(f"{key}: {name} cannot run on gray pictures of {size} x {size}: {reason}") from error
    if changed.shape[:2] != image.shape[:2]:
        raise InputError(f"{key}: {name} makes {tuple(changed.shape)} of {tuple(image.shape)}; take another operation")
    p = min(operation.p, operation.p_batch)
    if changed.shape != image.shape and p < 1:
        raise InputError(f"{key}.p={p}: {name} changes the size of the pictures, so all must be drawn; set 1")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
