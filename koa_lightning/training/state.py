"""Check the tensors and counters of a checkpoint that a resumed training starts from.

They are compared with those that a new training with the same settings would write: names, types and shapes must
match. Nothing is loaded that a new optimizer, schedule, loop or callback does not have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import WeightAveraging

from koa_lightning.checkpoint.tensors import LARGEST, shown, wrong_tensor
from koa_lightning.errors import InputError

if TYPE_CHECKING:
    import lightning as L

    from koa_lightning.training.module import KneeGrader

_DEEPEST = 20
_VERSION = re.compile(r"\d+(\.\w+)*([+-][\w.]+)?")


def check(file: Path, content: Mapping[str, Any], module: KneeGrader, trainer: L.Trainer) -> None:
    """Stop if a training cannot resume from a checkpoint, before anything in it is loaded.

    Args:
        file: The checkpoint, for messages.
        content: Its whole content; `checkpoint.read` has checked it.
        module: Ready to train, as in the resumed run.
        trainer: Ready to train too, with its callbacks.

    Raises:
        InputError: An entry is wrong; the message names it.
    """
    made = module.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    version = content.get("pytorch-lightning_version")
    misfit = (
        ("" if isinstance(version, str) and _VERSION.fullmatch(version) else "pytorch-lightning_version is not valid")
        or _unlike(content.get("state_dict"), module.state_dict(), "state_dict")
        or _wrong_average(content, module, trainer)
        or _one(content, "optimizer_states")
        or _unlike_optimizer(content["optimizer_states"][0], optimizer, content["global_step"], module)
        or _one(content, "lr_schedulers")
        or _hides(content["lr_schedulers"][0], scheduler)
        or _unlike(content["lr_schedulers"][0], scheduler.state_dict(), "lr_schedulers[0]")
        or _unlike(content.get("loops"), {"fit_loop": trainer.fit_loop.state_dict()}, "loops")
        or _unlike(content.get("callbacks"), _states(trainer), "callbacks")
        or _wrong_history(content["callbacks"])
    )
    if misfit:
        raise InputError(
            f"ckpt={file}: damaged, or changed by another program: {misfit}; no run can resume from it: give "
            "another, or start a new run"
        )


def _one(content: Mapping[str, Any], name: str) -> str:
    entry = content.get(name)
    fits = isinstance(entry, list) and len(entry) == 1 and isinstance(entry[0], dict)
    return "" if fits else f"{name} is not a list of one state"


def _states(trainer: L.Trainer) -> dict[str, Any]:
    """Return the states that new callbacks would write, without empty ones."""
    return {each.state_key: state for each in trainer.callbacks if (state := each.state_dict())}  # type: ignore[attr-defined]


def _wrong_history(callbacks: Mapping[str, Any]) -> str:
    """Return what is wrong with the metrics of the finished epochs; undefined metrics are NaN."""
    for row in callbacks.get("History", {}).get("epochs", []):
        numbers = isinstance(row, dict) and all(
            isinstance(name, str) and isinstance(value, int | float) for name, value in row.items()
        )
        if not numbers or type(row.get("epoch")) is not int or not 0 <= row["epoch"] <= LARGEST:
            return f"callbacks.History.epochs has {shown(row)}, which is not an epoch's metrics"
    return ""


def _wrong_average(content: Mapping[str, Any], module: KneeGrader, trainer: L.Trainer) -> str:
    """Return what is wrong with the state of the weight average, if the run has one."""
    if not any(isinstance(each, WeightAveraging) for each in trainer.callbacks):  # type: ignore[attr-defined]
        return ""
    own = {"n_averaged": torch.tensor(0)}
    return _unlike(content.get("current_model_state"), module.state_dict(), "current_model_state") or _unlike(
        content.get("averaging_state"), own, "averaging_state"
    )


def _unlike_optimizer(given: Mapping[str, Any], optimizer: torch.optim.Optimizer, steps: int, module: Any) -> str:
    """Return where the state of an optimizer cannot be that of this optimizer after its steps."""
    where = "optimizer_states[0]"
    own = optimizer.state_dict()
    if misfit := _unlike(given, {**own, "state": {}}, where):
        return misfit
    parameters = dict(enumerate(p for group in optimizer.param_groups for p in group["params"]))
    names = _names_of_state(module)
    if steps and names and not given["state"]:
        return f"{where}.state is empty after {steps} steps"
    for number, entry in given["state"].items():
        here = f"{where}.state[{shown(number)}]"
        if number not in parameters or not isinstance(entry, dict):
            return f"{here} belongs to no parameter"
        if names and set(entry) != names:
            return f"{here} does not hold {', '.join(sorted(names))}"
        for name, value in entry.items():
            if torch.is_tensor(value):
                if misfit := wrong_tensor(value):
                    return f"{here}.{shown(name)[1:-1]} is {misfit}"
                if value.ndim and value.shape != parameters[number].shape:
                    return f"{here}.{shown(name)[1:-1]} is of shape {tuple(value.shape)}"
                if not bool(torch.isfinite(value).all()):
                    return f"{here}.{shown(name)[1:-1]} is not finite"
            elif misfit := _not_plain(value, f"{here}.{shown(name)[1:-1]}"):
                return misfit
    return ""


def _names_of_state(module: Any) -> set[str]:
    """Return the names of the state that the optimizer keeps per parameter, from a trial step; empty if it fails."""
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = module.optimizer_factory([parameter])
    parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer.step()
    except (TypeError, RuntimeError, ValueError):  # a custom optimizer may need more than a gradient
        return set()
    return set(optimizer.state.get(parameter, {}))


def _hides(given: Mapping[str, Any], scheduler: Any) -> str:
    """Return which entry would replace a method: a schedule loads every entry as one of its attributes."""
    hidden = [key for key in given if not isinstance(key, str) or callable(getattr(type(scheduler), key, None))]
    return f"lr_schedulers[0].{shown(hidden[0])} is not an entry of a schedule" if hidden else ""


def _unlike(given: Any, own: Any, where: str) -> str:
    """Return where a value from a file has another type than the one in its place, or an empty string."""
    if own is None:
        fits = given is None or torch.is_tensor(given) or isinstance(given, str | int | float)
        return _not_plain(given, where) if fits else f"{where} is not a single value"
    if torch.is_tensor(own):
        return _unlike_tensor(given, own, where)
    if isinstance(own, Mapping):
        if not isinstance(given, dict):
            return f"{where} is not a dict"
        for key, value in own.items():
            inner = f"{where}.{key}"
            if key not in given and not str(key).startswith("_"):  # private keys differ between versions of a library
                return f"{inner} is missing"
            if key in given and (misfit := _unlike(given[key], value, inner)):
                return misfit
        return ""
    if isinstance(own, list | tuple):
        return _unlike_list(given, own, where)
    return _unlike_scalar(given, own, where)


def _unlike_tensor(given: Any, own: torch.Tensor, where: str) -> str:
    if not torch.is_tensor(given):
        return f"{where} is not a tensor"
    if misfit := wrong_tensor(given):
        return f"{where} is {misfit}"
    if (given.shape, given.dtype) != (own.shape, own.dtype):
        kind = str(given.dtype).removeprefix("torch.")
        return f"{where} is {kind} of shape {tuple(given.shape)}, not as in this network or training"
    return ""


def _unlike_list(given: Any, own: Sequence[Any], where: str) -> str:
    if not isinstance(given, list | tuple):
        return f"{where} is not a list"
    if not own:  # it grows while training
        return _not_plain(list(given), where)
    if len(given) != len(own):
        return f"{where} has {len(given)} entries, not {len(own)}"
    pairs = enumerate(zip(given, own, strict=True))
    return next((misfit for i, pair in pairs if (misfit := _unlike(*pair, f"{where}[{i}]"))), "")


def _unlike_scalar(given: Any, own: Any, where: str) -> str:
    if isinstance(own, bool | str):
        fits = type(given) is type(own)
    else:
        fits = isinstance(given, int | float) and not isinstance(given, bool) and given == given
        if fits and isinstance(own, int):
            fits = min(own, 0) <= given <= LARGEST
    return "" if fits else f"{where}={shown(given)} is not a valid {type(own).__name__}"


def _not_plain(node: Any, where: str, depth: int = 0) -> str:
    """Return where a value does not consist of numbers, texts, lists and dicts, or an empty string."""
    if depth > _DEEPEST:
        return f"{where} is nested too deeply"
    if isinstance(node, dict):
        return next((m for key, value in node.items() if (m := _not_plain(value, f"{where}.{key}", depth + 1))), "")
    if isinstance(node, list | tuple):
        return next((m for i, value in enumerate(node) if (m := _not_plain(value, f"{where}[{i}]", depth + 1))), "")
    if torch.is_tensor(node):
        return f"{where} is {misfit}" if (misfit := wrong_tensor(node)) else ""
    fits = node is None or isinstance(node, str | int | float)
    return "" if fits else f"{where}={shown(node)} is not a plain value"
