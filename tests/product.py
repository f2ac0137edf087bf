"""The product as its users meet it: commands, HTTP and files under a home of its own. Knows nothing of its code."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

from tests.waiting import wait_until

GENERAL, CODER, ECHO = "vp.general.primary", "vp.coder.primary", "vp.echo.primary"
OPS = "/api/v1/ops/vp"
TERMINAL = {"completed", "failed", "cancelled"}
TERMINAL_EVENTS = {f"vp.mission.{status}" for status in TERMINAL}
START_SECONDS, END_SECONDS, PATIENCE_SECONDS = 40.0, 30.0, 3.0

Json = dict[str, Any]


def lanes_table(
    *names: str, lease_seconds: float = 5.0, grace_seconds: float = 1.0, probe_seconds: float = 30.0
) -> str:
    """`ua-vp.toml` for the lanes `names`: no walls, and commands allowed where the lane knows them."""
    worker = f"[worker]\n{lease_seconds = }\n{grace_seconds = }\n{probe_seconds = }\n"
    return worker + "".join(
        f'\n[lanes.{name}]\nsandbox = "none"\n' + ("" if name == "echo" else "allow_command = true\n") for name in names
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[Any]:
        """Standard output as JSON, a value per line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def said(self) -> str:
        return self.out + self.err


