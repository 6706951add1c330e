import numpy as np
import optuna
import pytest
from matplotlib.text import Text

from koa_lightning.sweeps.figures.history import NotEnough
from koa_lightning.sweeps.figures.importance import importance_figure, importances
from koa_lightning.sweeps.results import read


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_importance_says_how_many_trials_it_needs(made_study):
    with pytest.raises(NotEnough, match="10 complete trials are needed, there are 3"):
        importance_figure(read(made_study(5)))


def test_the_key_that_decides_is_the_most_important():
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: t.suggest_float("a", 0, 1) + 0.01 * t.suggest_float("b", 0, 1), n_trials=60)
    table = importances(read(study), ["a", "b"])
    assert (table.loc["a"] > 0.8).all()
    np.testing.assert_allclose(table.sum(), 1)
    mirrored = optuna.create_study(direction="minimize")
    mirrored.add_trials([
        optuna.trial.create_trial(value=-t.value, params=t.params, distributions=t.distributions) for t in study.trials
    ])  # fmt: skip
    np.testing.assert_allclose(importances(read(mirrored), ["a", "b"]), table)


def test_conditional_keys_are_weighed_by_one_evaluator(made_study):
    sweep = read(made_study(30))
    table = importances(sweep, sweep.varied)
    assert table["fANOVA"].isna().tolist() == [key == "loss.gamma" for key in table.index]
    assert table["PED-ANOVA"].notna().all()
    assert words(importance_figure(sweep)).count("not used by every trial") == 1


def test_a_key_that_few_trials_used_is_weighed_by_none(made_study):
    sweep = read(made_study(16))
    assert sum(value is not None for value in sweep.params.loc[sweep.complete.index, "loss.gamma"]) < 10
    table = importances(sweep, sweep.varied)
    assert table.loc["loss.gamma"].isna().all()
    assert table.drop("loss.gamma").notna().all(axis=None)
    np.testing.assert_allclose(table.sum(), 1)


def test_equal_values_have_no_importance(made_study):
    study = optuna.create_study()
    study.optimize(lambda trial: 0 * trial.suggest_float("x", 0, 1), n_trials=12)
    with pytest.raises(NotEnough, match="the same value"):
        importance_figure(read(study))
