"""Check the content of a checkpoint file: every field that any code uses, with its type and range, in one place.

A checkpoint provides numbers, flags and known names. Code comes only from the installed package, so no record may hold
a setting that Hydra would turn into an object, or a text that OmegaConf would resolve.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from koa_lightning.checkpoint import fitted, reference
from koa_lightning.checkpoint.tensors import CONTROL, SHOWN, shown, wrong_tensors
from koa_lightning.config import compose
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.errors import InputError
from koa_lightning.losses.weights import KINDS
from koa_lightning.models.net import NetSpec
from koa_lightning.models.outputs import LINKS, N_GRADES
from koa_lightning.models.plan import LIGHTNING, Plan

# Entries that `koa_lightning.checkpoint.writing` writes; a record must have them before anything in it is used.
_RECORD = {
    "version": str, "net": dict, "preprocessing": dict, "grade_names": list, "config": dict, "data": dict,
    "marks": list, "weights": str, "plan": dict, "tracking": dict,
}  # fmt: skip
_CLASSES = {"net": NetSpec, "preprocessing": Preprocessing, "plan": Plan}
_LONGEST_TEXT = 4096
_DEEPEST = 20
_RUN_ID = re.compile(r"[\w-]{0,64}")
_MOST_EPOCHS, _MOST_STEPS, _MOST_KNEES = 1_000_000, 2**53, 10**9
_SPLITS = ("train", "val", "test", "all")

# A check returns what a value must be, or an empty string if the value is right.
Check = Callable[[Any], str]


def _text(value: Any) -> str:
    fits = isinstance(value, str) and len(value) <= _LONGEST_TEXT and not CONTROL.search(value)
    return "" if fits else "must be one line of text"


def _plain_text(value: Any) -> str:
    """Check that OmegaConf does not resolve a text."""
    return _text(value) or ("must be a text without ${" if "${" in value or value == "???" else "")


def _texts(value: Any) -> str:
    fits = isinstance(value, list) and not any(map(_text, value))
    return "" if fits else "must be a list of texts"


def _grade_names(value: Any) -> str:
    fits = not _texts(value) and len(value) == N_GRADES and all(value)
    return "" if fits else f"must be {N_GRADES} names, one per grade"


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> str:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return "" if fits else f"must be a number from {low:g} to {high:g}"

    return check


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> str:
        fits = type(value) is int and low <= value <= high
        return "" if fits else f"must be a whole number from {low} to {high}"

    return check


def _one_of(names: Mapping[str, Any] | tuple[str, ...]) -> Check:
    def check(value: Any) -> str:
        return "" if isinstance(value, str) and value in names else f"must be one of {', '.join(names)}"

    return check


def _link(value: Any) -> str:
    return "" if isinstance(value, str) and value in LINKS else f"unknown link {value!r}, not one of {', '.join(LINKS)}"


def _or_none(check: Check) -> Check:
    return lambda value: "" if value is None else check(value)


def _setting(key: str) -> Check:
    """Return the check of a config setting, given its key, e.g. `data.image_size`."""

    def check(value: Any) -> str:
        try:
            compose.check_value(key, value)
        except InputError as error:
            return str(error).partition(": ")[2]
        return ""

    return check


def _counts(value: Any) -> str:
    known = isinstance(value, dict) and all(split in _SPLITS for split in value)
    count = _whole(0, _MOST_KNEES)
    fits = known and all(
        isinstance(each, list) and len(each) == N_GRADES and not any(map(count, each)) for each in value.values()
    )
    return "" if fits else f"must be {N_GRADES} numbers of knees for each split, none below 0"


def _texts_by_name(value: Any) -> str:
    return "" if isinstance(value, dict) and not any(map(_text, value.values())) else "must be texts by name"


def _run_id(value: Any) -> str:
    return "" if isinstance(value, str) and _RUN_ID.fullmatch(value) else "must be the id of a run"


def _penalties(value: Any) -> str:
    fits = isinstance(value, list) and len(value) == N_GRADES - 1 and not any(map(_number(1e-9, 1e9), value))
    return "" if fits else f"must be {N_GRADES - 1} positive numbers"


# Arguments of the losses; every loss uses them only as numbers.
_LOSS: dict[str, Check] = {
    "class_weights": _one_of(KINDS),
    "label_smoothing": _number(0.0, 1.0),
    "gamma": _number(0.0, 1e6),
    "sharpness": _number(0.0, 1e6),
    "power": _number(0.0, 1e6),
    "penalties": _penalties,
}
# Fields by their path in the record; a missing one is skipped (`_RECORD` lists the required ones).
_FIELDS: dict[str, Check] = {
    "version": _text,
    "weights": _text,
    "weights_reason": _or_none(_text),
    "loss": _text,
    "made_of": _texts_by_name,
    "marks": _texts,
    "grade_names": _grade_names,
    "net.name": _text,
    "net.link": _link,
    "net.drop_rate": _setting("model.drop_rate"),
    "net.drop_path_rate": _setting("model.drop_path_rate"),
    "net.mean": _number(-10.0, 10.0),
    "net.std": _number(1e-6, 1e3),
    "net.image_size": _or_none(_setting("data.image_size")),
    **{f"preprocessing.{name}": _setting(f"data.{name}") for name in get_type_hints(Preprocessing)},
    "plan.precision": _one_of(tuple(LIGHTNING)),
    "plan.reason": _text,
    "data.name": _text,
    "data.fingerprint": _text,
    "data.split": _text,
    "data.counts": _counts,
    "config.name": _or_none(_text),
    "config.data.name": _text,
    "config.data.pattern": _or_none(_plain_text),
    "config.data.batch_size": _setting("data.batch_size"),
    "config.data.eval_batch_size": _setting("data.eval_batch_size"),
    **{f"config.loss.{name}": check for name, check in _LOSS.items()},
    "tracking.uri": _or_none(_plain_text),
    "tracking.run_id": _or_none(_run_id),
}


def wrong(content: dict[str, Any], record: dict[str, Any]) -> str:
    """Return what is wrong with the entries of a checkpoint, naming the first field, or an empty string.

    Args:
        content: The whole file, as loaded.
        record: The record in it, plain.
    """
    if misfit := wrong_tensors(content.get("state_dict")):
        return misfit
    if not all(type(content.get(key)) is int for key in ("epoch", "global_step")):
        return "its epoch is not a number"
    for key, most in (("epoch", _MOST_EPOCHS), ("global_step", _MOST_STEPS)):
        if misfit := _whole(0, most)(content[key]):
            return f"{key}={shown(content[key])}: {misfit}"
    return _wrong_record(record) or _wrong_fitted(content, record)


def _wrong_record(record: dict[str, Any]) -> str:
    if misfit := _not_plain(record):
        return f"its record holds more than plain values ({misfit})"
    if keys := [key for key, kind in _RECORD.items() if not isinstance(record.get(key), kind)]:
        return f"its record has no {keys[0]} of type {_RECORD[keys[0]].__name__}"
    for key, klass in _CLASSES.items():
        if misfit := _misfit(record[key], klass):
            return f"in its record, {key}.{misfit}"
    if not all(isinstance(record["data"].get(key), str) for key in ("name", "fingerprint")):
        return "its record does not name the data"
    if not isinstance(record["config"].get("data"), dict):
        return "its record has no data settings"
    if "batch_size" not in record["config"]["data"]:
        return "its record has no config.data.batch_size"
    for path, check in _FIELDS.items():
        found, value = _at(record, path)
        if found and (misfit := check(value)):
            return f"{path}={_typed(value)}: {misfit}"
    top, bottom = (getattr(Preprocessing(**record["preprocessing"]), name) for name in ("top", "bottom"))
    if top > bottom - 0.1:
        return f"in its record, preprocessing.top={top}: must be at least 0.1 less than preprocessing.bottom={bottom}"
    return _wrong_loss(record)


def _wrong_loss(record: dict[str, Any]) -> str:
    """Return what is wrong with the loss settings: arguments of the loss that the installed configs name."""
    settings = record["config"].get("loss", {})
    if not isinstance(settings, dict):
        return f"in its record, config.loss={shown(settings)}: must be settings by name"
    if "loss" in record and not (settings and "train" in record["data"].get("counts", {})):
        return "its record has no config.loss, or no data.counts of the train split"
    for name, value in settings.items():
        if name.startswith("_"):
            return f"in its record, config.loss.{shown(name)[1:-1]} names code, which is not allowed"
        if name not in _LOSS and (misfit := _plain_argument(value)):
            return f"in its record, config.loss.{shown(name)[1:-1]}={shown(value)}: {misfit}"
    return ""


def _plain_argument(value: Any) -> str:
    """Return what a loss argument that this module does not know must be, or an empty string if it fits."""
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, dict) and not any(str(key).startswith("_") for key in value):
        value = list(value.values())
    if isinstance(value, list):
        return next((misfit for each in value if (misfit := _plain_argument(each))), "")
    return "" if value is None or isinstance(value, int | float) else "must be numbers, flags and names"


def _wrong_fitted(content: dict[str, Any], record: dict[str, Any]) -> str:
    misfit = fitted.wrong(record, content.get(reference.TENSORS))
    return f"in its record, {misfit}" if misfit else ""


def _at(record: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    """Return whether a record has a field, and its value; a branch that is not a mapping counts as the field."""
    node: Any = record
    for name in path.split("."):
        if not isinstance(node, Mapping):
            return True, node
        if name not in node:
            return False, None
        node = node[name]
    return True, node


def _not_plain(node: Any, path: tuple[str, ...] = ()) -> str:
    """Return where a record holds anything but plain values, or an empty string."""
    where = shown(".".join(path))[1:-1]
    if len(path) > _DEEPEST:
        return f"{where} is nested too deeply"
    if isinstance(node, dict):
        for key, value in node.items():
            if not isinstance(key, str):
                return f"{where}.{shown(key)}".lstrip(".")
            if misfit := _not_plain(value, (*path, key)):
                return misfit
        return ""
    if isinstance(node, list):
        return next((misfit for value in node if (misfit := _not_plain(value, (*path, "[]")))), "")
    if node is not None and type(node) not in (str, int, float, bool):
        return where
    # entries fitted after training may hold an infinite loss; they are checked separately
    is_number = not isinstance(node, float) or math.isfinite(node) or path[0] in fitted.KEYS.values()
    return "" if is_number else f"{where}={node}"


def _misfit(values: dict[str, Any], klass: type) -> str:
    """Return what is wrong with the first entry that is unknown, missing or of a wrong type, or an empty string."""
    hints = get_type_hints(klass)
    for key in [*values, *hints]:
        if key not in hints:
            return f"{shown(key)[1:-1]} is unknown in {klass.__name__}"
        if key not in values and not hasattr(klass, key):  # a default is an attribute of the class
            return f"{key} is missing in {klass.__name__}"
        value, kind = values.get(key, getattr(klass, key, None)), hints[key]
        fits = isinstance(value, float | int) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            return f"{key}={shown(value)} is not of type {getattr(kind, '__name__', kind)}"
    return ""


def _typed(value: Any) -> str:
    """Return a value as a user would type it."""
    return value if isinstance(value, str) and len(value) < SHOWN and not _text(value) else shown(value)
