from pathlib import Path

import pytest

from koa_lightning.data.audit import findings
from koa_lightning.data.audit.findings import KINDS, SEVERITIES, Finding
from koa_lightning.errors import InputError


def finding(kind, severity):
    return Finding(kind, severity, ["a"], "because")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_is_explained_in_one_line(kind):
    assert kind.severity in SEVERITIES
    assert kind.across in ("", *SEVERITIES)
    assert 20 < len(kind.explanation) < 200
    assert kind.explanation.endswith(".")
    assert "\n" not in kind.explanation + kind.title


@pytest.mark.parametrize(
    ("severities", "code"),
    [([], 0), (["note"], 0), (["note", "warning"], 1), (["leakage", "note"], 3), (["warning", "leakage"], 3)],
)
def test_the_exit_code_is_that_of_the_worst(severities, code):
    assert findings.exit_code([finding("blank", severity) for severity in severities]) == code


def test_the_worst_come_first():
    mixed = [finding("burnt_in", "note"), finding("blank", "warning"), finding("same_pixels", "leakage")]
    assert [one.severity for one in findings.in_order(mixed)] == list(SEVERITIES)


def test_kinds_are_chosen_by_name():
    assert findings.chosen(None) == set(KINDS)
    assert findings.chosen(["blank"]) == {"blank"}
    with pytest.raises(InputError, match="checks: blnk is not a kind of finding; did you mean 'blank'"):
        findings.chosen(["blnk"])
    with pytest.raises(InputError, match=r"type checks=\[blank\]"):
        findings.chosen("blank")


def test_the_page_of_the_manual_holds_the_table():
    page = Path(__file__).parents[3] / "docs" / "audit.md"
    assert findings.markdown_table() in page.read_text()
