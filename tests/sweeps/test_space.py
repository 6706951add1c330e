import itertools
import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koa_lightning.errors import InputError
from koa_lightning.sweeps import space
from koa_lightning.sweeps.space import Parameter, Space

FOCAL = "loss.gamma=tag('loss=focal',interval(0.5,5))"


def test_hydras_syntax_as_parameters(read):
    found, fixed = read(
        "a=interval(1,2)", "b=tag(log,interval(1e-4,1))", "c=int(interval(2,9))", "d=range(1,8,3)", "e=range(0,1,0.25)",
        "f=choice(x,'y z',3,[1,2])", "g=u,v", "h=shuffle(range(3))", "+i=1,2", "seed=7", "name=a b",
    )  # fmt: skip
    known = {parameter.key: parameter for parameter in found.parameters}
    assert (known["a"].low, known["a"].high, known["a"].whole) == (1.0, 2.0, False)
    assert known["b"].log and not known["a"].log
    assert (known["c"].low, known["c"].high, known["c"].whole) == (2, 9, True)
    assert known["d"].values() == [1, 4, 7]  # as Hydra, the stop is omitted
    assert known["e"].values() == pytest.approx([0, 0.25, 0.5, 0.75])
    assert known["f"].choices == ("x", "y\\ z", "3", "[1,2]")
    assert known["g"].choices == ("u", "v")
    assert sorted(known["h"].choices) == ["0", "1", "2"]
    assert known["+i"].choices == ("1", "2")
    assert fixed == ["seed=7", "name=a b"]
    assert found.typed["b"] == "tag(log,interval(1e-4,1))"


def test_what_is_typed_wins(read):
    found, fixed = read("b=3", "c=1,2", a="interval(0,1)", b="interval(0,1)", c="interval(0,1)")
    assert found.typed == {"a": "interval(0,1)", "c": "1,2"}
    assert fixed == ["b=3"]


def test_a_parameter_that_exists_at_times(read):
    found, _ = read(FOCAL, "loss=ce,focal", "lr=interval(0,1)")
    assert [parameter.key for parameter in found.parameters] == ["loss", "lr", "loss.gamma"]
    assert set(found.at([0.1, 0.5, 0.5])) == {"loss", "lr"}
    assert found.at([0.9, 0.5, 0.5]) == {"loss": "focal", "lr": 0.5, "loss.gamma": 2.75}


def test_a_condition_on_what_is_fixed_is_settled(read):
    found, fixed = read(FOCAL, "loss=focal")
    assert found.parameters[0].when == ()
    assert fixed == ["loss=focal"]


def test_a_chain_of_conditions(read):
    found, _ = read("c=tag('b=2|3',choice(1,2))", "b=tag('a=x',range(1,4))", "a=x,y")
    assert len(found.grid()) == 1 + 1 + 2 * 2  # y; x with b=1; x with b=2 or 3
    assert {"a": "y"} in found.grid()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ([], "sweep: nothing varies; type sweep/space=NAME"),
        (["seed=3"], "nothing varies"),
        (["a=interval(2,1)"], "a=interval.2,1.: the first number must be the smaller one"),
        (["a=tag(log,interval(0,1))"], "a logarithmic scale starts above 0"),
        (["a=tag(log,range(1,9))"], "a logarithmic scale needs interval"),
        (["a=tag(log,choice(1,9))"], "a logarithmic scale needs interval"),
        (["a=tag(lgo,interval(1,9))"], "unknown tag lgo"),
        (["a=range(5,5)"], "has no values"),
        ([FOCAL, "loss=ce,emd"], "loss is never focal; it is one of ce, emd"),
        ([FOCAL, "loss=ce"], "contradicts loss=ce"),
        ([FOCAL], "loss does not vary and is not typed; add loss=choice"),
        (["a=tag('=x',choice(1,2))", "b=1,2"], "is not a condition"),
        (["a=tag('b=1',choice(1,2))", "b=tag('a=1',choice(1,2))"], "a and b depend on each other in a circle"),
        (["a=tag('b=1',choice(1,2))", "b=interval(0,1)"], "b is never 1; it is not a choice"),
    ],
)
def test_what_is_empty_or_contradicts_itself(typed, line, read):
    with pytest.raises(InputError, match=line):
        read(*typed)


def test_a_configured_key_that_does_not_vary(read):
    with pytest.raises(InputError, match=r"sweep.space: a=3: nothing varies here"):
        read(a="3")


def test_a_grid_is_the_product(read):
    found, _ = read("a=1,2", "b=range(0,3)", "c=x,y")
    expected = [{"a": a, "b": b, "c": c} for a, b, c in itertools.product("12", range(3), "xy")]
    assert found.grid() == expected


def test_a_grid_that_has_no_end(read):
    with pytest.raises(InputError, match=r"a=interval\(0,1\): a grid needs range"):
        read("a=interval(0,1)")[0].grid()
    with pytest.raises(InputError, match="more than 100,000 points"):
        read("a=range(0,1000)", "b=range(0,1000)")[0].grid()


def test_corners_hold_every_choice_and_both_ends(read):
    found, _ = read("a=p,q,r", "b=interval(1,3)", "c=int(interval(1,4))")
    points = found.corners()
    assert {point["a"] for point in points} == {"p", "q", "r"}
    assert {round(point["b"], 9) for point in points} == {1, 3}
    assert {point["c"] for point in points} == {1, 4}


NUMBERS = st.floats(1e-6, 1e6)


@given(st.tuples(NUMBERS, NUMBERS), st.booleans(), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_a_value_at_a_share_is_one_that_optuna_takes(ends, log, whole, share):
    low, high = sorted(math.ceil(end) if whole else end for end in ends)
    parameter = Parameter("k", "", low=low, high=high, log=log, whole=whole)
    value = parameter.at(share)
    fixed = optuna.trial.FixedTrial({"k": value})
    assert parameter.suggest(fixed) == value
    assert low <= value <= high


@given(st.integers(-50, 50), st.integers(1, 50), st.integers(1, 9), st.floats(0, 1, exclude_max=True))
def test_steps(low, length, step, share):
    parameter = Parameter("k", "", low=low, high=low + (length // step) * step, step=step, whole=True)
    assert parameter.values() == list(range(low, low + length + 1, step))
    assert parameter.at(share) in parameter.values()


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2))
def test_a_point_is_typed_as_it_is_read(shares):
    found = Space((Parameter("a", "", low=0, high=3), Parameter("b", "", choices=("x", "y"))))
    point = found.at(shares)
    first, second = space.typed(point)
    assert float(first.removeprefix("a=")) == point["a"]
    assert second == f"b={point['b']}"
