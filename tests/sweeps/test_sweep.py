"""Sweeps in this process, over plain functions of a config."""

import json
import math
import os
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from koa_lightning.config import outcome, trial
from koa_lightning.errors import InputError
from koa_lightning.sweeps import methods, study
from koa_lightning.sweeps import trial as sweeps_trial

pytestmark = pytest.mark.usefixtures("blank_figures")

SPACE = ["x=interval(-3,3)", "y=range(0,6)"]
RUNS = []


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def parabola(cfg):
    return -((cfg.x - 1) ** 2) - (cfg.y - 3) ** 2


def values(found):
    return [trial.values and trial.values[0] for trial in found.study.trials]


def test_a_sweep_and_the_same_command_again(program):
    seen = []
    first = program(lambda cfg: seen.append(cfg.x) or parabola(cfg), *SPACE, "sweep.trials=4", "kind=b")
    assert first.code == outcome.DONE, first.err
    assert len(seen) == 4
    assert first.name.startswith("tpe-")
    assert os.environ[study.STORAGE_VARIABLE] == ""  # as it was: the next sweep of this process has its own database
    best = max(first.study.trials, key=lambda t: t.value)
    assert f"best: trial {best.number}, value {best.value:.4g}" in first.out
    assert first.out[-1] == f"  python program.py kind=b x={best.params['x']!r} y={best.params['y']}".replace(
        "python program.py", first.out[-1].split(" kind=")[0].strip()
    )
    again = program(lambda cfg: seen.append(cfg.x), *SPACE, "sweep.trials=4", "kind=b")
    assert len(seen) == 4  # nothing ran
    assert again.out[-1] == first.out[-1]
    more = program(lambda cfg: seen.append(cfg.x) or parabola(cfg), *SPACE, "sweep.trials=6", "kind=b")
    assert (len(seen), more.name) == (6, first.name)
    other = program(lambda cfg: parabola(cfg), *SPACE, "sweep.trials=1", "kind=c")
    assert other.name != first.name


def test_what_a_study_holds(program):
    found = program(parabola, *SPACE, "sweep.trials=2", "kind=b").study
    attrs = found.user_attrs
    assert attrs["koa_space"] == {"x": "interval(-3,3)", "y": "range(0,6)"}
    assert attrs["koa_fixed"] == ["kind=b"]
    assert attrs["koa_metrics"] == ["value"] and attrs["koa_directions"] == ["maximize"]
    assert "hydra/sweeper=koa_optuna" in attrs["koa_command"] and "'x=interval(-3,3)'" in attrs["koa_command"]
    for one in found.trials:
        assert one.user_attrs["overrides"] == ["kind=b", f"x={one.params['x']!r}", f"y={one.params['y']}"]
        assert one.user_attrs["values"] == [one.value]
        assert one.user_attrs["seconds"] >= 0 and one.user_attrs["run_ids"] == [] and one.user_attrs["marks"] == []
    assert Path(attrs["koa_folder"], "1").is_dir()


@pytest.mark.parametrize("method", ["tpe", *(pytest.param(m, marks=pytest.mark.slow) for m in methods.METHODS[1:])])
@pytest.mark.slow
def test_an_interrupted_sweep_has_the_trials_of_a_whole_one(method, program):
    """Whatever the method: Ctrl-C twice, and the proposals are those of a sweep that nothing happened to."""
    space = ["x=choice(-1,0,1,2)", "kind=a,b", "y=range(0,3)"] if method == "grid" else [*SPACE, "kind=a,b"]
    typed = [*space, f"sweep.method={method}", "sweep.trials=5", "sweep.startup_trials=2"]
    whole = program(parabola, *typed, "sweep.name=whole")
    calls = []

    def dies(cfg):
        calls.append(cfg)
        if len(calls) in (2, 5):
            raise KeyboardInterrupt
        return parabola(cfg)

    codes = [program(dies, *typed, "sweep.name=cut") for _ in range(3)]
    assert [found.code for found in codes] == [outcome.INTERRUPTED, outcome.INTERRUPTED, outcome.DONE]
    assert codes[0].out[-1].startswith("interrupted; resume with: python ")
    cut = [t for t in codes[2].study.trials if not t.user_attrs.get("interrupted")]
    assert [t.params for t in cut] == [t.params for t in whole.study.trials]
    assert [t.values for t in cut] == [t.values for t in whole.study.trials]
    lost = [t for t in codes[2].study.trials if t.user_attrs.get("interrupted")]
    assert [t.state for t in lost] == [TrialState.FAIL] * 2
    assert [t.user_attrs["repeats"] for t in cut if "repeats" in t.user_attrs] == [t.number for t in lost]


