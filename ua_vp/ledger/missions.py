"""Dispatching, reading and cancelling missions. Each function is (part of) a Step; instants are wall µs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, func, select, tuple_

from ua_vp.events import EventType, NewEvent
from ua_vp.ledger.endings import QUEUE, end_unclaimed
from ua_vp.ledger.hashes import ROW_HASH_VERSION, row_hash
from ua_vp.ledger.metrics import Durations, Metrics, counts
from ua_vp.ledger.rows import LOCKED, WITH_CLAIM, attempt_of, mission_of, new, text_of
from ua_vp.ledger.tables import STAMPS, attempts, is_open, missions
from ua_vp.ledger.transaction import Row, Transaction, insert_all
from ua_vp.mission import Actor, Attempt, Ending, Mission, NewMission, Status, due_order

__all__ = [
    "CancelOutcome",
    "Dispatched",
    "Durations",
    "KeyConflict",
    "Keyed",
    "Metrics",
    "counts",
    "dispatch",
    "find_by_key",
    "get_mission",
    "list_attempts",
    "page_missions",
    "request_cancel",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispatched:
    """The mission that a dispatch made or, `replayed`, found by its key."""

    mission: Mission
    replayed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyConflict:
    """The key was used in this lane before, by this mission, for another request."""

    mission_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Keyed:
    """A mission found by its key, with the fingerprint of the request that made it."""

    mission: Mission
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelOutcome:
    """What a request to cancel came to.

    `ended`: it was queued and has ended now. `already_terminal`: it had ended before; nothing was written. Neither: it
    runs, and its worker learns of the request with its next renewal.
    """

    mission: Mission
    ended: bool
    already_terminal: bool


def dispatch(tx: Transaction, new_mission: NewMission, *, now: int) -> Dispatched | KeyConflict:
    """Put a mission into the queue, once per key of its lane; writes `dispatched`.

    Its place is fixed here: by its instant (never before one given earlier), its priority, and its event's `seq`.
    """
    fingerprint = new_mission.fingerprint()
    if new_mission.idempotency_key is not None:
        known = find_by_key(tx, new_mission.vp_id, new_mission.idempotency_key)
        if known is not None:
            same = known.fingerprint == fingerprint
            return (
                Dispatched(mission=known.mission, replayed=True)
                if same
                else KeyConflict(mission_id=known.mission.mission_id)
            )
    seq = tx.append(
        NewEvent(
            type=EventType.DISPATCHED,
            at=now,
            actor=new_mission.created_by,
            payload={"mission_type": new_mission.mission_type, "priority": new_mission.priority},
            mission_id=new_mission.mission_id,
            vp_id=new_mission.vp_id,
            source_session_id=new_mission.source_session_id,
        )
    )
    row = _row_of(new_mission, fingerprint, now=now, ledger_last=tx.newest_dispatch, seq=seq)
    tx.newest_dispatch = max(tx.newest_dispatch, now)
    row |= {"row_hash": row_hash(row), "row_hash_version": ROW_HASH_VERSION}
    tx.write(INSERT, **row)
    return Dispatched(mission=mission_of(row), replayed=False)


def find_by_key(tx: Transaction, vp_id: str, key: str) -> Keyed | None:
    """The mission that was dispatched to the lane with this key."""
    row = tx.first(BY_KEY, vp_id=vp_id, key=key)
    return Keyed(mission=mission_of(row), fingerprint=row["fingerprint"]) if row else None


def get_mission(tx: Transaction, mission_id: str) -> Mission | None:
    """One mission, or None."""
    row = tx.first(BY_ID, mission_id=mission_id)
    return mission_of(row) if row else None


def page_missions(
    tx: Transaction,
    *,
    vp_id: str | None = None,
    statuses: Sequence[Status] = (),
    source_session_id: str | None = None,
    q: str | None = None,
    limit: int,
    before: tuple[int, str] | None = None,
    lanes: Sequence[str] | None = None,
) -> list[Mission]:
    """At most `limit` missions, newest first, from behind `before`: the (created_at, mission_id) of the last one seen.

    `q` is searched in objective and mission id, ignoring case. `lanes` are the only ones the caller may see.
    """
    query = WITH_CLAIM.order_by(missions.c.created_at.desc(), missions.c.mission_id.desc()).limit(limit)
    if vp_id is not None:
        query = query.where(missions.c.vp_id == vp_id)
    if source_session_id is not None:
        query = query.where(missions.c.source_session_id == source_session_id)
    if lanes is not None:
        query = query.where(missions.c.vp_id.in_(lanes))
    if before is not None:
        query = query.where(tuple_(missions.c.created_at, missions.c.mission_id) < before)
    if q:
        found = func.lower(missions.c.objective).contains(q.lower(), autoescape=True)
        query = query.where(found | missions.c.mission_id.contains(q.lower(), autoescape=True))
    return [mission_of(row) for row in tx.search(_of_statuses(query, statuses))]


def request_cancel(tx: Transaction, mission_id: str, *, reason: str, actor: Actor, now: int) -> CancelOutcome | None:
    """Cancel: a queued mission ends at once, a running one is flagged; None if there is no such mission.

    Committed before the finishing commit it wins. Asked again while running it changes nothing.
    """
    row = tx.first(LOCKED, mission_id=mission_id)
    if row is None:
        return None
    status = Status(row["status"])
    if status is Status.QUEUED:
        _cancel_queued(tx, row, reason=reason, actor=actor, now=now)
    elif status is Status.RUNNING and not row["cancel_requested"]:
        tx.run(FLAG, mission_id=mission_id, new_cancel_reason=reason, new_cancelled_by=actor.name, new_updated_at=now)
        tx.append(
            NewEvent(
                type=EventType.CANCEL_REQUESTED,
                at=now,
                actor=actor,
                payload={"reason": reason},
                mission_id=mission_id,
                vp_id=row["vp_id"],
                source_session_id=row["source_session_id"],
                attempt=row["attempt"],
            )
        )
    mission = get_mission(tx, mission_id)
    assert mission is not None
    return CancelOutcome(mission=mission, ended=status is Status.QUEUED, already_terminal=status.terminal)


def list_attempts(tx: Transaction, mission_id: str) -> list[Attempt]:
    """The records of a mission's attempts, first to last."""
    return [attempt_of(row) for row in tx.rows(ATTEMPTS, mission_id=mission_id)]


