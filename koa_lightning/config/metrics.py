"""The declarations of metrics in the configs: `_metric/NAME.yaml` in any folder of configs. No heavy imports here.

The engine, `koa_lightning.metrics.weighted`, imports the functions; names, direction and titles are known earlier.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koa_lightning.config import folders
from koa_lightning.errors import InputError

GROUP = "_metric"
# Rule that derives a grade from probabilities -> suffix of its metrics.
RULES = {"argmax": "", "expected": "_expected", "median": "_median", "tuned": "_tuned"}
RULE_TITLES = {"": "arg-max", "_median": "median grade", "_expected": "expected grade", "_tuned": "tuned thresholds"}
WHICH_RULE = (
    "Arg-max serves accuracy; the median grade serves quadratic kappa and the mean absolute error; the expected grade "
    "serves the squared error."
)
N_GRADES = 5
CONFUSION, PROBABILITIES, CALIBRATION, RANKING = "confusion", "probabilities", "calibration", "ranking"
# Input of a function -> position of its metrics among the others, unless `order` sets it.
_KINDS = {CONFUSION: 90, RANKING: 290, PROBABILITIES: 390, CALIBRATION: 390}
_KEYS = (
    "_target_", "of", "best", "title", "meaning", "per_grade", "mean_over_grades", "rules", "every_epoch", "compared",
    "by_subgroup", "logged", "logged_ends", "between_readers", "undefined", "order", "settings",
)  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SUFFIXES = tuple(suffix for suffix in RULES.values() if suffix)
_ENDS = re.compile(rf"({'|'.join(_SUFFIXES)})?(_low|_high)?$")
_NOT_OF_GRADES = {"loss": "min", "aurc": "min"}  # logged beside the metrics that the engine computes


@dataclass(frozen=True)
class Declaration:
    """A metric as its file declares it.

    Attributes:
        name: Of the file and of the metric.
        file: Where it is declared.
        target: Address of the function.
        of: The function's input: `confusion`, `probabilities`, `calibration` or `ranking`.
        best: `min` or `max`.
        title: In the report.
        meaning: Explanation in the report of a metric of probabilities.
        per_grade: Whether each grade has its own value, `NAME_0` to `NAME_4`.
        mean_over_grades: Whether a mean omits a grade without knees.
        rules: Suffixes of the decision rules that it supports; only the empty one for a metric of probabilities.
        every_epoch: Suffixes with which training and `metrics.json` report it.
        compared: Suffixes with which two models are compared, unless metrics are named.
        by_subgroup: Suffixes with which subgroups report it.
        logged: Suffixes with which an evaluation logs it, in addition to those of `metrics.json`.
        logged_ends: Suffixes with which the ends of its interval are logged too, as `NAME_low` and `NAME_high`.
        between_readers: Suffixes with which readers are compared; a reader gives grades, so only arg-max makes sense.
        undefined: Why it is undefined, where it is.
        order: Position among the metrics; ties are sorted by name.
        settings: Further arguments of the function.
    """

    name: str
    file: Path
    target: str
    of: str
    best: str
    title: str
    meaning: str
    per_grade: bool
    mean_over_grades: bool
    rules: tuple[str, ...]
    every_epoch: tuple[str, ...]
    compared: tuple[str, ...]
    by_subgroup: tuple[str, ...]
    logged: tuple[str, ...]
    logged_ends: tuple[str, ...]
    between_readers: tuple[str, ...]
    undefined: str
    order: int
    settings: tuple[tuple[str, Any], ...]

    def names(self, rule: str = "") -> list[str]:
        """Return the names of its values with a rule's suffix: one, or one per grade."""
        each = [f"{self.name}_{grade}" for grade in range(N_GRADES)] if self.per_grade else [self.name]
        return [f"{name}{rule}" for name in each]


def declared() -> tuple[Declaration, ...]:
    """Return all metrics in order, including those of a typed `--config-dir`.

    Raises:
        InputError: Names the invalid file.
    """
    return _declared(folders.all_folders())


@functools.cache
def _declared(_: tuple[Path, ...]) -> tuple[Declaration, ...]:
    found = [_read(file, content) for file, content in folders.contents(GROUP)]
    return tuple(sorted(found, key=lambda each: (each.order, each.name)))


