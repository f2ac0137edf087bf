"""Events as they happen: server-sent events, taken up again where they broke off, without gap or repeat."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2

from ua_vp.client.transport import Params, Pauses, Transport
from ua_vp.ports import Clock
from ua_vp.wire import EventView

IDLE = 60.0
"""Seconds without a byte, keep-alives included, after which a stream is taken up anew."""
FIRST_PAUSE = 0.5
"""Seconds before a stream that ended is asked for again."""


def follow(
    transport: Transport, clock: Clock, path: str, params: Params, *, after: int, patience: float
) -> Iterator[EventView]:
    """Events with a `seq` greater than `after`, for ever.

    A stream that breaks, falls silent or is ended by the server is asked for again from the last event on.

    Raises:
        UnreachableError: nobody answered for `patience` seconds.
    """
    pauses = Pauses(clock, patience=patience, first=FIRST_PAUSE)
    while True:
        broke: httpx2.HTTPError | None = None
        try:
            for event in _read(transport, path, {**params, "after": after}):
                pauses.reset()
                if event is not None and event.seq > after:
                    after = event.seq
                    yield event
        except httpx2.HTTPError as error:
            broke = error
        if not pauses.another():
            raise transport.unreachable(broke or ConnectionError("it ends every stream at once"))


def _read(transport: Transport, path: str, params: Params) -> Iterator[EventView | None]:
    """The events of one stream; None first, as soon as it is open."""
    accept = {"Accept": "text/event-stream"}
    with transport.stream(path, params=params, headers=accept, idle=IDLE) as response:
        yield None
        for message in httpx2.EventSource(response):
            if message.data:
                yield transport.parse_text(EventView, message.data, where=str(response.url))
