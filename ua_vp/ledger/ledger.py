"""The ledger as the rest of the house sees it: run a Step, read, watch, close."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ArgumentError

from ua_vp.errors import ConfigurationError, LedgerGoneError
from ua_vp.ledger.engine import Store, driver_of, let_go, patiently
from ua_vp.ledger.leases import CLOCK, DATABASE, LeaseTime
from ua_vp.ledger.migrate import bring_up
from ua_vp.ledger.sqlite import open_file
from ua_vp.ledger.transaction import LedgerIdentity, Statements, Step, Transaction
from ua_vp.ledger.wake import Watch
from ua_vp.ledger.writer import CLOSED, Writer
from ua_vp.ports import Ports

T = TypeVar("T")

BUSY_SECONDS = 5.0
"""How long a Step waits for the write lock of another process."""
POSTGRESQL = ("postgresql+psycopg", "postgresql")
"""Schemes of the URL of a database."""
IDLE_READERS = 16
"""So many connections for reading are kept open while nobody reads."""


class Ledger:
    """The door to the database; one per process, used from any thread."""

    def __init__(
        self, connection: Connection, store: Store, identity: LedgerIdentity, ports: Ports, *, busy_seconds: float
    ) -> None:
        self.identity = identity
        self._store = store
        self._ports = ports
        self._busy_seconds = busy_seconds
        self._statements = Statements(store.dialect, arrays=store.takes_arrays)
        self._idle: list[Connection] = []
        self._gate = ports.threads.lock()
        self._watches: list[Watch] = []
        self._writer = Writer(connection, store, self._statements, identity, ports, busy_seconds=busy_seconds)

    @property
    def batches(self) -> int:
        """Transactions committed so far: many Steps share one."""
        return self._writer.batches

    def run(self, step: Step[T]) -> T:
        """Run `step` in the next transaction of the writer; returns after a durable commit.

        A refusal is a value. An exception that the step raises undoes what the step did, nothing else, and is raised
        here alone. A step must depend on its transaction alone and call no port. Any thread but the writer's own.

        Raises:
            LedgerBusyError: another process kept the write lock for longer than we wait; nothing was recorded.
            LedgerGoneError: the file was deleted or replaced, or cannot be written; nothing was acknowledged.
            DiskFullError: no room; nothing was recorded.
            OutcomeUnknownError: it may or may not have been recorded; read again by key.
        """
        return self._writer.run(step)

    def read(self, step: Step[T]) -> T:
        """Run `step` on one consistent snapshot; never blocks writers. Any thread. The step cannot write.

        Raises:
            LedgerBusyError: the store was recovering for longer than we wait.
            LedgerGoneError: the file was deleted or replaced, or cannot be read.
        """
        return patiently(lambda: self._read_once(step), self._store, self._ports, limit=self._busy_seconds)

    def check(self) -> None:
        """Look, without waiting for anything, whether this is still the ledger that was opened. Any thread.

        Raises:
            LedgerGoneError: the file is away or was replaced, or its disk cannot be trusted.
        """
        self._writer.check()

    def lease_time(self) -> LeaseTime:
        """What the clock reads that the leases of this ledger are deadlines on. Any thread.

        Raises:
            LedgerBusyError, LedgerGoneError: as `read`, where it is the database's.
        """
        if self._store.own_clock:
            return LeaseTime(boot_id=DATABASE, now=self.read(lambda tx: int(tx.value(CLOCK))), steady=False)
        clock = self._ports.clock
        return LeaseTime(boot_id=clock.boot_id, now=clock.boot(), steady=True)

    def watch(self, on_change: Callable[[], None]) -> Watch:
        """Have `on_change` called, on a thread of its own, after anybody committed; see `Watch`."""
        watch = patiently(
            lambda: Watch(self._store.open_reader(), self._store, self._ports.threads, on_change),
            self._store,
            self._ports,
            limit=self._busy_seconds,
        )
        with self._gate:
            self._watches.append(watch)
        return watch

    def close(self) -> None:
        """Answer what waits, then let go of the file; further calls raise LedgerGoneError."""
        with self._gate:
            watches, self._watches = self._watches, []
        for watch in watches:
            watch.close()
        self._writer.close()
        with self._gate:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _read_once(self, step: Step[T]) -> T:
        if self._writer.closed:
            raise LedgerGoneError(CLOSED)
        self._store.verify()
        with self._gate:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._store.open_reader()
        driver = driver_of(connection)
        sound = False
        try:
            self._store.begin_reading(driver)
            try:
                tx = Transaction(connection, self._statements, self.identity)
                result = step(tx)
                tx.send()  # if it tried to write, the store refuses it
            finally:
                if self._store.in_transaction(driver):
                    driver.execute("ROLLBACK")
                sound = self._store.alive(driver)
            self._store.verify()
            return result
        finally:
            self._give_back(connection, sound=sound)

    def _give_back(self, connection: Connection, *, sound: bool) -> None:
        with self._gate:
            keep = sound and len(self._idle) < IDLE_READERS and not self._writer.closed
            if keep:
                self._idle.append(connection)
            doubtful, self._idle = ([], self._idle) if sound else (self._idle, [])
        if not keep:
            let_go(connection, alive=sound)
        for idle in doubtful:  # they lead to the same server
            let_go(idle, alive=False)


def open_ledger(
    path_or_url: Path | str, *, ports: Ports, create: bool = True, busy_seconds: float = BUSY_SECONDS
) -> Ledger:
    """Open the ledger, making it (with `create`) and bringing its tables up to this release.

    Raises:
        LedgerGoneError: it is not there and may not be made, or cannot be opened; says what to do.
        LedgerBusyError: another process kept it locked, or its server is away.
        ConfigurationError: it was written by a release that this one cannot work beside, or it is no ledger.
    """
    store = _store_at(path_or_url, ports, create=create)
    connection, identity = patiently(
        lambda: _brought_up(store, ports, create=create, busy_seconds=busy_seconds), store, ports, limit=busy_seconds
    )
    store.keep_to(identity.ledger_id, identity.epoch)
    return Ledger(connection, store, identity, ports, busy_seconds=busy_seconds)


def place_of(path_or_url: Path | str) -> str:
    """Where a ledger is, for people: of a database's URL neither the password nor the options, which may hold one."""
    if isinstance(path_or_url, Path) or not path_or_url.startswith(POSTGRESQL):
        return str(path_or_url)
    try:
        url = make_url(path_or_url)
    except (ArgumentError, ValueError):
        return "the database"
    return f"postgresql://{url.host or 'localhost'}:{url.port or 5432}/{url.database}"


def _brought_up(store: Store, ports: Ports, *, create: bool, busy_seconds: float) -> tuple[Connection, LedgerIdentity]:
    """A connection to write with, and the ledger that it leads to; each try has a new one, for it may be lost meanwhile."""
    connection, opened = store.open_writer(), False
    try:
        identity = bring_up(connection, store, ports, create=create, busy_seconds=busy_seconds)
        opened = True
        return connection, identity
    finally:
        if not opened:
            let_go(connection, alive=False)


def _store_at(path_or_url: Path | str, ports: Ports, *, create: bool) -> Store:
    if isinstance(path_or_url, str) and "://" in path_or_url:
        scheme, rest = path_or_url.split("://", 1)
        if scheme in POSTGRESQL:
            from ua_vp.ledger.postgres import open_database

            return open_database(path_or_url, ports.clock)
        if scheme != "sqlite" or not rest.startswith("/"):
            raise ConfigurationError(f"no ledger is kept on {scheme}; give the path of a file, or {POSTGRESQL[0]}://…")
        path_or_url = rest[1:]
    return open_file(Path(path_or_url).absolute(), ports.bells, create=create)
