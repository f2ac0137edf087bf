"""How `ua-vp up` waits: every pause looks after the household and heeds Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ua_vp.cli.household import Household
from ua_vp.ports import MICROS, Clock

STEP, ASK = 0.05, 0.1
"""Seconds between two looks at the household, and between two questions to the API."""


class StopAskedError(Exception):
    """Ctrl-C, or SIGTERM, or the terminal went away; raised once for each time."""


class Signals:
    """Counts the requests to stop; the handler does nothing else."""

    def __init__(self) -> None:
        self.heard = 0
        self.heeded = 0

    def check(self) -> None:
        """Go on, or not.

        Raises:
            StopAskedError: somebody asked to stop since the last time this was raised.
        """
        if self.heard > self.heeded:
            self.heeded = self.heard
            raise StopAskedError

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear them while the block runs, on the main thread."""

        def hear(_number: int, _frame: FrameType | None) -> None:
            self.heard += 1

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, hear) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Pace:
    """`ports.Clock` whose `sleep` tends the household; so a client that waits for the API lets it be started again."""

    def __init__(self, clock: Clock, household: Household, signals: Signals) -> None:
        self._clock = clock
        self._household = household
        self._signals = signals

    @property
    def boot_id(self) -> str:
        """As the clock says."""
        return self._clock.boot_id

    def now(self) -> int:
        """As the clock says."""
        return self._clock.now()

    def boot(self) -> int:
        """As the clock says."""
        return self._clock.boot()

    def monotonic(self) -> int:
        """As the clock says."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`, tending the household.

        Raises:
            StopAskedError: somebody asked to stop.
        """
        until = self.monotonic() + int(seconds * MICROS)
        while True:
            self._signals.check()
            self._household.tend()
            left = (until - self.monotonic()) / MICROS
            if left <= 0:
                return
            self._clock.sleep(min(left, STEP))

    def until(self, condition: Callable[[], bool], *, within: float) -> bool:
        """Whether the condition came true in time; asked ten times a second.

        Raises:
            StopAskedError: somebody asked to stop.
        """
        end = self.monotonic() + int(within * MICROS)
        while not condition():
            if self.monotonic() >= end:
                return False
            self.sleep(ASK)
        return True
