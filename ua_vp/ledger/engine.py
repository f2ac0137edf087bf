"""The seam between the ledger and its store: everything in which SQLite and PostgreSQL differ stands behind `Store`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Dialect

from ua_vp.errors import DiskFullError, LedgerBusyError, LedgerGoneError, VpError
from ua_vp.ports import MICROS, Bell, Ports

T = TypeVar("T")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.0005, 0.02
"""Seconds between two attempts at the write lock: doubled from the first to the second."""
LONGEST_AWAY = 0.25
"""The same between two attempts to reach a store that is away."""


class Trouble(Enum):
    """What kind of error a store met."""

    BUSY = "busy"
    """Somebody else holds a lock that we need."""
    FULL = "full"
    """No room on the disk; nothing was recorded."""
    AWAY = "away"
    """The store cannot be reached now; its connection was lost, and may be made again."""
    GONE = "gone"
    """The store cannot be opened, read or written any more."""
    STATEMENT = "statement"
    """The statement itself is at fault: a constraint, a trigger, a wrong value."""


PASSING = frozenset({Trouble.BUSY, Trouble.AWAY})
"""What may be over in a moment."""


class Driver(Protocol):
    """What we use of the driver's own connection; sqlite3 and psycopg both have it."""

    def execute(self, sql: str, params: Any = ..., /) -> Any:
        """Run one statement; gives a cursor."""
        ...

    def cursor(self) -> Any:
        """A cursor, whose `executemany` runs one statement for many rows."""
        ...


class Store(Protocol):
    """One database. Connections are used by one thread at a time; transactions are begun and ended by hand."""

    @property
    def dialect(self) -> Dialect:
        """For compiling statements."""
        ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What it raises; `trouble` tells the kinds apart."""
        ...

    @property
    def takes_arrays(self) -> bool:
        """Whether a parameter may be a list, so that one statement changes many rows."""
        ...

    @property
    def own_clock(self) -> bool:
        """Whether leases are deadlines on its own clock (`vp_clock()`), for several machines, not on the boot clock."""
        ...

    def open_writer(self) -> Connection:
        """A connection that may write."""
        ...

    def open_reader(self) -> Connection:
        """A connection that can only read."""
        ...

    def begin_writing(self, driver: Driver) -> bool:
        """Begin a transaction that may write; False, at once or after a moment, if somebody else holds the write lock."""
        ...

    def begin_reading(self, driver: Driver) -> None:
        """Begin a transaction that sees one snapshot."""
        ...

    def begin_migrating(self, driver: Driver) -> bool:
        """Begin a transaction that may change tables; False, at once, if somebody else is at it."""
        ...

    def check_migrated(self, driver: Driver) -> None:
        """Look before the commit whether every reference still leads somewhere.

        Raises:
            LedgerGoneError: one does not.
        """
        ...

    def end_migrating(self, driver: Driver) -> None:
        """After the transaction: make the connection fit for Steps again."""
        ...

    def commit(self, driver: Driver) -> None:
        """End the transaction for good; an error may leave it open, gone, or its outcome unknown."""
        ...

    def certain(self, driver: Driver, error: BaseException) -> bool:
        """Whether a `commit` that raised `error` recorded nothing for certain."""
        ...

    def in_transaction(self, driver: Driver) -> bool:
        """Whether a transaction is open: some errors end it."""
        ...

    def alive(self, driver: Driver) -> bool:
        """Whether the connection can still be used; if not, another one may."""
        ...

    def trouble(self, error: BaseException) -> Trouble | None:
        """What kind of error of the store `error` is; None if it is none."""
        ...

    def keep_to(self, ledger_id: str, epoch: int) -> None:
        """The ledger was opened and is this one; another in its place is to be refused."""
        ...

    def verify(self) -> None:
        """Check that this is still the store that was opened, before anybody is answered.

        Raises:
            LedgerGoneError: it was deleted or replaced.
        """
        ...

    def tidy(self, driver: Driver) -> None:
        """Called by the writer after each commit, outside any transaction: keep the store's log bounded."""
        ...

    def changes(self, driver: Driver) -> int:
        """A number that differs after any other connection has committed."""
        ...

    def listen(self) -> Bell:
        """A bell that `announce`, by whatever process, rings; it may miss one, so look at `changes` now and then."""
        ...

    def announce(self) -> None:
        """After a commit, outside any transaction, on any thread: wake all who listen. Never fails."""
        ...

    def close(self) -> None:
        """Give back what `tidy` holds."""
        ...


