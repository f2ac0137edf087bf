"""Holding an answer until a mission has ended: no thread waits, one notifier wakes whom it concerns."""

from __future__ import annotations

import asyncio

from ua_vp import wire
from ua_vp.control import query
from ua_vp.mission import Mission
from ua_vp.ops.routes import Call

LOOK_AGAIN_SECONDS = 10.0
"""A waiter looks by itself this often, so that a lost wake-up costs time, never an answer."""


async def hold(call: Call, mission_id: str, seconds: float) -> tuple[Mission, wire.MissionView, bool]:
    """The mission and how it looks, and whether `seconds` ran out before it had ended.

    Ended means: terminal, and ready or blocked, or 5 s past its terminal commit.

    Raises:
        NotFoundError: there is none within the caller's bounds.
    """
    feed, clock = call.running.feed, call.running.parts.ports.clock
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    listener = feed.listen(lambda event: event.mission_id == mission_id)
    try:
        while True:
            mission, view = await call.off_loop(query.get_mission, call.asking, mission_id)
            held = query.held_for(mission, clock.now())
            if held == 0:
                return mission, view, False
            left = until - loop.time()
            if left <= 0 or feed.closed:
                return mission, view, True
            await listener.wait(min(left, LOOK_AGAIN_SECONDS if held is None else held))
    finally:
        feed.leave(listener)
