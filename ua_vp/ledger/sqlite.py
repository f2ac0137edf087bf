"""The ledger on SQLite: one file, WAL, `synchronous=FULL`, transactions begun by hand."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import Connection, Dialect

from ua_vp.errors import LedgerGoneError
from ua_vp.ledger.checkpoint import Checkpointer
from ua_vp.ledger.engine import Driver, Trouble
from ua_vp.ports import Bell, Bells

PRAGMAS = (
    "PRAGMA busy_timeout=0",  # the waiting is ours, over the clock of the ports
    "PRAGMA synchronous=FULL",  # with NORMAL a power cut loses acknowledged dispatches
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",  # what a statement may have to undo is kept there, not in a file
    "PRAGMA recursive_triggers=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
    "PRAGMA wal_autocheckpoint=0",  # checkpoints are ours, too
    "PRAGMA journal_size_limit=0",  # a restarted log is cut to what it holds, so its size tells how much waits in it
)
WAKE_FOLDER = "wake"
"""Beside the file: where those who listen hang their bells."""
BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
STATEMENT = {
    *(sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG),
    *(sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE),
}


class SqliteStore:
    """One ledger file at `path`, which must exist; see `Store` for the promises."""

    def __init__(self, path: Path, bells: Bells) -> None:
        self._path = path
        self._bells = bells
        self._identity: tuple[int, int] | None = None
        self._engine = sqlalchemy.create_engine(
            "sqlite+pysqlite://",
            creator=self._connect,
            poolclass=sqlalchemy.pool.NullPool,
            isolation_level="AUTOCOMMIT",
            paramstyle="qmark",
        )
        self._checkpointer = Checkpointer(path, self._connect)
        self._identity = self._look()

    @property
    def dialect(self) -> Dialect:
        """SQLite's, with named parameters."""
        return self._engine.dialect

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The driver's, and SQLAlchemy's around them."""
        return sqlite3.Error, sqlalchemy.exc.DBAPIError

    @property
    def takes_arrays(self) -> bool:
        """No; a statement run again costs little here."""
        return False

    @property
    def own_clock(self) -> bool:
        """No: one machine has it, whose boot clock is good."""
        return False

    def open_writer(self) -> Connection:
        """A connection that may write."""
        return self._engine.connect()

    def open_reader(self) -> Connection:
        """A connection that can only read."""
        connection = self._engine.connect()
        connection.exec_driver_sql("PRAGMA query_only=ON")
        return connection

    def begin_writing(self, driver: Driver) -> bool:
        """BEGIN IMMEDIATE; False if another connection holds the write lock."""
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if self.trouble(error) is Trouble.BUSY:
                return False
            raise
        return True

    def begin_reading(self, driver: Driver) -> None:
        """BEGIN; the snapshot is that of the first read."""
        driver.execute("BEGIN")

    def begin_migrating(self, driver: Driver) -> bool:
        """WAL for good (a new file only), foreign keys off (not possible once begun), BEGIN IMMEDIATE."""
        try:
            driver.execute("PRAGMA journal_mode=WAL").fetchone()
            driver.execute("PRAGMA foreign_keys=OFF")
        except sqlite3.OperationalError as error:
            if self.trouble(error) is Trouble.BUSY:
                return False
            raise
        return self.begin_writing(driver)

    def check_migrated(self, driver: Driver) -> None:
        """Foreign keys, which were off meanwhile.

        Raises:
            LedgerGoneError: a row refers to nothing.
        """
        broken = driver.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise LedgerGoneError(f"rows of the ledger refer to nothing ({broken[:3]}); nothing was changed")

    def end_migrating(self, driver: Driver) -> None:
        """Foreign keys on."""
        driver.execute("PRAGMA foreign_keys=ON")

    def commit(self, driver: Driver) -> None:
        """COMMIT; returns when the log is on the disk."""
        driver.execute("COMMIT")

    def certain(self, driver: Driver, error: BaseException) -> bool:
        """Whether a commit that failed recorded nothing: if there was no room, or no lock; never after an error of the disk."""
        return self.trouble(error) in {Trouble.FULL, Trouble.BUSY}

    def in_transaction(self, driver: Driver) -> bool:
        """Whether a transaction is open."""
        assert isinstance(driver, sqlite3.Connection)
        return driver.in_transaction

    def alive(self, driver: Driver) -> bool:
        """Always: a file is not lost as a connection is."""
        return True

    def trouble(self, error: BaseException) -> Trouble | None:
        """By SQLite's primary result code."""
        cause = getattr(error, "orig", None) or error
        if not isinstance(cause, sqlite3.Error):
            return None
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in BUSY:
            return Trouble.BUSY
        if code == sqlite3.SQLITE_FULL:
            return Trouble.FULL
        return Trouble.STATEMENT if code in STATEMENT else Trouble.GONE

    def keep_to(self, ledger_id: str, epoch: int) -> None:
        """Nothing to do: device and inode say more, and sooner."""

    def verify(self) -> None:
        """Compare device and inode with those of the file that was opened: a deleted file goes on taking writes.

        Raises:
            LedgerGoneError: it was deleted or replaced.
        """
        if self._look() != self._identity:
            raise LedgerGoneError(
                f"the ledger {self._path} was replaced by another file while in use; nothing was acknowledged; restart"
            )

    def tidy(self, driver: Driver) -> None:
        """Empty the log into the file when it is long."""
        self._checkpointer.run_if_due(driver, self.begin_writing)

    def changes(self, driver: Driver) -> int:
        """SQLite's `data_version`."""
        (version,) = driver.execute("PRAGMA data_version").fetchone()
        return int(version)

    def listen(self) -> Bell:
        """A bell in the folder beside the file."""
        return self._bells.hang(self._path.with_name(WAKE_FOLDER))

    def announce(self) -> None:
        """Ring the bells of every process that has this file, or another in its folder, open."""
        self._bells.ring(self._path.with_name(WAKE_FOLDER))

    def close(self) -> None:
        """Close what the checkpointer holds."""
        self._checkpointer.close()

    def _look(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            raise LedgerGoneError(
                f"there is no ledger at {self._path}; put it back, or start the product to make a new one"
            ) from None
        except OSError as error:
            raise LedgerGoneError(f"the ledger {self._path} cannot be reached ({error.strerror})") from error
        return found.st_dev, found.st_ino

    def _connect(self) -> sqlite3.Connection:
        """A connection to the file as it is now; never makes one (`mode=rw`)."""
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=rw",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        for pragma in PRAGMAS:
            connection.execute(pragma)
        return connection


def open_file(path: Path, bells: Bells, *, create: bool) -> SqliteStore:
    """The store in the file at `path`.

    Raises:
        LedgerGoneError: it is not there, and (with `create`) cannot be made.
    """
    if create and not path.exists():
        make_file(path)
    return SqliteStore(path, bells)


def make_file(path: Path) -> None:
    """Put an empty file at `path` if nothing is there, readable and writable for the group.

    In one step, so that a crash leaves nothing, and without a descriptor: closing it would drop SQLite's locks on it.

    Raises:
        LedgerGoneError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o770)
        with suppress(FileExistsError):  # somebody else made it meanwhile
            os.mknod(path, stat.S_IFREG | 0o660)
    except OSError as error:
        raise LedgerGoneError(f"no ledger can be made at {path} ({error.strerror}); see to the folder") from error
