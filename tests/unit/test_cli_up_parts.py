"""The parts of `up` that need no processes: the household, the settings file, the port."""

import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest

from ua_vp import settings
from ua_vp.cli import household, settings_file
from ua_vp.cli.household import Household
from ua_vp.cli.up import free_bind
from ua_vp.errors import ConfigurationError
from ua_vp.ports import MICROS

LANES = "# Lanes:"
"""Where the tables of the lanes begin."""


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.at = 0

    boot_id = "b"

    def now(self) -> int:
        return self.at

    def boot(self) -> int:
        return self.at

    def monotonic(self) -> int:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += int(seconds * MICROS)


class Process:
    """A process that ends when a test says so."""

    pid = 1

    def __init__(self) -> None:
        self.status: int | None = None
        self.heard: list[str] = []

    def poll(self) -> int | None:
        return self.status

    def terminate(self) -> None:
        self.heard.append("TERM")

    def kill(self) -> None:
        self.heard.append("KILL")


class Starter:
    """Starts nothing, remembers all."""

    def __init__(self) -> None:
        self.started: list[Process] = []

    def start_service(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        output: IO[bytes] | int | None,
        errors: IO[bytes] | int | None,
    ) -> Process:
        del argv, env, output, errors
        self.started.append(Process())
        return self.started[-1]


def home_with(starter: Starter, clock: Clock, logs: Path, said: list[str]) -> Household:
    return Household(starter=starter, clock=clock, env={}, logs=logs, say=said.append)


def test_a_dead_process_is_started_again_after_growing_pauses(tmp_path: Path) -> None:
    clock, starter, said = Clock(), Starter(), list[str]()
    house = home_with(starter, clock, tmp_path, said)
    house.start("worker general", ["x"])
    pauses = []
    for _ in range(7):
        starter.started[-1].status = -9
        died, count = clock.at, len(starter.started)
        while len(starter.started) == count:
            house.tend()
            clock.sleep(0.25)
        pauses.append(int((clock.at - died) / MICROS))
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert "SIGKILL" in said[0]
    assert str(house.log_of("worker general")) in said[0]


def test_who_lived_well_before_is_started_again_soon(tmp_path: Path) -> None:
    clock, starter = Clock(), Starter()
    house = home_with(starter, clock, tmp_path, [])
    member = house.start("serve", ["x"])
    member.pause = 30.0
    clock.sleep(household.WELL + 1)
    starter.started[0].status = 1
    house.tend()
    clock.sleep(1)
    house.tend()
    assert len(starter.started) == 2


def test_nobody_is_started_again_while_stopping(tmp_path: Path) -> None:
    clock, starter = Clock(), Starter()
    said = list[str]()
    house = home_with(starter, clock, tmp_path, said)
    house.start("serve", ["x"])
    house.terminate(["serve"])
    assert starter.started[0].heard == ["TERM"]
    starter.started[0].status = 0
    for _ in range(100):
        house.tend()
        clock.sleep(1)
    assert len(starter.started) == 1
    assert not house.running()
    assert said == []


def test_the_first_settings_file_is_valid_as_it_is_and_names_every_setting(tmp_path: Path) -> None:
    text = settings_file.content()
    (tmp_path / "ua-vp.toml").write_text(text)
    loaded = settings.load({"UA_VP_HOME": str(tmp_path)})
    assert {name: lane.sandbox for name, lane in loaded.lanes.items()} == {"coder": "none", "general": "none"}
    assert [lane.own()["allow_command"] for lane in loaded.lanes.values()] == [False, False]
    for section, model in settings.SECTIONS.items():
        table = text.partition(LANES)[0].split(f"\n[{section}]\n")[1].split("\n[")[0]
        assert set(re.findall(r"^# (\w+) = ", table, re.MULTILINE)) == set(model.model_fields)


def test_the_defaults_shown_are_the_defaults(tmp_path: Path) -> None:
    general = settings_file.content().partition(LANES)[0]
    shown = re.sub(r"^# (\w+ = [^…\n]+)$", r"\1", general, flags=re.MULTILINE)
    (tmp_path / "ua-vp.toml").write_text(shown)
    loaded, default = settings.load({"UA_VP_HOME": str(tmp_path)}), settings.load({"UA_VP_HOME": str(tmp_path / "no")})
    assert tomllib.loads(shown)["worker"]
    for section in settings.SECTIONS:
        assert getattr(loaded, section) == getattr(default, section)


def test_a_taken_port_gives_way_to_a_free_one() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        free = free_bind(taken)
    assert free != taken
    assert free.startswith("127.0.0.1:")
    assert free_bind(free) == free
    assert free_bind("unix:/run/x.sock") == "unix:/run/x.sock"


@pytest.mark.parametrize("bind", ["nonsense", "203.0.113.1:80", "127.0.0.1:http", ":99999"])
def test_an_address_that_cannot_be_is_refused_with_the_setting(bind: str) -> None:
    with pytest.raises(ConfigurationError, match="UA_VP_OPS_BIND"):
        free_bind(bind)
