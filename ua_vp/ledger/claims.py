"""What a worker does with missions: claim, renew, report, publish; finishing and reconciling stand beside.

Every write names the attempt it works on and changes nothing if that is not the mission's current one. Deadlines are
µs on the boot clock of `boot_id`, `now` and `at` wall µs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, func, select, true

from ua_vp.events import EventType, NewEvent
from ua_vp.ledger.finishing import (
    FinishVerdict,
    RequeueVerdict,
    Running,
    all_running,
    finish,
    record_late_outcome,
    requeue,
    supersede,
)
from ua_vp.ledger.holding import DROP_CLAIM, Holder, hold, worker
from ua_vp.ledger.lanes import takes_missions
from ua_vp.ledger.reconciling import Reconciled, reconcile
from ua_vp.ledger.rows import event_of, new, text_of
from ua_vp.ledger.sessions import extend
from ua_vp.ledger.tables import (
    STAMPS,
    attempts,
    claims,
    is_due,
    is_finished,
    is_passed,
    is_unmarked,
    is_waiting,
    missions,
)
from ua_vp.ledger.transaction import Row, Transaction, insert_all, is_among
from ua_vp.mission import Claim, JsonObject, Status

__all__ = [
    "FinishVerdict",
    "Reconciled",
    "Renewal",
    "Renewed",
    "RequeueVerdict",
    "Running",
    "all_running",
    "claim",
    "finish",
    "has_due",
    "holding",
    "next_due",
    "note_progress",
    "reconcile",
    "record_late_outcome",
    "renew",
    "requeue",
    "settle",
    "stamp_marked",
    "stamp_published",
    "supersede",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewed:
    """A mission that the session still holds, and what its worker should know. `ended`: it only waits for its marker.

    `closing`: the claim was taken only to bring the mission to its end.
    """

    attempt: int
    cancel_requested: bool
    cancel_reason: str | None
    ended: bool
    closing: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewal:
    """What a renewal gave: `alive` is False if the session is closed or unknown; a mission that is absent was lost."""

    alive: bool
    missions: Mapping[str, Renewed] = field(default_factory=dict)


def claim(
    tx: Transaction,
    *,
    vp_id: str,
    session_id: str,
    worker_id: str,
    limit: int,
    now: int,
    boot_id: str,
    deadline: int,
) -> list[Claim]:
    """Take the first missions of the lane's queue, at most `limit`; none while the lane is paused or draining.

    Each gets its next attempt, that attempt's record, a claim until `deadline`, and its `started` event.
    """
    if limit <= 0 or not takes_missions(tx, vp_id):
        return []
    tx.run(MOVE_IN, vp_id=vp_id, now=now)
    holder = Holder(session_id=session_id, worker_id=worker_id, boot_id=boot_id, deadline=deadline)
    return [hold(tx, _start(tx, row, holder, now=now), holder) for row in tx.rows(FIRST_DUE, vp_id=vp_id, limit=limit)]


def has_due(tx: Transaction, vp_id: str, now: int) -> bool:
    """Whether `claim` would find anything now: a cheap read before asking for the write lock."""
    ready = tx.first(ANY_DUE, vp_id=vp_id) or tx.first(ANY_TO_MOVE, vp_id=vp_id, now=now)
    return ready is not None and takes_missions(tx, vp_id)


def next_due(tx: Transaction, vp_id: str, now: int) -> int | None:
    """When the earliest mission that waits for its time (`not_before`, back-off) will be due; None without any."""
    at = tx.value(NEXT_DUE, vp_id=vp_id, now=now)
    return None if at is None else int(at)


def renew(tx: Transaction, *, session_id: str, now: int, boot_id: str, boot_now: int, deadline: int) -> Renewal:
    """Move the lease of a session and of all its claims on to `deadline`, late or not, and say what it still holds.

    A claim that nobody took is still ours, whatever `boot_now` says; the parameter is there for stores whose own clock
    decides.
    """
    if not extend(tx, session_id, now=now, boot_id=boot_id, deadline=deadline):
        return Renewal(alive=False)
    tx.run(EXTEND_CLAIMS, session_id=session_id, new_boot=boot_id, new_deadline=deadline)
    return Renewal(alive=True, missions=holding(tx, session_id))


def holding(tx: Transaction, session_id: str) -> Mapping[str, Renewed]:
    """What a session holds, by mission id: a read, for a worker that hears of a commit and may have to stop something."""
    return {
        row["mission_id"]: Renewed(
            attempt=row["attempt"],
            cancel_requested=bool(row["cancel_requested"]),
            cancel_reason=row["cancel_reason"],
            ended=row["completed_at"] is not None,
            closing=bool(row["closing"]),
        )
        for row in tx.rows(HELD_BY, session_id=session_id)
    }


def note_progress(
    tx: Transaction,
    claim: Claim,
    *,
    now: int,
    summary: str | None,
    data: JsonObject,
    usage: JsonObject | None,
    engaged: bool,
) -> bool:
    """Record a sign of life, usage so far, the lane's first sign (`engaged`); `progress` is written for a summary.

    Returns False, nothing written, if the claim was lost.
    """
    fence = {"mission_id": claim.mission_id, "attempt": claim.attempt}
    if not tx.run(PROGRESS, **fence, new_last_progress_at=now, new_updated_at=now):
        return False
    if usage is not None:
        tx.run(USAGE, **fence, new_usage=text_of(usage))
        tx.run(ATTEMPT_USAGE, **fence, new_usage=text_of(usage))
    if engaged:
        tx.run(ENGAGE, **fence, new_engaged_at=now)
    if summary is not None:
        tx.append(
            NewEvent(
                type=EventType.PROGRESS,
                at=now,
                actor=worker(claim.worker_id),
                payload={"summary": summary, "data": data},
                mission_id=claim.mission_id,
                vp_id=claim.mission.vp_id,
                session_id=claim.session_id,
                source_session_id=claim.mission.source_session_id,
                attempt=claim.attempt,
            )
        )
    return True


def stamp_published(tx: Transaction, claim: Claim, *, now: int) -> bool:
    """Record that the results stand in their final place; False if the mission did not end with this attempt.

    A stamp that is there already stays as it is, and is True: two may bring the same end to its marker.
    """
    row = _all_ended(tx, [claim]).get((claim.mission_id, claim.attempt))
    return row is not None and _publish(tx, row, now=now)


def stamp_marked(tx: Transaction, claim: Claim, *, now: int, receipt_sha256: str) -> bool:
    """Record that the marker is there, write `ready`, and give up the claim; otherwise as `stamp_published`."""
    row = _all_ended(tx, [claim]).get((claim.mission_id, claim.attempt))
    return row is not None and _mark(tx, claim, row, now=now, receipt_sha256=receipt_sha256)


def settle(tx: Transaction, settled: Sequence[tuple[Claim, str]], *, now: int) -> None:
    """Stamp missions as published and then as marked; given are their claims, each with the hash of its receipt."""
    ended = _all_ended(tx, [claim for claim, _ in settled])
    for claim, receipt_sha256 in settled:
        row = ended.pop((claim.mission_id, claim.attempt), None)
        if row is not None and not _mark(tx, claim, row, now=now, receipt_sha256=receipt_sha256, publish=True):
            _publish(tx, row, now=now)


def _all_ended(tx: Transaction, claims: Sequence[Claim]) -> dict[tuple[str, int], Row]:
    """The stamps of those of the missions in `claims` that have ended, by id and attempt."""
    rows = tx.among(STAMPED, [claim.mission_id for claim in claims])
    return {(row["mission_id"], row["attempt"]): row for row in rows}


def _publish(tx: Transaction, row: Row, *, now: int) -> bool:
    if row["published_at"] is None:
        tx.write(PUBLISH, mission_id=row["mission_id"], new_published_at=now)
    return True


def _mark(tx: Transaction, claim: Claim, row: Row, *, now: int, receipt_sha256: str, publish: bool = False) -> bool:
    """False if the mission is blocked; with `publish`, it may be stamped as published by the same change."""
    if row["marked_at"] is not None:
        return True
    if row["blocked_at"] is not None and row["released_at"] is None:
        return False
    if publish and row["published_at"] is None:
        tx.write(SETTLE, mission_id=claim.mission_id, new_published_at=now, new_marked_at=now)
    else:
        tx.write(MARK, mission_id=claim.mission_id, new_marked_at=now)
    tx.append(
        NewEvent(
            type=EventType.READY,
            at=now,
            actor=worker(claim.worker_id),
            payload={"receipt_sha256": receipt_sha256},
            mission_id=claim.mission_id,
            vp_id=claim.mission.vp_id,
            session_id=claim.session_id,
            source_session_id=claim.mission.source_session_id,
            attempt=claim.attempt,
        )
    )
    tx.write(DROP_CLAIM, mission_id=claim.mission_id, if_any=True)
    return True


def _start(tx: Transaction, row: Row, holder: Holder, *, now: int) -> Row:
    """Begin the next attempt of a queued mission; returns the row as it is then."""
    started = row | {
        "status": Status.RUNNING.value,
        "due": False,
        "attempt": row["attempt"] + 1,
        "requeue_reason": None,
        "started_at": row["started_at"] or now,
        "updated_at": now,
    }
    changes = {f"new_{name}": started[name] for name in STARTED}
    tx.write(START, mission_id=row["mission_id"], since_attempt=row["attempt"], **changes)
    tx.write(
        INSERT_ATTEMPT,
        mission_id=row["mission_id"],
        attempt=started["attempt"],
        worker_id=holder.worker_id,
        session_id=holder.session_id,
        claimed_at=now,
        engaged_at=None,
        ended_at=None,
        end_reason=None,
        late_outcome=None,
        usage="{}",
        usage_source="unknown",
    )
    tx.append(
        event_of(
            row,
            EventType.STARTED,
            at=now,
            actor=worker(holder.worker_id),
            payload={"worker_id": holder.worker_id},
            attempt=started["attempt"],
            session_id=holder.session_id,
        )
    )
    return started


_this = missions.c.mission_id == bindparam("mission_id")
_of_lane = missions.c.vp_id == bindparam("vp_id")
_fence = (_this, missions.c.attempt == bindparam("attempt"))
_running = (*_fence, missions.c.status == Status.RUNNING.value)
_attempt = (attempts.c.mission_id == bindparam("mission_id"), attempts.c.attempt == bindparam("attempt"))
_first = (missions.c.due_order, missions.c.dispatched_seq)
_of_session = claims.c.session_id == bindparam("session_id")

STARTED = ("status", "due", "attempt", "requeue_reason", "started_at", "updated_at")
MOVE_IN = missions.update().where(_of_lane, is_waiting, missions.c.due_at <= bindparam("now")).values(due=true())
FIRST_DUE = (
    select(missions)
    .where(_of_lane, is_due)
    .order_by(*_first)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
ANY_DUE = select(missions.c.mission_id).where(_of_lane, is_due).order_by(*_first).limit(1)
ANY_TO_MOVE = select(missions.c.mission_id).where(_of_lane, is_waiting, missions.c.due_at <= bindparam("now")).limit(1)
NEXT_DUE = select(func.min(missions.c.due_at)).where(_of_lane, is_waiting, missions.c.due_at > bindparam("now"))
START = (
    missions.update()
    .where(
        missions.c.mission_id == bindparam("mission_id"),
        missions.c.attempt == bindparam("since_attempt"),
        missions.c.status == Status.QUEUED.value,
    )
    .values(**new(*STARTED))
)
INSERT_ATTEMPT = insert_all(attempts)
EXTEND_CLAIMS = claims.update().where(_of_session).values(**new("boot", "deadline"))
HELD_BY = (
    select(
        claims.c.mission_id,
        claims.c.attempt,
        claims.c.closing,
        missions.c.cancel_requested,
        missions.c.cancel_reason,
        missions.c.completed_at,
    )
    .join(missions, missions.c.mission_id == claims.c.mission_id)
    .where(_of_session)
)
PROGRESS = missions.update().where(*_running).values(**new("last_progress_at", "updated_at"))
USAGE = missions.update().where(*_running).values(**new("usage"))
ATTEMPT_USAGE = attempts.update().where(*_attempt).values(usage_source="reported", **new("usage"))
ENGAGE = attempts.update().where(*_attempt, attempts.c.engaged_at.is_(None)).values(**new("engaged_at"))
STAMPED = (
    select(missions.c.mission_id, missions.c.attempt, *(missions.c[stamp] for stamp in STAMPS))
    .where(is_among(missions.c.mission_id), is_finished)
    .with_for_update()
)
PUBLISH = missions.update().where(_this, is_finished, missions.c.published_at.is_(None)).values(**new("published_at"))
MARK = missions.update().where(_this, is_unmarked, is_passed).values(**new("marked_at"))
SETTLE = (
    missions.update()
    .where(_this, is_unmarked, is_passed, missions.c.published_at.is_(None))
    .values(**new("published_at", "marked_at"))
)
