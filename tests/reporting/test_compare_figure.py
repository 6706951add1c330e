import pandas as pd
import pytest

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import using
from koa_lightning.errors import InputError
from koa_lightning.reporting.compare_figure import curves_figure
from tests.fixtures.figure_checks import PRINTED, faults


def history(**curves):
    rows = [
        (e, f"{name[:3] if name.startswith('val') else 'train'}/loss", v)
        for name, vs in curves.items()
        for e, v in enumerate(vs)
    ]
    return pd.DataFrame(rows, columns=["epoch", "name", "value"])


def test_a_colour_a_run_and_a_line_style_a_split():
    figure = curves_figure({"a": history(val=[3, 2], train=[4, 3]), "b": history(val=[3, 1])}, ["phantom data"])
    (panel,) = figure.axes
    drawn = {
        (line.get_color(), line.get_linestyle()): list(line.get_ydata())
        for line in panel.lines
        if len(line.get_ydata())
    }
    assert sorted(drawn.values()) == [[3, 1], [3, 2], [4, 3]]
    assert len({colour for colour, _ in drawn}) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "validation", "training"]
    texts = [text.get_text() for text in figure.texts]
    assert DISCLAIMER in texts and "phantom data" in texts


@pytest.mark.sample(1)
@pytest.mark.parametrize("printed", PRINTED)
def test_it_is_fit_for_print(printed):
    names = ["val/loss", "val/quadratic_kappa", "val/accuracy", "val/mae", "train/loss"]
    rows = [(epoch, name, 0.1 * epoch) for epoch in range(9) for name in names]
    table = pd.DataFrame(rows, columns=["epoch", "name", "value"])
    runs = {"efflite0 soft_ordinal": table, "convnext_tiny focal, 40 epochs of 224 px on half of the data": table}
    with using(printed):
        assert faults(curves_figure(runs, ["phantom data", "no pretrained weights"])) == []


def test_many_runs_have_colours_of_their_own():
    figure = curves_figure({str(i): history(val=[i]) for i in range(14)})
    assert len({str(line.get_color()) for line in figure.axes[0].lines}) == 14


def test_runs_without_curves():
    with pytest.raises(InputError, match="no run has a learning curve"):
        curves_figure({"a": history()})
