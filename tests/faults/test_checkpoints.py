"""The log of a ledger on SQLite: emptied by one process at a time, taken over when that is killed in the middle."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.faults.checkpointing import (
    CONTEXT,
    KILLED,
    LOG_BYTES,
    Fault,
    Member,
    acknowledged,
    checkpoints,
    read_for_ever,
)
from tests.figures import Figures, Rounds
from tests.waiting import wait_until
from ua_vp.ledger import open_ledger, verify_rows
from ua_vp.ledger.checkpoint import Checkpointer
from ua_vp.runtime import real_ports

pytestmark = pytest.mark.timeout(24 * 3600)  # a soak; each wait in it has a limit of its own
ROUNDS_PER_LEDGER = 25
PATIENCE = 60.0


@dataclass
class Found:
    """What a run came to."""

    killed: int = 0
    lost: int = 0
    double: int = 0
    rows: int = 0
    checkpoints: int = 0


class Crowd:
    """Processes that write to one ledger."""

    def __init__(self, path: Path, *, steady: int, fault: Fault | None = None) -> None:
        self.path = path
        self._fault = fault
        open_ledger(path, ports=real_ports(os.environ)).close()
        self.steady = [Member(path, fault=fault) for _ in range(steady)]
        self.doomed: list[Member] = []

    def kill_one(self, seed: int) -> None:
        """Have one more process killed in a checkpoint, then see that another empties the log, and the file is whole."""
        victim = Member(self.path, seed=seed, fault=self._fault)
        self.doomed.append(victim)
        code = victim.died(PATIENCE)
        assert code == KILLED, f"seed {seed}: exit {code} instead of a death in a checkpoint"
        before = checkpoints(self.steady)
        wait_until(lambda: checkpoints(self.steady) > before, within=PATIENCE, why=f"seed {seed}: another takes over")
        self.check(seed)

    def check(self, seed: int) -> None:
        """The file is whole, and everything that was acknowledged is in it."""
        expected = acknowledged(self.steady + self.doomed)
        with closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], f"seed {seed}: corrupt"
            (rows,) = connection.execute("SELECT count(*) FROM vp_missions").fetchone()
        assert rows >= expected, f"seed {seed}: {expected - rows} of {expected} acknowledged missions are gone"

    def end(self, found: Found) -> None:
        """Let the steady ones finish, then count."""
        codes = [member.end() for member in self.steady]
        assert codes == [0] * len(codes), codes
        everybody = self.steady + self.doomed
        ledger = open_ledger(self.path, ports=real_ports(os.environ))
        assert ledger.read(verify_rows) == []
        ledger.close()
        with closing(sqlite3.connect(self.path)) as connection:
            (rows,) = connection.execute("SELECT count(*) FROM vp_missions").fetchone()
        found.killed += len(self.doomed)
        found.lost += max(0, acknowledged(everybody) - rows)
        found.double += max(0, rows - acknowledged(everybody) - len(self.doomed))  # each had one under way
        found.rows += rows
        found.checkpoints += checkpoints(everybody)

    def put_away(self) -> None:
        for member in self.steady + self.doomed:
            member.kill()


def kill_in_checkpoints(folder: Path, rounds: int, fault: Fault | None = None) -> Found:
    """`rounds` processes are killed in a checkpoint, one after the other, while two others write."""
    found, seeds = Found(), count()
    for first in range(0, rounds, ROUNDS_PER_LEDGER):
        crowd = Crowd(folder / f"{first}.db", steady=2, fault=fault)
        try:
            for _ in range(min(ROUNDS_PER_LEDGER, rounds - first)):
                crowd.kill_one(next(seeds))
            crowd.end(found)
        finally:
            crowd.put_away()
    return found


def test_a_process_killed_in_a_checkpoint_harms_nothing_and_another_takes_over(
    tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    found = kill_in_checkpoints(tmp_path, rounds(ci=8, soak=4000))
    figures(
        "killed in a checkpoint, two others writing",
        tried=found.killed,
        lost=found.lost,
        double=found.double,
        note=f"{found.rows} missions, {found.checkpoints} checkpoints, every file whole",
    )


def never_given_up(checkpointer: Checkpointer) -> None:
    """A lock that is a file, as many programs have it: it does not go with its process."""
    path, take = checkpointer._lock_path.with_name("held"), checkpointer._take_turn

    def take_and_hold() -> bool:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return take()

    checkpointer._take_turn, checkpointer._end_turn = take_and_hold, path.unlink  # type: ignore[method-assign]


def thrown_away(checkpointer: Checkpointer) -> None:
    """A log that is taken for empty after a checkpoint, though readers kept some of it from being copied."""
    copy = checkpointer._copy

    def copy_and_cut(connection: sqlite3.Connection) -> bool:
        whole = copy(connection)
        os.truncate(checkpointer._log, 32)
        return whole

    checkpointer._copy = copy_and_cut  # type: ignore[method-assign]


@pytest.mark.parametrize("fault", [never_given_up, thrown_away])
def test_the_harness_finds_a_checkpointer_that_is_broken_on_purpose(
    tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.faults.test_checkpoints.PATIENCE", 4.0)
    with pytest.raises((AssertionError, sqlite3.DatabaseError)):
        kill_in_checkpoints(tmp_path, 10, fault)


@contextmanager
def readers(path: Path, *seconds: float) -> Iterator[None]:
    """Processes that read in snapshots of so many seconds; inside, each has begun."""
    begun = [CONTEXT.Event() for _ in seconds]
    arguments = zip(seconds, begun, strict=True)
    processes = [CONTEXT.Process(target=read_for_ever, args=(path, *each), daemon=True) for each in arguments]
    try:
        for process in processes:
            process.start()
        for event in begun:
            assert event.wait(PATIENCE)
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def longest_log(crowd: Crowd, more: int) -> int:
    """The longest that the log was, bytes, while `more` missions were dispatched."""
    log, until, longest = Path(f"{crowd.path}-wal"), acknowledged(crowd.steady) + more, 0

    def is_done() -> bool:
        nonlocal longest
        longest = max(longest, log.stat().st_size)
        return acknowledged(crowd.steady) >= until

    wait_until(is_done, within=PATIENCE + more, why=f"{more} missions more are dispatched")
    return longest


def test_sixteen_writers_and_long_readers_lose_nothing_and_the_log_stays_bounded(
    tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    crowd, found, more = Crowd(tmp_path / "vp_state.db", steady=16), Found(), rounds(ci=60, soak=20_000)
    try:
        alone = longest_log(crowd, more)
        with readers(crowd.path, 0.02, 0.02, 0.02, 0.02):
            overlapped = longest_log(crowd, more)
        with readers(crowd.path, 3600.0):
            pinned = longest_log(crowd, more)
        longest_log(crowd, more)  # it may take as much again until it is emptied
        after = longest_log(crowd, more)
        crowd.check(seed=0)
        refused = sum(member.tally.refused for member in crowd.steady)
        crowd.end(found)
    finally:
        crowd.put_away()
    sizes = ", ".join(f"{size // 1024} KiB {name}" for name, size in (
        ("alone", alone), ("with four overlapping readers", overlapped), ("pinned", pinned), ("afterwards", after)
    ))  # fmt: skip
    note = f"16 writers, {refused} refused as busy; longest log, due at {LOG_BYTES // 1024} KiB: {sizes}"
    figures("16 writers and long readers", tried=found.rows, lost=found.lost, double=found.double, note=note)
    assert max(alone, after) < 16 * LOG_BYTES, note
    assert overlapped < 32 * LOG_BYTES, note
