"""Reading a mission's `run.log`, to its end or as it grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ua_vp.errors import NotFoundError
from ua_vp.wire import MissionView


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPart:
    """Some bytes of an attempt's log; go on reading at `next_offset`."""

    attempt: int
    data: bytes
    next_offset: int


Read = Callable[[int, int], Iterator[LogPart]]
"""(attempt, offset) -> what is there from `offset` to the end, in parts."""


def follow(read: Read, look: Callable[[], MissionView], *, attempt: int | None) -> Iterator[LogPart]:
    """Parts as they are written, until the attempt (by default: the mission, through all its attempts) has ended.

    `look` gives the mission, waiting up to a second for news; the log is read after it, so nothing written before the
    end is missed.
    """
    current, offset = attempt or 0, 0
    while True:
        mission = look()
        if not attempt and mission.attempt != current:
            current, offset = mission.attempt, 0
        ended = mission.terminal or (attempt is not None and attempt_is_over(mission, attempt))
        try:
            for part in read(current, offset) if current else ():
                yield part
                offset = part.next_offset
        except NotFoundError:  # claimed, but its log was not opened yet
            if ended and attempt is not None:
                raise
        if ended:
            return


def attempt_is_over(mission: MissionView, attempt: int) -> bool:
    """Whether nothing more will be written to the log of this attempt, or there is no such attempt yet."""
    return mission.terminal or mission.attempt != attempt or mission.status == "queued"