@pytest.mark.slow
def test_qmc_fills_a_square_more_evenly_than_chance(program):
    found = program(lambda cfg: 0.0, "x=interval(0,1)", "y=int(interval(0,15))", "sweep.method=qmc", "sweep.trials=8")
    assert sorted(int(t.params["x"] * 8) for t in found.study.trials) == list(range(8))  # one in each eighth
    assert sorted(t.params["y"] // 2 for t in found.study.trials) == list(range(8))


def test_conditions_reach_the_jobs(program):
    seen = []

    def note(cfg):
        seen.append((cfg.kind, cfg.part.size))
        return 0.0

    typed = ["kind=a,b", "part.size=tag('kind=b',choice(5,6))", "sweep.method=grid", "sweep.trials=null"]
    assert program(note, *typed).code == outcome.DONE
    assert seen == [("a", 1), ("b", 5), ("b", 6)]


@pytest.mark.slow
def test_one_failing_job_does_not_end_the_sweep(program):
    errors = {
        1: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        2: MemoryError(),
        3: FloatingPointError("overflow"),
        4: ZeroDivisionError("division by zero"),
        5: InputError("y=5: not today"),
    }

    def fails(cfg):
        if cfg.y in errors:
            raise errors[cfg.y]
        return 1.0

    ended = program(fails, "y=range(0,7)", "sweep.method=grid", "sweep.trials=null")
    assert ended.code == outcome.PARTLY
    kinds = [t.user_attrs.get("error_kind") for t in ended.study.trials]
    assert kinds == [None, "out_of_memory", "out_of_memory", "diverged", "error", "bad_input", None]
    assert ended.study.trials[5].user_attrs["error"] == "y=5: not today"
    assert [t.state.name for t in ended.study.trials] == ["COMPLETE", *["FAIL"] * 5, "COMPLETE"]
    assert any("ZeroDivisionError" in line for line in ended.err)  # a fault keeps its traceback
    assert "trial 4 failed, error: ZeroDivisionError: division by zero" in ended.out


@pytest.mark.slow
def test_too_many_failures_end_it(program):
    def fails(cfg):
        if cfg.y:
            raise MemoryError
        return 1.0

    typed = ["y=range(0,7)", "sweep.method=grid", "sweep.trials=null", "sweep.max_failures=1"]
    ended = program(fails, *typed)
    assert ended.code == outcome.PARTLY
    assert len(ended.study.trials) == 3
    assert ended.err[-1] == "error: ended after 2 failed trials (sweep.max_failures=1)"
    assert any(line.startswith("resume with: ") for line in ended.out)
    assert len(program(lambda cfg: 1.0, *typed).study.trials) == 7  # failures are counted again


@pytest.mark.slow
def test_a_value_that_is_no_number(program):
    ended = program(lambda cfg: math.nan if cfg.y else 1.0, "y=0,1", "sweep.method=grid", "sweep.trials=2")
    assert ended.study.trials[1].user_attrs["error_kind"] == "diverged"
    assert ended.study.trials[1].user_attrs["error"] == "value is nan"


@pytest.mark.slow
def test_a_config_that_does_not_compose_fails_its_trial_alone(program):
    typed = ["kind=a,b", "+part.new=tag('kind=b',choice(1,2))", "sweep.method=grid", "sweep.trials=3"]
    assert program(lambda cfg: 1.0, *typed).code == outcome.DONE


@pytest.mark.slow
def test_repeats(program):
    seen = []

    def noisy(cfg):
        seen.append((cfg.y, cfg.seed))
        return float(cfg.y + cfg.seed**2)

    ended = program(noisy, "y=1,2", "sweep.method=grid", "sweep.trials=2", "sweep.repeats=3", "seed=4")
    assert seen == [(1, 4), (1, 5), (1, 6), (2, 4), (2, 5), (2, 6)]
    first = ended.study.trials[0]
    assert first.user_attrs["values"] == [17.0, 26.0, 37.0]
    assert first.value == pytest.approx((17 + 26 + 37) / 3)
    assert first.user_attrs["overrides"] == ["seed=4", "y=1"]
    assert any("10.02" in line for line in ended.out)  # the sample standard deviation, in the table


@pytest.mark.slow
def test_a_repeat_that_fails_fails_the_trial(program):
    def fails(cfg):
        if cfg.seed == 1:
            raise MemoryError
        return 1.0

    ended = program(fails, "y=1,2", "sweep.method=grid", "sweep.trials=2", "sweep.repeats=3")
    assert [t.state.name for t in ended.study.trials] == ["FAIL", "FAIL"]


def test_pruning(program):
    steps = {}

    def learns(cfg):
        for step in range(5):
            steps[cfg.y] = step
            if sweeps_trial.report(cfg.y * step, step):
                raise trial.Pruned
        return float(cfg.y)

    pruner = "+sweep.pruner={_target_: optuna.pruners.MedianPruner, n_startup_trials: 2, n_warmup_steps: 1}"
    ended = program(
        learns, "y=5,4,3,6", "sweep.method=grid", "sweep.trials=4", pruner.replace("+sweep.", "+hydra.sweeper.")
    )
    assert [t.state.name for t in ended.study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert steps == {5: 4, 4: 4, 3: 1, 6: 4}
    assert ended.study.trials[2].intermediate_values == {0: 0.0, 1: 3.0}
    assert ended.code == outcome.DONE  # no failure
    assert any("pruned after step 1 at 3" in line for line in ended.out)


def test_optunas_own_way_out_counts_too(program):
    def prunes(cfg):
        raise optuna.TrialPruned

    assert program(prunes, "y=1,2", "sweep.trials=1").study.trials[0].state == TrialState.PRUNED


@pytest.mark.slow
def test_several_metrics_have_a_pareto_front(program):
    def both(cfg):
        return {"good": cfg.y * (cfg.kind == "a"), "bad": cfg.y + 0.5, "other": 3, "run_id": "r1", "marks": ["phantom"]}

    typed = ["y=range(1,4)", "kind=a,b", "sweep.method=grid", "sweep.trials=null"]
    ended = program(both, *typed, "sweep.metrics=[good,bad]", "sweep.directions=[max,min]")
    assert ended.code == outcome.DONE, ended.err
    front = {(t.params["y"], t.params["kind"]) for t in ended.study.best_trials}
    assert front == {(1, "a"), (2, "a"), (3, "a")}
    assert "Pareto front: trial 4, 2, 0 (none is better in all metrics)" in ended.out
    assert ended.study.trials[0].user_attrs["run_ids"] == ["r1"]
    assert "phantom" in ended.out
    tpe = program(both, *typed[:2], "sweep.trials=4", "sweep.metrics=[good,seconds]", "sweep.directions=[max,min]")
    assert all(t.values[1] >= 0 for t in tpe.study.trials)


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ([], "error: sweep: nothing varies"),
        (
            ["y=range(0,3)", "sweep.method=tep"],
            "error: sweep.method=tep: must be one of tpe, random, grid, qmc; did you",
        ),
        (["y=range(0,3)", "sweep.trials=0"], "error: sweep.trials=0: must be a whole number from 1"),
        (["y=range(0,3)", "sweep.trials=null"], "error: sweep.trials=null: only a grid ends by itself"),
        (["y=range(0,3)", "sweep.n_jobs=2"], "error: sweep.n_jobs=2: hydra/launcher=basic runs one job"),
        (["y=range(0,3)", "sweep.directions=[up]"], "error: sweep.directions=[up]: must be one of max, min, "),
        (
            ["y=range(0,3)", "sweep.metrics=[a,b]"],
            "error: sweep.directions=['max']: must say max or min for each of a, b",
        ),
        (["y=range(0,3)", "sweep.metrics=[]"], "error: sweep.metrics=[]: must name one metric"),
        (["y=range(0,3)", "sweep.storage=mysql://a:b@c/d"], "error: sweep.storage=mysql://a@c/d: must be sqlite"),
        (["y=range(0,3)", "sweep.storage='postgresql://a:secret@127.0.0.1:9/d'"], "error: sweep.storage=postgresql"),
        (
            ["y=1,2", "sweep.repeats=2", "sweep.repeat=sed"],
            "error: sweep.repeat=sed: must name a key with a whole number, such as seed; did you mean 'seed'?",
        ),
        (["seed=0,1", "sweep.repeats=2"], "error: seed: varies, so sweep.repeats cannot use it"),
        (["y=range(0,3)", "+hydra.sweeper.pruner={_target_: optuna.pruners.Median}"], "error: sweep.pruner: "),
        (["y=interval(2,1)"], "error: y=interval(2,1): the first number must be the smaller one"),
    ],
)
def test_bad_input_is_one_line(typed, line, program):
    ended = program(lambda cfg: 1.0, *typed)
    assert ended.code == outcome.BAD_INPUT
    assert len(ended.err) == 1 and ended.err[0].startswith(line), ended.err
    assert "secret" not in ended.err[0]


