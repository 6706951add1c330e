"""The search space of a sweep: Hydra's own override syntax, read into parameters that may depend on each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from koa_lightning.config import overrides
from koa_lightning.errors import InputError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna import Trial

_SYNTAX = "interval(a,b), tag(log,interval(a,b)), int(interval(a,b)), range(a,b,step) or choice(x,y)"
_MOST_POINTS = 100_000  # of a grid
Value = float | int | str


@dataclass(frozen=True)
class Parameter:
    """One key that varies.

    Attributes:
        key: The key as typed in an override, e.g. `loss` or `optimizer.lr`.
        typed: The distribution as typed.
        choices: The choices as texts; empty for numbers.
        low: The smallest number, for numbers.
        high: The largest number, inclusive.
        step: Distance between numbers; None allows all.
        log: Whether numbers are drawn on a logarithmic scale.
        whole: Whether numbers are whole.
        when: (key, values): the parameter exists only if that key has one of these values.
    """

    key: str
    typed: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def exists(self, chosen: Mapping[str, Value]) -> bool:
        """Return whether the parameter exists if these values are chosen."""
        return all(key in chosen and text(chosen[key]) in values for key, values in self.when)

    def suggest(self, trial: Trial) -> Value:
        """Let a trial of Optuna suggest a value."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, self.choices))
        if self.whole:
            low, high = int(self.low), int(self.high)
            return trial.suggest_int(self.key, low, high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> list[Value]:
        """Return all values of the parameter.

        Raises:
            InputError: Its values cannot be counted.
        """
        if self.choices:
            return list(self.choices)
        if self.step is None:
            raise InputError(f"{self.key}={self.typed}: a grid needs range(a,b,step) or choice(x,y)")
        numbers = [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]
        return [int(number) for number in numbers] if self.whole else [min(n, self.high) for n in numbers]

    def at(self, share: float) -> Value:
        """Return the value at a share (0 to 1, without 1) of its range."""
        if self.choices:
            return self.choices[int(share * len(self.choices))]
        if self.log:
            number = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        elif self.step or self.whole:
            step = self.step or 1
            number = self.low + step * int(share * (round((self.high - self.low) / step) + 1))
        else:
            number = self.low + share * (self.high - self.low)
        number = min(max(number, self.low), self.high)  # exp(log(x)) is not always x
        return int(number) if self.whole else number


@dataclass(frozen=True)
class Space:
    """All parameters that vary; a parameter comes after those that it depends on."""

    parameters: tuple[Parameter, ...]

    @property
    def typed(self) -> dict[str, str]:
        """Each key with its distribution as typed."""
        return {parameter.key: parameter.typed for parameter in self.parameters}

    def fill(self, value_of: Callable[[Parameter], Value]) -> dict[str, Value]:
        """Return a value for each parameter that exists."""
        chosen: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.exists(chosen):
                chosen[parameter.key] = value_of(parameter)
        return chosen

    def draw(self, trial: Trial) -> dict[str, Value]:
        """Let a trial of Optuna suggest the values."""
        return self.fill(lambda parameter: parameter.suggest(trial))

    def at(self, shares: Sequence[float]) -> dict[str, Value]:
        """Return the point at these shares of the ranges, one per parameter."""
        known = dict(zip([parameter.key for parameter in self.parameters], shares, strict=True))
        return self.fill(lambda parameter: parameter.at(float(known[parameter.key])))

    def corners(self) -> list[dict[str, Value]]:
        """Return points that cover every choice, and the smallest and the largest number of each key."""
        n = max([2, *(len(parameter.choices) for parameter in self.parameters)])
        points = []
        for i in range(n):
            ends = {True: 0.0, False: 1 - 1e-12}[i % 2 == 0]
            shares = [(i % len(p.choices) + 0.5) / len(p.choices) if p.choices else ends for p in self.parameters]
            points.append(self.at(shares))
        return points

    def grid(self) -> list[dict[str, Value]]:
        """Return every combination; the last key varies fastest.

        Raises:
            InputError: A key has no countable values, or there are too many.
        """
        points = list(itertools.islice(self._combinations(self.parameters, {}), _MOST_POINTS + 1))
        if len(points) > _MOST_POINTS:
            raise InputError(f"sweep: the grid has more than {_MOST_POINTS:,} points; type sweep=random or sweep=qmc")
        return points

    def _combinations(self, rest: Sequence[Parameter], chosen: dict[str, Value]) -> Iterator[dict[str, Value]]:
        if not rest:
            yield chosen
            return
        first = rest[0]
        if not first.exists(chosen):
            yield from self._combinations(rest[1:], chosen)
            return
        for value in first.values():
            yield from self._combinations(rest[1:], {**chosen, first.key: value})


def text(value: Value) -> str:
    """Return a value as it is typed in an override."""
    return value if isinstance(value, str) else repr(value)


def typed(point: Mapping[str, Value]) -> list[str]:
    """Return a point as overrides."""
    return [f"{key}={text(value)}" for key, value in point.items()]


def read(configured: Mapping[str, Any], arguments: Sequence[str], parser: Any) -> tuple[Space, list[str]]:
    """Return the space of a sweep, and the overrides that do not vary.

    Args:
        configured: Override key -> distribution, from the config.
        arguments: Overrides as typed; they take precedence over the config.
        parser: Hydra's parser of overrides.

    Raises:
        InputError: Nothing varies, or the overrides contradict each other.
    """
    found: dict[str, Override] = {}
    fixed: dict[str, Override] = {}
    for line in (f"{key}={value}" for key, value in configured.items()):
        [override] = parser.parse_overrides([line])
        if not override.is_sweep_override():
            raise InputError(f"sweep.space: {line}: nothing varies here; write {_SYNTAX}")
        found[overrides.key(override.get_key_element())] = override
    for override in parser.parse_overrides(list(arguments)):
        key = overrides.key(override.get_key_element())
        here, other = (found, fixed) if override.is_sweep_override() else (fixed, found)
        other.pop(key, None)
        here[key] = override
    if not found:
        raise InputError(f"sweep: nothing varies; type sweep/space=NAME, or KEY= with {_SYNTAX}")
    return Space(_in_order([_parameter(o) for o in found.values()], fixed)), [str(o.input_line) for o in fixed.values()]


def _parameter(override: Override) -> Parameter:
    value: Any = override.value()
    key, line = override.get_key_element(), str(override.input_line)
    typed = line.partition("=")[2]
    tags = sorted(getattr(value, "tags", None) or ())
    when = tuple(_condition(line, tag) for tag in tags if "=" in tag)
    strange = [tag for tag in tags if "=" not in tag and tag != "log"]
    if strange:
        raise InputError(f"{line}: unknown tag {strange[0]}; there are log, and conditions such as 'loss=focal'")
    known = Parameter(key, typed, log="log" in tags, when=when)
    if override.is_interval_sweep():
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        return _numbers(line, replace(known, low=value.start, high=value.end, whole=whole))
    ranged = override.is_range_sweep() and not value.shuffle and value.step > 0
    if ranged and value.start < value.stop:
        n = math.ceil((value.stop - value.start) / value.step - 1e-9)
        high = value.start + (n - 1) * value.step
        whole = all(isinstance(number, int) for number in (value.start, value.stop, value.step))
        return _numbers(line, replace(known, low=value.start, high=high, step=value.step, whole=whole))
    choices = tuple(dict.fromkeys(map(str, override.sweep_string_iterator())))
    if not choices:
        raise InputError(f"{line}: has no values")
    if known.log:
        raise InputError(f"{line}: a logarithmic scale needs interval(a,b)")
    return replace(known, choices=choices)


def _numbers(line: str, parameter: Parameter) -> Parameter:
    if parameter.low > parameter.high or not all(map(math.isfinite, (parameter.low, parameter.high))):
        raise InputError(f"{line}: the first number must be the smaller one")
    if parameter.log and parameter.low <= 0:
        raise InputError(f"{line}: a logarithmic scale starts above 0")
    if parameter.log and parameter.step:
        raise InputError(f"{line}: a logarithmic scale needs interval(a,b)")
    return parameter


def _condition(line: str, tag: str) -> tuple[str, tuple[str, ...]]:
    key, _, values = tag.partition("=")
    if not key.strip() or not values.strip():
        raise InputError(f"{line}: {tag!r} is not a condition; write 'KEY=VALUE' or 'KEY=VALUE|VALUE'")
    return key.strip(), tuple(value.strip() for value in values.split("|"))


def _in_order(parameters: list[Parameter], fixed: Mapping[str, Override]) -> tuple[Parameter, ...]:
    """Return the parameters, each after those that it depends on; conditions on fixed keys are resolved."""
    waiting = {overrides.key(p.key): _settled(p, parameters, fixed) for p in parameters}
    ordered: dict[str, Parameter] = {}
    while waiting:
        ready = [key for key, p in waiting.items() if all(name in ordered for name, _ in p.when)]
        if not ready:
            raise InputError(f"sweep: {' and '.join(waiting)} depend on each other in a circle")
        ordered |= {key: waiting.pop(key) for key in ready}
    return tuple(ordered.values())


def _settled(parameter: Parameter, others: list[Parameter], fixed: Mapping[str, Override]) -> Parameter:
    left = []
    for key, values in parameter.when:
        line = f"{parameter.key}={parameter.typed}"
        other = next((p for p in others if p.key == key), None)
        if other is not None:
            possible = other.choices or tuple(text(v) for v in (other.values() if other.step else ()))
            missing = [value for value in values if value not in possible]
            if missing:
                known = f"is one of {', '.join(possible)}" if possible else "is not a choice"
                raise InputError(f"{line}: {key} is never {missing[0]}; it {known}")
            left.append((key, values))
        elif key not in fixed:
            add = f"{key}=choice(...), or {key}={values[0]}"
            raise InputError(f"{line}: {key} does not vary and is not typed; add {add}")
        elif overrides.value(str(fixed[key].input_line)) not in values:
            raise InputError(f"{line}: contradicts {fixed[key].input_line}; omit one of them")
    return replace(parameter, when=tuple(left))
