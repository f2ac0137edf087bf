"""Timers on APScheduler 3.11, made to hold across steps of the wall clock and suspends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.debug import DebugExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from ua_vp import ports
from ua_vp.runtime.threads import OnFailure, end_process, guarded

WATCH_SECONDS = 1.0
STEP = ports.MICROS // 2
"""A wall clock that gains or loses this much (µs) between two looks was set."""
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RealTimers:
    """`ports.Timers`; callbacks run on the scheduler's one thread, so they must only post to a queue.

    APScheduler plans by the wall clock and sleeps until then: after a step of an hour back nothing fired for an hour.
    So a thread compares the clocks each second and plans every job anew when the wall clock was set or the machine slept.
    """

    def __init__(self, clock: ports.Clock, threads: ports.Threads, on_failure: OnFailure = end_process) -> None:
        self._clock, self._on_failure = clock, on_failure
        self._closed = threads.signal()
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            daemon=True,
            executors={"default": DebugExecutor()},  # on the scheduler's own thread
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.start()
        threads.start("clock-watch", self._watch)

    def every(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call every `seconds`, the first time after `seconds`; a name used before is replaced."""
        self._add(name, _interval(self._wall(), seconds), call)

    def at(self, name: str, wall: int, call: Callable[[], None]) -> None:
        """Call once, as soon as the wall clock (µs) reaches `wall`; a name used before is replaced."""
        self._add(name, DateTrigger(run_date=_instant(wall)), call)

    def cancel(self, name: str) -> None:
        """Forget the timer; unknown names are ignored."""
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:
            return

    def close(self) -> None:
        """Stop; a callback under way may still end. Closing twice is fine."""
        if not self._closed.is_set():
            self._closed.set()
            self._scheduler.shutdown(wait=False)

    def _add(self, name: str, trigger: Any, call: Callable[[], None]) -> None:
        guarded_call = guarded(f"timer {name}", call, self._on_failure)
        self._scheduler.add_job(guarded_call, trigger, id=name, replace_existing=True)

    def _watch(self) -> None:
        before = self._offsets()
        while not self._closed.wait(WATCH_SECONDS):
            after = self._offsets()
            if any(abs(now - then) > STEP for now, then in zip(after, before, strict=True)):
                self._plan_anew()
            before = after

    def _offsets(self) -> tuple[int, int]:
        """How far the wall clock is from the boot clock (steps), and that from one that stops in suspend (sleeps)."""
        boot = self._clock.boot()
        return self._clock.now() - boot, boot - self._clock.monotonic()

    def _plan_anew(self) -> None:
        for job in self._scheduler.get_jobs():
            if isinstance(job.trigger, IntervalTrigger):
                seconds = job.trigger.interval.total_seconds()
                self._scheduler.reschedule_job(job.id, trigger=_interval(self._wall(), seconds))
        self._scheduler.wakeup()

    def _wall(self) -> datetime:
        return _instant(self._clock.now())


def _interval(now: datetime, seconds: float) -> Any:
    return IntervalTrigger(seconds=seconds, start_date=now + timedelta(seconds=seconds), timezone=UTC)


def _instant(wall: int) -> datetime:
    try:
        return EPOCH + timedelta(microseconds=wall)
    except OverflowError:
        return LATEST
