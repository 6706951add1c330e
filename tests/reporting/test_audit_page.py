import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from koa_lightning.data.audit.findings import KINDS, Finding
from koa_lightning.data.audit.gather import Knees
from koa_lightning.data.audit.run import Result
from koa_lightning.reporting import audit_page

FACTS = {
    "note": "research use only", "version": "0.1.0", "data": "a & b", "source": "knees", "marks": ["phantom <data>"],
    "fingerprint": "abc", "n_knees": 1234, "n_patients": 2, "n_unreadable": 1,
    "parts": {"train": [1, 0, 0, 0, 0], "val": [0, 1, 0, 0, 0]},
    "severities": {"leakage": 1, "warning": 0, "note": 0}, "kinds": {"same_pixels": 1, "blank": 0},
    "not_looked_for": ["near_duplicate"], "exit_code": 3,
}  # fmt: skip


@pytest.fixture
def knees(tmp_path):
    rows = pd.DataFrame(
        {
            "path": [str(tmp_path / name) for name in ("a/<1>.png", "b/2.png", "b/3.png")],
            "grade": [0, 1, -1],
            "patient": ["P1", "P2", ""],
            "side": ["L", "R", ""],
            "split": ["train", "val", ""],
        }
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224), np.uint8)
    return Knees(rows, images, np.array(["x", "x", ""]), np.array([[9, 9]] * 3), {2: "empty"}, tmp_path / "c.npy")


@pytest.fixture
def page(knees, tmp_path, monkeypatch):
    for name in ("grades_figure", "patients_figure", "statistics_figure"):
        monkeypatch.setattr(audit_page.figures, name, lambda *args: Figure(figsize=(1, 1)))

    def write(*found, facts=FACTS, **options):
        result = Result(list(found), pd.DataFrame({"brightness": [1.0] * 3}), pd.DataFrame())
        return audit_page.write_page(tmp_path / "audit.html", facts, knees, result, **options).read_text()

    return write


def finding(rows=(0, 1), severity="leakage", kind="same_pixels", evidence="two <parts>"):
    return Finding(kind, severity, [f"f{row}" for row in rows], evidence, rows=list(rows))


def test_words_of_others_are_text_and_the_page_asks_for_nothing(page):
    text = page(finding())
    assert "a &amp; b" in text and "phantom &lt;data&gt;" in text and "two &lt;parts&gt;" in text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert "1,234" in text


@pytest.mark.parametrize(
    ("code", "words"), [(0, "Clean: no leakage"), (1, "Warnings: review"), (3, "Leakage: two splits")]
)
def test_the_verdict_follows_the_exit_code(code, words, page):
    assert f'<section class="verdict c{code}" id="summary"><h2>{words}' in page(facts={**FACTS, "exit_code": code})


def test_nothing_found_is_said(page):
    assert "No findings." in page()
    assert "No findings." not in page(finding())


def test_pictures_are_those_of_the_knees_and_an_unreadable_one_has_none(page, knees):
    text = page(finding((0, 1, 2)))
    [gallery] = re.findall(r'<section id="same_pixels">.*?</section>', text, re.DOTALL)
    shots = re.findall(r'<div class="shot".*?</div>', gallery, re.DOTALL)
    assert [len(re.findall("<img", shot)) for shot in shots] == [1, 1, 0]
    assert "train · grade 0<br>a/&lt;1&gt;.png" in shots[0]  # below the folder that all share
    assert "no split · grade unknown<br>b/3.png" in shots[2]
    content = re.search(r"base64,([^\"]+)", shots[1])[1]
    shown = np.asarray(Image.open(BytesIO(base64.b64decode(content)))).astype(float)
    assert np.corrcoef(shown.ravel(), knees.images[1].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("n", "left"), [(6, False), (7, True)])
def test_of_a_large_group_six_pictures_are_shown_and_the_rest_is_counted(n, left, page):
    text = page(finding((0,) * n))
    assert text.count('class="shot"') == 6
    assert ("(and 1 more files)" in text) == left


@pytest.mark.parametrize(("n", "left"), [(2, False), (3, True)])
def test_findings_that_are_omitted_are_counted(n, left, page):
    text = page(*[finding()] * n, n_shown=2)
    assert text.count("<figcaption>") == 2
    assert ("The first 2 of 3 are shown" in text) == left


def test_every_kind_is_explained_whether_it_was_looked_for_or_not(page):
    [table] = re.findall(r'<section id="kinds">.*?</section>', page(finding()), re.DOTALL)
    counts = re.findall(r'<td class="n">(.*?)</td>', table)
    assert dict(zip(KINDS, counts, strict=True)) == dict.fromkeys(KINDS, "not checked") | {
        "same_pixels": "1", "blank": "0",
    }  # fmt: skip


def test_knees_without_files_keep_their_names(knees):
    drawn = knees.rows.assign(path=["phantom://1/P1L-0", "phantom://1/P1R-1", "phantom://1/P2L-2"])
    shots = audit_page._Shots(Knees(drawn, knees.images, knees.pixels, knees.shapes, {}, Path("c")))
    assert "<br>phantom://1/P1R-1</span>" in shots.one(1)
