import pytest

from koa_lightning.config.addresses import public, without_passwords


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("http://me:secret@host:5000/x", "http://host:5000/x"),
        ("tracking.uri='https://me:p@ss@host'", "tracking.uri='https://host'"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("https://host/models@best", "https://host/models@best"),
        ("models:/knees@best", "models:/knees@best"),
    ],
)
def test_no_password_is_told(text, given):
    assert public(text) == given


def test_plain_values_keep_all_else():
    values = {"a": [1, None, {"b": "https://me:secret@host"}], "c": True}
    assert without_passwords(values) == {"a": [1, None, {"b": "https://host"}], "c": True}
    assert without_passwords(None) is None
