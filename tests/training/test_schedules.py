import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR

from koa_lightning.errors import InputError
from koa_lightning.training.schedules import one_cycle, plateau, warmup_cosine

CALL = {"monitor": "val/quadratic_kappa", "mode": "max"}


def optimizer(*rates):
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates], lr=rates[0])


def rates_of(schedule, steps, group=0):
    """The learning rate that each step is made with."""
    scheduler, found = schedule["scheduler"], []
    for _ in range(steps):
        found.append(scheduler.optimizer.param_groups[group]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_warmup_cosine_by_hand():
    schedule = warmup_cosine(optimizer(0.1, 1.0), total_steps=10, warmup=0.2, final=0.1, **CALL)
    down = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert rates_of(schedule, 10) == pytest.approx([0.05, 0.1] + [0.1 * factor for factor in down])
    assert schedule["scheduler"].get_last_lr() == pytest.approx([0.01, 0.1])  # both groups keep their ratio
    assert schedule["interval"] == "step"


def test_a_tail_stays_at_the_final_rate():
    rates = rates_of(warmup_cosine(optimizer(1.0), total_steps=20, warmup=0.1, final=0.2, tail=0.25, **CALL), 20)
    assert rates[15:] == pytest.approx([0.2] * 5)
    assert rates[14] > 0.2
    whole = rates_of(warmup_cosine(optimizer(1.0), total_steps=15, warmup=2 / 15, final=0.2, **CALL), 15)
    assert rates[:15] == pytest.approx(whole)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 200), st.floats(0.01, 0.99), st.floats(1.5, 50), st.floats(1.5, 1e5))
def test_one_cycle_is_torchs(total, warmup, start_div, final_div):
    if abs(warmup * total - 1) < 1e-6 or warmup * total > total - 1 - 1e-6:
        return  # torch divides by zero here
    ours = one_cycle(
        optimizer(0.1, 0.5), total_steps=total, warmup=warmup, start_div=start_div, final_div=final_div, **CALL
    )
    theirs = OneCycleLR(
        optimizer(0.1, 0.5), [0.1, 0.5], total, pct_start=warmup, div_factor=start_div, final_div_factor=final_div,
        cycle_momentum=False,
    )  # fmt: skip
    wanted = rates_of({"scheduler": theirs}, total, group=1)
    assert rates_of(ours, total, group=1) == pytest.approx(wanted, rel=1e-6, abs=1e-12)
    assert ours["interval"] == "step"


@pytest.mark.parametrize("make", [one_cycle, warmup_cosine])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_short_runs_and_odd_shares(make, warmup, total):
    rates = rates_of(make(optimizer(0.1), total_steps=total, warmup=warmup, **CALL), total + 2)
    assert all(0 < rate <= 0.1 + 1e-12 for rate in rates)


@pytest.mark.parametrize("make", [one_cycle, warmup_cosine])
def test_a_schedule_that_is_loaded_can_be_made_longer(make):
    short = make(optimizer(0.1), total_steps=10, **CALL)
    rates_of(short, 10)
    longer = make(optimizer(0.1), total_steps=20, **CALL)
    longer["scheduler"].load_state_dict(short["scheduler"].state_dict())
    rest = rates_of(longer, 10)[1:]
    assert rest == pytest.approx(rates_of(make(optimizer(0.1), total_steps=20, **CALL), 20)[11:])


@pytest.mark.parametrize(("mode", "values"), [("max", [0.5, 0.6, 0.6, 0.5, 0.7]), ("min", [0.5, 0.4, 0.4, 0.5, 0.3])])
def test_plateau_cuts_after_its_patience(mode, values):
    schedule = plateau(optimizer(0.1, 1.0), total_steps=10, monitor="val/mae", mode=mode, factor=0.5, patience=1)
    found = []
    for value in values:
        schedule["scheduler"].step(torch.tensor(value))
        found.append([group["lr"] for group in schedule["scheduler"].optimizer.param_groups])
    assert found == [[0.1, 1.0]] * 3 + [[0.05, 0.5]] * 2
    assert schedule["monitor"] == "val/mae"


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (warmup_cosine, {"warmup": 1.5}, r"scheduler\.warmup=1\.5"),
        (warmup_cosine, {"final": -0.1}, r"scheduler\.final=-0\.1"),
        (warmup_cosine, {"tail": 1.2}, r"scheduler\.tail=1\.2"),
        (one_cycle, {"warmup": -0.1}, r"scheduler\.warmup=-0\.1"),
        (one_cycle, {"start_div": 0.5}, "start_div=0.5"),
        (one_cycle, {"final_div": 0}, "final_div=0"),
        (plateau, {"factor": 1.0}, "factor=1.0"),
        (plateau, {"factor": 0.0}, "factor=0.0"),
        (plateau, {"patience": -1}, "patience=-1"),
    ],
)
def test_values_out_of_range_are_named(make, options, named):
    with pytest.raises(InputError, match=named):
        make(optimizer(0.1), total_steps=10, **options, **CALL)
