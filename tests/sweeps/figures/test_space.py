import numpy as np
import optuna
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import FigureSettings, using
from koa_lightning.reporting import saving, style
from koa_lightning.sweeps.figures.history import NotEnough
from koa_lightning.sweeps.figures.importance import importance_figure
from koa_lightning.sweeps.figures.space import NOT_USED, _log_ticks, parallel_figure, slices_figure
from koa_lightning.sweeps.results import read
from tests.fixtures.figure_checks import PRINTED, faults

KAPPA, ECE = "val/quadratic_kappa", "val/ece"
FIGURES = {"parallel": parallel_figure, "slices": slices_figure, "importance": importance_figure}


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.sample(2)
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("metrics", [(KAPPA,), (KAPPA, ECE)], ids=["one", "two"])
def test_figures_carry_the_marks(draw, metrics, made_study, tmp_path):
    figure = draw(read(made_study(30, metrics=metrics)))
    stamps = {text.get_text() for text in figure.texts if text.get_gid() == "stamp"}
    assert stamps == {DISCLAIMER, "phantom data"}
    if len(metrics) == 1:
        assert saving.save(figure, tmp_path / "x")[0].stat().st_size > 5000


@pytest.mark.sample(2)
@pytest.mark.parametrize("printed", PRINTED)
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_they_are_fit_for_print(draw, printed, made_study):
    with using(printed):
        assert faults(draw(read(made_study(30)))) == []


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize(("n", "there"), [(1, "is 1"), (0, "are none")])
def test_too_few_trials_are_said(draw, n, there, made_study):
    with pytest.raises(NotEnough, match=f"complete trials are needed, there {there}"):
        draw(read(made_study(n)))


def test_three_trials_have_parallel_coordinates_and_slices(made_study):
    for draw in (parallel_figure, slices_figure):
        assert draw(read(made_study(3))).axes


def test_trials_of_one_value_have_it_alone_on_their_bar(made_study):
    sweep = read(made_study(6))
    sweep.trials[KAPPA] = 0.25
    with using(FigureSettings(width=85.0, font_size=7.5)):
        figure = parallel_figure(sweep)
        assert faults(figure) == []
    bar = figure.axes[-1]
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0.25"]


def test_keys_that_are_constant_are_omitted(made_study):
    for draw in FIGURES.values():
        figure = draw(read(made_study(30)))
        assert not any("max_epochs" in text for text in words(figure))
    study = optuna.create_study()
    same = {"x": optuna.distributions.CategoricalDistribution([1, 2])}
    study.add_trials([optuna.trial.create_trial(value=v, params={"x": 1}, distributions=same) for v in (0.0, 1.0)] * 6)
    for draw in FIGURES.values():
        with pytest.raises(NotEnough, match="no key differs"):
            draw(read(study))


def lines_of(sweep):
    axes = parallel_figure(sweep).axes[0]
    n = len(sweep.varied) + len(sweep.metrics)
    return [line for line in axes.lines if len(line.get_ydata()) == n]


def test_parallel_has_a_line_a_trial_and_the_best_in_black(made_study):
    sweep = read(made_study(30))
    lines = lines_of(sweep)
    assert len(lines) == len(sweep.complete)
    black = [line for line in lines if to_hex(line.get_color()) == style.INK]
    assert [line.get_ydata()[-1] for line in black] == [1.0]  # the top of the last scale


def test_parallel_scales_logarithms_and_sets_unused_keys_apart(made_study):
    sweep = read(made_study(30))
    heights = np.array([line.get_ydata() for line in lines_of(sweep)])
    rates = sweep.complete.join(sweep.params)["optimizer.lr"].astype(float)
    expected = (np.log(rates) - np.log(rates.min())) / (np.log(rates.max()) - np.log(rates.min()))
    np.testing.assert_allclose(sorted(heights[:, 2]), sorted(expected), atol=1e-9)
    unused = sum(value is None for value in sweep.params.loc[sweep.complete.index, "loss.gamma"])
    assert (heights[:, 4] < 0).sum() == unused > 0
    assert NOT_USED in words(parallel_figure(sweep))
    assert {"efflite0", "effb0", "effb3", "ce", "focal"} <= set(words(parallel_figure(sweep)))


def test_slices_have_every_complete_trial_on_the_right_scale(made_study):
    sweep = read(made_study(30))
    panels = {axes.get_xlabel().split("\n")[0]: axes for axes in slices_figure(sweep).axes}
    assert set(panels) == {"model", "loss", "lr", "degrees", "gamma", "trial"}
    assert {name: axes.get_xscale() for name, axes in panels.items()}["lr"] == "log"
    points = panels["lr"].collections[0].get_offsets()
    assert len(points) == len(sweep.complete)
    np.testing.assert_allclose(sorted(points[:, 1]), sorted(sweep.complete[KAPPA]))
    used = sum(value is not None for value in sweep.params.loc[sweep.complete.index, "loss.gamma"])
    assert panels["gamma"].get_xlabel() == f"gamma\n({used} of 17 trials)"
    assert len(panels["gamma"].collections[0].get_offsets()) == used
    assert len({axes.get_ylim() for name, axes in panels.items() if name != "trial"}) == 1
    ticks = [text.get_text() for text in panels["model"].get_xticklabels()]
    assert ticks == ["efflite0", "effb0", "effb3"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1e-5, 1e-2, [1e-5, 1e-4, 1e-3, 1e-2]),
        (2e-5, 4e-4, [1e-4, 3e-5, 3e-4]),
        (1.2e-5, 6.4e-5, [2e-5, 5e-5]),
        (2.1, 2.4, [2.1, 2.4]),
        (1e-12, 1.0, [1e-12, 1e-9, 1e-6, 1e-3, 1.0]),
    ],
)
def test_a_logarithmic_scale_has_few_round_numbers(low, high, ticks):
    np.testing.assert_allclose(sorted(_log_ticks(low, high)), sorted(ticks))


def test_a_conditional_choice_has_a_place_for_trials_without_it():
    choice = optuna.distributions.CategoricalDistribution
    study = optuna.create_study()
    for i in range(4):
        params = {"loss": "focal", "loss.class_weights": "sqrt"} if i % 2 else {"loss": "ce"}
        spaces = {"loss": choice(["ce", "focal"]), "loss.class_weights": choice(["none", "sqrt"])}
        used = {key: spaces[key] for key in params}
        study.add_trial(optuna.trial.create_trial(value=float(i), params=params, distributions=used))
    panels = {axes.get_xlabel(): axes for axes in slices_figure(read(study)).axes}
    assert [text.get_text() for text in panels["class_weights"].get_xticklabels()] == ["sqrt", NOT_USED]


def test_choices_that_are_numbers_stand_in_their_order():
    choice = optuna.distributions.CategoricalDistribution(["1e-3", "1e-5", "1e-4"])
    study = optuna.create_study()
    for i, value in enumerate(choice.choices):
        study.add_trial(optuna.trial.create_trial(value=i, params={"lr": value}, distributions={"lr": choice}))
    ticks = [text.get_text() for text in slices_figure(read(study)).axes[0].get_xticklabels()]
    assert ticks == ["1e-5", "1e-4", "1e-3"]
