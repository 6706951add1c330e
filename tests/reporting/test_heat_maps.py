import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.text import Text

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import FigureSettings, using
from koa_lightning.errors import InputError
from koa_lightning.reporting import style
from koa_lightning.reporting.heat_maps import cam_panel, choose_knees, letters, overlay, with_words
from koa_lightning.reporting.saving import save
from tests.fixtures.figure_checks import PRINTED, faults


def test_choice_by_hand():
    grade = [0, 0, 2, 2, 4, 4, 4]
    predicted = [1, 0, 1, 4, 4, 0, 3]
    expected = [1.2, 0.1, 1.3, 3.0, 3.9, 1.0, 3.4]
    # the first of 0, of 2, of 4, right or wrong; then off by 3.0, 1.0, 0.6
    assert choose_knees(grade, predicted, expected) == [0, 2, 4, 5, 3, 6]
    assert choose_knees(grade, predicted, expected, n_worst=2) == [0, 2, 4, 5, 3]
    assert choose_knees(grade, predicted, expected, n_worst=0) == [0, 2, 4]


def test_equal_mistakes_keep_the_order_of_the_table():
    assert choose_knees([1] * 5, [1, 2, 2, 0, 2], [1.0, 2.0, 2.0, 0.0, 2.0], n_worst=3) == [0, 1, 2, 3]
    assert choose_knees([1, 3] * 50, [2, 3] * 50, [2.0, 3.0] * 50, n_worst=3) == [0, 1, 2, 4, 6]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0, 4)), min_size=1, max_size=30),
    st.integers(0, 6),
)
def test_choice_holds_each_grade_once_and_then_only_mistakes(knees, n_worst):
    grade, predicted, expected = (np.array(each) for each in zip(*knees, strict=True))
    chosen = choose_knees(grade, predicted, expected, n_worst)
    present = sorted(set(grade.tolist()))
    assert len(chosen) == len(set(chosen)) <= len(present) + n_worst
    assert grade[chosen[: len(present)]].tolist() == present
    worst = chosen[len(present) :]
    assert all(predicted[knee] != grade[knee] for knee in worst)
    errors = np.abs(expected - grade)[worst]
    assert (np.diff(errors) <= 0).all()
    left = [k for k in range(len(grade)) if k not in chosen and predicted[k] != grade[k]]
    assert len(worst) == n_worst or not left
    assert all(abs(expected[knee] - grade[knee]) <= errors.min(initial=np.inf) for knee in left if len(worst))


def test_overlay_is_gray_without_heat_and_shows_the_bone_under_full_heat():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cold = overlay(image, np.zeros((16, 16)))
    assert cold.dtype == np.uint8
    np.testing.assert_array_equal(cold, np.repeat(image[..., None], 3, 2))
    hot = overlay(image, np.ones((16, 16), np.float32)).astype(int)
    assert (np.ptp(hot, axis=(0, 1)) > 80).all()  # a third of the contrast is left in each channel
    assert (hot[..., 0] > hot[..., 2]).all()


def test_overlay_has_one_colour_scale_whatever_the_map_holds():
    image = np.full((2, 2), 100, np.uint8)
    mild, whole = np.full((2, 2), 0.5), np.array([[0, 0.5], [0.75, 1]])
    np.testing.assert_array_equal(overlay(image, mild)[0, 0], overlay(image, whole)[0, 1])


@pytest.mark.parametrize(
    ("image", "heat"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5))),
        (np.zeros((4, 4)), np.zeros((4, 4))),
        (np.zeros((4, 4), np.uint8), np.full((4, 4), 1.5)),
        (np.zeros((4, 4), np.uint8), np.full((4, 4), np.nan)),
    ],
)
def test_overlay_refuses_what_does_not_fit(image, heat):
    with pytest.raises(InputError, match="overlay"):
        overlay(image, heat)