def test_several_metrics_cannot_be_pruned(program):
    pruner = "+hydra.sweeper.pruner={_target_: optuna.pruners.NopPruner}"
    ended = program(lambda cfg: 1.0, "y=1,2", "sweep.metrics=[a,b]", "sweep.directions=[max,max]", pruner)
    assert ended.err[0].startswith("error: sweep/pruner: pruning needs one metric")


@pytest.mark.slow
def test_a_metric_that_is_never_reported(program):
    calls = []
    typed = ["y=1,2", "sweep.method=grid", "sweep.trials=2", "sweep.metrics=[val/kapa]"]
    ended = program(lambda cfg: calls.append(1) or {"val/kappa": 1.0}, *typed)
    assert ended.code == outcome.BAD_INPUT and len(calls) == 1
    assert ended.err == [
        "error: val/kapa: no job reports this metric; did you mean 'val/kappa'? (reported: seconds, val/kappa)"
    ]
    assert program(lambda cfg: {"val/kapa": 1.0}, *typed).code == outcome.DONE  # it is repeated
    assert program(lambda cfg: (1.0, 2.0), "y=1,2", "sweep.trials=1").code == outcome.BAD_INPUT


@pytest.mark.slow
def test_what_is_wrong_in_the_first_trial_is_wrong_in_all(program):
    calls = []

    def wrong(cfg):
        calls.append(1)
        raise InputError("data.root: no such folder")

    ended = program(wrong, "y=1,2", "sweep.trials=5")
    assert (ended.code, len(calls)) == (outcome.BAD_INPUT, 1)
    assert ended.err == ["error: data.root: no such folder"]
    assert program(lambda cfg: 1.0, "y=1,2", "sweep.trials=5").code == outcome.DONE


