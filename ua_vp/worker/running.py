"""A mission while this process works on it: its limits, its processes, and why it should stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from ua_vp.errors import MissionStoppedError
from ua_vp.mission import Budget, Claim, FailureMode
from ua_vp.ports import MICROS, Child, Clock, Signal, Threads


class Stop(StrEnum):
    """Why a mission under way should stop; the first reason given stays, but a lost lease counts more."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NO_PROGRESS = "no_progress"
    BUDGET_EXCEEDED = "budget_exceeded"
    LEASE_LOST = "lease_lost"
    DRAINED = "drained"

    @property
    def failure_mode(self) -> FailureMode | None:
        """How the mission fails for it; None where it does not fail."""
        return FailureMode(self) if self in {Stop.TIMEOUT, Stop.NO_PROGRESS, Stop.BUDGET_EXCEEDED} else None


class Running:
    """One claimed attempt in this process.

    Its lane's thread reports signs of life; the worker's loop checks limits and asks it to stop. All methods may be
    called from any thread. `wake` is called once, when a limit that is counted, not timed, is broken.
    """

    def __init__(
        self, claim: Claim, budget: Budget, *, clock: Clock, threads: Threads, wake: Callable[[], None]
    ) -> None:
        self.claim = claim
        self.budget = budget
        self.cancelled: Signal = threads.signal()
        self.started = clock.monotonic()
        self.stop: Stop | None = None
        self.stop_detail = ""
        self.stopped_at: int | None = None
        self.cancel_reason: str | None = claim.mission.cancel_reason
        """As the ledger has it; kept up to date by the loop."""
        self.ended = False
        """The lane has returned, or will never be run; nothing is left to stop."""
        self.abandoned = False
        """The lane did not return in time; its mission goes on without it."""
        self.killed = False
        self.committed = False
        """Its end, or its requeue, is in the ledger; set by the loop."""
        self._clock = clock
        self._wake = wake
        self._over = False
        self._lock = threads.lock()
        self._children: list[Child] = []
        self._closed = False
        self._starting = 0
        self._last_sign = self.started
        self._usage: dict[str, int] = {}
        self._output = 0

    @property
    def key(self) -> tuple[str, int]:
        """The mission's id and the attempt."""
        return self.claim.mission_id, self.claim.attempt

    def sign_of_life(self, *, output: int = 0) -> None:
        """The lane did something; `output` bytes came with it."""
        self._last_sign = self._clock.monotonic()
        self._output += output
        if self.budget.output_bytes is not None and self._output > self.budget.output_bytes:
            self._broke_a_limit()

    def add_usage(self, counts: Mapping[str, int]) -> None:
        """Totals that the lane reports; later ones replace earlier ones."""
        self._usage.update(counts)
        self.sign_of_life()
        if self._overspent():
            self._broke_a_limit()

    @property
    def usage(self) -> dict[str, int]:
        """The latest totals, the bytes of output with them."""
        return {**self._usage, "output_bytes": self._output}

    def start(self, launch: Callable[[], Child]) -> Child:
        """Start a process tree of this mission with `launch`; it is stopped with the mission.

        Raises:
            MissionStoppedError: the lane has returned already; nothing was started.
            OSError: what `launch` raises.
        """
        with self._lock:
            if self._closed:
                raise MissionStoppedError("the mission's lane has returned; nothing may be started for it any more")
            self._starting += 1
        child = None
        try:
            child = launch()
        finally:
            with self._lock:
                self._starting -= 1
                stopping = self._is_over()
                if child is not None:
                    self._children.append(child)
        if stopping:
            child.kill()
        return child

    def leave(self, child: Child) -> None:
        """The process tree is gone."""
        with self._lock:
            self._children.remove(child)

    def ask_to_stop(self, reason: Stop, detail: str = "") -> None:
        """Raise `cancelled` and end the processes politely; at once if the lease is lost."""
        with self._lock:
            first = self.stop is None
            if first or reason is Stop.LEASE_LOST:
                self.stop, self.stop_detail = reason, detail
            if first:
                self.stopped_at = self._clock.monotonic()
            children = tuple(self._children)
        self.cancelled.set()
        for child in children:
            if reason is Stop.LEASE_LOST:
                child.kill()
            elif first:
                child.terminate()

    def kill(self) -> None:
        """End all its processes at once."""
        with self._lock:
            self.killed = True
            children = tuple(self._children)
        for child in children:
            child.kill()

    def clear_away(self) -> None:
        """The lane has returned: end what it left running in threads of its own, wait until it is gone, let nothing in."""
        with self._lock:
            self._closed = True
        while self._starting:
            self._clock.sleep(0.005)
        self.kill()
        with self._lock:
            children = tuple(self._children)
        for child in children:
            child.wait()
        self.ended = True

    def seconds_left(self) -> float | None:
        """Seconds until the mission's time is up; None without a limit."""
        if self.budget.seconds is None:
            return None
        return max(0.0, self.budget.seconds - (self._clock.monotonic() - self.started) / MICROS)

    def breach(self) -> tuple[Stop, str] | None:
        """The limit that is broken now, if any, and what to tell people."""
        budget, now = self.budget, self._clock.monotonic()
        if budget.seconds is not None and now - self.started >= budget.seconds * MICROS:
            return Stop.TIMEOUT, f"ran longer than its budget of {budget.seconds:g} s"
        if budget.idle_seconds is not None and now - self._last_sign >= budget.idle_seconds * MICROS:
            return Stop.NO_PROGRESS, f"no output and no progress for {budget.idle_seconds:g} s"
        spent = self._overspent()
        return (Stop.BUDGET_EXCEEDED, spent) if spent else None

    def next_check(self) -> float | None:
        """Seconds until a time limit could be broken; None if none is set."""
        now = self._clock.monotonic()
        ends = []
        if self.budget.seconds is not None:
            ends.append(self.started + self.budget.seconds * MICROS)
        if self.budget.idle_seconds is not None:
            ends.append(self._last_sign + self.budget.idle_seconds * MICROS)
        return max(0.0, (min(ends) - now) / MICROS) if ends else None

    def _is_over(self) -> bool:
        return self._closed or self.stop is not None

    def _overspent(self) -> str | None:
        usage, budget = self.usage, self.budget
        limits = (("tokens", budget.tokens), ("usd_cents", budget.usd_cents), ("output_bytes", budget.output_bytes))
        for name, limit in limits:
            if limit is not None and usage.get(name, 0) > limit:
                return f"used {usage[name]} {name}, its budget is {limit}"
        return None

    def _broke_a_limit(self) -> None:
        if not self._over:
            self._over = True
            self._wake()