def names(rules: Iterable[str] = tuple(RULES.values())) -> list[str]:
    """Return the names of all metrics: first without a suffix, then with each further suffix in `rules`."""
    rules = ["", *(rule for rule in rules if rule)]
    return [name for rule in rules for each in declared() if rule in each.rules for name in each.names(rule)]


def chosen(which: str) -> list[str]:
    """Return, in order, the names of the metrics listed by a field of `Declaration` such as `compared`."""
    suffixes = RULES.values()
    return [n for rule in suffixes for each in declared() if rule in getattr(each, which) for n in each.names(rule)]


def of(name: str) -> Declaration | None:
    """Return the declaration of a name, with or without a rule's suffix, e.g. `f1_0_tuned`; None if there is none."""
    plain = base(name)
    return next((each for each in declared() if plain in each.names()), None)


def base(name: str) -> str:
    """Return the name of a metric without the suffix of its rule."""
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def best_is(metric: str) -> str:
    """Return which value of a metric (`val/mae`) is best, `min` or `max`; empty if unknown."""
    name = _ENDS.sub("", metric.split("/")[-1])
    found = of(name)
    return found.best if found else _NOT_OF_GRADES.get(name, "")


def _read(file: Path, content: dict[str, Any]) -> Declaration:
    """Return the declaration in a file.

    Raises:
        InputError: Names the file, the key and its allowed values.
    """
    if wrong := next((key for key in content if key not in _KEYS), None):
        raise InputError(f"{file}: {wrong}: no such key of a metric; the keys are {', '.join(_KEYS)}")
    name, kind = file.stem, content.get("of")
    if not _NAME.fullmatch(name) or _ENDS.sub("", name) != name:
        ends = ", ".join((*_SUFFIXES, "_low", "_high"))
        raise InputError(f"{file}: name the file in lower-case letters, digits and _, without an ending {ends}")
    if not isinstance(content.get("_target_"), str):
        raise InputError(f"{file}: _target_ must be the address of a function, e.g. my_package.my_module.{name}")
    if kind not in _KINDS:
        raise InputError(f"{file}: of={kind}: must be one of {', '.join(_KINDS)}")
    if content.get("best") not in ("min", "max"):
        raise InputError(f"{file}: best={content.get('best')}: must be min or max")
    per_grade = content.get("per_grade", False) is True
    if per_grade and kind != CONFUSION:
        raise InputError(f"{file}: per_grade: only a metric of=confusion has a value for each grade")
    rules = _suffixes(file, content, "rules", [*RULES] if kind == CONFUSION else ["argmax"], None)
    few = [] if per_grade else ["argmax"]
    return Declaration(
        name=name,
        file=file,
        target=content["_target_"],
        of=str(kind),
        best=content["best"],
        title=str(content.get("title", name.replace("_", " "))),
        meaning=str(content.get("meaning", "0 is best" if content["best"] == "min" else "")),
        per_grade=per_grade,
        mean_over_grades=content.get("mean_over_grades", False) is True,
        rules=rules,
        every_epoch=_suffixes(file, content, "every_epoch", ["argmax", "expected", "median"], rules),
        compared=_suffixes(file, content, "compared", few, rules),
        by_subgroup=_suffixes(file, content, "by_subgroup", few, rules),
        logged=_suffixes(file, content, "logged", few, rules),
        logged_ends=_suffixes(file, {"logged_ends": False, **content}, "logged_ends", few, rules),
        between_readers=_suffixes(file, {"between_readers": False, **content}, "between_readers", few, rules),
        undefined=str(content.get("undefined", "")),
        order=int(content.get("order", _KINDS[kind] + 100 * per_grade)),
        settings=tuple((content.get("settings") or {}).items()),
    )


def _suffixes(
    file: Path, content: dict[str, Any], key: str, default: list[str], among: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the suffixes of the rules that a key lists; `true` stands for the default rules, `false` for none."""
    value = content.get(key, True)
    value = default if value is True else [] if value is False else value
    if not isinstance(value, list) or not all(isinstance(each, str) and each in RULES for each in value):
        raise InputError(f"{file}: {key}={value}: must be true, false, or a list of {', '.join(RULES)}")
    return tuple(RULES[each] for each in value if among is None or RULES[each] in among)
