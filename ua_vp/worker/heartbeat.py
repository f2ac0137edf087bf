"""Keeps the lease alive when the loop cannot, and stops everything when it is lost: the only one that self-fences."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ua_vp.errors import VpError
from ua_vp.ports import MICROS, Ports

LOOKS = 12
"""Looks at the clock in a lease."""

log = structlog.get_logger("ua_vp.worker")


class Heartbeat:
    """A thread that watches one deadline on the boot clock.

    `renew` submits the renewal and returns the new deadline (boot µs), None if the session is not alive; it may block
    for long and runs on a thread of its own. `fence` is called once each time the deadline passes. A process that slept
    past it (a laptop, SIGSTOP) gets one try before that.
    """

    def __init__(
        self, ports: Ports, *, lease: float, renew: Callable[[], int | None], fence: Callable[[], None]
    ) -> None:
        self._ports = ports
        self._lease = int(lease * MICROS)
        self._renew = renew
        self._fence = fence
        self._stop = ports.threads.signal()
        self._looked = ports.clock.boot()
        self._deadline = self._looked + self._lease
        self._in_flight = False
        self._last_chance: int | None = None
        """Until when the one try after a sleep may take."""
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
        self._last_chance = None

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._lease / MICROS / LOOKS):
            self._look(self._ports.clock.boot())

    def _look(self, now: int) -> None:
        slept = now - self._looked > self._lease // 3
        self._looked = now
        left = self._deadline - now
        if left > self._lease * 2 // 3 or self._fenced:
            return
        if left > 0:
            self._try()
        elif slept and self._last_chance is None:
            self._last_chance = now + self._lease // 4
            self._try()
        elif self._last_chance is None or now >= self._last_chance:
            self._fenced = True
            log.error("lease_lost", detail="the ledger could not be reached in time; what runs is stopped")
            self._fence()

    def _try(self) -> None:
        if not self._in_flight:
            self._in_flight = True
            self._ports.threads.start("renew", self._renew_once)

    def _renew_once(self) -> None:
        try:
            deadline = self._renew()
            if deadline is not None:
                self.extended(deadline)
        except VpError as error:
            log.warning("renewal_failed", error=str(error))
        finally:
            self._in_flight = False
