import sqlite3
import time

import optuna
import pytest

from koa_lightning.errors import InputError
from koa_lightning.sweeps.find import find_study


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.delenv("KOA_SWEEP_STORAGE", raising=False)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path}/mlruns/sweeps.db"


@pytest.fixture
def three(made_study, database, tmp_path, monkeypatch):
    """A database in the default place with studies of three names, `middle` begun last."""
    (tmp_path / "mlruns").mkdir()
    for name in ("tpe-lr", "tpe-loss", "middle"):
        optuna.create_study(study_name=name, storage=database).optimize(lambda _: 1.0, n_trials=1)
        time.sleep(0.01)
    monkeypatch.chdir(tmp_path)
    return database


def test_by_name_and_the_newest(three, capsys):
    assert find_study("tpe-lr", three).study_name == "tpe-lr"
    assert capsys.readouterr().err == ""
    assert find_study(None, None).study_name == "middle"
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "3 sweeps: middle, tpe-loss, tpe-lr; the newest is taken, name=SWEEP takes another"


def test_the_only_study_is_taken_without_a_word(database, tmp_path, capsys):
    (tmp_path / "mlruns").mkdir()
    optuna.create_study(study_name="one", storage=database)
    assert find_study(None, database).study_name == "one"
    assert capsys.readouterr().err == ""


def test_a_wrong_name_gets_the_nearest(three):
    with pytest.raises(InputError, match=r"name=tpe-l: no such sweep in .*; the nearest: tpe-lr, tpe-loss$"):
        find_study("tpe-l", three)
    with pytest.raises(InputError, match=r"the nearest: middle, tpe-loss, tpe-lr$"):
        find_study("xyz", three)


def test_no_database_is_made(tmp_path):
    with pytest.raises(InputError, match="no such database of sweeps"):
        find_study(None, f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_an_empty_database(database, tmp_path):
    (tmp_path / "mlruns").mkdir()
    optuna.storages.RDBStorage(database)
    with pytest.raises(InputError, match="holds no sweep yet"):
        find_study(None, database)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "x.db").write_text("this is a text and no database at all" * 40)
    with pytest.raises(InputError, match=r"storage=sqlite:///.*x\.db: cannot be opened \(.*not a database"):
        find_study(None, f"sqlite:///{tmp_path}/x.db")


def test_a_database_of_another_version(database, three, tmp_path):
    with sqlite3.connect(tmp_path / "mlruns" / "sweeps.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
    with pytest.raises(InputError, match=r"^storage="):
        find_study(None, database)


def test_a_database_out_of_reach_is_one_line_without_the_password():
    with pytest.raises(InputError, match="cannot be opened") as raised:
        find_study(None, "postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
