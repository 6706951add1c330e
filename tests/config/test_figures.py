import pytest
from matplotlib import font_manager

from koa_lightning.config import figures
from koa_lightning.config.compose import compose, validate
from koa_lightning.config.figures import FigureSettings, configured, current, using
from koa_lightning.errors import InputError


def test_the_groups():
    cfg = compose("train", [])
    assert FigureSettings.of(cfg.figures) == FigureSettings() == FigureSettings.of(None)
    paper = FigureSettings.of(compose("eval", ["figures=paper"]).figures)
    assert (paper.formats, paper.dpi, paper.width) == (("pdf", "svg", "png"), 600, 85.0)
    typed = ["figures=paper", "figures.format=svg", "figures.width=double", "figures.stamp=false"]
    own = FigureSettings.of(compose("compare", typed).figures)
    assert (own.formats, own.width, own.stamp) == (("svg",), 174.0, False)


@pytest.mark.parametrize(
    "command", ["train", "cross_validate", "eval", "report", "explain_tests", "audit", "sweep_report", "compare"]
)
def test_every_command_that_draws_has_the_group(command):
    assert FigureSettings.of(compose(command, ["figures=paper", "figures.width=90"]).figures).width == 90


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("format=[tiff]", "one of png, svg, pdf"),
        ("format=[]", "the list is empty"),
        ("format=[png,png]", "names png twice"),
        ("width=0", "single, double, or a number from 75 to 400"),
        ("width=triple", "single, double"),
        ("font='No Such Font'", "this machine has no such font; it has .*DejaVu Sans"),
        ("font_size=5", "from 7 to 12"),
        ("dpi=0", "from 72 to 1200"),
        ("palette=jet", "okabe_ito, tol, gray"),
        ("stamp=maybe", "true, false"),
    ],
)
def test_what_cannot_be_is_one_line_before_any_work(typed, words):
    with pytest.raises(InputError, match=rf"^figures\.{typed.split('=')[0]}=.*{words}") as error:
        validate(compose("compare", [f"figures.{typed}"]))
    assert "\n" not in str(error.value)


def test_a_font_of_this_machine_is_taken():
    name = next(entry.name for entry in font_manager.fontManager.ttflist if entry.name != figures.OWN_FONT)
    validate(compose("compare", [f"figures.font='{name}'"]))


def test_settings_hold_while_a_command_runs_and_no_longer():
    @configured
    def command(cfg, more):
        if more == "fails":
            raise InputError("x")
        return current().dpi, more

    cfg = compose("compare", ["figures.dpi=99"])
    assert command(cfg, 1) == (99, 1)
    with using(FigureSettings(dpi=100)):
        with pytest.raises(InputError):
            command(cfg, more="fails")
        assert current().dpi == 100
    assert current() == FigureSettings()
