"""From the ledger's values to what the API shows; pure."""

from __future__ import annotations

from dataclasses import dataclass

from ua_vp import wire
from ua_vp.control.asking import Moment
from ua_vp.events import Event
from ua_vp.ledger import Session, session_state
from ua_vp.mission import Action, Artifact, Attempt, Mission, QueuedReason, RequeueReason, Status
from ua_vp.ports import MICROS
from ua_vp.wire import to_iso

BUILT = frozenset({Action.CANCEL, Action.RETRY, Action.REQUEUE, Action.FAIL})
"""Actions that the API takes; the others of `Mission.actions` are shown once their calls are there."""
NEXT_CHECK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneNow:
    """What a lane is like now, as far as its queue is concerned."""

    paused: bool = False
    draining: bool = False
    capacity: int = 1
    live_workers: int = 0
    running: int = 0

    @property
    def full(self) -> bool:
        """Whether every slot of every live worker is taken."""
        return self.running >= self.capacity * max(self.live_workers, 1)


def mission_view(mission: Mission, moment: Moment, lane: LaneNow | None) -> wire.MissionView:
    """The mission as everybody sees it; `lane` is None if the ledger does not know its lane (any more)."""
    expires = moment.wall_of(mission.lease_deadline, mission.lease_boot) if mission.status is Status.RUNNING else None
    return wire.MissionView(
        mission_id=mission.mission_id,
        vp_id=mission.vp_id,
        status=mission.status.value,
        mission_type=mission.mission_type,
        objective=mission.objective,
        constraints=dict(mission.constraints),
        budget=mission.budget.to_json(),
        inputs=[wire.InputView(input_id=given.input_id, path=given.path) for given in mission.inputs],
        priority=mission.priority,
        attempt=mission.attempt,
        tries=mission.tries,
        max_tries=mission.max_tries,
        worker_id=mission.worker_id,
        lease_expires_at=_iso(expires),
        cancel_requested=mission.cancel_requested,
        cancel_reason=mission.cancel_reason,
        cancelled_by=mission.cancelled_by,
        result_ref=mission.result_ref if mission.published_at is not None else None,
        summary=mission.summary,
        failure_mode=mission.failure_mode.value if mission.failure_mode else None,
        failure_detail=mission.failure_detail,
        **_origin(mission),
        **_times(mission, moment),
        queued_reason=queued_reason(mission, moment, lane),
        awaiting=None,
        usage=dict(mission.usage),
        sync_state=mission.sync_state.value,
        actions=[action.value for action in mission.actions if action in BUILT],
    )


def queued_reason(mission: Mission, moment: Moment, lane: LaneNow | None) -> str | None:
    """Why it does not run yet: first what somebody decided, then what must pass, then who is missing."""
    if mission.status is not Status.QUEUED:
        return None
    waits = mission.due_at > moment.now
    reasons = (
        (QueuedReason.LANE_PAUSED, lane is not None and lane.paused),
        (QueuedReason.LANE_DRAINING, lane is not None and lane.draining),
        (QueuedReason.NOT_BEFORE, mission.not_before is not None and mission.not_before > moment.now),
        (QueuedReason.PROVIDER_HOLD, waits and mission.requeue_reason is RequeueReason.PROVIDER_HOLD),
        (QueuedReason.RETRY_BACKOFF, waits and mission.requeue_reason is not None),
        (QueuedReason.NO_LIVE_WORKER, lane is None or lane.live_workers == 0),
        (QueuedReason.LANE_AT_CAPACITY, lane is not None and lane.full),
    )
    return next((reason.value for reason, holds in reasons if holds), QueuedReason.WAITING_FOR_WORKER.value)


def bridge_view(mission: Mission) -> wire.BridgeView:
    """How the asking session hears of the end: notices are not built yet, so it must ask."""
    return wire.BridgeView(attached=False, next_check_after_seconds=0.0 if mission.settled else NEXT_CHECK_SECONDS)


def event_view(event: Event) -> wire.EventView:
    """The event as everybody sees it."""
    return wire.EventView(
        seq=event.seq,
        event_id=event.event_id,
        type=event.type,
        mission_id=event.mission_id,
        vp_id=event.vp_id,
        session_id=event.session_id,
        source_session_id=event.source_session_id,
        attempt=event.attempt,
        actor=wire.EventActorView(name=event.actor.name, via=event.actor.via),
        at=to_iso(event.at),
        payload=dict(event.payload),
    )


def artifact_view(artifact: Artifact) -> wire.ArtifactView:
    """A handed-over file as everybody sees it."""
    return wire.ArtifactView(
        path=artifact.path,
        category=artifact.category.value,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        media_type=artifact.media_type,
    )


def attempt_view(attempt: Attempt) -> wire.AttemptView:
    """The record of an attempt as everybody sees it."""
    return wire.AttemptView(
        attempt=attempt.attempt,
        worker_id=attempt.worker_id,
        claimed_at=to_iso(attempt.claimed_at),
        engaged_at=_iso(attempt.engaged_at),
        ended_at=_iso(attempt.ended_at),
        end_reason=attempt.end_reason,
        late_outcome=dict(attempt.late_outcome) if attempt.late_outcome is not None else None,
        usage=dict(attempt.usage),
    )


def session_view(session: Session, moment: Moment) -> wire.SessionView:
    """A worker's session, its state worked out from the lease at `moment`."""
    return wire.SessionView(
        session_id=session.session_id,
        vp_id=session.vp_id,
        worker_id=session.worker_id,
        pid=session.pid,
        host=session.host,
        build=session.build,
        opened_at=to_iso(session.opened_at),
        last_heartbeat_at=_iso(session.last_heartbeat_at),
        lease_expires_at=_iso(moment.wall_of(session.lease_deadline, session.lease_boot)),
        closed_at=_iso(session.closed_at),
        effective_status=str(session_state(session, moment.boot_id, moment.boot)),
    )


def _origin(mission: Mission) -> dict[str, str | None]:
    """Where the mission comes from."""
    return {
        "source_session_id": mission.source_session_id,
        "source_turn_id": mission.source_turn_id,
        "turn_id": mission.turn_id,
        "reply_mode": mission.reply_mode.value,
        "retry_of": mission.retry_of,
        "continues": mission.continues,
        "group_id": mission.group_id,
        "created_by": mission.created_by,
    }


def _times(mission: Mission, moment: Moment) -> dict[str, str | float | None]:
    """Its instants; `updated_at` is the latest of the row's and the stamps."""
    stamps = (
        mission.published_at,
        mission.blocked_at,
        mission.released_at,
        mission.marked_at,
        mission.mirrored_at,
        mission.purged_at,
    )
    return {
        "not_before": _iso(mission.not_before),
        "created_at": to_iso(mission.created_at),
        "started_at": _iso(mission.started_at),
        "last_progress_at": _iso(mission.last_progress_at),
        "completed_at": _iso(mission.completed_at),
        "ready_at": _iso(mission.marked_at),
        "updated_at": to_iso(max([mission.updated_at, *(stamp for stamp in stamps if stamp is not None)])),
        "duration_seconds": _duration(mission, moment),
    }


def _duration(mission: Mission, moment: Moment) -> float | None:
    if mission.started_at is None:
        return None
    end = mission.completed_at if mission.completed_at is not None else moment.now
    return max(end - mission.started_at, 0) / MICROS


def _iso(instant: int | None) -> str | None:
    return None if instant is None else to_iso(instant)
