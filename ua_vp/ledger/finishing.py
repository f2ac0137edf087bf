"""How an attempt ends: finished, put back, or taken over; each fenced by attempt and `running`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from typing import TypeAlias

from sqlalchemy import bindparam, select, true

from ua_vp.events import EventType
from ua_vp.ledger.endings import RUN, end
from ua_vp.ledger.holding import DROP_CLAIM, Holder, hold, worker
from ua_vp.ledger.rows import ALL_LOCKED, event_of, mission_of, new, text_of
from ua_vp.ledger.tables import attempts, claims, events, missions
from ua_vp.ledger.transaction import Row, Transaction
from ua_vp.mission import Actor, Claim, Ending, JsonObject, Mission, RequeueReason, Status


class FinishVerdict(Enum):
    """What became of a finish."""

    DONE = "done"
    LEASE_LOST = "lease_lost"
    """A newer attempt exists, or the mission has ended: nothing was written."""
    CANCEL_FIRST = "cancel_first"
    """A cancel was committed before: nothing was written; finish it as cancelled."""


Running: TypeAlias = dict[tuple[str, int], Row]
"""Missions that run, by id and attempt: as they were just read."""


class RequeueVerdict(Enum):
    """What became of a requeue; but for REQUEUED nothing was written."""

    REQUEUED = "requeued"
    EXHAUSTED = "exhausted"
    """It would count as a try, and none is left: finish it as failed."""
    CANCEL_FIRST = "cancel_first"
    """A cancel was committed before: finish it as cancelled."""
    LEASE_LOST = "lease_lost"


def finish(
    tx: Transaction,
    claim: Claim,
    ending: Ending,
    *,
    completed_at: int,
    result_ref: str,
    receipt_path: str,
    sync_marker_path: str,
    running: Running | None = None,
) -> FinishVerdict:
    """The moment of truth: the mission ends as `ending` says; writes its terminal event and its attempt's end.

    The claim stays until the marker is there (`stamp_marked`). Who finishes many gives what `all_running` has just
    found for them all; what ends is taken from it.
    """
    row = _current(claim, all_running(tx, [claim]) if running is None else running)
    if row is None:
        return FinishVerdict.LEASE_LOST
    if row["cancel_requested"] and ending.status is not Status.CANCELLED:
        return FinishVerdict.CANCEL_FIRST
    end(
        tx,
        row,
        ending,
        since=RUN,
        attempt=claim.attempt,
        at=completed_at,
        actor=worker(claim.worker_id),
        session_id=claim.session_id,
        result_ref=result_ref,
        receipt_path=receipt_path,
        sync_marker_path=sync_marker_path,
    )
    if ending.usage:
        usage = text_of(ending.usage)
        tx.write(ATTEMPT_USAGE, mission_id=claim.mission_id, attempt=claim.attempt, new_usage=usage, if_any=True)
    end_attempt(tx, claim.mission_id, claim.attempt, at=completed_at, reason=ending.status.value)
    return FinishVerdict.DONE


def all_running(tx: Transaction, claims: Sequence[Claim]) -> Running:
    """Those of the missions in `claims` that run."""
    rows = tx.among(ALL_LOCKED, [claim.mission_id for claim in claims])
    return {(row["mission_id"], row["attempt"]): row for row in rows if row["status"] == Status.RUNNING.value}


def requeue(
    tx: Transaction, claim: Claim, reason: RequeueReason, *, now: int, backoff: int, detail: str | None
) -> RequeueVerdict:
    """Put a running mission back into the queue, at its old place, due `backoff` µs from now; writes `requeued`.

    Done again, after a commit whose answer was lost, it is REQUEUED again and writes nothing.
    """
    row = _current(claim, all_running(tx, [claim]))
    if row is None:
        return RequeueVerdict.REQUEUED if _did_put_back(tx, claim, reason) else RequeueVerdict.LEASE_LOST
    if row["cancel_requested"]:
        return RequeueVerdict.CANCEL_FIRST
    if reason.counts and row["tries"] + 1 >= row["max_tries"]:
        return RequeueVerdict.EXHAUSTED
    put_back(
        tx,
        row,
        reason,
        now=now,
        backoff=backoff,
        detail=detail,
        actor=worker(claim.worker_id),
        session_id=claim.session_id,
    )
    return RequeueVerdict.REQUEUED


def supersede(tx: Transaction, claim: Claim, holder: Holder, *, now: int, end_reason: str) -> Claim | None:
    """Fence a running attempt off and give its mission to `holder` at the next one, only to be ended.

    For a lane that does not return: its attempt's record ends with `end_reason`, the next attempt has none. None if
    the claim was lost. Done again, after a commit whose answer was lost, it gives the same claim again.
    """
    row = _current(claim, all_running(tx, [claim]))
    if row is not None:
        return take_over(tx, row, holder, now=now, tries=row["tries"], end_reason=end_reason)
    taken = tx.first(CLOSING, mission_id=claim.mission_id, attempt=claim.attempt + 1, session_id=holder.session_id)
    return None if taken is None else hold(tx, taken, holder, closing=True)


def take_over(tx: Transaction, row: Row, holder: Holder, *, now: int, tries: int, end_reason: str) -> Claim:
    """`supersede` for the running mission in `row`."""
    taken = row | {"attempt": row["attempt"] + 1, "tries": tries, "updated_at": now}
    tx.write(
        TAKE,
        mission_id=row["mission_id"],
        attempt=row["attempt"],
        new_attempt=taken["attempt"],
        new_tries=tries,
        new_updated_at=now,
    )
    end_attempt(tx, row["mission_id"], row["attempt"], at=now, reason=end_reason)
    return hold(tx, taken, holder, closing=True)


def record_late_outcome(tx: Transaction, mission_id: str, attempt: int, outcome: JsonObject) -> None:
    """Keep what a fenced-off attempt handed in too late; the first one stands."""
    tx.run(LATE, mission_id=mission_id, attempt=attempt, new_late_outcome=text_of(outcome))


def put_back(
    tx: Transaction,
    row: Row,
    reason: RequeueReason,
    *,
    now: int,
    backoff: int,
    detail: str | None,
    actor: Actor,
    session_id: str | None,
) -> Mission:
    """`requeue` for the running mission in `row`, done by `actor`."""
    tries = row["tries"] + (1 if reason.counts else 0)
    changes = {
        "status": Status.QUEUED.value,
        "due": backoff <= 0,
        "due_at": now + max(0, backoff),
        "tries": tries,
        "requeue_reason": reason.value,
        "updated_at": now,
    }
    columns = {f"new_{name}": value for name, value in changes.items()}
    tx.write(PUT_BACK, mission_id=row["mission_id"], attempt=row["attempt"], **columns)
    end_attempt(tx, row["mission_id"], row["attempt"], at=now, reason=reason.value)
    tx.write(DROP_CLAIM, mission_id=row["mission_id"], if_any=True)
    tx.append(
        event_of(
            row,
            EventType.REQUEUED,
            at=now,
            actor=actor,
            payload={"reason": reason.value, "detail": detail, "tries": tries},
            attempt=row["attempt"],
            session_id=session_id,
        )
    )
    return mission_of(row | changes)


def end_attempt(tx: Transaction, mission_id: str, attempt: int, *, at: int, reason: str) -> None:
    """Write the end of an attempt's record, if it has one."""
    tx.write(END_ATTEMPT, mission_id=mission_id, attempt=attempt, new_ended_at=at, new_end_reason=reason, if_any=True)


