"""The route of events: a page, or a live stream that can be taken up again without gap or repeat."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from ua_vp import errors, wire
from ua_vp.access import Scope
from ua_vp.control.asking import refuse
from ua_vp.control.feed import EventFilter, page_events
from ua_vp.errors import VpError
from ua_vp.ops.missions import ROOT
from ua_vp.ops.parameters import LARGEST_SEQ, EventsQuery
from ua_vp.ops.routes import JSON, STREAM, Call, Route, answer, authenticated

BATCH = 200
PING_SECONDS = 15
LOOK_AGAIN_SECONDS = 15.0
"""An idle stream looks by itself this often, and at its token too."""
RECONNECT_MS = 1000


async def events(call: Call) -> Response:
    """A page of events, or with `Accept: text/event-stream` a stream of them."""
    asked = call.parameters(EventsQuery)
    wanted = EventFilter(
        mission_id=asked.mission_id,
        vp_id=asked.vp_id,
        source_session_id=asked.source_session_id,
        types=asked.type,
    )
    if STREAM not in call.request.headers.get("accept", "").lower():
        return answer(await call.off_loop(page_events, call.asking, wanted, after=asked.after, limit=asked.limit))
    last = call.request.headers.get("last-event-id")
    after = _seq(last) if last is not None else asked.after
    # Also where the place is given: what lies outside the caller's bounds must be refused before the stream begins.
    page = await call.off_loop(page_events, call.asking, wanted, after=after, limit=1)
    return EventSourceResponse(_stream(call, wanted, page.next_after if after is None else after), ping=PING_SECONDS)


async def _stream(call: Call, wanted: EventFilter, after: int) -> AsyncIterator[ServerSentEvent]:
    """Events after `after`, for ever; ends when the ledger cannot be read, the token lapses, or the API closes."""
    feed, caller = call.running.feed, call.asking.caller
    listener = feed.listen(lambda event: wanted.wants(event, caller))
    try:
        yield ServerSentEvent(retry=RECONNECT_MS, comment="events")
        while not feed.closed:
            page = await call.off_loop(page_events, call.asking, wanted, after=after, limit=BATCH)
            for event in page.events:
                yield _message(event)
            after = page.next_after
            if not page.events:
                await listener.wait(LOOK_AGAIN_SECONDS)
                await call.off_loop(authenticated, call.request, call.running)
    except VpError as error:
        structlog.get_logger("ua_vp.ops").info("stream_ended", code=error.code, detail=error.detail)
    finally:
        feed.leave(listener)


def _message(event: wire.EventView) -> ServerSentEvent:
    return ServerSentEvent(id=str(event.seq), event=event.type, data=event.model_dump_json())


def _seq(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > LARGEST_SEQ:
        raise refuse("#/Last-Event-ID", "must be the `seq` of an event")
    return int(text)


ROUTES = (
    Route(
        method="GET",
        path=f"{ROOT}/events",
        summary="Events in growing seq; with `Accept: text/event-stream` as they happen",
        endpoint=events,
        scope=Scope.EVENTS_READ,
        query=EventsQuery,
        answer=wire.EventPage,
        media_types=(JSON, STREAM),
        headers={"Last-Event-ID": "in a stream: go on after this `seq`"},
        codes=(errors.NotFoundError,),
    ),
)
