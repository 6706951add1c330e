import os

import pytest

from koa_lightning.config.addresses import keep_passwords, public, without_passwords


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


@pytest.fixture
def environment(monkeypatch):
    """What passwords are kept in; the test's own ends with it."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD"):
        monkeypatch.setenv(name, "")
    return os.environ


@pytest.mark.parametrize(
    ("typed", "left", "user", "password"),
    [
        ("tracking.uri=http://me:s3cret@host:5000/x", "tracking.uri=http://host:5000/x", "me", "s3cret"),
        ("tracking.uri='https://a%40b:p%2F%40ss@host'", "tracking.uri='https://host'", "a@b", "p/@ss"),
        ("+tracking={uri:'http://me:p@ss@host'}", "+tracking={uri:'http://host'}", "me", "p@ss"),
        ("more=['tracking.uri=http://me:s3cret@host']", "more=['tracking.uri=http://host']", "me", "s3cret"),
        ("tracking.uri=http://me@host", "tracking.uri=http://me@host", "", ""),
        ("tracking.uri=http://host:5000", "tracking.uri=http://host:5000", "", ""),
        ("out=a:b@c", "out=a:b@c", "", ""),
        ("database=postgresql://me:s3cret@host/x", "database=postgresql://me:s3cret@host/x", "", ""),
    ],
)
def test_a_typed_password_goes_to_the_environment(typed, left, user, password, environment):
    assert keep_passwords([typed, "seed=1"]) == [left, "seed=1"]
    assert (environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"]) == (user, password)


def test_that_of_a_database_too(environment):
    typed = ["sweep.storage=postgresql+psycopg://me:s3cret@host/sweeps", "tracking.uri=http://a:b@host"]
    assert keep_passwords(typed) == ["sweep.storage=postgresql+psycopg://me@host/sweeps", "tracking.uri=http://host"]
    assert (environment["PGPASSWORD"], environment["MLFLOW_TRACKING_PASSWORD"]) == ("s3cret", "b")
