import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from koa_lightning import DISCLAIMER
from koa_lightning.errors import InputError
from koa_lightning.reporting.report import contents, page

SECTIONS = [
    "Model card", "Training and evaluation data", "Results", "Confusion matrix", "ROC and precision-recall",
    "Calibration", "Abstention", "Prediction sets", "Out-of-distribution inputs", "Subgroups", "Readers",
    "Explanations and their tests", "Failures", "Limits", "CLAIM", "TRIPOD+AI", "How this report was made",
]  # fmt: skip
FIGURES = {
    "confusion_matrix", "roc", "precision_recall", "reliability", "risk_coverage", "prediction_sets", "subgroups",
    "deletion", "insertion", "randomisation",
}  # fmt: skip


class Reader(HTMLParser):
    """Collects what a page asks for, its headings and its text; complains of tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.asked, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.asked += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        assert tag not in ("script", "link", "iframe", "object", "base")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def written(full, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, page.write(full, folder)


def test_one_file_that_asks_for_nothing(written):
    folder, _ = written
    text = (folder / "report.html").read_text()
    assert len(text.encode()) < 5_000_000
    read = Reader(text)
    assert read.open == []
    assert all(address.startswith(("data:image/", "#")) for address in read.asked)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in text
    anchors = {address[1:] for address in read.asked if address.startswith("#")}
    assert anchors == set(re.findall(r'<section id="(\w+)"', text))


def test_every_section_is_there_and_the_disclaimer_at_both_ends(written):
    text = (written[0] / "report.html").read_text()
    assert re.findall(r"<h2><span>\d+</span> (.*?)</h2>", text) == SECTIONS
    places = [found.start() for found in re.finditer(DISCLAIMER.capitalize(), text)]
    assert places[0] < text.index("<h1>")
    assert places[-1] > text.index("How this report was made</h2>")


@pytest.mark.slow
def test_figures_that_are_the_same_each_time(written, full, tmp_path):
    folder, files = written
    assert [file.name for file in files] == ["report.html", "report.json", "figures"]
    names = {file.name for file in (folder / "figures").iterdir()}
    assert names == {f"{name}.{kind}" for name in FIGURES for kind in ("png",)}
    with Image.open(folder / "figures/roc.png") as opened:
        assert min(opened.size) > 300
    page.write(full, tmp_path)
    for name in names:
        assert (tmp_path / "figures" / name).read_bytes() == (folder / "figures" / name).read_bytes(), name
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_report_json_has_each_metric_by_its_name(written, full):
    content = json.loads((written[0] / "report.json").read_text())
    known = full.labelled
    assert content["accuracy"]["value"] == pytest.approx((known["grade"] == known["predicted"]).mean())
    assert content["accuracy"]["low"] < content["accuracy"]["value"] < content["accuracy"]["high"]
    metrics = {name: entry for name, entry in content.items() if name != "about"}
    assert {"quadratic_kappa", "auroc_oa", "ece", "f1_4", "mae_expected"} <= set(metrics)
    assert all({"value", "low", "high"} <= set(entry) for entry in metrics.values())
    about = content["about"]
    assert about["note"] == DISCLAIMER
    assert len(about["checklists"]["claim"]) == 42
    assert about["calibration"]["method"] == "temperature"


def test_words_of_others_are_text_and_not_tags(written):
    text = (written[0] / "report.html").read_text()
    assert "site: Bonn &lt;b&gt;" in text
    assert "Bonn <b>" not in text


def test_no_folder_of_the_machine_is_shown(written):
    assert "/home/somebody" not in (written[0] / "report.html").read_text()


@pytest.mark.slow
def test_of_a_bare_table_each_section_says_why_it_is_empty(bare, tmp_path):
    page.write(bare, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert re.findall(r"<h2><span>\d+</span> (.*?)</h2>", text) == SECTIONS
    for words in (
        "No model card: the predictions came as a table", "No audit was given", "No prediction sets: they are",
        "Out-of-distribution inputs were not checked",
        "No subgroups: no column of the table", "No readers&#39; grades",
        "Explanations were not tested", "No panel of heat maps", "No pictures of these knees",
    ):  # fmt: skip
        assert text.count(words) >= 1, words
    absent = re.findall(r'class="absent">(.*?)</p>', text)
    assert all(re.search(r"[.;:]", line) for line in absent)
    assert (tmp_path / "figures/reliability.png").is_file()
    assert (tmp_path / "figures/risk_coverage.png").is_file()


def test_marks_are_on_the_banner_and_on_every_figure(full):
    marked = dataclasses.replace(full, about={**full.about, "marks": ["phantom data", "leaky"]})
    sections = contents.sections(marked)
    drawn = [block for section in sections for block in section.blocks if block.kind == "drawing"]
    assert {block.name for block in drawn} == FIGURES
    for block in drawn:
        stamped = [text.get_text() for text in block.figure.texts if text.get_gid() == "stamp"]
        assert any("phantom data" in words and "leaky" in words for words in stamped), block.name
        assert DISCLAIMER in stamped
    text = page.render(marked, sections, {block.name: "data:image/svg+xml," for block in drawn})
    assert text.count("<b>Not a result:</b> phantom data; leaky.") == 2


@pytest.mark.slow
def test_a_page_that_would_be_too_large_gives_up_its_large_pictures_first(full, tmp_path, monkeypatch):
    Image.new("RGB", (900, 300), "gray").save(tmp_path / "gradcam.png")
    with_panel = dataclasses.replace(full, folder=tmp_path)
    monkeypatch.setattr(page, "save_both", lambda figure, folder, name: b"<svg/>")
    page.write(with_panel, tmp_path)
    whole = (tmp_path / "report.html").read_text()
    assert "Grad-CAM: one knee of each grade" in whole
    monkeypatch.setattr(page, "LARGEST", len(whole.encode()) - 1)
    page.write(with_panel, tmp_path)
    assert "Grad-CAM: one knee of each grade" not in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(page, "LARGEST", 1000)
    with pytest.raises(InputError, match="the page would be larger"):
        page.write(with_panel, tmp_path)