def _row_of(mission: NewMission, fingerprint: str, *, now: int, ledger_last: int, seq: int) -> Row:
    """Every column of a new mission but its hash."""
    due_at = max(now, mission.not_before or now)
    return {
        **{name: getattr(mission, name) for name in _AS_GIVEN},
        **dict.fromkeys(_EMPTY),
        "constraints": text_of(mission.constraints),
        "budget": text_of(mission.budget.to_json()),
        "inputs": text_of([{"input_id": i.input_id, "path": i.path} for i in mission.inputs]),
        "fingerprint": fingerprint,
        "reply_mode": mission.reply_mode.value,
        "created_by": mission.created_by.name,
        "created_via": mission.created_by.via,
        "created_at": now,
        "due_order": due_order(created=now, ledger_last=ledger_last, priority=mission.priority),
        "dispatched_seq": seq,
        "status": Status.QUEUED.value,
        "due": due_at <= now,
        "due_at": due_at,
        "attempt": 0,
        "tries": 0,
        "cancel_requested": False,
        "usage": "{}",
        "updated_at": now,
    }


_AS_GIVEN = tuple(
    """mission_id vp_id mission_type objective priority max_tries not_before idempotency_key source_session_id
    source_turn_id turn_id retry_of continues group_id""".split()
)
_EMPTY = (
    *("concurrency_key", "after", "cancel_reason", "cancelled_by", "requeue_reason", "awaiting", "result_ref"),
    *("summary", "failure_mode", "failure_detail", "started_at", "last_progress_at", "completed_at"),
    *("final_hash", "final_hash_version", *STAMPS),
)


def _of_statuses(query: Select[Any], statuses: Sequence[Status]) -> Select[Any]:
    if not statuses:
        return query
    if not any(status.terminal for status in statuses):
        query = query.where(is_open)  # few among millions that have ended: their index is small
    return query.where(missions.c.status.in_([status.value for status in statuses]))


def _cancel_queued(tx: Transaction, row: Row, *, reason: str, actor: Actor, now: int) -> None:
    ending = Ending(status=Status.CANCELLED, summary=f"Cancelled before it started: {reason}", cancel_reason=reason)
    asked = {"cancel_requested": True, "cancel_reason": reason, "cancelled_by": actor.name}
    end_unclaimed(tx, row | asked, ending, since=QUEUE, at=now, actor=actor)


BY_ID = WITH_CLAIM.where(missions.c.mission_id == bindparam("mission_id"))
BY_KEY = WITH_CLAIM.where(missions.c.vp_id == bindparam("vp_id"), missions.c.idempotency_key == bindparam("key"))
INSERT = insert_all(missions, but=_EMPTY)
ATTEMPTS = select(attempts).where(attempts.c.mission_id == bindparam("mission_id")).order_by(attempts.c.attempt)
FLAG = (
    missions.update()
    .where(missions.c.mission_id == bindparam("mission_id"))
    .values(cancel_requested=True, **new("cancel_reason", "cancelled_by", "updated_at"))
)
