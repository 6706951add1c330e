import pytest

from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.serving.service import settings


def cfg(*typed):
    return compose("serve", ["ckpt=x", *typed])


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(settings.TOKEN_VARIABLE, raising=False)


def test_this_machine_alone_unless_a_host_is_typed():
    found = settings.access(cfg())
    assert (found.host, found.port, found.token, found.is_local) == ("127.0.0.1", 8000, "", True)


def test_another_host_asks_for_a_token_or_a_word():
    with pytest.raises(InputError, match=r"host=0.0.0.0: other machines .* token=SECRET .* insecure=true"):
        settings.access(cfg("host=0.0.0.0"))
    assert not settings.access(cfg("host=0.0.0.0", "insecure=true")).token
    assert settings.access(cfg("host=0.0.0.0", "token=0123456789abcdef")).token == "0123456789abcdef"


def test_a_token_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv(settings.TOKEN_VARIABLE, "0123456789abcdef")
    assert settings.access(cfg("host=0.0.0.0")).token == "0123456789abcdef"


@pytest.mark.parametrize("token", ["short", "'with blanks in between'", "'ümlaute-und-noch-mehr'"])
def test_a_token_that_can_be_guessed_or_not_be_sent(token):
    with pytest.raises(InputError, match="token: must be at least 16"):
        settings.access(cfg(f"token={token}"))


def test_addresses_that_a_browser_opens():
    assert settings.Access("0.0.0.0", 80, "").address == "http://127.0.0.1:80"
    assert settings.Access("::1", 80, "").address == "http://[::1]:80"
    assert settings.Access("knees.example.org", 80, "").address == "http://knees.example.org:80"


def test_limits_in_their_units():
    found = settings.limits(cfg("max_mb=2", "max_megapixels=3", "timeout=4"))
    assert (found.n_bytes, found.n_pixels, found.seconds) == (2 << 20, 3_000_000, 4.0)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^keep=.*: cannot be written to .*; name another folder$"):
        settings.folder(cfg(f"keep={tmp_path}/file/below"), "keep")
    assert settings.folder(cfg(f"keep={tmp_path}/new"), "keep") == tmp_path / "new"
    assert settings.folder(cfg(), "keep") is None
