import errno
import re

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import FigureSettings, using
from koa_lightning.reporting import style
from koa_lightning.reporting.figures import confusion_matrix_figure
from koa_lightning.reporting.saving import save, stamp

CONFUSION = np.diag([3, 2, 1, 1, 1])


def stamps(figure):
    return [text.get_text() for text in figure.texts if text.get_gid() == "stamp"]


def test_a_figure_is_saved_in_each_format_at_the_printed_width_with_text_as_text(tmp_path):
    with using(FigureSettings(formats=("pdf", "svg", "png"), dpi=300, width=85.0)):
        files = save(confusion_matrix_figure(CONFUSION, "a title", ["phantom data"]), tmp_path / "new" / "a.b")
    assert [file.name for file in files] == ["a.b.pdf", "a.b.svg", "a.b.png"]
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(file.name for file in files)
    svg = files[1].read_text()
    assert ">phantom data</text>" in svg and "a title</text>" in svg
    points = float(re.search(r'width="([\d.]+)pt"', svg).group(1))
    assert points / 72 * 25.4 == pytest.approx(85, abs=0.1)
    with Image.open(files[2]) as picture:
        assert picture.width == pytest.approx(85 / 25.4 * 300, abs=1)
        assert picture.info["dpi"][0] == pytest.approx(300, abs=0.1)
    pdf = files[0].read_bytes()
    assert b"/Type /Font" in pdf and b"/Subtype /Type3" not in pdf  # TrueType: can be searched and edited


def test_the_same_figure_is_the_same_file(tmp_path):
    with using(FigureSettings(formats=("pdf", "svg", "png"))):
        one, two = (save(confusion_matrix_figure(CONFUSION, "t"), tmp_path / name / "x") for name in "ab")
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_a_name_with_an_ending_is_written_in_that_format_and_the_figure_closed(tmp_path):
    figure = plt.figure(figsize=(2, 1))
    figure.subplots()
    with using(FigureSettings(formats=("pdf",))):
        [file] = save(figure, tmp_path / "a.png")
    with Image.open(file) as image:
        assert (image.format, image.size) == ("PNG", (300, 150))
    assert figure.axes == []
    assert plt.get_fignums() == []


def test_a_figure_that_finds_no_space_is_reported_in_one_line_and_the_old_file_stays(tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def half(self, target, **_):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    assert save(Figure(), tmp_path / "a") == []
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert capsys.readouterr().err == f"WARNING: {path}: this figure could not be written (No space left on device)\n"


@pytest.mark.parametrize("caveats", [[], ["phantom data"], ["no pretrained weights"], ["patients in two splits"]])
def test_the_stamp_can_be_turned_off_where_there_is_no_caveat(caveats):
    with using(FigureSettings(stamp=False)):
        shown = stamps(confusion_matrix_figure(CONFUSION, "t", caveats))
    assert sorted(shown) == (sorted([*caveats, DISCLAIMER]) if caveats else [])
    assert sorted(stamps(confusion_matrix_figure(CONFUSION, "t", caveats))) == sorted([*caveats, DISCLAIMER])


def test_long_caveats_are_wrapped_and_a_second_stamp_replaces_the_first():
    figure = Figure(figsize=(3, 3))
    axes = figure.subplots()
    axes.set_xlabel("x")
    stamp(figure, ("an old caveat",))
    caveats = ("phantom data", "no pretrained weights", "half of the knees omitted")
    stamp(figure, caveats)
    lines = [text for text in figure.texts if text.get_color() == style.palette().caveat]
    assert len(lines) > 1
    assert " ".join(text.get_text() for text in reversed(lines)).split() == "  ·  ".join(caveats).split()
    figure.draw_without_rendering()
    assert all(line.get_window_extent().x1 <= figure.bbox.x1 for line in lines)
    assert max(line.get_window_extent().y1 for line in lines) < axes.get_tightbbox().y0


@pytest.mark.parametrize("name", ["preds_$x_$.csv", "a$10k$b", r"half\$_$"])
def test_a_name_with_dollar_signs_is_no_formula(name, tmp_path):
    figure = confusion_matrix_figure(CONFUSION, name, [name])
    axes = figure.axes[0]
    axes.plot([0, 1], label=name)
    axes.legend()
    axes.set_yticks([0, 1], [name, "other"])
    stamp(figure, [name])
    shown = [text for text in figure.findobj(Text) if text.get_text() == name]
    assert len(shown) >= 4
    assert {text._preprocess_math(name) for text in shown} == {(name, False)}
    assert save(figure, tmp_path / "made")
