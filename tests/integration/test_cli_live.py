"""Streams of the command line against a real API: they show what happens, and Ctrl-C leaves them, not the mission."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.api.serving import Api, serving
from tests.waiting import wait_until

UA_VP = [sys.executable, "-P", "-m", "ua_vp"]


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("api") / "home") as running:
        yield running


def environment(api: Api) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/", "UA_VP_URL": api.url, "UA_VP_TOKEN": api.token}


@contextmanager
def running(api: Api, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([*UA_VP, *arguments], env=environment(api), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def detached(process: subprocess.Popen[str]) -> str:
    """Ctrl-C; what it says on leaving."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    return said


def test_followed_events_come_as_they_happen_and_ctrl_c_says_how_to_come_back(api: Api) -> None:
    with running(api, "events", "-f", "--after", "0", "--json") as process:
        assert process.stdout
        first = json.loads(process.stdout.readline())
        mission_id = api.mission_id()
        event = first
        while event["mission_id"] != mission_id:
            event = json.loads(process.stdout.readline())
        assert event["type"] == "vp.mission.dispatched"
        assert f"ua-vp events -f --after {event['seq']}" in detached(process)


def test_ctrl_c_leaves_a_wait_and_the_mission_waits_on(api: Api) -> None:
    mission_id = api.mission_id()
    with running(api, "wait", mission_id) as process:
        assert process.stderr
        assert mission_id in process.stderr.readline()
        assert f"ua-vp wait {mission_id}" in detached(process)
    assert api.mission(mission_id)["status"] == "queued"


def test_a_cancel_ends_a_wait_with_3(api: Api) -> None:
    mission_id = api.mission_id()
    with running(api, "wait", mission_id, "--json") as process:
        assert process.stderr
        process.stderr.readline()
        done = subprocess.run(
            [*UA_VP, "cancel", mission_id, "--json"], env=environment(api), capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["status"] == "cancelled"
        wait_until(lambda: api.mission(mission_id)["status"] == "cancelled", within=10, why="it is cancelled")
        code = process.wait(timeout=30)
    assert code == 3


def test_one_key_is_one_mission_and_another_request_is_a_conflict(api: Api) -> None:
    def dispatch(objective: str) -> subprocess.CompletedProcess[str]:
        argv = [*UA_VP, "dispatch", "general", objective, "--type", "plain", "--key", "k1", "--json"]
        return subprocess.run(argv, env=environment(api), capture_output=True, text=True, check=False)

    first, again, other = dispatch("one"), dispatch("one"), dispatch("two")
    assert (first.returncode, again.returncode, other.returncode) == (0, 0, 5)
    assert json.loads(again.stdout)["replayed"] is True
    assert json.loads(first.stdout)["mission"]["mission_id"] == json.loads(again.stdout)["mission"]["mission_id"]
    assert json.loads(other.stderr.splitlines()[-1])["error"]["code"] == "idempotency_conflict"
