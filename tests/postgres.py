"""A PostgreSQL of our own on loopback, made from the system's package, gone when its owner is.

`python -m tests.postgres [--keep FOLDER] COMMAND…` runs a command on a fresh database of one (`UA_VP_DATABASE_URL`).
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psycopg

from tests.waiting import wait_until

OLDEST = 15
START_SECONDS = 60.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "logging_collector": "off",
    "log_min_messages": "panic",  # what tests provoke is no news
}


class NoServerError(Exception):
    """PostgreSQL is not installed, or too old."""


class Cluster:
    """One server with databases to spare; used as a context manager.

    Durable as PostgreSQL comes, unless `settings` say otherwise. Whoever starts it must outlive its use: the server
    ends with the thread that started it.
    """

    def __init__(self, folder: Path | None = None, **settings: str) -> None:
        self._programs = programs()
        self._settings = SETTINGS | settings
        self._own_folder = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="ua-vp-postgres-"))
        self._data, self._secret = self._folder / "data", self._folder / "password"
        self._server: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.port = free_port()
        """TCP port on 127.0.0.1, kept over restarts."""
        if not self._data.exists():
            self._make()

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own_folder:
            self.kill()  # quick: nobody will read what it holds
            shutil.rmtree(self._folder)
        else:
            self.stop()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._server is not None, "the cluster does not run"
        return self._server.pid

    def start(self) -> None:
        """Start the server; returns when it takes connections."""
        options = [f"-c{name}={value}" for name, value in (self._settings | {"port": str(self.port)}).items()]
        argv = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        self._server = subprocess.Popen(
            [*as_user(), *argv],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,  # Ctrl-C is for those that use it
        )
        wait_until(self._answers, within=START_SECONDS, why="PostgreSQL takes connections")

    def stop(self) -> None:
        """Stop it in good order, cutting connections (fast shutdown)."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop it as a crash does: no checkpoint, its next start recovers (immediate shutdown)."""
        self._end(signal.SIGQUIT)

    def create(self) -> str:
        """A new database; returns its URL."""
        self._databases += 1
        name = f"vp_{os.getpid()}_{self._databases}_{secrets.token_hex(3)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, database: str) -> str:
        """As `UA_VP_DATABASE_URL` takes it."""
        return f"postgresql+psycopg://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    def dsn(self, database: str) -> str:
        """As psycopg takes it."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def _password(self) -> str:
        return self._secret.read_text().strip()

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._secret.write_text(secrets.token_urlsafe(24) + "\n")
        self._secret.chmod(0o600)
        if as_user():
            shutil.chown(self._folder, owner())
            shutil.chown(self._secret, owner())
        argv = [str(self._programs / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "scram-sha-256"]
        argv += ["--pwfile", str(self._secret), "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
        made = subprocess.run([*as_user(), *argv], cwd="/", capture_output=True, text=True, check=False)
        if made.returncode:
            raise NoServerError(f"initdb: {made.stderr}")

    def _answers(self) -> bool:
        assert self._server is not None
        if self._server.poll() is not None:
            raise NoServerError(f"PostgreSQL ended with {self._server.returncode} instead of starting")
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, number: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(number)
            self._server.wait(START_SECONDS)
            self._server = None


def programs() -> Path:
    """The folder of the newest server that is installed.

    Raises:
        NoServerError: there is none that is new enough.
    """
    found = {Path(path).resolve().parent for path in [shutil.which("postgres")] if path}
    found |= {path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")}
    newest = max(((version_of(folder), folder) for folder in found), default=(0, None))
    if newest[1] is None or newest[0] < OLDEST:
        raise NoServerError(f"needs PostgreSQL {OLDEST} or newer (apt-get install postgresql)")
    return newest[1]


def version_of(folder: Path) -> int:
    """The major version of the server in `folder`."""
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"\d+", said)
    return int(version[0]) if version else 0


def owner() -> str:
    """Whom the server runs as when root starts it: it refuses root."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def as_user() -> list[str]:
    """What stands before a command of the server: another user than root, and an end with its starter."""
    end = ["setpriv", "--pdeathsig", "INT"]
    return (
        [*end, "--reuid", owner(), "--regid", "nogroup", "--clear-groups", "--"] if os.geteuid() == 0 else [*end, "--"]
    )


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str]) -> int:
    """Run a command on a database of its own; SIGINT and SIGTERM are the command's to answer."""
    parser = argparse.ArgumentParser(prog="python -m tests.postgres", description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep the database in this folder, and use it again")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments)
    with Cluster(asked.keep and asked.keep.resolve()) as cluster:
        url = cluster.url("postgres") if asked.keep else cluster.create()
        environment = os.environ | {"UA_VP_DATABASE_URL": url}
        child = subprocess.Popen(
            asked.command, env=environment, start_new_session=True
        )  # hears of Ctrl-C from us, once
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda heard, _frame: child.send_signal(heard))
        return child.wait()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except NoServerError as error:
        sys.exit(f"tests.postgres: {error}")