def driver_of(connection: Connection) -> Driver:
    """The driver's own connection under SQLAlchemy's."""
    driver: Driver = connection.connection.driver_connection  # type: ignore[assignment]  # Any-typed upstream
    return driver


def in_one_go(driver: Driver) -> AbstractContextManager[object]:
    """Have what is run inside sent together, where that spares waiting; its results are there behind it."""
    pipeline: Callable[[], AbstractContextManager[object]] = getattr(driver, "pipeline", nullcontext)
    return pipeline()


def let_go(connection: Connection, *, alive: bool) -> None:
    """Close a connection; one that is not `alive` without a word to the other side."""
    if not alive and not connection.closed:
        connection.invalidate()
    connection.close()


def wait_for_write_lock(begin: Callable[[], bool], ports: Ports, *, limit: float) -> None:
    """Begin a transaction that may write by `begin`, trying again for at most `limit` seconds while it says False.

    The waiting is ours, over the clock of `ports`, so that it can be simulated.

    Raises:
        LedgerBusyError: somebody else kept the lock for that long.
    """
    pauses = Pauses(ports, limit=limit)
    while not begin():
        if not pauses.take():
            raise LedgerBusyError(f"another process has kept the ledger locked for {limit:g} s; try again")


def patiently(act: Callable[[], T], store: Store, ports: Ports, *, limit: float) -> T:
    """Do `act` again while the store is busy (others open, close or recover it) or away, for at most `limit` seconds.

    Raises:
        LedgerBusyError, LedgerGoneError, DiskFullError: for the store's own errors; any other is left as it is.
    """
    pauses = Pauses(ports, limit=limit)
    while True:
        try:
            return act()
        except store.errors as error:
            trouble = store.trouble(error)
            if trouble not in PASSING or not pauses.take(trouble):
                raise explain(trouble, error) or error from error


class Pauses:
    """Waits that grow, until `limit` seconds are over."""

    def __init__(self, ports: Ports, *, limit: float) -> None:
        self._ports = ports
        self._give_up = ports.clock.monotonic() + int(limit * MICROS)
        self._next = SHORTEST_PAUSE

    def take(self, trouble: Trouble = Trouble.BUSY) -> bool:
        """Wait a little; False, at once, if the time is over."""
        if self._ports.clock.monotonic() >= self._give_up:
            return False
        self._ports.clock.sleep(self._next * (0.5 + self._ports.ids.fraction()))
        self._next = min(2 * self._next, LONGEST_AWAY if trouble is Trouble.AWAY else LONGEST_PAUSE)
        return True


def explain(trouble: Trouble | None, error: BaseException) -> VpError | None:
    """The product's own error for a store's, or None where the store's says it best (`STATEMENT`)."""
    if trouble is Trouble.BUSY:
        return LedgerBusyError(f"the ledger is locked by another process ({error}); try again")
    if trouble is Trouble.AWAY:
        return LedgerBusyError(f"the ledger cannot be reached ({_one_line(error)}); nothing was recorded; try again")
    if trouble is Trouble.FULL:
        return DiskFullError(f"no room for the ledger ({error}); nothing was recorded; free some space")
    if trouble is Trouble.GONE:
        return LedgerGoneError(f"the ledger cannot be used ({error}); see to its disk, then start again")
    return None


def _one_line(error: BaseException) -> str:
    """The driver's own words, without SQLAlchemy's around them."""
    return " ".join(str(getattr(error, "orig", None) or error).split())
