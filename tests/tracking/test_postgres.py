import os
import shutil
import stat

import pytest
import sqlalchemy

from koa_lightning.errors import InputError
from koa_lightning.tracking import postgres as server


@pytest.fixture(autouse=True)
def _needs_the_driver():
    pytest.importorskip("psycopg")


def ask(url, question):
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            answer = connection.execute(sqlalchemy.text(question))
            return answer.scalar() if answer.returns_rows else None
    finally:
        engine.dispose()


def test_a_database_of_ones_own(postgres, postgres_url):
    assert ask(postgres_url, "SELECT 1 + 1") == 2
    assert ask(postgres_url, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(postgres_url, "SHOW server_encoding") == "UTF8"
    assert postgres.create(postgres_url.rpartition("/")[2]) == postgres_url
    with pytest.raises(sqlalchemy.exc.OperationalError, match="password"):
        ask(postgres_url.replace(postgres.password, "guessed"), "SELECT 1")
    assert stat.S_IMODE((postgres.folder / "password").stat().st_mode) == 0o600


@pytest.mark.slow
def test_what_was_written_is_there_after_a_crash(postgres, postgres_url):
    ask(postgres_url, "CREATE TABLE knees AS SELECT 4 AS grade")
    running = server.make(postgres.folder)
    assert running == postgres
    running.start()  # does nothing
    postgres.stop("immediate")
    postgres.start()
    assert ask(postgres_url, "SELECT grade FROM knees") == 4


def test_a_machine_without_a_server(monkeypatch, tmp_path):
    monkeypatch.setattr(server.Path, "glob", lambda *_: iter(()))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"PostgreSQL: no server is installed here .*apt-get install postgresql"):
        server.make(tmp_path / "server")
    assert not (tmp_path / "server").exists()


def test_a_folder_that_is_damaged(postgres, tmp_path_factory):
    damaged = postgres.folder.with_name(postgres.folder.name + "-damaged")
    (damaged / "data").mkdir(parents=True)
    try:
        (damaged / "data" / "PG_VERSION").write_text("8")
        with pytest.raises(InputError, match=r"PostgreSQL in .*-damaged: pg_ctl failed: .*"):
            server.make(damaged).start()
    finally:
        shutil.rmtree(damaged)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_root_in_a_folder_that_is_closed_to_others(postgres, tmp_path):
    tmp_path.chmod(0o700)
    with pytest.raises(InputError, match=f"that user may not enter a folder above {tmp_path}/server; choose"):
        server.make(tmp_path / "server")


def test_root_without_the_service_user(monkeypatch, tmp_path):
    monkeypatch.setattr(server.os, "geteuid", lambda: 0)
    monkeypatch.setattr(server, "_SERVICE_USER", "nobody-of-this-name")
    monkeypatch.setattr(server, "find_programs", lambda: tmp_path)
    with pytest.raises(InputError, match="does not run as root, and there is no user nobody-of-this-name"):
        server.make(tmp_path)
