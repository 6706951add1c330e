import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.text import Text

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import FigureSettings, using
from koa_lightning.errors import InputError
from koa_lightning.reporting import figures
from koa_lightning.reporting.figures import confusion_matrix_figure, learning_curves_figure
from tests.fixtures.figure_checks import PRINTED, faults

CONFUSION = np.array([[8, 2, 0, 0, 0], [1, 1, 2, 0, 0], [0, 1, 5, 0, 0], [0, 0, 1, 3, 0], [0, 0, 0, 0, 0]])


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def history(epochs=4, names=tuple(figures.CURVES)):
    rows = [
        (epoch, f"{split}/{name}", 0.1 * epoch + 0.01 * len(split))
        for epoch in range(epochs)
        for split in ("train", "val")
        for name in names
    ]
    return pd.DataFrame(rows, columns=["epoch", "name", "value"])


FIGURES = {
    "confusion": lambda caveats: confusion_matrix_figure(CONFUSION, "val", caveats),
    "curves": lambda caveats: learning_curves_figure(history(), caveats),
}


@pytest.mark.parametrize("printed", PRINTED)
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_every_figure_is_fit_for_print(draw, printed):
    with using(printed):
        assert faults(draw(("phantom data", "no pretrained weights"))) == []
    assert plt.get_fignums() == []


def test_without_marks_the_sentence_stays():
    assert DISCLAIMER in words(confusion_matrix_figure(CONFUSION, "val"))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_confusion_figure_says_counts_shares_and_scores(kind):
    text = words(confusion_matrix_figure(kind(CONFUSION), "Validation split"))
    assert "Validation split" in text
    assert "8\n80%" in text
    assert "0 none\nn = 10" in text
    assert any("accuracy 0.708" in each and "24 knees" in each for each in text)
    assert sum("%" in each and "\n" in each for each in text) == 20  # the row without knees is empty


def test_confusion_of_one_grade_has_no_kappa():
    one = np.zeros((5, 5), int)
    one[2, 2] = 3
    assert any("quadratic kappa undefined" in each for each in words(confusion_matrix_figure(one, "val")))


def test_confusion_of_another_size_is_refused():
    with pytest.raises(InputError, match="5 x 5"):
        confusion_matrix_figure(np.eye(4), "val")


def test_curves_have_a_panel_each_and_mark_the_best_epoch():
    table = history()
    table.loc[(table["epoch"] == 1) & (table["name"] == "val/quadratic_kappa"), "value"] = 0.9
    figure = learning_curves_figure(table)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(figures.CURVES.values())
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.lines}
        assert len(lines["train"].get_xdata()) == len(lines["val"].get_xdata()) == 4
        assert set(lines["best epoch: 1"].get_xdata()) == {1}
    assert "0.900" in words(figure)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "values", [(0.9, 1.2, 1.3), (1.0, 0.2, 0.1), (0.4, 0.9, 0.3), (0.7, 0.5, 0.6), (0.1, 0.2, 0.9)]
)
@pytest.mark.parametrize("width", [85.0, 174.0])
def test_the_best_value_does_not_stand_on_its_curve(values, width):
    """The number of the best epoch, and the curve of the validation split, at steps of a pixel."""
    table = pd.DataFrame([(epoch, "val/mae", value) for epoch, value in enumerate(values)], columns=history().columns)
    with using(FigureSettings(width=width, font_size=7.5)):
        figure = learning_curves_figure(table, monitor="val/mae", mode="min")
        assert faults(figure) == []
        [axes] = figure.axes
        places = axes.transData.transform(axes.lines[0].get_xydata())
        steps = np.linspace(0, len(places) - 1, 2000)
        x, y = (np.interp(steps, range(len(places)), places[:, i]) for i in range(2))
        [number] = axes.texts
        box = number.get_window_extent().padded(-2)
    assert not ((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).any()


def test_curves_take_another_monitor():
    figure = learning_curves_figure(history(), monitor="val/loss", mode="min")
    assert any(line.get_label() == "best epoch: 0" for line in figure.axes[0].lines)


@pytest.mark.parametrize("names", [("loss",), ("loss", "mae"), ("accuracy", "loss", "mae")])
def test_curves_of_fewer_names_leave_no_empty_panel(names):
    figure = learning_curves_figure(history(names=names))
    assert len(figure.axes) == len(names)
    assert not any("best epoch" in each for each in words(figure))


def test_curves_with_one_epoch_gaps_and_repeated_rows():
    table = history(2)
    table.loc[table["name"] == "train/mae", "value"] = np.nan
    again = table[(table["epoch"] == 1) & (table["name"] == "val/loss")].assign(value=7.0)
    figure = learning_curves_figure(pd.concat([table, again]))
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["val"].get_ydata()) == [pytest.approx(0.03), 7.0]
    one = learning_curves_figure(history(1))
    assert one.axes[0].get_xlim() == (-0.5, 0.5)
    assert [tick for tick in one.axes[0].get_xticks() if abs(tick) <= 0.5] == [0]


def test_curves_of_the_wrong_table_are_refused():
    with pytest.raises(InputError, match="epoch"):
        learning_curves_figure(pd.DataFrame({"name": [], "value": []}))
    with pytest.raises(InputError, match="val/loss"):
        learning_curves_figure(history().assign(name="lr"))
