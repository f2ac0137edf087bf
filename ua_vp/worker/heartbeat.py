"""Keeps the lease alive when the loop cannot, and stops everything when it is lost: the only one that self-fences."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ua_vp.errors import VpError
from ua_vp.ports import MICROS, Ports

log = structlog.get_logger("ua_vp.worker")


class Heartbeat:
    """A thread that watches one deadline on the boot clock.

    `renew` submits the renewal and returns the new deadline (boot µs); it may block for long and runs on a thread of
    its own. `fence` is called once each time the deadline has passed and one more renewal did not come through
    (a laptop that slept gets that one try).
    """

    def __init__(self, ports: Ports, *, lease: float, renew: Callable[[], int], fence: Callable[[], None]) -> None:
        self._ports = ports
        self._lease = int(lease * MICROS)
        self._renew = renew
        self._fence = fence
        self._stop = ports.threads.signal()
        self._deadline = ports.clock.boot() + self._lease
        self._in_flight = False
        self._last_try: int | None = None
        self._fenced = False
        self._thread = ports.threads.start("heartbeat", self._beat)

    @property
    def deadline(self) -> int:
        """The deadline that the ledger holds for us, boot µs."""
        return self._deadline

    @property
    def fenced(self) -> bool:
        """Whether the lease was given up and not won back."""
        return self._fenced

    def extended(self, deadline: int) -> None:
        """A renewal was committed; called by the loop after each tick."""
        self._deadline = max(self._deadline, deadline)
        self._fenced = False
        self._last_try = None

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._lease / MICROS / 12):
            self._look(self._ports.clock.boot())

    def _look(self, now: int) -> None:
        left = self._deadline - now
        if left > self._lease * 2 // 3 or self._fenced:
            return
        if left > 0:
            self._try(now)
        elif self._last_try is None or self._last_try < self._deadline:
            self._try(now)  # woke up past the deadline: one try before giving up
            self._last_try = max(now, self._deadline)
        elif now - self._last_try >= self._lease // 4:
            self._fenced = True
            log.error("lease lost: the ledger could not be reached in time; stopping what runs")
            self._fence()

    def _try(self, now: int) -> None:
        if self._in_flight:
            return
        self._in_flight, self._last_try = True, now
        self._ports.threads.start("renew", self._renew_once)

    def _renew_once(self) -> None:
        try:
            self.extended(self._renew())
        except VpError as error:
            log.warning("renewal did not come through; tried again", error=str(error))
        finally:
            self._in_flight = False
