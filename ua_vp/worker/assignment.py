"""What a worker process was started for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ua_vp.lane import Availability, Lane, LaneInfo
from ua_vp.ledger import LeaseTime
from ua_vp.mission import Budget, Mission
from ua_vp.ports import Clock
from ua_vp.sandbox.spec import NO_WALLS, Walls
from ua_vp.workspace import Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """When something is brought to the ledger: `now` wall µs; `boot_now` and `deadline` µs on the clock of `boot_id`.

    That is the clock of the ledger's leases. `own` and `fence` are the same two on this machine's boot clock: when this
    was, and when a worker that renewed its lease now must have renewed it again, or stop what it runs.
    """

    now: int
    boot_id: str
    boot_now: int
    deadline: int
    own: int
    fence: int

    def on(self, leases: LeaseTime) -> Moment:
        """The same moment on the clock of the leases, which was read a little later."""
        if leases.steady:
            return self
        deadline = leases.now + self.fence - self.own
        return replace(self, boot_id=leases.boot_id, boot_now=leases.now, deadline=deadline)


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One lane on one machine: everything a worker needs that is neither a port nor the ledger. Durations in seconds."""

    lane: Lane
    info: LaneInfo
    availability: Callable[[], Availability]
    """Whether the lane can work, settled with the configuration; must not raise. Asked at start and every minute."""
    workspaces: Path
    """The lane's folder, in which each mission gets one of its own."""
    host: str
    pid: int
    build: str
    """Version of the product, as receipts and sessions name it."""
    executor: str
    executor_version: str
    """Distribution and version of the plugin that does the work."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What a mission's processes inherit: PATH and the locale."""
    walls: Walls = NO_WALLS
    lease: float = 30.0
    grace: float = 10.0
    drain: float = 900.0

    @property
    def vp_id(self) -> str:
        """The lane's id."""
        return self.info.vp_id

    @property
    def lease_micros(self) -> int:
        """One lease in µs."""
        return int(self.lease * 1_000_000)

    def moment(self, clock: Clock) -> Moment:
        """Now, and the deadline that a renewal now is good for, where leases are on this machine's boot clock."""
        own = clock.boot()
        fence = own + self.lease_micros
        return Moment(now=clock.now(), boot_id=clock.boot_id, boot_now=own, deadline=fence, own=own, fence=fence)

    def workspace(self, mission_id: str) -> Workspace:
        """The mission's workspace; it need not exist yet."""
        return Workspace(self.workspaces / mission_id)

    def budget(self, mission: Mission) -> Budget:
        """The mission's own limits over the defaults of its type."""
        kind = self.info.mission_types.get(mission.mission_type)
        default, own = (kind.default_budget if kind else Budget()), mission.budget
        return Budget(
            seconds=default.seconds if own.seconds is None else own.seconds,
            idle_seconds=default.idle_seconds if own.idle_seconds is None else own.idle_seconds,
            tokens=default.tokens if own.tokens is None else own.tokens,
            usd_cents=default.usd_cents if own.usd_cents is None else own.usd_cents,
            output_bytes=default.output_bytes if own.output_bytes is None else own.output_bytes,
        )
