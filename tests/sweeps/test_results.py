import json
import shlex

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koa_lightning.sweeps import results

KAPPA = "val/quadratic_kappa"


def test_states_are_distinguished(made_study):
    sweep = results.read(made_study(30))
    assert sweep.counts() == {"complete": 17, "pruned": 7, "interrupted": 3, "failed": 3}
    assert sweep.trials.loc[3, ["state", "error_kind"]].tolist() == ["failed", "diverged"]
    assert sweep.trials.loc[5, "state"] == "interrupted"
    assert np.isnan(sweep.trials.loc[2, KAPPA])
    assert sweep.trials.loc[2, "last"] == sweep.curves[2].iloc[-1]
    assert sweep.caveats == ["phantom data"]


def test_keys_that_differ_those_that_do_not_and_those_that_some_trials_lack(made_study):
    sweep = results.read(made_study(30))
    assert sweep.varied == ["model", "loss", "optimizer.lr", "augment.ops.rotation.degrees", "loss.gamma"]
    assert sweep.constant == {"trainer.max_epochs": 5}
    assert sweep.kinds == {
        "model": "choice", "loss": "choice", "optimizer.lr": "log", "augment.ops.rotation.degrees": "linear",
        "loss.gamma": "linear", "trainer.max_epochs": "linear",
    }  # fmt: skip
    lacking = [value is None for value in sweep.params["loss.gamma"]]
    assert lacking == (sweep.params["loss"] == "ce").tolist()


def test_best_first_then_by_state(made_study):
    study = made_study(30)
    sweep = results.read(study)
    assert sweep.front == [study.best_trial.number] == sweep.ranking[:1]
    done = sweep.complete.loc[[n for n in sweep.ranking if n in sweep.complete.index], KAPPA]
    assert done.is_monotonic_decreasing
    states = sweep.trials.loc[sweep.ranking, "state"]
    assert states.drop_duplicates().tolist() == ["complete", "pruned", "interrupted", "failed"]
    assert sorted(sweep.ranking) == list(range(30))


def test_of_equal_trials_the_first_is_the_best():
    study = optuna.create_study(direction="minimize")
    for value in (2.0, 1.0, 1.0):
        study.add_trial(optuna.trial.create_trial(value=value))
    assert results.read(study).front == [1]


def test_repeats_have_a_mean_and_a_spread(made_study):
    sweep = results.read(made_study(8, repeats=3))
    values = sweep.attrs[0]["values"]
    assert sweep.trials.loc[0, f"sd {KAPPA}"] == pytest.approx(np.std(values, ddof=1))
    assert sweep.trials.loc[0, "repeats"] == 3
    assert np.isnan(results.read(made_study(8)).trials.loc[0, f"sd {KAPPA}"])


def test_several_objectives_each_have_their_spread(made_study):
    sweep = results.read(made_study(8, metrics=(KAPPA, "val/ece"), repeats=2))
    values = np.array(sweep.attrs[0]["values"])
    assert sweep.trials.loc[0, "sd val/ece"] == pytest.approx(values[:, 1].std(ddof=1))
    assert sweep.modes == ["max", "min"]


points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(points)
def test_nothing_beats_the_front_and_it_comes_first(drawn):
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([optuna.trial.create_trial(values=[float(x), float(y)]) for x, y in drawn])
    sweep = results.read(study)

    def beaten(i):
        (x, y) = drawn[i]
        return any(a >= x and b <= y and (a, b) != (x, y) for a, b in drawn)

    assert set(sweep.front) == {i for i in range(len(drawn)) if not beaten(i)}
    assert sweep.ranking[: len(sweep.front)] == sweep.front
    assert [drawn[n][0] for n in sweep.front] == sorted((drawn[n][0] for n in sweep.front), reverse=True)


def test_a_study_made_by_hand_has_fewer_facts():
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_int("x", 0, 9, step=3), n_trials=3)
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
    study.enqueue_trial({"x": 3})
    sweep = results.read(study)
    assert (sweep.metrics, sweep.modes, sweep.caveats) == (["value"], ["min"], [])
    assert sweep.counts() == {"complete": 3, "running": 1, "waiting": 1}
    assert sweep.params.loc[3, "x"] is None
    assert (sweep.trials["duration"].iloc[:3] >= 0).all()
    two = optuna.create_study(directions=["minimize", "minimize"])
    assert results.read(two).metrics == ["value 0", "value 1"]


def test_a_study_without_trials_can_be_read():
    sweep = results.read(optuna.create_study())
    assert sweep.trials.empty
    assert (sweep.front, sweep.ranking, sweep.varied, sweep.counts()) == ([], [], [], {})


def test_the_table_is_whole_and_best_first(made_study, tmp_path):
    study = made_study(30, repeats=2)
    sweep = results.read(study)
    results.table(sweep).to_csv(tmp_path / "trials.csv")
    table = pd.read_csv(tmp_path / "trials.csv", index_col="trial")
    assert table.index.tolist() == sweep.ranking
    assert table["best"].tolist() == [True] + 29 * [False]
    best = study.best_trial
    row = table.loc[best.number]
    assert row[KAPPA] == pytest.approx(best.value)
    assert json.loads(row["values"]) == pytest.approx(best.user_attrs["values"])
    assert shlex.split(row["overrides"]) == best.user_attrs["overrides"]
    assert row["optimizer.lr"] == pytest.approx(best.params["optimizer.lr"])
    assert "sd " + KAPPA not in results.table(results.read(made_study(8)))


@pytest.mark.parametrize(("value", "text"), [(1e-4, "0.0001"), (0.123456, "0.1235"), (None, "null"), (True, "true")])
def test_values_are_shown_as_typed(value, text):
    assert results.show(value) == text
