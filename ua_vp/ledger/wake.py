"""Knowing that somebody committed: a look at the store's change counter ten times a second."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from ua_vp.errors import LedgerGoneError
from ua_vp.ledger.engine import Store, Trouble, driver_of
from ua_vp.ports import Threads

INTERVAL = 0.1
"""Seconds between two looks."""


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
        self._seen = store.changes(driver_of(connection))
        self._thread = threads.start("ledger-watch", self._work)

    def close(self) -> None:
        """Stop; a call under way ends first, for at most a second. Not from `on_change` itself."""
        self._stop.set()
        self._thread.join(1.0)

    def _work(self) -> None:
        try:
            while not self._stop.wait(INTERVAL):
                if self._changed():
                    self._on_change()
        finally:
            self._connection.close()

    def _changed(self) -> bool:
        """Whether anything was committed since the last look; a ledger that is gone counts, so that readers find out."""
        try:
            self._store.verify()
            seen = self._store.changes(driver_of(self._connection))
        except LedgerGoneError:
            self._stop.set()
            return True
        except self._store.errors as error:
            if self._store.trouble(error) is not Trouble.BUSY:
                raise
            return False
        changed, self._seen = seen != self._seen, seen
        return changed