class Process:
    """A process of the product that runs until it is told to stop; its output goes where the test's goes."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._popen = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=2)
        self.name = " ".join(argv[1:])

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._popen.wait()

    def end(self, *, within: float = END_SECONDS) -> int:
        """Ask it to stop and give its exit code; one that does not is killed, which is a fault."""
        self.send(signal.SIGTERM)
        try:
            return self._popen.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {within:g} s of SIGTERM") from None

    def put_away(self) -> None:
        """End it though a mission may still run; a worker stops that when it is asked for the second time."""
        self.send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(PATIENCE_SECONDS)
        self.end()


class Product:
    """One home, one API and any number of workers; what it started ends with it."""

    def __init__(self, program: Path, folder: Path, config: str, *, python: str) -> None:
        self.program = program
        self.python = python
        """An interpreter for the missions' own programs."""
        self.environ: dict[str, str] = {}
        """More variables for whatever is started from now on."""
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(mode=0o700, parents=True)
        self.configure(config)
        self.port = free_port()
        self._elsewhere = folder / "elsewhere"
        self._elsewhere.mkdir()
        self._processes: list[Process] = []
        self._api: httpx2.Client | None = None

    def __enter__(self) -> Product:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as every:
            for process in self._processes:
                process.send(signal.SIGCONT)
                every.callback(process.put_away)
            if self._api is not None:
                every.callback(self._api.close)

    def configure(self, text: str) -> None:
        (self.home / "ua-vp.toml").write_text(text, encoding="utf-8")

    def environment(self, **more: str) -> dict[str, str]:
        """What a login shell would have, the home, and where the API listens."""
        return {
            "PATH": f"{self.program.parent}:{os.defpath}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "UA_VP_HOME": str(self.home),
            "UA_VP_OPS_BIND": f"127.0.0.1:{self.port}",
            **self.environ,
        } | more

    # Processes

    @property
    def pids(self) -> set[int]:
        """Those of the processes started so far that live."""
        return {process.pid for process in self._processes if process.code is None}

    def start(self, *arguments: str, **environ: str) -> Process:
        process = Process([str(self.program), *arguments], cwd=self._elsewhere, env=self.environment(**environ))
        self._processes.append(process)
        return process

    def run(self, *arguments: str, code: int | None = 0, seconds: float = 60.0, **environ: str) -> Ran:
        """Run a command to its end; `code` is the exit code that is due, None for any."""
        done = subprocess.run(
            [str(self.program), *arguments], cwd=self._elsewhere, env=self.environment(**environ), timeout=seconds,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        ran = Ran(code=done.returncode, out=done.stdout, err=done.stderr)
        assert code in {None, ran.code}, f"ua-vp {' '.join(arguments)}: exit {ran.code}, due {code}\n{ran.said}"
        return ran

    def serve(self) -> Process:
        """Start the API and wait until it takes missions."""
        process = self.start("serve")
        wait_until(lambda: self.is_ready(process), within=START_SECONDS, why="the API says it is ready")
        return process

    def worker(self, lane: str = GENERAL) -> Process:
        """Start a worker and wait until its lease runs."""
        process = self.start("worker", lane)

        def is_live() -> bool:
            assert process.code is None, f"the worker ended: exit {process.code}"
            return bool(self.session(process)["effective_status"] == "live")

        wait_until(is_live, within=START_SECONDS, why=f"a worker of {lane} is live")
        return process

    def once(self, lane: str = GENERAL, *, code: int = 0) -> Ran:
        return self.run("worker", lane, "--once", code=code)

    def is_ready(self, process: Process) -> bool:
        """Whether this API takes missions."""
        assert process.code is None, f"the API ended: exit {process.code}"
        try:
            return self.get("/readyz").is_success
        except httpx2.TransportError:
            return False

    # The API

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.home / "credentials" / "ops.token").read_text(encoding="utf-8").strip()

    @property
    def api(self) -> httpx2.Client:
        """The API, with no token set; what is asked through `get` and `post` brings it."""
        if self._api is None:
            self._api = httpx2.Client(base_url=self.url, trust_env=False, timeout=70)
        return self._api

    def get(self, path: str, **params: Any) -> httpx2.Response:
        return self.api.get(path, params=params, headers=self._authorized())

    def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        return self.api.post(path, json=body, headers=self._authorized() | headers)

    def _authorized(self) -> dict[str, str]:
        try:
            return {"Authorization": f"Bearer {self.token}"}
        except FileNotFoundError:
            return {}

    def answer(self, path: str, **params: Any) -> Json:
        """The JSON of a path under the missions' API that is there."""
        response = self.get(OPS + path, **params)
        assert response.status_code == 200, response.text
        body: Json = response.json()
        return body

    # Missions

    def dispatch(self, vp_id: str = GENERAL, objective: str = "Do it", **body: Any) -> str:
        """Hand over a new mission; gives its id."""
        response = self.post(f"{OPS}/missions/dispatch", {"vp_id": vp_id, "objective": objective, **body})
        assert response.status_code == 202, response.text
        mission_id: str = response.json()["mission"]["mission_id"]
        return mission_id

    def command(self, *argv: str, vp_id: str = GENERAL, **body: Any) -> str:
        """Hand over a new mission of type `command`; gives its id."""
        constraints = {"argv": list(argv), **body.pop("constraints", {})}
        return self.dispatch(vp_id, mission_type="command", constraints=constraints, **body)

    def shell(self, script: str, *arguments: str, **body: Any) -> str:
        return self.command("sh", "-euc", script, "sh", *arguments, **body)

    def mission(self, mission_id: str) -> Json:
        mission: Json = self.answer(f"/missions/{mission_id}")["mission"]
        return mission

    def status(self, mission_id: str) -> str:
        status: str = self.mission(mission_id)["status"]
        return status

    def finished(self, mission_id: str, *, within: float = 30.0) -> Json:
        """The mission when its paths can be opened."""

        def settled() -> Json | None:
            answer = self.answer(f"/missions/{mission_id}/wait", timeout_seconds=1)
            return None if answer["timed_out"] else answer["mission"]

        return wait_until(settled, within=within, why=f"{mission_id} ends") or {}

    def cancel(self, mission_id: str, **body: str) -> Json:
        response = self.post(f"{OPS}/missions/{mission_id}/cancel", body)
        assert response.status_code == 202, response.text
        answer: Json = response.json()
        return answer

    def missions(self, **params: Any) -> list[Json]:
        found: list[Json] = self.answer("/missions", limit=200, **params)["missions"]
        return found

    def attempts(self, mission_id: str) -> list[Json]:
        attempts: list[Json] = self.answer(f"/missions/{mission_id}/attempts")["attempts"]
        return attempts

    def events(self, **params: Any) -> list[Json]:
        """Every event there is, oldest first."""
        found: list[Json] = []
        while page := self.answer("/events", after=found[-1]["seq"] if found else 0, limit=500, **params)["events"]:
            found += page
        return found

    def terminal_events(self, mission_id: str) -> list[Json]:
        return [event for event in self.events(mission_id=mission_id) if event["type"] in TERMINAL_EVENTS]

    def artifact(self, mission_id: str, path: str) -> httpx2.Response:
        return self.get(f"{OPS}/missions/{mission_id}/artifacts/{path}")

    def log(self, mission_id: str) -> str:
        return self.get(f"{OPS}/missions/{mission_id}/log").text

    # Workers and lanes

    def session(self, process: Process) -> Json:
        """The session of a worker, `effective_status` None while it has none."""
        sessions = self.answer("/sessions")["sessions"]
        return next((session for session in sessions if session["pid"] == process.pid), {"effective_status": None})

    def holder(self, mission_id: str, workers: Sequence[Process]) -> Process:
        """The one of `workers` that runs the mission."""
        worker_id = self.mission(mission_id)["worker_id"]
        (found,) = (worker for worker in workers if self.session(worker).get("worker_id") == worker_id)
        return found

    def lane(self, vp_id: str) -> Json:
        lanes = {lane["vp_id"]: lane for lane in self.answer("/lanes")["lanes"]}
        lane: Json = lanes[vp_id]
        return lane

    def workspace(self, mission_id: str) -> Path:
        """The folder that the mission's `result_ref` names."""
        ref: str = self.mission(mission_id)["result_ref"]
        assert ref.startswith("workspace:///"), ref
        return Path(ref.removeprefix("workspace://"))

    def ledger(self) -> sqlite3.Connection:
        """A connection of our own to the ledger, to try what only somebody from outside would."""
        return sqlite3.connect(self.home / "vp_state.db", timeout=30, isolation_level=None)

    def stop(self, worker: Process) -> None:
        """SIGSTOP at a moment at which it does not write: what is stopped in a transaction of SQLite stops everybody."""

        def is_stopped_well() -> bool:
            worker.send(signal.SIGSTOP)
            if self.is_locked():
                worker.send(signal.SIGCONT)
                return False
            return True

        wait_until(is_stopped_well, within=20, why="the worker is stopped, and the ledger free")

    def is_locked(self) -> bool:
        """Whether somebody holds the ledger's write lock, and for longer than a transaction takes."""
        with closing(self.ledger()) as connection:
            connection.execute("PRAGMA busy_timeout = 100")
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
        return False

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(self.ledger()) as connection:
            return connection.execute(query, values).fetchall()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def json_files(folder: Path, *names: str) -> Iterator[Json]:
    """The JSON objects in files of a folder."""
    for name in names:
        yield json.loads((folder / name).read_bytes())