def panel(n, caveats=(), prefix="knee-"):
    rng = np.random.default_rng(0)
    grade = np.arange(n) % 5
    predicted = np.where(np.arange(n) == 1, 3, grade)
    shares = np.eye(5)[predicted] * 0.6 + 0.08
    images = rng.integers(0, 256, (n, 24, 24), dtype=np.uint8)
    names = [f"{prefix}{knee}" for knee in range(n)]
    return cam_panel(images, rng.random((n, 24, 24)), grade, predicted, shares, names, caveats)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_panel_shows_each_knee_and_the_marks(n, tmp_path):
    figure = panel(n, ("phantom data",))
    texts = {text.get_text(): text for text in figure.findobj(Text) if text.get_text()}
    pictures = [axes.images[0] for axes in figure.findobj(lambda each: hasattr(each, "images")) if axes.images]
    assert len({id(picture) for picture in pictures}) == 2 * n
    assert {DISCLAIMER, "phantom data"} <= set(texts)
    for knee in range(n):
        (title,) = [text for text in texts if text.startswith(f"knee-{knee}\n")]
        assert ("mistake" in title) == (knee == 1)
        assert (texts[title].get_color() == style.palette().caveat) == (knee == 1)
    assert "68%" in texts
    assert any("Grad-CAM" in text for text in texts)
    assert plt.get_fignums() == []
    assert save(figure, tmp_path / "panel.png")[0].stat().st_size > 0


def test_a_map_of_zeros_is_named():
    figure = cam_panel(np.full((1, 8, 8), 90, np.uint8), np.zeros((1, 8, 8)), [0], [0], np.eye(5)[:1], ["knee"])
    assert "the map is 0" in [text.get_text() for text in figure.findobj(Text)]


def test_panel_refuses_lengths_that_do_not_fit():
    images = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(InputError, match="lengths"):
        cam_panel(images, np.zeros((2, 8, 8)), [0], [0, 1], np.eye(5)[:2], ["a", "b"])
    with pytest.raises(InputError, match="at least one"):
        cam_panel(images[:0], np.zeros((0, 8, 8)), [], [], np.zeros((0, 5)), [])


@pytest.mark.slow
def test_many_knees_fit_on_a_page_of_two_columns():
    with using(FigureSettings(width=174.0)):
        assert faults(panel(10)) == []
        crowded = panel(20)
        assert faults(crowded) == []
    assert len(crowded.findobj(Axes)) == 2 * 20 + 1  # no bars


@pytest.mark.slow
def test_the_mark_of_a_mistake_stays_beside_its_word():
    with using(FigureSettings(width=85.0, font_size=7.5)):
        shown = [text.get_text() for text in panel(9).findobj(Text)]
    assert any("✗\u00a0mistake" in text for text in shown)
    assert not any(line.endswith("✗") for text in shown for line in text.split("\n"))


@pytest.mark.sample(2)
@pytest.mark.parametrize("printed", PRINTED)
@pytest.mark.parametrize("n", [1, 4, 9])
def test_panels_are_fit_for_print(n, printed):
    with using(printed):
        figure = panel(n, ("phantom data",), prefix="1.2.840.113619.2.55.3.604688119.969.1268071029.320.")
        assert faults(figure) == []
        assert figure.get_figheight() < 10.0  # inches: a page
    shown = [text.get_text() for text in figure.findobj(Text)]
    assert len([text for text in shown if text.startswith("1.2.") and "…" in text]) == n
    assert sum("60%" in text or "68%" in text for text in shown) >= n  # in the bars, or beside the grade


def test_words_below_a_picture_fit_in_a_real_font_and_the_picture_keeps_its_size():
    picture = np.full((90, 128, 3), 200, np.uint8)
    words = ["grade 2 (minimal), set 1-3", "phantom data", "averylongwordthatdoesnotfitbyitself", DISCLAIMER]
    made = np.asarray(with_words(picture, words, letters(picture)))
    np.testing.assert_array_equal(made[:90], picture)
    band = made[90:]
    assert band.shape[0] >= 4 * letters(picture)
    ink = np.flatnonzero(band.max(axis=(0, 2)) > 60)
    assert ink.min() >= 3 and 128 - ink.max() > 1
    assert len(np.unique(band)) > 20  # smooth edges: no bitmap letters
    assert letters(np.zeros((10, 1600, 3))) == 50
