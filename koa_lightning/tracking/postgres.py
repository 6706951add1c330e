"""A PostgreSQL server of one's own: a folder, a free loopback port, a password. No heavy imports here."""

# It calls initdb and pg_ctl of the installed PostgreSQL, for machines without a container engine (elsewhere
# compose.yaml starts PostgreSQL's own image). Packages that bundle a server miss the system's updates of it.

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
_SERVICE_USER = "postgres"  # whom the server runs as where we are root, which it refuses
_PASSWORD_FILE = "password"
_SECONDS = 60


def find_programs() -> Path:
    """Return the folder of PostgreSQL's server programs: the newest below /usr/lib/postgresql, or that on the PATH.

    Raises:
        InputError: There is none.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: _version(file.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    if found is None:
        raise InputError(
            "PostgreSQL: no server is installed here (no initdb below /usr/lib/postgresql or on the PATH); type "
            "apt-get install postgresql, or name a server that runs by database=postgresql://USER:PASSWORD@HOST/NAME"
        )
    return Path(found).resolve().parent


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server that listens on the loopback address alone.

    Attributes:
        folder: Holds its data, its log and its password.
        port: On 127.0.0.1.
        password: Of its one user, `koa`.
    """

    folder: Path
    port: int
    password: str

    def url(self, database: str) -> str:
        """Return the address of a database, with the password, as SQLAlchemy takes it."""
        return f"postgresql+psycopg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a database if it is not there; return its address."""
        login = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER]
        there = ["psql", *login, "-d", "postgres", "-Atc", "SELECT datname FROM pg_database"]
        if database not in self._run(there).splitlines():
            self._run(["createdb", *login, database])
        return self.url(database)

    def runs(self) -> bool:
        """Tell whether the server runs, e.g. one whose starter was killed."""
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
        """Stop the server: `fast` ends what its clients do; `immediate` is as a crash."""
        self._run(["pg_ctl", "stop", "-w", "-t", str(_SECONDS), "-m", how, "-D", str(self.folder / "data")])

    def _run(self, command: list[str]) -> str:
        return _run(command, self.folder, PGPASSWORD=self.password)


def make(folder: Path, port: int | None = None) -> Cluster:
    """Return the server of a folder, not started; its data is made if there is none.

    Args:
        folder: Where the data lies or will lie; only its owner may read it.
        port: None: a free one.

    Raises:
        InputError: No server is installed, or it cannot make its data there.
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
        fresh = folder / "data.new"  # made under another name: a start that was interrupted leaves nothing half done
        shutil.rmtree(fresh, ignore_errors=True)
        options = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C.UTF-8"]
        _run(["initdb", "-D", str(fresh), "-U", USER, *options], folder)
        fresh.replace(data)
    return Cluster(folder, _running_port(folder) or port or free_port(), password_file.read_text())


def _running_port(folder: Path) -> int | None:
    """Return the port of the folder's server, e.g. one whose starter was killed, or None if none runs."""
    data = folder / "data"
    if _call(["pg_ctl", "status", "-D", str(data)], folder).returncode != 0:
        return None
    return int((data / "postmaster.pid").read_text().splitlines()[3])


def free_port() -> int:
    """Return a port on the loopback address that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _run(command: list[str], folder: Path, **variables: str) -> str:
    """Run one of the programs; return what it prints.

    Raises:
        InputError: It fails; with what it says.
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
    """Run one of the programs, as a user that is not root."""
    return subprocess.run(
        [str(find_programs() / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        cwd="/",  # one that every user may enter
        env={**os.environ, "LC_ALL": "C", **variables},
        stdin=subprocess.DEVNULL,
        check=False,
        **_account(_service_user()),
    )


def _account(user: Any) -> dict[str, Any]:
    """Return how a process becomes that of a user; None is our own."""
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _service_user() -> Any:
    """Return the account that the server runs as, or None for our own."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SERVICE_USER)
    except KeyError:
        raise InputError(
            f"PostgreSQL: it does not run as root, and there is no user {_SERVICE_USER}; run this as another user"
        ) from None


def _give_to_service_user(*paths: Path) -> None:
    if user := _service_user():
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


def _check_reach(file: Path) -> None:
    user = _service_user()
    if user and subprocess.run(["test", "-r", str(file)], cwd="/", check=False, **_account(user)).returncode != 0:
        raise InputError(
            f"PostgreSQL: it runs as the user {_SERVICE_USER}, as it does not run as root, and that user may not enter "
            f"a folder above {file.parent}; take one below folders that every user may enter, or run this as another "
            "user"
        )


def _write_secret(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
