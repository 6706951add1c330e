"""Run a private PostgreSQL server: a folder, a free loopback port, a password. No heavy imports here."""

# It calls initdb and pg_ctl of the installed PostgreSQL, for machines without a container engine (elsewhere
# compose.yaml starts PostgreSQL's own image). Packages that bundle a server miss the system's updates.

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError

USER = "koa"
_SERVICE_USER = "postgres"  # account of the server if we are root, as PostgreSQL refuses to run as root
_PASSWORD_FILE = "password"
_SECONDS = 60


def find_programs() -> Path:
    """Return the folder of PostgreSQL's server programs: the newest below /usr/lib/postgresql, or that on the PATH.

    Raises:
        InputError: PostgreSQL is not installed.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: _version(file.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    if found is None:
        raise InputError(
            "PostgreSQL: no server is installed here (no initdb below /usr/lib/postgresql or on the PATH); type "
            "apt-get install postgresql, or name a running server by database=postgresql://USER:PASSWORD@HOST/NAME"
        )
    return Path(found).resolve().parent


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server that listens on the loopback address alone.

    Attributes:
        folder: Holds its data, its log and its password.
        port: Its port on 127.0.0.1.
        password: The password of its only user, `koa`.
    """

    folder: Path
    port: int
    password: str

    def url(self, database: str) -> str:
        """Return the address of a database, with the password, as SQLAlchemy takes it."""
        return f"postgresql+psycopg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Create a database if it does not exist; return its address."""
        login = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER]
        there = ["psql", *login, "-d", "postgres", "-Atc", "SELECT datname FROM pg_database"]
        if database not in self._run(there).splitlines():
            self._run(["createdb", *login, database])
        return self.url(database)

    def runs(self) -> bool:
        """Return whether the server runs, also if the process that started it was killed."""
        return _running_port(self.folder) is not None

    def start(self) -> None:
        """Start the server, if it does not run.

        Raises:
            InputError: It does not start.
        """
        if self.runs():
            return
        where = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        log = self.folder / "log.txt"
        command = ["pg_ctl", "start", "-w", "-t", str(_SECONDS), "-D", str(self.folder / "data"), "-l", str(log)]
        self._run([*command, "-o", where])

    def stop(self, how: str = "fast") -> None:
        """Stop the server: `fast` aborts the transactions of its clients; `immediate` acts like a crash."""
        self._run(["pg_ctl", "stop", "-w", "-t", str(_SECONDS), "-m", how, "-D", str(self.folder / "data")])

    def _run(self, command: list[str]) -> str:
        return _run(command, self.folder, PGPASSWORD=self.password)


def make(folder: Path, port: int | None = None) -> Cluster:
    """Return the server of a folder, not started; create its data if there is none.

    Args:
        folder: Where the data lies or will lie; only its owner may read it.
        port: The port to listen on; None takes a free one.

    Raises:
        InputError: No server is installed, or it cannot create its data there.
    """
    find_programs()
    folder = user_path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    password_file, data = folder / _PASSWORD_FILE, folder / "data"
    if not password_file.exists():
        _write_secret(password_file, secrets.token_hex(16))
    _give_to_service_user(folder, password_file)
    _check_reach(password_file)
    if not (data / "PG_VERSION").exists():
        fresh = folder / "data.new"  # another name, so that an interrupted start leaves no half-made data
        shutil.rmtree(fresh, ignore_errors=True)
        options = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C.UTF-8"]
        _run(["initdb", "-D", str(fresh), "-U", USER, *options], folder)
        fresh.replace(data)
    return Cluster(folder, _running_port(folder) or port or free_port(), password_file.read_text())


def _running_port(folder: Path) -> int | None:
    """Return the port of the folder's server, or None if it does not run."""
    data = folder / "data"
    if _call(["pg_ctl", "status", "-D", str(data)], folder).returncode != 0:
        return None
    return int((data / "postmaster.pid").read_text().splitlines()[3])


def free_port() -> int:
    """Return a port on the loopback address that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _run(command: list[str], folder: Path, **variables: str) -> str:
    """Run one of PostgreSQL's programs; return its output.

    Raises:
        InputError: The program fails; the message quotes its output.
    """
    done = _call(command, folder, **variables)
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if "error" in line or "FATAL" in line or "could not" in line] or said[-1:]
        log = folder / "log.txt"
        raise InputError(
            f"PostgreSQL in {folder}: {command[0]} failed: {'; '.join(errors[:2])}" + f"; see {log}" * log.exists()
        )
    return done.stdout


def _call(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs, as a user other than root."""
    return subprocess.run(
        [str(find_programs() / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        cwd="/",  # a folder that every user may enter
        env={**os.environ, "LC_ALL": "C", **variables},
        stdin=subprocess.DEVNULL,
        check=False,
        **_account(_service_user()),
    )


def _account(user: Any) -> dict[str, Any]:
    """Return the arguments that run a process as a user; None means our own account."""
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _service_user() -> Any:
    """Return the account that the server runs as, or None for our own account."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SERVICE_USER)
    except KeyError:
        raise InputError(
            f"PostgreSQL does not run as root, and there is no user {_SERVICE_USER}; run this as another user"
        ) from None


def _give_to_service_user(*paths: Path) -> None:
    if user := _service_user():
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


def _check_reach(file: Path) -> None:
    user = _service_user()
    if user and subprocess.run(["test", "-r", str(file)], cwd="/", check=False, **_account(user)).returncode != 0:
        raise InputError(
            f"PostgreSQL runs as the user {_SERVICE_USER}, since it refuses root, and that user may not enter a folder "
            f"above {file.parent}; choose a folder that every user can reach, or run this as another user"
        )


def _write_secret(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
