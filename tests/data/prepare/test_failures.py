import pytest

from koa_lightning.data.prepare.failures import OTHER, reason


def test_nothing_of_the_message_is_kept_and_the_name_is_not_looked_at():
    assert reason("lateral view.dcm: something about DOE^JANE", "lateral view.dcm") == OTHER
    assert reason("a: photometric interpretation DOE is not read; a lateral view", "a") == "a lateral view"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("a: DICOM with 3 frames; export", "several frames"),
        ("a: damaged DICOM file (could not convert string to float: 'DOE'); copy", "damaged header"),
        ("a: truncated or damaged pixel data (x); copy", "truncated or damaged"),
        ("a: compressed as DOE (1.2), which no", "compression without decoder"),
        ("a: no pixel spacing, so", "no pixel spacing"),
    ],
)
def test_reasons(message, words):
    assert reason(message, "a") == words