def _did_put_back(tx: Transaction, claim: Claim, reason: RequeueReason) -> bool:
    """Whether this claim's own worker has put the mission back, for this reason."""
    fence = {"mission_id": claim.mission_id, "attempt": claim.attempt, "session_id": claim.session_id}
    return any(json.loads(row["payload"])["reason"] == reason.value for row in tx.rows(OWN_REQUEUES, **fence))


def _current(claim: Claim, running: Running) -> Row | None:
    """The mission's row, taken from those that run, if it does at the claim's attempt."""
    return running.pop((claim.mission_id, claim.attempt), None)


_running = (
    missions.c.mission_id == bindparam("mission_id"),
    missions.c.attempt == bindparam("attempt"),
    missions.c.status == Status.RUNNING.value,
)
_attempt = (attempts.c.mission_id == bindparam("mission_id"), attempts.c.attempt == bindparam("attempt"))
PUT_BACK = (
    missions.update().where(*_running).values(**new("status", "due", "due_at", "tries", "requeue_reason", "updated_at"))
)
TAKE = missions.update().where(*_running).values(**new("attempt", "tries", "updated_at"))
END_ATTEMPT = attempts.update().where(*_attempt, attempts.c.ended_at.is_(None)).values(**new("ended_at", "end_reason"))
ATTEMPT_USAGE = attempts.update().where(*_attempt).values(usage_source="reported", **new("usage"))
CLOSING = (
    select(missions)
    .join(claims, claims.c.mission_id == missions.c.mission_id)
    .where(*_running, claims.c.attempt == missions.c.attempt, claims.c.session_id == bindparam("session_id"))
    .where(claims.c.closing == true())
)
"""A running mission that its session holds only to end it."""
OWN_REQUEUES = select(events.c.payload).where(
    events.c.mission_id == bindparam("mission_id"),
    events.c.type == EventType.REQUEUED.value,
    events.c.attempt == bindparam("attempt"),
    events.c.session_id == bindparam("session_id"),
)
LATE = attempts.update().where(*_attempt, attempts.c.late_outcome.is_(None)).values(**new("late_outcome"))
