import sqlite3

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from koa_lightning.errors import InputError
from koa_lightning.sweeps import study


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(study.STORAGE_VARIABLE, raising=False)
    return tmp_path


def made(name="mine"):
    return optuna.create_study(study_name=name, storage=study.open_storage(study.url(None)))


def test_where_the_database_is(place, monkeypatch):
    assert study.url(None) == f"sqlite:///{place}/mlruns/sweeps.db"
    assert study.url("sqlite:///a b.db") == f"sqlite:///{place}/a b.db"
    for typed in ("postgres", "postgresql", "postgresql+psycopg2"):
        assert study.url(f"{typed}://me@host/db") == "postgresql+psycopg://me@host/db"
    monkeypatch.setenv(study.STORAGE_VARIABLE, "sqlite:///other.db")
    assert study.url(None) == f"sqlite:///{place}/other.db"
    for typed in ("mysql://me:word@host/db", "sqlite:///:memory:", "mlruns"):
        with pytest.raises(InputError, match=r"sweep.storage=.*: must be sqlite:///FILE.db or postgresql") as caught:
            study.url(typed)
        assert "word" not in str(caught.value)


def test_opening_a_study(place):
    with pytest.raises(InputError, match=r"sweeps.db: no such database of sweeps"):
        study.open_study(None, "mine")
    made().add_trial(optuna.create_trial(value=1.0))
    assert len(study.open_study(None, "mine").trials) == 1
    assert len(study.open_study(None, "mine", ready=True).trials) == 1
    with pytest.raises(InputError, match=r"sweep yours: no such sweep in sqlite:.*; there are mine"):
        study.open_study(None, "yours")


def test_a_file_that_is_no_database(place):
    (place / "text.db").write_text("no database, but long enough to look at" * 100)
    with pytest.raises(InputError, match=r"cannot be opened \(file is not a database\)"):
        study.open_storage(study.url("sqlite:///text.db"))
    (place / "folder.db").mkdir()
    with pytest.raises(InputError, match=r"cannot be opened \(unable to open database file\)"):
        study.open_storage(study.url("sqlite:///folder.db"))


def test_the_database_of_another_program_stays_as_it_is(place, ready_database):
    before = ready_database.read_bytes()
    with pytest.raises(InputError, match=r"belongs to another program \(tables alembic_version"):
        study.open_storage(f"sqlite:///{ready_database}")
    assert ready_database.read_bytes() == before


def test_a_database_of_another_version(place):
    made()
    with sqlite3.connect(place / "mlruns/sweeps.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(InputError, match=r"The runtime optuna version .* is no longer compatible"):
        study.open_study(None, "mine")


def test_one_at_a_time(place):
    address = study.url(None)
    with study.holding(address, "mine"):
        with pytest.raises(InputError, match=r"sweep.name=mine: is running already"), study.holding(address, "mine"):
            pass
        with study.holding(address, "yours"):
            pass
    with study.holding(address, "mine"):
        pass


def test_what_a_killed_sweep_left(place):
    found = made()
    values = {"x": optuna.distributions.FloatDistribution(0, 1)}
    done, cut, early = found.ask(values), found.ask(values), found.ask()
    cut.set_user_attr("overrides", [f"x={cut.params['x']}"])  # that of one that has all its values
    found.tell(done, 1.0)
    assert study.mark_interrupted(found) == [cut.number, early.number]
    states = [trial.state for trial in found.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL, TrialState.WAITING]
    assert [trial.user_attrs.get("interrupted") for trial in found.trials[1:3]] == [True, True]
    assert [trial.number for trial in study.ended(found)] == [0]
    assert study.mark_interrupted(found) == []  # and none is queued twice
    assert len(found.trials) == 4
    again = found.ask(values)
    assert (again.params, again.user_attrs) == (cut.params, {"repeats": cut.number})
    again.set_user_attr("overrides", cut.user_attrs["overrides"])
    assert study.mark_interrupted(found) == [again.number]
    assert found.trials[-1].user_attrs == {"repeats": again.number}


def test_a_repeat_that_was_killed_before_it_had_its_values(place):
    found = made()
    values = {"x": optuna.distributions.FloatDistribution(0, 1)}
    cut = found.ask(values)
    cut.set_user_attr("overrides", [])
    study.mark_interrupted(found)
    torn = found.ask()
    assert torn.user_attrs == {"repeats": cut.number}
    study.mark_interrupted(found)
    again = found.ask(values)
    assert (again.params, again.user_attrs) == (cut.params, {"repeats": cut.number})
    assert len(found.trials) == 3


def test_a_sweep_of_which_nothing_came(place):
    found = made()
    assert study.is_vain(found)
    wrong = found.ask()
    assert not study.is_vain(found)
    for key, value in (("overrides", []), ("error", "data.root: no such folder"), ("interrupted", True)):
        wrong.set_user_attr(key, value)
    found.tell(wrong, state=TrialState.FAIL)
    study.mark_interrupted(found)
    assert [trial.state for trial in found.trials] == [TrialState.FAIL, TrialState.WAITING] and study.is_vain(found)
    found.tell(found.ask(), 1.0)
    assert not study.is_vain(found)


def test_a_kill_between_marking_and_queueing_loses_nothing(place):
    found = made()
    cut = found.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    cut.set_user_attr("overrides", [])
    cut.set_user_attr("interrupted", True)
    found.tell(cut, state=TrialState.FAIL)
    assert study.mark_interrupted(found) == []
    assert found.ask({"x": optuna.distributions.FloatDistribution(0, 1)}).params == cut.params


def test_no_password_is_shown():
    address = "postgresql://me:se:cret@host/db"
    assert study.public(address) == "postgresql://me@host/db"
    error = sqlalchemy.exc.OperationalError("x", {}, Exception(f"(a.B) no route to {address}"))
    assert "cret" not in study._reason(error)


@pytest.mark.slow
def test_postgresql(postgres_url, place):
    address = study.url(postgres_url)
    found = optuna.create_study(study_name="mine", storage=study.open_storage(address))
    found.add_trial(optuna.create_trial(value=1.0))
    assert len(study.open_study(postgres_url, "mine").trials) == 1
    with study.holding(address, "mine"):
        with pytest.raises(InputError, match="is running already"), study.holding(address, "mine"):
            pass
        with study.holding(address, "yours"):
            pass
    with study.holding(address, "mine"):
        pass
    wrong = postgres_url.rsplit("/", 1)[0] + "/nowhere"
    with pytest.raises(InputError, match='database "nowhere" does not exist') as caught:
        study.open_storage(study.url(wrong))
    assert postgres_url.split(":")[2].split("@")[0] not in str(caught.value)
