"""What operators and mirrors do with missions: retry, put back, fail, block, release, acknowledge, purge.

But for `stamp_blocked`, none of these holds a claim. Whoever ends a mission so ends it as attempt + 1; its folder, receipt
and marker come from its lane's next reconcile. None stands for a mission that is not there; instants are wall µs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import bindparam, func, select

from ua_vp.events import EventType
from ua_vp.ledger.endings import RUN, end_unclaimed
from ua_vp.ledger.events import page_events
from ua_vp.ledger.finishing import end_attempt, put_back
from ua_vp.ledger.holding import DROP_CLAIM, held, worker
from ua_vp.ledger.missions import Dispatched, KeyConflict, dispatch, find_by_key, get_mission
from ua_vp.ledger.rows import LOCKED, event_of, mission_of, new
from ua_vp.ledger.tables import missions
from ua_vp.ledger.transaction import Row, Transaction
from ua_vp.mission import Action, Actor, Claim, Ending, FailureMode, Mission, NewMission, RequeueReason, Status

RETRY_LIMIT = 10
"""So many retries may one mission have, those of its retries counted: without it, one mission became 130."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InvalidState:
    """The action is not among the mission's `actions`; nothing was written."""

    mission: Mission


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryLimit:
    """The mission, with those that it repeats, has had `limit` retries; nothing was written."""

    limit: int


class MirrorVerdict(Enum):
    """What became of a mirror's acknowledgement; but for ACKNOWLEDGED nothing was written."""

    ACKNOWLEDGED = "acknowledged"
    NOT_READY = "not_ready"
    """It has no marker yet."""
    DIFFERS = "differs"
    """The mirror has another receipt than the one that was marked."""


def retry(
    tx: Transaction, again: NewMission, *, now: int, limit: int = RETRY_LIMIT
) -> Dispatched | KeyConflict | InvalidState | RetryLimit | None:
    """Dispatch `again`, which names in `retry_of` the ended mission that it repeats; as `dispatch`, once per key.

    A key that was used for anything but a retry of this mission is a conflict.
    """
    assert again.retry_of is not None, "a retry repeats a mission"
    first = get_mission(tx, again.retry_of)
    if first is None:
        return None
    if Action.RETRY not in first.actions:
        return InvalidState(mission=first)
    known = again.idempotency_key is not None and find_by_key(tx, again.vp_id, again.idempotency_key) is not None
    if not known and _retries(tx, again.retry_of) >= limit:
        return RetryLimit(limit=limit)
    outcome = dispatch(tx, again, now=now)
    if isinstance(outcome, Dispatched) and outcome.mission.retry_of != again.retry_of:
        return KeyConflict(mission_id=outcome.mission.mission_id)
    return outcome


def requeue(tx: Transaction, mission_id: str, *, reason: str, actor: Actor, now: int) -> Mission | InvalidState | None:
    """Take a running mission from its worker and put it back into the queue, not counted as a try; writes `requeued`.

    If a cancel was requested it ends as cancelled instead.
    """
    row = tx.first(LOCKED, mission_id=mission_id)
    if row is None:
        return None
    if row["status"] != RUN.value:
        return InvalidState(mission=_read(tx, mission_id))
    if row["cancel_requested"]:
        return _end(tx, row, _cancelled(row), actor=actor, now=now)
    return put_back(tx, row, RequeueReason.OPERATOR, now=now, backoff=0, detail=reason, actor=actor, session_id=None)


def fail(tx: Transaction, mission_id: str, *, reason: str, actor: Actor, now: int) -> Mission | InvalidState | None:
    """Take a running mission from its worker and end it as failed, with failure mode `operator`; writes `failed`.

    If a cancel was requested it ends as cancelled instead: that was committed before.
    """
    row = tx.first(LOCKED, mission_id=mission_id)
    if row is None:
        return None
    if row["status"] != RUN.value:
        return InvalidState(mission=_read(tx, mission_id))
    failed = Ending(
        status=Status.FAILED,
        summary=f"Ended by {actor.name}: {reason}",
        failure_mode=FailureMode.OPERATOR,
        failure_detail=reason,
    )
    return _end(tx, row, _cancelled(row) if row["cancel_requested"] else failed, actor=actor, now=now)


def stamp_blocked(tx: Transaction, claim: Claim, *, now: int, detail: str) -> bool:
    """Keep the workspace of a mission that ended with this attempt from its marker; writes `sync_blocked`.

    The claim is given up: nobody marks it until it is released. False if it did not end with this attempt, or has its
    marker already; a stamp that is there stays as it is.
    """
    if not tx.run(BLOCK, mission_id=claim.mission_id, attempt=claim.attempt, new_blocked_at=now):
        return held(tx, claim, "blocked_at")
    row = tx.first(LOCKED, mission_id=claim.mission_id)
    assert row is not None, "it was stamped in this transaction"
    tx.append(
        event_of(
            row,
            EventType.SYNC_BLOCKED,
            at=now,
            actor=worker(claim.worker_id),
            payload={"detail": detail},
            attempt=claim.attempt,
            session_id=claim.session_id,
        )
    )
    tx.run(DROP_CLAIM, mission_id=claim.mission_id)
    return True


