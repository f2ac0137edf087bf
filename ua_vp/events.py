"""What happened, in order: the events that the ledger writes with each change of state (contract, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ua_vp.mission import Actor, JsonObject, Status

ARTIFACTS_IN_EVENT = 50
"""How many artifacts a terminal event lists, best first; `artifacts_total` says how many there are."""


class EventType(StrEnum):
    """Every event type; an open set to readers."""

    DISPATCHED = "vp.mission.dispatched"
    STARTED = "vp.mission.started"
    PROGRESS = "vp.mission.progress"
    CANCEL_REQUESTED = "vp.mission.cancel_requested"
    REQUEUED = "vp.mission.requeued"
    COMPLETED = "vp.mission.completed"
    FAILED = "vp.mission.failed"
    CANCELLED = "vp.mission.cancelled"
    READY = "vp.mission.ready"
    SYNC_BLOCKED = "vp.mission.sync_blocked"
    SESSION_OPENED = "vp.session.opened"
    SESSION_LOST = "vp.session.lost"
    SESSION_CLOSED = "vp.session.closed"
    LANE_REGISTERED = "vp.lane.registered"
    LANE_DEGRADED = "vp.lane.degraded"
    LANE_PAUSED = "vp.lane.paused"
    LANE_RESUMED = "vp.lane.resumed"
    LANE_DRAINING = "vp.lane.draining"
    MIRROR_ACKNOWLEDGED = "vp.mirror.acknowledged"


TERMINAL_EVENT = {
    Status.COMPLETED: EventType.COMPLETED,
    Status.FAILED: EventType.FAILED,
    Status.CANCELLED: EventType.CANCELLED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """An event about to be written with the change it reports."""

    type: EventType
    at: int
    """Wall µs."""
    actor: Actor
    payload: JsonObject = field(default_factory=dict)
    mission_id: str | None = None
    vp_id: str | None = None
    session_id: str | None = None
    source_session_id: str | None = None
    attempt: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An event as read: `seq` grows strictly in the order of commits and is the cursor; `event_id` is stable."""

    seq: int
    event_id: str
    type: str
    at: int
    actor: Actor
    payload: JsonObject
    mission_id: str | None
    vp_id: str | None
    session_id: str | None
    source_session_id: str | None
    attempt: int | None
