"""`ua-vp up` on a terminal of its own: what Ctrl-C does, who is started again, what is said."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.family import members
from tests.product import free_port, lanes_table
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

START, END = 90.0, 60.0
UA_VP = [sys.executable, "-P", "-m", "ua_vp"]
CTRL_C = b"\x03"


class Terminal:
    """A program on a pseudo-terminal, as a person would run it."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: Path) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(argv[0], argv, env)
        self._text = b""
        self._status: int | None = None

    @property
    def text(self) -> str:
        """All that it has shown so far."""
        while select.select([self._fd], [], [], 0)[0]:
            try:
                chunk = os.read(self._fd, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            self._text += chunk
        return self._text.decode("utf-8", errors="replace").replace("\r\n", "\n")

    def shows(self, words: str, *, within: float = START) -> None:
        wait_until(lambda: words in self.text or self.ended, within=within, why=f"it shows {words!r}")
        assert words in self.text, self.text

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    @property
    def ended(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status is not None

    def exit_code(self, *, within: float = END) -> int:
        wait_until(lambda: bool(self.text) and self.ended, within=within, why="it ends")
        assert self._status is not None
        return self._status

    def close(self) -> None:
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


class Up:
    """`ua-vp up` in a home of its own; every process of it carries `marker`."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        (self.home / "ua-vp.toml").write_text(lanes_table("general", "coder"))
        self.folder = folder
        self.marker = f"marker-{uuid.uuid4().hex}"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "UA_VP_HOME": str(self.home),
            "UA_VP_OPS_BIND": f"127.0.0.1:{free_port()}",
            "UP_TEST": self.marker,
        }

    @contextmanager
    def running(self, *options: str) -> Iterator[Terminal]:
        terminal = Terminal([*UA_VP, "up", *options], self.env, self.folder)
        try:
            yield terminal
        finally:
            terminal.close()
            wait_until(lambda: not members(self.marker), within=END, why="no process is left")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*UA_VP, *arguments], env=self.env, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )

    def asked(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def dispatch(self, script: str) -> str:
        argv = json.dumps({"argv": ["sh", "-c", script, self.marker]})
        return str(
            self.asked("dispatch", "general", "x", "--type", "command", "--constraints", argv)["mission"]["mission_id"]
        )

    def worker(self) -> int:
        """The process id of General's live worker, 0 if none is."""
        sessions = self.asked("workers")["sessions"]
        live = [one for one in sessions if one["effective_status"] == "live" and one["vp_id"] == "vp.general.primary"]
        return int(live[0]["pid"]) if live else 0


@pytest.fixture
def up(tmp_path: Path) -> Up:
    return Up(tmp_path)


def running_mission(up: Up, script: str) -> str:
    mission_id = up.dispatch(f"echo begun > {up.folder}/begun; {script}")
    wait_until((up.folder / "begun").exists, within=START, why="the mission runs")
    return mission_id


def test_ctrl_c_lets_missions_end_and_says_what_it_waits_for(up: Up) -> None:
    with up.running() as terminal:
        terminal.shows("ready: ")
        go = up.folder / "go"
        mission_id = running_mission(up, f"while [ ! -e {go} ]; do sleep 0.1; done; echo done > work_products/a.txt")
        terminal.type(CTRL_C)
        terminal.shows(f"waiting for {mission_id}")
        go.touch()
        assert terminal.exit_code() == 0
        assert terminal.text.rstrip().endswith("stopped")
    folder = up.home / "AGENT_RUN_WORKSPACES" / "vp_general_primary_external" / mission_id
    assert json.loads((folder / "sync_ready.json").read_text())["state"] == "completed"


def test_a_second_ctrl_c_stops_at_once(up: Up) -> None:
    with up.running() as terminal:
        terminal.shows("ready: ")
        running_mission(up, "sleep 1000")
        terminal.type(CTRL_C)
        terminal.shows("waiting for ")
        terminal.type(CTRL_C)
        assert terminal.exit_code(within=20) == 130
        assert "stopping at once" in terminal.text


def test_a_killed_child_is_started_again(up: Up) -> None:
    with up.running() as terminal:
        terminal.shows("ready: ")
        before = up.worker()
        os.kill(before, signal.SIGKILL)
        terminal.shows("worker general ended (SIGKILL)")
        wait_until(lambda: up.worker() not in {0, before}, within=START, why="another worker is live")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 0


def test_a_taken_port_is_said_and_another_one_serves(up: Up) -> None:
    with socket.socket() as other:
        host, _, port = up.env["UA_VP_OPS_BIND"].rpartition(":")
        other.bind((host, int(port)))
        other.listen()
        with up.running() as terminal:
            terminal.shows(f"{host}:{port} is taken")
            terminal.shows("ready: ")
            assert up.run("lanes", "ls").returncode == 0
            assert up.run("up").returncode == 5
            terminal.type(CTRL_C)
            assert terminal.exit_code() == 0


def test_what_cannot_start_says_why_and_ends(up: Up) -> None:
    (up.home / "ua-vp.toml").write_text("[workr]\n")
    done = up.run("up", "--once")
    assert done.returncode == 2
    assert "did you mean worker" in done.stderr


def test_a_first_start_writes_the_settings_and_once_ends_in_good_order(up: Up) -> None:
    (up.home / "ua-vp.toml").unlink()
    done = up.run("up", "--once")
    assert done.returncode == 0, done.stderr
    assert 'sandbox = "none"' in (up.home / "ua-vp.toml").read_text()
    assert "unconfined" in done.stderr
    assert not members(up.marker)


def test_a_lane_that_refuses_to_start_says_why_and_the_others_work(up: Up) -> None:
    (up.home / "ua-vp.toml").write_text(lanes_table("general"))
    with up.running() as terminal:
        terminal.shows('set sandbox = "none" in [lanes.coder]')
        terminal.shows("ready: General")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 0
