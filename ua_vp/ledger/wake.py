"""Knowing that somebody committed: a bell that the committer rings, and a look at the store's change counter under it."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from ua_vp.errors import LedgerGoneError
from ua_vp.ledger.engine import PASSING, Store, driver_of, let_go
from ua_vp.ports import Threads

INTERVAL = 0.25
"""Seconds until a look without a ring: the net under a lost one, a writer killed before it rang, a bell nobody could hang."""


class Watch:
    """Calls `on_change` after commits, by whatever process, on a thread of its own, until closed.

    Several commits may be one call, and a call may come without a commit: read what there is. Every commit after
    `__init__` returned is followed by a call, so: watch, then read, then wait. It has a connection of its own and
    never touches the file otherwise, for closing it would drop SQLite's locks.
    """

    def __init__(self, connection: Connection, store: Store, threads: Threads, on_change: Callable[[], None]) -> None:
        self._store = store
        self._on_change = on_change
        self._stop = threads.signal()
        self._connection = connection
        self._driver = driver_of(connection)
        self._seen: int | None = store.changes(self._driver)
        self._bell = store.listen()
        self._thread = threads.start("ledger-watch", self._work)

    def close(self) -> None:
        """Stop; a call under way ends first, for at most a second. Not from `on_change` itself."""
        self._stop.set()
        self._store.announce()  # or the thread would look up an interval later
        self._thread.join(1.0)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                if self._changed():  # first of all: what was committed before the bell hung
                    self._on_change()
                self._bell.wait(INTERVAL)
        finally:
            self._bell.close()
            let_go(self._connection, alive=self._store.alive(self._driver))

    def _changed(self) -> bool:
        """Whether anything was committed since the last look; a ledger that goes or comes back counts: readers find out."""
        seen: int | None = None
        try:
            if not self._store.alive(self._driver):
                self._connect_again()
            self._store.verify()
            seen = self._store.changes(self._driver)
        except LedgerGoneError:
            pass  # what is away may come back
        except self._store.errors as error:
            if self._store.trouble(error) not in PASSING:
                raise
            return False
        changed, self._seen = seen != self._seen, seen
        return changed

    def _connect_again(self) -> None:
        let_go(self._connection, alive=False)
        self._connection = self._store.open_reader()
        self._driver = driver_of(self._connection)