def release_sync(tx: Transaction, mission_id: str, *, now: int) -> Mission | InvalidState | None:
    """Let a blocked mission have its marker after all: its lane's next reconcile makes it."""
    row = tx.first(LOCKED, mission_id=mission_id)
    if row is None:
        return None
    if Action.RELEASE_SYNC not in mission_of(row).actions:
        return InvalidState(mission=_read(tx, mission_id))
    tx.run(RELEASE, mission_id=mission_id, new_released_at=now)
    return _read(tx, mission_id)


def acknowledge(
    tx: Transaction, mission_id: str, *, mirror_id: str, receipt_sha256: str, actor: Actor, now: int
) -> MirrorVerdict | None:
    """Record that a mirror verified its copy of a mission; writes `acknowledged`. The first one to say so stands."""
    row = tx.first(LOCKED, mission_id=mission_id)
    if row is None:
        return None
    ready = page_events(tx, after=None, mission_id=mission_id, types=[EventType.READY.value], limit=1)
    if row["marked_at"] is None or not ready:
        return MirrorVerdict.NOT_READY
    if ready[0].payload["receipt_sha256"] != receipt_sha256:
        return MirrorVerdict.DIFFERS
    if tx.run(MIRROR, mission_id=mission_id, new_mirrored_at=now):
        payload = {"mirror_id": mirror_id, "receipt_sha256": receipt_sha256}
        kind = EventType.MIRROR_ACKNOWLEDGED
        tx.append(event_of(row, kind, at=now, actor=actor, payload=payload, attempt=row["attempt"]))
    return MirrorVerdict.ACKNOWLEDGED


def stamp_purged(tx: Transaction, mission_id: str, *, now: int) -> bool:
    """Record that retention removed what a mission handed over but folder, receipt and marker.

    False if it has no marker yet, or is not there; a stamp that is there stays as it is.
    """
    if tx.run(PURGE, mission_id=mission_id, new_purged_at=now):
        return True
    mission = get_mission(tx, mission_id)
    return mission is not None and mission.purged_at is not None


def _retries(tx: Transaction, mission_id: str) -> int:
    """How many retries the first of the missions behind this one has had, those of its retries counted."""
    first = mission_id
    while (earlier := tx.value(RETRY_OF, mission_id=first)) is not None:
        first = earlier
    return int(tx.value(RETRIES, mission_id=first))


def _end(tx: Transaction, row: Row, ending: Ending, *, actor: Actor, now: int) -> Mission:
    """End a running mission over its worker's head: what that one still hands in comes late."""
    tx.run(DROP_CLAIM, mission_id=row["mission_id"])
    end_attempt(tx, row["mission_id"], row["attempt"], at=now, reason=RequeueReason.OPERATOR.value)
    end_unclaimed(tx, row, ending, since=RUN, at=now, actor=actor)
    return _read(tx, row["mission_id"])


def _cancelled(row: Row) -> Ending:
    reason = row["cancel_reason"]
    return Ending(status=Status.CANCELLED, summary=f"Cancelled over its worker's head: {reason}", cancel_reason=reason)


def _read(tx: Transaction, mission_id: str) -> Mission:
    mission = get_mission(tx, mission_id)
    assert mission is not None, "it was read in this transaction"
    return mission


_this = missions.c.mission_id == bindparam("mission_id")
_marked = missions.c.marked_at.is_not(None)
RETRY_OF = select(missions.c.retry_of).where(_this)
_direct = select(missions.c.mission_id).where(missions.c.retry_of == bindparam("mission_id"))
_retried = _direct.cte("retried", recursive=True)
_retried = _retried.union_all(select(missions.c.mission_id).where(missions.c.retry_of == _retried.c.mission_id))
RETRIES = select(func.count()).select_from(_retried)
BLOCK = (
    missions.update()
    .where(
        _this,
        missions.c.attempt == bindparam("attempt"),
        missions.c.completed_at.is_not(None),
        missions.c.marked_at.is_(None),
        missions.c.blocked_at.is_(None),
    )
    .values(**new("blocked_at"))
)
RELEASE = missions.update().where(_this, missions.c.released_at.is_(None)).values(**new("released_at"))
MIRROR = missions.update().where(_this, _marked, missions.c.mirrored_at.is_(None)).values(**new("mirrored_at"))
PURGE = missions.update().where(_this, _marked, missions.c.purged_at.is_(None)).values(**new("purged_at"))
