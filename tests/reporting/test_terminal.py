import io

import pytest
from rich.console import Console
from rich.table import Table

from koa_lightning.reporting import terminal

LONG = ["efflite0-focal lr=1e-3 data.root=/data/knees/chen2018", "effb3-ce lr=1e-4 data.root=/data/knees/other"]


def shown(names, width, title=""):
    def make(heads):
        table = Table("metric", *heads)
        table.add_row("kappa", "0.71", "0.72")
        return table

    file = io.StringIO()
    terminal.show(Console(file=file, width=width), make, names, title)
    return file.getvalue().splitlines()


def test_names_that_fit_are_in_the_table():
    lines = shown(["first", "second"], 80)
    assert "first" in lines[1] and "second" in lines[1]
    assert not any(line.startswith("A: ") for line in lines)


def test_names_that_do_not_fit_are_whole_lines_below():
    lines = shown(LONG, 80)
    assert lines[-2:] == [f"A: {LONG[0]}", f"B: {LONG[1]}"]
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].split() == ["┃", "metric", "┃", "A", "┃", "B", "┃"]
    assert LONG[0] in shown(LONG, 200)[1]


def test_a_title_is_one_line():
    title = "a title that is longer than the table that stands below it"
    assert shown(["a", "b"], 40, title)[0] == title


@pytest.mark.parametrize(("number", "letter"), [(0, "A"), (25, "Z"), (26, "AA"), (27, "AB"), (701, "ZZ")])
def test_letters_do_not_run_out(number, letter):
    assert terminal._letter(number) == letter
