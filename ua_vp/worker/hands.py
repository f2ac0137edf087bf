"""The missions that this process holds: those a lane runs for, and those that are only brought to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import structlog

from ua_vp.ledger import Renewed
from ua_vp.mission import Claim, Ending
from ua_vp.ports import MICROS, Ports
from ua_vp.worker.assignment import Assignment
from ua_vp.worker.conduct import Conductor
from ua_vp.worker.messages import Message, Over
from ua_vp.worker.running import Running, Stop

LINGER = 2.0
"""Seconds that a lane has to return after its processes were killed."""

log = structlog.get_logger("ua_vp.worker")


class Hands:
    """Starts a thread per mission and watches their limits. Changed by the loop alone; `renewed`, `fence` by any thread."""

    def __init__(self, site: Assignment, ports: Ports, post: Callable[[Message], None]) -> None:
        self._site = site
        self._ports = ports
        self._conductor = Conductor(site, ports, post)
        self._running: dict[str, Running] = {}
        self._closing: dict[str, Ending] = {}
        self.unsettled: dict[str, Ending | None] = {}
        """Missions whose end or publication failed; tried again at each reconcile."""

    @property
    def held(self) -> frozenset[str]:
        """Ids of every mission this process holds."""
        return frozenset({**self._running, **self._closing, **self.unsettled})

    @property
    def busy(self) -> int:
        """How many slots are taken: missions whose end is not committed."""
        return sum(not running.committed for running in self._running.values())

    @property
    def empty(self) -> bool:
        """Whether nothing is under way (abandoned lanes do not count: they may never return)."""
        return not self._closing and all(running.abandoned for running in self._running.values())

    def start(self, claim: Claim) -> None:
        """Run the lane for a fresh claim."""
        running = Running(claim, self._site.budget(claim.mission), clock=self._ports.clock, threads=self._ports.threads)
        self._running[claim.mission_id] = running
        self._ports.threads.start(f"mission {claim.mission_id[-8:]}", lambda: self._conductor.run(running))

    def close(self, claim: Claim, ending: Ending) -> None:
        """Bring a mission to its end without its lane."""
        self._closing[claim.mission_id] = ending
        self._ports.threads.start(f"closing {claim.mission_id[-8:]}", lambda: self._conductor.close(claim, ending))

    def committed(self, mission_id: str) -> None:
        """Its end, or its requeue, is in the ledger: its slot is free."""
        if running := self._running.get(mission_id):
            running.committed = True

    def over(self, message: Over) -> None:
        """A thread has ended."""
        mission_id = message.claim.mission_id
        running = self._running.get(mission_id)
        if running is not None and running.claim.attempt == message.claim.attempt:
            del self._running[mission_id]
        else:
            self._closing.pop(mission_id, None)
        if not message.settled:
            self.unsettled[mission_id] = message.ending

    def running(self) -> Iterator[Running]:
        """Those whose lane is still at work."""
        return (running for running in tuple(self._running.values()) if not running.ended)

    def renewed(self, ours: Mapping[str, Renewed], before: frozenset[str]) -> None:
        """Stop what was lost or cancelled: `ours` is what the ledger says we hold, `before` what we knew when we asked."""
        for running in self.running():
            mine = ours.get(running.mission_id)
            if mine is None or mine.attempt != running.claim.attempt:
                if running.mission_id in before:
                    running.ask_to_stop(Stop.LEASE_LOST)
            elif mine.cancel_requested:
                running.ask_to_stop(Stop.CANCELLED, mine.cancel_reason or "")

    def stop_all(self, reason: Stop) -> None:
        """Ask every mission to stop."""
        for running in self.running():
            running.ask_to_stop(reason)

    def check_limits(self) -> list[Running]:
        """Stop what broke a limit, kill what outlived its grace; returns those whose lane has to be abandoned."""
        now, grace, hopeless = self._ports.clock.monotonic(), self._site.grace * MICROS, []
        for running in self.running():
            if running.stop is None and (breach := running.breach()):
                running.ask_to_stop(*breach)
            if running.stopped_at is None or running.abandoned:
                continue
            if now - running.stopped_at >= grace and not running.killed:
                running.kill()
            if now - running.stopped_at >= grace + LINGER * MICROS:
                running.abandoned = True
                log.error("the lane does not return; its mission is ended without it", mission_id=running.mission_id)
                hopeless.append(running)
        return hopeless

    def patience(self) -> float | None:
        """Seconds until `check_limits` could have something to do; None: never."""
        now, waits = self._ports.clock.monotonic(), []
        for running in self.running():
            if running.stopped_at is None:
                waits.append(running.next_check())
            elif not running.abandoned:
                end = running.stopped_at + (self._site.grace + (LINGER if running.killed else 0)) * MICROS
                waits.append(max(0.0, (end - now) / MICROS))
        return min((wait for wait in waits if wait is not None), default=None)
