"""Checkpoints in the one way that is safe on every SQLite, and keeps the log short whoever reads.

SQLite 3.7.0 to 3.51.2 (but for 3.44.6 and 3.50.7 and later in their lines) can corrupt a WAL database when a
checkpoint meets another connection's commit (https://sqlite.org/wal.html#walresetbug), and on every version its
automatic checkpoints never come round to beginning the log anew while readers overlap (#avoiding_excessively_large_wal_files).
So those are off, and ours hold the write lock meanwhile: no commit can be under way, and readers can be waited for.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from ua_vp.ledger.engine import Driver

LOG_BYTES = 4 * 1024 * 1024
"""Size of the log from which a checkpoint is due; while readers keep it from beginning anew, again at each doubling."""
PATIENCE = ((32, 1000), (8, 200), (4, 50), (2, 10))
"""A log so many times too long is worth so many ms of waiting for readers with the write lock held, at most twice."""


def corrupts_on_checkpoint(version: tuple[int, ...]) -> bool:
    """Whether the automatic checkpoints of this SQLite can corrupt a ledger."""
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return not fixed


class Checkpointer:
    """Empties the log into the file; at most one process at a time, whichever finds it long after a commit.

    Afterwards the next commit, by anybody, begins the log anew, unless somebody still reads from it.
    A lock on a file of its own (`…-checkpoint`) says whose turn it is and goes with the process that holds it; in it
    stands how long the log was when readers kept the last one from copying all. Used by the writer's thread alone.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection], *, log_bytes: int = LOG_BYTES) -> None:
        self._log = path.with_name(f"{path.name}-wal")
        self._lock_path = path.with_name(f"{path.name}-checkpoint")
        self._connect = connect
        self._log_bytes = log_bytes
        self._due_at = log_bytes
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None

    def run_if_due(self, driver: Driver, begin_writing: Callable[[Driver], bool]) -> bool:
        """Checkpoint if the log is long and nobody else is at it; returns whether it was done.

        `driver` is the writer's connection, outside any transaction.
        """
        size = self._size()
        if size < self._log_bytes:
            self._due_at = self._log_bytes
        if size < self._due_at or not self._take_turn():
            return False
        try:
            in_vain = self._tried_in_vain()
            if in_vain <= size < 2 * in_vain:
                self._due_at = 2 * in_vain
                return False  # another process was kept from it by a reader, and would be now
            patience = next((wait for times, wait in PATIENCE if size >= times * self._log_bytes), 0)
            if patience:  # first without a copy: we may stand among those who read older pages, until we begin again
                self._holding(driver, begin_writing, lambda: self._wait(patience))
            return self._holding(driver, begin_writing, lambda: self._checkpoint(size, patience))
        finally:
            self._end_turn()

    def close(self) -> None:
        """Close the connection and the lock file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _size(self) -> int:
        try:
            return os.stat(self._log).st_size  # looked at, never opened: closing it would drop SQLite's locks
        except OSError:
            return 0

    def _holding(self, driver: Driver, begin_writing: Callable[[Driver], bool], act: Callable[[], None]) -> bool:
        """Do it with the write lock held; False, at once, if somebody else has it, who will look after his commit."""
        if not begin_writing(driver):
            return False
        try:
            act()
        finally:
            driver.execute("ROLLBACK")
        return True

    def _checkpoint(self, size: int, patience: int) -> None:
        """Copy what nobody reads; if that was all, whoever comes now reads the file alone, and the others are waited for."""
        self._due_at = 2 * size  # of one that fails, too: it must not cost every commit a try
        whole = self._copy(self._opened())
        self._note(0 if whole else size)
        if whole and patience:
            self._wait(patience)

    def _opened(self) -> sqlite3.Connection:
        self._connection = self._connection or self._connect()
        return self._connection

    def _copy(self, connection: sqlite3.Connection) -> bool:
        with closing(connection.execute("PRAGMA wal_checkpoint(PASSIVE)")) as cursor:
            _, pages, copied = cursor.fetchone()
        return bool(pages == copied)

    def _wait(self, milliseconds: int) -> None:
        """Let time pass: SQLite waits in vain for the lock that we hold (no port may be called while we hold it)."""
        connection = self._opened()
        connection.execute(f"PRAGMA busy_timeout={milliseconds}")
        with suppress(sqlite3.OperationalError):
            connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA busy_timeout=0")

    def _take_turn(self) -> bool:
        try:
            if self._lock is None:
                self._lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o660)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody else's turn; or no room for the lock's file: nobody's, and the log only stays longer
            return False
        return True

    def _tried_in_vain(self) -> int:
        assert self._lock is not None
        return int.from_bytes(os.pread(self._lock, 8, 0), "little")

    def _note(self, size: int) -> None:
        assert self._lock is not None
        with suppress(OSError):  # no room: others try, too
            os.pwrite(self._lock, size.to_bytes(8, "little"), 0)

    def _end_turn(self) -> None:
        assert self._lock is not None
        fcntl.flock(self._lock, fcntl.LOCK_UN)
