import csv
import shutil
import subprocess

import pytest

from koa_lightning import DISCLAIMER
from koa_lightning.reporting.report import paper
from koa_lightning.reporting.report.paper import Grid, best


def entry(value, low=None, high=None, note=""):
    return {"value": value, "low": low, "high": high, "note": note}


TABLE = Grid(
    "Results on the test split of a_b & 50 % more",
    ["metric", "arg-max", "median grade"],
    [
        ("quadratic_kappa", "quadratic kappa", [entry(0.7, 0.6, 0.8), entry(0.75, 0.65, 0.85)]),
        ("mae", "mean absolute error", [entry(0.4, 0.3, 0.5, "of 3 knees"), entry(0.5, 0.4, 0.6)]),
        ("ece", "ECE", [entry(0.03), None]),
        ("accuracy", "accuracy", [entry(0.61234), entry(0.61230)]),
    ],
    ["Phantom data.", f"{DISCLAIMER.capitalize()}."],
)


def test_the_best_is_by_the_direction_of_the_metric_and_as_it_is_printed():
    assert [best(name, entries) for name, _, entries in TABLE.rows] == [{1}, {0}, set(), set()]
    assert best("accuracy", [entry(0.6), entry(0.6), entry(0.5)]) == {0, 1}
    assert best("no_such_metric", [entry(0.6), entry(0.5)]) == set()


def test_latex():
    text = paper.as_latex(TABLE)
    assert r"\caption{Results on the test split of a\_b \& 50 \% more.}" in text
    assert (
        r"quadratic kappa & 0.700 {\scriptsize(0.600, 0.800)} & \textbf{0.750} {\scriptsize(0.650, 0.850)} \\" in text
    )
    assert r"mean absolute error\textsuperscript{a} & \textbf{0.400" in text
    assert r"ECE & 0.030 & -- \\" in text
    assert r"\textsuperscript{a} Of 3 knees. Phantom data. " in text and DISCLAIMER.capitalize() in text


def test_markdown():
    lines = paper.as_markdown(TABLE).splitlines()
    assert lines[2:4] == ["| metric | arg-max | median grade |", "| :-- | --: | --: |"]
    assert "| quadratic kappa | 0.700 (0.600, 0.800) | **0.750** (0.650, 0.850) |" in lines
    assert "| mean absolute error<sup>a</sup> | **0.400** (0.300, 0.500) | 0.500 (0.400, 0.600) |" in lines
    assert [line.strip() for line in lines[-3:]] == ["<sup>a</sup> Of 3 knees.", *TABLE.notes]


def test_csv_has_whole_numbers():
    rows = list(csv.DictReader(paper.as_csv(TABLE).splitlines()))
    assert len(rows) == 7
    assert rows[1] == {
        "metric": "quadratic_kappa", "title": "quadratic kappa", "column": "median grade", "value": "0.75",
        "low": "0.65", "high": "0.85", "best": "true", "note": "",
    }  # fmt: skip
    assert [row["value"] for row in rows[-2:]] == ["0.61234", "0.6123"]


@pytest.mark.parametrize("kind", ["latex", "markdown", "csv"])
def test_the_files_hold_the_numbers_of_the_evaluation(kind, full, tmp_path):
    files = paper.write(full, tmp_path, kind)
    results, methods = (file.read_text() for file in files)
    kappa = full.metrics["quadratic_kappa"]
    shown = f"({kappa['low']:.3f}, {kappa['high']:.3f})"
    assert (f"{kappa['low']}" if kind == "csv" else shown) in results
    assert "120 knees of 60 patients" in methods.replace("\\", "").lower()
    assert "bootstrap over patients" in methods and "letterboxed to 32 x 32" in methods
    assert DISCLAIMER.capitalize() in methods
    assert "None" not in methods and "nan" not in methods


def test_members_of_an_ensemble_are_columns_of_their_own(full):
    member = {"name": "seed 1", "metrics": {"accuracy": 0.9, "mae": 0.1}, "intervals": {"accuracy": entry(0.9, 0.8, 1)}}
    found = type(full)(**{**vars(full), "sections": {**full.sections, "ensemble": {"members": [member]}}})
    grid = paper.grid(found)
    assert grid.heads[-1] == "seed 1"
    by_name = {name: entries[-1] for name, _, entries in grid.rows}
    assert (by_name["accuracy"]["low"], by_name["mae"]["low"], by_name["log_loss"]) == (0.8, None, None)


def test_every_letter_that_latex_takes_for_itself_is_escaped():
    assert paper.escaped("a_b & 50% of $x^2$ {y} #1 ~ \\ < ≥") == (
        r"a\_b \& 50\% of \$x\textasciicircum{}2\$ \{y\} \#1 \textasciitilde{} \textbackslash{} \textless{} $\geq$"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is missing: apt-get install texlive-latex-base")
@pytest.mark.parametrize("n_members", [0, 3])
def test_latex_compiles(full, tmp_path, n_members):
    one = {"metrics": {}, "intervals": {"accuracy": entry(0.9, 0.8, 1), "mae": entry(0.1, 0.05, 0.2)}}
    rows = [{"name": f"seed_{n}", **one} for n in range(n_members)]
    members = {"ensemble": {"members": rows, "said": "by seed", "calibrated": "no"}} if rows else {}
    paper.write(type(full)(**{**vars(full), "sections": {**full.sections, **members}}), tmp_path, "latex")
    page = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,textcomp}\\begin{document}"
    (tmp_path / "paper.tex").write_text(f"{page}\\input{{methods}}\\input{{results}}\\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert "Overfull" not in ended.stdout  # the table is as wide as the text at most
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
