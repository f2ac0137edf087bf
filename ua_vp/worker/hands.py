"""The missions that this process holds: those a lane runs for, and those that are only brought to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import structlog

from ua_vp.ledger import Renewed
from ua_vp.mission import Claim, Ending
from ua_vp.ports import MICROS, Ports
from ua_vp.worker.assignment import Assignment
from ua_vp.worker.conduct import Conductor
from ua_vp.worker.messages import Message, Nudge, Over
from ua_vp.worker.running import Running, Stop

LINGER = 2.0
"""Seconds that a lane has to return after its processes were killed."""

Key: TypeAlias = "tuple[str, int]"
"""A mission's id and its attempt."""

log = structlog.get_logger("ua_vp.worker")


class Hands:
    """Starts a thread per mission and watches their limits. Changed by the loop alone; `renewed`, `stop_all` by any thread."""

    def __init__(self, site: Assignment, ports: Ports, post: Callable[[Message], None]) -> None:
        self._site = site
        self._ports = ports
        self._post = post
        self._conductor = Conductor(site, ports, post)
        self._running: dict[Key, Running] = {}
        self._closing: set[Key] = set()
        self.open_ends: dict[Key, Over] = {}
        """What could not be brought to its end or published; tried again at each reconcile."""

    @property
    def held(self) -> frozenset[Key]:
        """Every attempt that this process holds."""
        return frozenset({*self._running, *self._closing, *self.open_ends})

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
        running = Running(
            claim,
            self._site.budget(claim.mission),
            clock=self._ports.clock,
            threads=self._ports.threads,
            wake=lambda: self._post(Nudge.LIMIT),
        )
        self._running[running.key] = running
        self._ports.threads.start(f"mission {claim.mission_id[-8:]}", lambda: self._conductor.run(running))

    def close(self, claim: Claim, ending: Ending | None) -> None:
        """Bring a mission to its end without its lane (see `Conductor.close`); nothing if that is under way."""
        key = claim.mission_id, claim.attempt
        self.open_ends.pop(key, None)
        if key not in self._closing:
            self._closing.add(key)
            self._ports.threads.start(f"closing {key[0][-8:]}", lambda: self._conductor.close(claim, ending))

    def committed(self, claim: Claim) -> None:
        """Its end, or its requeue, is in the ledger: its slot is free."""
        if running := self._running.get((claim.mission_id, claim.attempt)):
            running.committed = True

    def over(self, message: Over) -> None:
        """A thread has ended."""
        key = message.claim.mission_id, message.claim.attempt
        self._running.pop(key, None)
        self._closing.discard(key)
        if not message.done:
            self.open_ends[key] = message

    def running(self) -> Iterator[Running]:
        """Those whose lane is still at work."""
        return (running for running in tuple(self._running.values()) if not running.ended)

    def renewed(self, ours: Mapping[str, Renewed], before: frozenset[Key]) -> None:
        """Stop what was lost or cancelled: `ours` is what the ledger says we hold, `before` what we knew when we asked."""
        for running in tuple(self._running.values()):
            mine = ours.get(running.claim.mission_id)
            if mine is None or mine.attempt != running.claim.attempt:
                if running.key in before and not running.ended:
                    running.ask_to_stop(Stop.LEASE_LOST)
                continue
            running.cancel_reason = mine.cancel_reason
            if mine.cancel_requested and not running.ended:
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
