import hashlib
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import koa_lightning
from koa_lightning.data.prepare import names
from koa_lightning.data.prepare.names import Key, find_key
from koa_lightning.errors import InputError

SECRET = "a secret of some length"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("KOA_KEY", raising=False)
    monkeypatch.setattr(names, "user_config_dir", lambda name: str(tmp_path / "config" / name))
    return tmp_path


def key(secret=b"k" * 64):
    return Key(secret, "test")


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.binary(min_size=16, max_size=63))
def test_names_are_keyed_hashes(patient, secret):
    name = key(secret).patient(patient)
    assert len(name) == 16
    assert int(name, 16) >= 0
    assert name == key(secret).patient(f" {patient}\n")
    assert name != key(secret + b".").patient(patient)
    assert name != hashlib.blake2b(patient.encode(), digest_size=8).hexdigest()


@pytest.mark.parametrize("other", ["ab 12ä", " Ab  12Ä", "AB\t12\u00c4 ", "AB\u00a012A\u0308", "\uff21\uff22 12Ä"])
def test_one_name_for_all_spellings_of_an_id(other):
    assert key().patient(other) == key().patient("AB 12Ä")


def test_ids_that_may_be_of_two_people():
    assert len({key().patient(name) for name in ("123", "0123", "00123", "1 23", "12-3")}) == 5


def test_a_patient_and_a_file_of_the_same_bytes_share_nothing():
    assert key().source(b"0012")[:16] != key().patient("0012")
    assert len(key().source(b"")) == 32
    assert key().mark[8:] == f"-{names.VERSION}"
    assert "kkkk" not in repr(key())


def test_key_file_then_variable_then_own(home, monkeypatch, capsys):
    (home / "key").write_text(SECRET)
    given_file = find_key(str(home / "key"), home / "out")
    (home / "key").write_text(f"\n{SECRET}\r\n")
    assert find_key(str(home / "key"), home / "out").secret == given_file.secret
    monkeypatch.setenv("KOA_KEY", SECRET)
    assert find_key(None, home / "out").secret == given_file.secret
    monkeypatch.setenv("KOA_KEY", SECRET + "!")
    assert find_key(None, home / "out").secret != given_file.secret
    assert find_key(str(home / "key"), home / "out").secret == given_file.secret
    assert capsys.readouterr().err == ""
    assert not (home / "config").exists()


def test_own_key_is_made_once_and_said(home, monkeypatch, capsys):
    first = find_key(None, home / "out")
    file = names.default_file()
    assert str(file) in capsys.readouterr().err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().strip()) == 64
    assert [path.name for path in file.parent.iterdir()] == ["prepare.key"]
    assert find_key(None, home / "out").secret == first.secret
    assert capsys.readouterr().err == ""
    file.unlink()
    assert find_key(None, home / "out").secret != first.secret


def test_two_runs_that_start_together_use_one_key(tmp_path):
    line = "import sys; from pathlib import Path; from koa_lightning.data.prepare.names import find_key; "
    command = [sys.executable, "-c", line + "print(find_key(None, Path('out')).mark)"]
    root = Path(koa_lightning.__file__).parents[1]
    place = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(root), "PATH": "/usr/bin"}
    runs = [subprocess.Popen(command, env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    ended = [run.communicate() for run in runs]
    assert len({out for out, _ in ended}) == 1
    assert sum(b"random" in err for _, err in ended) == 1


def test_own_key_cannot_be_kept(home):
    (home / "config").write_text("")
    with pytest.raises(InputError, match="the key cannot be stored"):
        find_key(None, home / "out")


def test_key_file_that_is_a_folder(home):
    with pytest.raises(InputError, match="the key cannot be read"):
        find_key(str(home), home / "out")
