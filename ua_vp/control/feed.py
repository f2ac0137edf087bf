"""What happens, as it happens: one reader of new events per process, who wakes only those that they concern.

Nobody gets events from here: a listener is told that there is something, and reads it from the ledger from its own
cursor. So a slow reader costs no memory and there is neither gap nor repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ua_vp import wire
from ua_vp.access import Caller
from ua_vp.control.asking import Asking, lanes_to_read, sources_to_read
from ua_vp.control.views import event_view
from ua_vp.errors import VpError
from ua_vp.events import Event
from ua_vp.ledger import Ledger, Transaction, Watch, events

BATCH = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFilter:
    """Which events are wanted; None and empty: all."""

    mission_id: str | None = None
    vp_id: str | None = None
    source_session_id: str | None = None
    types: tuple[str, ...] = ()

    def wants(self, event: Event, caller: Caller) -> bool:
        """Whether the event is among them, and within the caller's bounds."""
        return (
            self.mission_id in {None, event.mission_id}
            and self.vp_id in {None, event.vp_id}
            and self.source_session_id in {None, event.source_session_id}
            and (not self.types or event.type in self.types)
            and caller.sees_lane(event.vp_id)
            and caller.sees_source(event.source_session_id)
        )


def page_events(asking: Asking, wanted: EventFilter, *, after: int | None, limit: int) -> wire.EventPage:
    """Events in growing `seq`: those after `after`, or without it the newest.

    Raises:
        NotFoundError: lane or source lies outside the caller's bounds.
    """
    bound = lanes_to_read(asking.caller, wanted.vp_id)
    sources = sources_to_read(asking.caller, wanted.source_session_id)

    def page(tx: Transaction, source: str | None) -> list[Event]:
        return events.page_events(
            tx,
            after=after,
            mission_id=wanted.mission_id,
            vp_id=wanted.vp_id,
            source_session_id=source,
            types=wanted.types,
            limit=limit,
            lanes=bound,
        )

    def step(tx: Transaction) -> tuple[list[Event], int]:
        found = sorted((event for source in sources for event in page(tx, source)), key=lambda event: event.seq)
        found = found[-limit:] if after is None else found[:limit]
        return found, events.newest_seq(tx) if after is None else after

    found, otherwise = asking.ledger.read(step)
    return wire.EventPage(
        events=[event_view(event) for event in found], next_after=found[-1].seq if found else otherwise
    )


class Listener:
    """Waits for events of one kind; belongs to the event loop it was made on."""

    def __init__(self, wants: Callable[[Event], bool]) -> None:
        self.wants = wants
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Something came; on the event loop."""
        self._told.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until told, at most `seconds`; what was told before the call counts. Returns whether it was."""
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return False
        self._told.clear()
        return True


class Feed:
    """The notifier of one process; started and closed on its event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._listeners: set[Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: Watch | None = None
        self._seq = 0

    @property
    def closed(self) -> bool:
        """Whether nobody is woken any more: what waits should answer with what it has."""
        return self._loop is None

    def start(self) -> None:
        """Begin to watch the ledger; call it on the event loop that listeners live on.

        Raises:
            VpError: the ledger cannot be read.
        """
        self._loop = asyncio.get_running_loop()
        self._seq = self._ledger.read(events.newest_seq)
        self._watch = self._ledger.watch(self._on_change)

    def close(self) -> None:
        """Stop watching and wake everybody for the last time."""
        self._loop, watch = None, self._watch
        if watch is not None:
            watch.close()
        self._tell_all()

    def listen(self, wants: Callable[[Event], bool]) -> Listener:
        """A new listener; register first, then look at the ledger, then wait. `leave` ends it."""
        listener = Listener(wants)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget the listener."""
        self._listeners.discard(listener)

    def _on_change(self) -> None:
        """Somebody committed; on the watch's own thread, one call at a time."""
        while (loop := self._loop) is not None:
            try:
                new = self._ledger.read(lambda tx: events.page_events(tx, after=self._seq, limit=BATCH))
            except VpError:  # everybody looks for themselves and gets the error
                _call(loop, self._tell_all)
                return
            if not new:
                return
            self._seq = new[-1].seq
            _call(loop, lambda new=new: self._tell(new))  # type: ignore[misc]

    def _tell(self, new: Sequence[Event]) -> None:
        for listener in self._listeners:
            if any(listener.wants(event) for event in new):
                listener.tell()

    def _tell_all(self) -> None:
        for listener in self._listeners:
            listener.tell()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
