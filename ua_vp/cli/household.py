"""The processes that `ua-vp up` looks after: started, watched, started again when they die, stopped together."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from ua_vp.ports import MICROS, Clock

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a dead process is started again: the first time, and at most; doubling in between."""
WELL = 30.0
"""Seconds that a process must live for the next death to count as a first one."""
LARGEST_LOG = 10_000_000
"""Bytes; a larger log becomes `.old` when its process starts."""


class Service(Protocol):
    """A started process in a session of its own."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def poll(self) -> int | None:
        """Its exit status (minus the signal that ended it), None while it runs."""
        ...

    def terminate(self) -> None:
        """SIGTERM."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


class Starter(Protocol):
    """What starts them; `runtime.processes.RealProcesses` is one."""

    def start_service(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        output: IO[bytes] | int | None,
        errors: IO[bytes] | int | None,
    ) -> Service:
        """Start `argv` so that it gets SIGTERM when this process dies."""
        ...


@dataclass(kw_only=True, slots=True)
class Member:
    """One process, through all its lives."""

    name: str
    argv: Sequence[str]
    service: Service | None = None
    started_at: int = 0
    """µs, monotonic."""
    due_at: int | None = None
    """When it is started again; None while it runs or is to stay away."""
    pause: float = FIRST_PAUSE
    last_status: int | None = None
    deaths: int = 0


@dataclass(kw_only=True, slots=True)
class Household:
    """All of them; belongs to one thread, which calls `tend` often. Times are seconds."""

    starter: Starter
    clock: Clock
    env: Mapping[str, str]
    logs: Path
    say: Callable[[str], None]
    members: dict[str, Member] = field(default_factory=dict)
    stopping: bool = False

    def start(self, name: str, argv: Sequence[str]) -> Member:
        """Start a process and look after it from now on."""
        member = Member(name=name, argv=argv)
        self.members[name] = member
        self._start(member)
        return member

    def log_of(self, name: str) -> Path:
        """Where its output goes."""
        return self.logs / f"{name.replace(' ', '-')}.log"

    def tend(self) -> None:
        """Notice deaths, say them, and start again what is due."""
        for member in self.members.values():
            if member.service is not None and (status := member.service.poll()) is not None:
                self._buried(member, status)
            elif member.due_at is not None and self.clock.monotonic() >= member.due_at and not self.stopping:
                self.say(f"{member.name}: starting it again")
                self._start(member)

    def running(self) -> list[Member]:
        """Those that live now."""
        return [
            member for member in self.members.values() if member.service is not None and member.service.poll() is None
        ]

    def terminate(self, names: Sequence[str]) -> None:
        """SIGTERM to those named; nobody is started again from now on."""
        self.stopping = True
        for name in names:
            member = self.members.get(name)
            if member is not None and member.service is not None:
                member.service.terminate()

    def kill(self) -> None:
        """SIGKILL to all."""
        self.stopping = True
        for member in self.running():
            if member.service is not None:
                member.service.kill()

    def _start(self, member: Member) -> None:
        log = self.log_of(member.name)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".log.old"))
        with log.open("ab") as output:
            member.service = self.starter.start_service(member.argv, env=self.env, output=output, errors=output)
        member.started_at, member.due_at = self.clock.monotonic(), None

    def _buried(self, member: Member, status: int) -> None:
        now = self.clock.monotonic()
        member.service, member.last_status = None, status
        member.deaths += 1
        if self.stopping:
            return
        if now - member.started_at > WELL * MICROS:
            member.pause = FIRST_PAUSE
        member.due_at = now + int(member.pause * MICROS)
        self.say(
            f"{member.name} ended ({how(status)}); again in {member.pause:g} s; its log: {self.log_of(member.name)}"
        )
        member.pause = min(member.pause * 2, LONGEST_PAUSE)


def how(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def last_words(log: Path, count: int = 5) -> list[str]:
    """The last lines of a log, for people."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            return file.read().decode("utf-8", errors="replace").splitlines()[-count:]
    except OSError:
        return []
