"""Hands committed events to the observers among the plugins."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ua_vp.errors import VpError
from ua_vp.events import Event
from ua_vp.ledger import Ledger, events
from ua_vp.ports import Queue, Threads

PAGE = 100

log = structlog.get_logger("ua_vp.worker")


class Observer:
    """A thread that reads the lane's events from the ledger, in order, from its own start on, and passes each on.

    An observer that is slow delays no mission; one that raises is the caller's concern (`notify` must not raise).
    """

    def __init__(self, ledger: Ledger, threads: Threads, *, vp_id: str, notify: Callable[[Event], None]) -> None:
        self._ledger = ledger
        self._vp_id = vp_id
        self._notify = notify
        self._queue: Queue[bool] = threads.queue()
        self._after = ledger.read(events.newest_seq)
        self._thread = threads.start("observer", self._run)

    def nudge(self) -> None:
        """Something was committed."""
        self._queue.put(True)

    def close(self) -> None:
        """Pass on what is there, then stop; waits at most five seconds for an observer that does not return."""
        self._queue.put(False)
        self._thread.join(5.0)

    def _run(self) -> None:
        going = True
        while going:
            going = self._queue.get() is not False
            while (more := self._queue.get(0)) is not None:
                going = going and more
            try:
                self._pass_on()
            except VpError as error:
                log.warning("events could not be read for observers; tried again", error=str(error))

    def _pass_on(self) -> None:
        while page := self._ledger.read(
            lambda tx: events.page_events(tx, after=self._after, vp_id=self._vp_id, limit=PAGE)
        ):
            for event in page:
                self._notify(event)
                self._after = event.seq
