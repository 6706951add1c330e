import dataclasses
import json

import pytest

from koa_lightning.reporting.report import contents
from koa_lightning.reporting.report.checklists import CLAIM, TRIPOD_AI


@pytest.fixture(scope="module")
def sections(full):
    return {section.name: section for section in contents.sections(full)}


def test_order_and_names_of_the_sections(sections):
    assert list(sections) == [
        "card", "data", "results", "confusion", "roc", "calibration", "abstention", "conformal", "inputs", "groups",
        "readers", "explanations", "failures", "limits", "claim", "tripod", "made",
    ]  # fmt: skip


def test_a_checklist_counts_its_answers(sections, words):
    for name, items in (("claim", CLAIM), ("tripod", TRIPOD_AI)):
        answers = sections[name].blocks[1].items
        n = {status: [answer.status for answer in answers].count(status) for status in ("run", "in part", "author")}
        assert sum(n.values()) == len(items)
        counts = f"the run answers {n['run']} fully and {n['in part']} in part; {n['author']} are for the author"
        assert f"Of {len(items)} items, {counts}" in words(sections[name])


def test_what_it_was_made_with(sections, full):
    rows = dict(sections["made"].blocks[0].rows)
    assert rows["Code"] == f"koa-lightning 0.1.0, commit {'c0ffee' * 6}"
    assert (rows["Versions"], rows["Settings"]) == ("python 3.11", "tta=none")
    assert rows["Machine"] == "a processor, 2 threads"
    code = {**full.about["code"], "git.dirty": "true"}
    changed = dataclasses.replace(full, about={**full.about, "code": code, "settings": {}, "command": ""})
    rows = dict(contents._made_with(changed).blocks[0].rows)
    assert rows["Code"].endswith("(with uncommitted changes)")
    assert (rows["Command"], rows["Settings"]) == ("called from Python", "none")


def test_titles(full, bare):
    assert contents.title(full) == "Knee osteoarthritis grading: the test split of chen2018"
    assert contents.subtitle(full).endswith("120 knees of 60 patients")
    assert contents.subtitle(bare) == "Predictions from a table, 120 knees of 60 patients"


def test_the_same_as_plain_values(full):
    written = contents.as_json(full)
    assert {name: written[name] for name in full.metrics} == full.metrics
    assert set(written) == {*full.metrics, "about"}
    lists = written["about"]["checklists"]
    assert [len(lists["claim"]), len(lists["tripod_ai"])] == [len(CLAIM), len(TRIPOD_AI)]
    assert written["about"]["conformal"] == full.sections["conformal"]
    assert "thresholds" not in written["about"]
    json.dumps(written)
