"""Checkpoints in the one way that is safe on every SQLite.

SQLite 3.7.0 to 3.51.2 (but for 3.44.6 and 3.50.7 and later in their lines) can corrupt a WAL database when a
checkpoint meets another connection's commit (https://sqlite.org/wal.html#walresetbug). There, automatic checkpoints
are off, and ours hold the write lock meanwhile, so that no commit can be under way.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ua_vp.ledger.engine import Driver

LOG_BYTES = 4 * 1024 * 1024
"""Size of the log from which a checkpoint is due; when readers keep one from emptying it, again after as much more."""


def corrupts_on_checkpoint(version: tuple[int, ...]) -> bool:
    """Whether this SQLite needs our checkpoints instead of its own."""
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return not fixed


class Checkpointer:
    """Empties the log into the file; at most one process at a time, whichever finds it long after a commit.

    A lock on a file of its own (`…-checkpoint`) says whose turn it is and goes with the process that holds it. Used by
    the writer's thread alone.
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
            if not begin_writing(driver):
                return False  # somebody is writing, and will look after its commit
            try:
                self._checkpoint()
            finally:
                driver.execute("ROLLBACK")
            self._due_at = size + self._log_bytes
            return True
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

    def _checkpoint(self) -> None:
        if self._connection is None:
            self._connection = self._connect()
        with closing(self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")) as cursor:
            cursor.fetchall()

    def _take_turn(self) -> bool:
        if self._lock is None:
            self._lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _end_turn(self) -> None:
        assert self._lock is not None
        fcntl.flock(self._lock, fcntl.LOCK_UN)
