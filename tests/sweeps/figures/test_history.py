import numpy as np
import optuna
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import using
from koa_lightning.reporting import saving, style
from koa_lightning.sweeps.figures import history as drawn
from koa_lightning.sweeps.figures.history import NotEnough, curves_figure, history_figure, pareto_figure
from koa_lightning.sweeps.results import read
from tests.fixtures.figure_checks import PRINTED, faults

KAPPA, ECE = "val/quadratic_kappa", "val/ece"


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def labels(axes):
    return [text.get_text() for text in axes.figure.legends[0].get_texts()]


def line(axes, start):
    (found,) = [each for each in axes.lines if str(each.get_label()).startswith(start)]
    return found


@pytest.mark.parametrize("n", [1, 3, 30])
@pytest.mark.parametrize("draw", [history_figure, curves_figure])
def test_figures_are_drawn_from_few_and_many_trials_and_carry_the_marks(draw, n, made_study, tmp_path):
    figure = draw(read(made_study(n)))
    stamps = {text.get_text() for text in figure.texts if text.get_gid() == "stamp"}
    assert stamps == {DISCLAIMER, "phantom data"}
    if n == 30:
        assert saving.save(figure, tmp_path / "x")[0].stat().st_size > 5000
    assert plt.get_fignums() == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("printed", PRINTED)
def test_they_are_fit_for_print(made_study, printed):
    sweeps = [read(made_study(n)) for n in (3, 30)]
    several = read(made_study(30, metrics=(KAPPA, ECE, "seconds")))
    with using(printed):
        for figure in (*map(history_figure, [*sweeps, several]), *map(curves_figure, sweeps), pareto_figure(several)):
            assert faults(figure) == []


def test_history_shows_every_trial_once(made_study):
    sweep = read(made_study(30))
    axes = history_figure(sweep).axes[0]
    shown = {
        "complete": line(axes, "complete"), "pruned": line(axes, "pruned"), "failed": line(axes, "failed"),
        "interrupted": line(axes, "interrupted"),
    }  # fmt: skip
    for state, points in shown.items():
        assert points.get_xdata().tolist() == sweep.trials.index[sweep.trials["state"] == state].tolist()
    assert "complete (17)" in labels(axes)
    np.testing.assert_array_equal(shown["complete"].get_ydata(), sweep.complete[KAPPA])
    best = line(axes, "best so far").get_ydata()
    assert best[-1] == sweep.complete[KAPPA].max()
    assert (np.diff(best) >= 0).all()


def test_less_is_better_goes_down():
    study = optuna.create_study(direction="minimize")
    study.add_trials([optuna.trial.create_trial(value=value) for value in (3.0, 1.0, 2.0)])
    axes = history_figure(read(study)).axes[0]
    assert line(axes, "best so far").get_ydata().tolist() == [3, 1, 1, 1]
    assert "less is better" in axes.get_ylabel()


def test_values_out_of_all_proportion_are_cut_off_and_said():
    study = optuna.create_study(direction="minimize")
    values = [1.0, 1.1, 1.2, 1.3, 1.25, 1.15, 900.0, 1e6]
    study.add_trials([optuna.trial.create_trial(value=value) for value in values])
    figure = history_figure(read(study))
    assert figure.axes[0].get_ylim()[1] < 2
    assert "2 values beyond this edge, the worst 1e+06" in words(figure)
    mirrored = optuna.create_study(direction="maximize")
    mirrored.add_trials([optuna.trial.create_trial(value=-value) for value in values])
    figure = history_figure(read(mirrored))
    assert figure.axes[0].get_ylim()[0] > -2
    assert "2 values beyond this edge, the worst -1e+06" in words(figure)


def test_repeats_have_bars(made_study):
    assert not history_figure(read(made_study(8))).axes[0].collections
    assert history_figure(read(made_study(8, repeats=3))).axes[0].collections


def test_a_sweep_whose_trials_all_failed_has_a_history_and_no_curves():
    study = optuna.create_study()
    study.add_trials([optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)] * 2)
    assert "failed (2)" in labels(history_figure(read(study)).axes[0])
    with pytest.raises(NotEnough, match="no trial reported any"):
        curves_figure(read(study))


def test_a_sweep_without_trials_has_no_history():
    with pytest.raises(NotEnough, match="no trial"):
        history_figure(read(optuna.create_study()))


def test_curves_show_what_was_reported_and_the_best_in_black(made_study):
    sweep = read(made_study(30))
    axes = curves_figure(sweep).axes[0]
    best = line(axes, f"best: trial {sweep.front[0]}")
    np.testing.assert_array_equal(best.get_ydata(), sweep.curves[sweep.front[0]])
    assert best.get_color() == style.INK
    assert {label.split(" (")[0] for label in labels(axes)} == {
        "complete", "pruned", "interrupted", f"best: trial {sweep.front[0]}",
    }  # fmt: skip
    whole = [each for each in axes.lines if len(each.get_xdata()) == 5]
    assert len(whole) == len(sweep.complete)


def test_curves_of_several_objectives_are_of_the_first(made_study):
    sweep = read(made_study(8, metrics=(KAPPA, ECE)))
    axes = curves_figure(sweep).axes[0]
    assert axes.get_ylabel() == KAPPA
    assert f"trial {sweep.front[0]}, best at the end" in labels(axes)


@pytest.mark.parametrize(("metrics", "panels"), [((KAPPA, ECE), 1), ((KAPPA, ECE, "seconds"), 3)])
def test_the_front_is_numbered(metrics, panels, made_study):
    sweep = read(made_study(30, metrics=metrics))
    figure = pareto_figure(sweep)
    assert len(figure.axes) == panels
    assert {str(number) for number in sweep.front} <= set(words(figure))
    front, others = (line(figure.axes[0], start) for start in ("Pareto front", "beaten by"))
    assert len(front.get_xdata()) == len(sweep.front)
    assert len(others.get_xdata()) == len(sweep.complete) - len(sweep.front)


@pytest.mark.parametrize("directions", [("maximize", "minimize"), ("minimize", "minimize"), ("maximize", "maximize")])
def test_the_line_of_the_front_promises_nothing_that_no_trial_reached(directions):
    rng = np.random.default_rng(1)
    study = optuna.create_study(directions=directions)
    study.add_trials([optuna.trial.create_trial(values=row.tolist()) for row in rng.random((40, 2))])
    sweep = read(study)
    axes = pareto_figure(sweep).axes[0]
    (steps,) = [each for each in axes.lines if each.get_drawstyle().startswith("steps")]
    done = sweep.complete[sweep.metrics].to_numpy()
    sign = np.array([1 if mode == "max" else -1 for mode in sweep.modes])
    corners = drawn_corners(steps)
    for corner in corners:
        assert ((done - corner) * sign >= -1e-12).all(axis=1).any()


def drawn_corners(steps):
    x, y = steps.get_xdata(), steps.get_ydata()
    if steps.get_drawstyle() == "steps-post":
        return np.column_stack([x[1:], y[:-1]])
    return np.column_stack([x[:-1], y[1:]])


def test_one_objective_or_no_complete_trial_makes_no_front(made_study):
    with pytest.raises(NotEnough, match="two objectives"):
        pareto_figure(read(made_study(8)))
    with pytest.raises(NotEnough, match="a complete trial"):
        pareto_figure(read(optuna.create_study(directions=["maximize", "minimize"])))


def test_every_state_that_has_no_value_has_a_marker():
    from koa_lightning.sweeps.results import STATES

    assert set(drawn.colours()) == set(STATES)