@pytest.mark.slow
def test_a_sweep_of_which_nothing_came_keeps_no_name(program):
    def wrong(cfg):
        raise InputError("kind=a: no such kind")

    typed = ["y=1,2", "sweep.method=grid", "sweep.trials=2", "sweep.name=mine"]
    assert program(wrong, *typed, "kind=a").err == ["error: kind=a: no such kind"]
    ended = program(parabola, *typed, "kind=b")
    assert ended.code == outcome.DONE, ended.err
    assert [t.user_attrs["overrides"] for t in ended.study.trials] == [["kind=b", "y=1"], ["kind=b", "y=2"]]
    assert program(parabola, *typed, "kind=a").err[0].startswith("error: sweep.name=mine: is another sweep")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("changed", "how"),
    [
        (["x=interval(-3,4)"], r"there x is interval(-3,3), here interval(-3,4)"),
        slow(["x=interval(-3,3)", "kind=z"], "they differ in kind=z"),
        slow(["x=interval(-3,3)", "sweep.seed=1"], "its method, seed, pruner, repeats or configs differ"),
        slow(["x=interval(-3,3)", "sweep.metrics=[other]"], "there the metric is value"),
    ],
)
def test_a_name_that_belongs_to_another_space(changed, how, program):
    assert program(parabola, "x=interval(-3,3)", "sweep.trials=1", "sweep.name=mine").code == outcome.DONE
    ended = program(parabola, *changed, "sweep.trials=1", "sweep.name=mine")
    assert ended.code == outcome.BAD_INPUT
    assert ended.err[0].startswith("error: sweep.name=mine: is another sweep in sqlite:///") and how in ended.err[0]


def test_a_study_of_another_program(program):
    storage = study.open_storage(study.url(None))
    optuna.create_study(study_name="theirs", storage=storage).add_trial(optuna.create_trial(value=1.0))
    ended = program(parabola, "x=interval(-3,3)", "sweep.name=theirs")
    assert ended.err[0].startswith("error: sweep.name=theirs: is another sweep")


def test_two_sweeps_with_one_name(program):
    inner = []

    def sweeps_itself(cfg):
        with pytest.raises(InputError) as caught, study.holding(study.url(None), "mine"):
            pass
        inner.append(str(caught.value))
        return 1.0

    assert program(sweeps_itself, "y=1,2", "sweep.trials=1", "sweep.name=mine").code == outcome.DONE
    assert inner == ["sweep.name=mine: is running already, in another process; wait for it, or stop it"]


@pytest.mark.slow
def test_what_may_differ_when_it_continues(program):
    typed = ["x=interval(-3,3)", "sweep.free=[kind,part.size]", "sweep.trials=1"]
    first = program(parabola, *typed, "kind=a", "part.size=1")
    assert program(parabola, *typed, "kind=b", "part.size=2").name == first.name


def test_a_job_knows_its_trial(program):
    seen = []
    program(lambda cfg: seen.append(trial.current()) or 1.0, "y=1,2", "sweep.trials=1", "sweep.name=mine")
    assert (seen[0].sweep, seen[0].number, seen[0].varied, seen[0].repeat) == ("mine", 0, ("y",), 0)
    assert json.loads(seen[0].dumps())["folder"].endswith("outputs/sweep-mine/0")
    assert trial.current() is None  # outside of the job
