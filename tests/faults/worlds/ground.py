"""What a world stands on: two lanes, a ledger that knows them, and the ways in which disk and database fail."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sqlalchemy import Connection

from ua_vp import Availability, LaneInfo, MissionType
from ua_vp.lane import Manifest, Verdict
from ua_vp.ledger import lanes, open_ledger
from ua_vp.ledger.engine import Driver, Store
from ua_vp.mission import Actor
from ua_vp.ports import Ports
from ua_vp.testing import World
from ua_vp.testing.simulated import SimulatedFiles, SimulatedIds

LANES = ("vp.left.primary", "vp.right.primary")
LEDGER = "vp_state.db"
IO_ERROR = sqlite3.SQLITE_IOERR


def info_of(vp_id: str, capacity: int = 1) -> LaneInfo:
    """A lane that takes any constraints and counts tokens."""
    kind = MissionType(description="whatever the world wants", schema={"type": "object"})
    return LaneInfo(
        vp_id=vp_id, display_name=vp_id, mission_types={"task": kind}, capacity=capacity, measures=("tokens",)
    )


def new_ground() -> Path:
    """A folder for one world, in memory where there is such a place, with a ledger that knows the lanes."""
    memory = Path("/dev/shm")
    ground = Path(mkdtemp(prefix="ua-vp-world-", dir=memory if memory.is_dir() else None))
    for name, data in template():
        (ground / name).write_bytes(data)
    return ground


def close_all_below(ground: Path) -> None:
    """Close the descriptors of killed processes that nobody else will: those that were opened as plain numbers."""
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # what listed them is closed by now
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"{ground}/"):
                os.close(int(descriptor))


@cache
def template() -> list[tuple[str, bytes]]:
    """The files of a ledger in which both lanes are published: making one costs as much as a small world."""
    folder = Path(mkdtemp(prefix="ua-vp-template-"))
    world = World(0)

    def make(ports: Ports) -> None:
        ledger = open_ledger(folder / LEDGER, ports=ports)
        verdicts = [_verdict(vp_id) for vp_id in LANES]
        ledger.run(lambda tx: lanes.publish_verdicts(tx, verdicts, now=1, actor=Actor(name="world", via="test")))
        ledger.close()

    world.run(make)
    try:
        return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir()) if path.is_file()]
    finally:
        shutil.rmtree(folder)


def _verdict(vp_id: str) -> Verdict:
    manifest = Manifest(
        info=info_of(vp_id),
        availability=Availability(),
        distribution="ua-vp-world",
        version="1",
        workspace_base=f"workspace:///nowhere/{vp_id}",
        sandbox="none",
    )
    return Verdict(
        entry_point=vp_id.split(".")[1],
        distribution="ua-vp-world",
        version="1",
        ok=True,
        detail="",
        manifests=(manifest,),
    )


@dataclass
class Troubles:
    """What is wrong with the disk now, by process; all of it ends with `clear`."""

    world: World
    chance: random.Random
    away: dict[str, int] = field(default_factory=dict)
    """Until when (µs, monotonic) a process cannot write to the ledger."""
    cut: set[str] = field(default_factory=set)
    """Which of these cannot read it either."""
    commits: dict[str, str] = field(default_factory=dict)
    """What becomes of the next commit of a process: `done` or `undone` with an error, or `full`."""
    bells: float = 0.0
    """The share of rings that are lost."""
    files: dict[str, float] = field(default_factory=dict)
    """The share of durable steps of a process that fail."""

    def clear(self) -> None:
        """From here on all is well."""
        self.away.clear()
        self.cut.clear()
        self.commits.clear()
        self.files.clear()

    def is_away(self, process: str) -> bool:
        """Whether somebody else keeps the ledger locked for `process`."""
        return self.world.time.monotonic < self.away.get(process, 0)

    def fail_step(self, process: str) -> None:
        """Fail a durable step, now and then.

        Raises:
            OSError: the disk is full or faulty.
        """
        share = self.files.get(process, 0.0)
        if share and self.chance.random() < share:
            code = self.chance.choice((errno.ENOSPC, errno.EIO))
            self.world.tell(f"a file step fails: {errno.errorcode[code]}")
            raise OSError(code, "injected")


class TroubledStore:
    """A store that fails as `troubles` say; `committed` is called after each commit, before anybody else has a turn."""

    def __init__(self, store: Store, process: str, troubles: Troubles, committed: Callable[[str], None]) -> None:
        self._store = store
        self._opened: list[Connection] = []
        self._process = process
        self._troubles = troubles
        self._committed = committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open_writer(self) -> Connection:
        self._opened.append(self._store.open_writer())
        return self._opened[-1]

    def open_reader(self) -> Connection:
        self._opened.append(self._store.open_reader())
        return self._opened[-1]

    def end(self) -> None:
        """Close what a killed process left open, as the system does for a real one."""
        for connection in self._opened:
            connection.close()

    def begin_writing(self, driver: Driver) -> bool:
        return not self._troubles.is_away(self._process) and self._store.begin_writing(driver)

    def begin_reading(self, driver: Driver) -> None:
        if self._process in self._troubles.cut and self._troubles.is_away(self._process):
            raise _error(sqlite3.SQLITE_BUSY, "database is locked (injected)")
        self._store.begin_reading(driver)

    def commit(self, driver: Driver) -> None:
        trouble = self._troubles.commits.pop(self._process, None)
        if trouble not in {"undone", "full"}:
            self._store.commit(driver)
            self._committed(self._process)
        if trouble is not None:
            self._troubles.world.tell(f"a commit fails: {trouble}")
            full = trouble == "full"
            raise _error(sqlite3.SQLITE_FULL if full else IO_ERROR, "disk full" if full else "disk I/O error")

    def announce(self) -> None:
        if self._troubles.chance.random() >= self._troubles.bells:
            self._store.announce()


class TroubledFiles(SimulatedFiles):
    """Files that fail as `troubles` say; `moved` is called after each rename."""

    def __init__(
        self, world: World, process: str, troubles: Troubles, moved: Callable[[Path, Path], None], ids: SimulatedIds
    ) -> None:
        super().__init__(world, ids)
        self._process = process
        self._troubles = troubles
        self._moved = moved

    def rename(self, source: Path, target: Path) -> None:
        try:
            super().rename(source, target)
        except OSError:
            if not source.exists():  # it was the fsync that failed
                self._moved(source, target)
            raise
        self._moved(source, target)

    def _fsync(self, descriptor: int) -> None:
        super()._fsync(descriptor)
        self._troubles.fail_step(self._process)


def _error(code: int, text: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error
