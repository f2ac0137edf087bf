"""What a lane's workers do for each other's missions: take up what a dead one left, bring ended ones to their marker."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, select

from ua_vp.ledger.finishing import put_back, take_over
from ua_vp.ledger.holding import Holder, hold, worker
from ua_vp.ledger.leases import Judge, by_the_clock
from ua_vp.ledger.rows import LOCKED, new
from ua_vp.ledger.sessions import extend, report_lost
from ua_vp.ledger.tables import claims, is_open, is_passed, is_unmarked, missions
from ua_vp.ledger.transaction import Row, Transaction
from ua_vp.mission import Claim, Mission, RequeueReason, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciled:
    """What was set right: missions back in the queue, missions now ours to bring to their end, sessions reported lost."""

    requeued: list[Mission]
    closing: list[Claim]
    lost_sessions: list[str]


def reconcile(
    tx: Transaction,
    *,
    vp_id: str,
    session_id: str,
    worker_id: str,
    now: int,
    boot_id: str,
    boot_now: int,
    deadline: int,
    limit: int,
    judge: Judge | None = None,
) -> Reconciled:
    """Set right what dead workers of the lane left, at most `limit` missions; start with renewing our own claims.

    Our own claims are never taken, however late we are: renewing them comes first, in the same transaction. A running
    mission whose claim is dead goes back to the queue; if its tries are used up or a cancel was requested, it becomes
    ours at the next attempt, to be ended. An ended mission without a marker (not blocked, or released) that nobody
    holds becomes ours at its last attempt, to be published. Which claims and sessions of others are dead, `judge` says;
    without one, the clock at `boot_now`.
    """
    extend(tx, session_id, now=now, boot_id=boot_id, deadline=deadline)
    tx.run(RENEW_OWN, session_id=session_id, new_boot=boot_id, new_deadline=deadline)
    judge = judge or by_the_clock(boot_id, boot_now)
    us = Holder(session_id=session_id, worker_id=worker_id, boot_id=boot_id, deadline=deadline)
    held = tx.rows(HELD_BY_OTHERS, vp_id=vp_id, session_id=session_id)
    dead = [row for row in held if judge(row["mission_id"], row["boot"], row["deadline"])]
    running = [row for row in dead if row["completed_at"] is None] + tx.rows(UNHELD, vp_id=vp_id, limit=limit)
    ended = [row for row in dead if row["completed_at"] is not None] + tx.rows(UNMARKED, vp_id=vp_id, limit=limit)
    ended.sort(key=lambda row: row["completed_at"])
    taken = [_take_up(tx, row, us, now=now) for row in running[:limit]]
    taken += [_to_publish(tx, row, us) for row in ended[: limit - len(taken)]]
    lost = report_lost(tx, vp_id=vp_id, but=session_id, by=worker_id, now=now, judge=judge)
    return Reconciled(
        requeued=[it for it in taken if isinstance(it, Mission)],
        closing=[it for it in taken if isinstance(it, Claim)],
        lost_sessions=lost,
    )


def _to_publish(tx: Transaction, ended: Row, us: Holder) -> Claim:
    row = tx.first(LOCKED, mission_id=ended["mission_id"])
    assert row is not None, "it was read in this transaction"
    return hold(tx, row, us, closing=True)


def _take_up(tx: Transaction, dead: Row, us: Holder, *, now: int) -> Mission | Claim:
    """Put back, or take over, one running mission whose claim is dead."""
    row = tx.first(LOCKED, mission_id=dead["mission_id"])
    assert row is not None, "it was read in this transaction"
    reason = RequeueReason.LEASE_LOST
    if dead["closing"]:  # the attempt it closes is counted already
        return take_over(tx, row, us, now=now, tries=row["tries"], end_reason=reason.value)
    if row["cancel_requested"] or row["tries"] + 1 >= row["max_tries"]:
        return take_over(tx, row, us, now=now, tries=row["tries"] + 1, end_reason=reason.value)
    return put_back(
        tx,
        row,
        reason,
        now=now,
        backoff=0,
        detail=f"worker {dead['worker_id']} lost its lease",
        actor=worker(us.worker_id),
        session_id=us.session_id,
    )


_with_claim = missions.outerjoin(claims, claims.c.mission_id == missions.c.mission_id)
_is_to_publish = is_unmarked & is_passed
_found = select(
    missions.c.mission_id,
    missions.c.completed_at,
    claims.c.worker_id,
    claims.c.closing,
    claims.c.boot,
    claims.c.deadline,
)
_unheld = _found.select_from(_with_claim).where(missions.c.vp_id == bindparam("vp_id"), claims.c.mission_id.is_(None))

RENEW_OWN = claims.update().where(claims.c.session_id == bindparam("session_id")).values(**new("boot", "deadline"))
HELD_BY_OTHERS = (
    _found.select_from(claims.join(missions, claims.c.mission_id == missions.c.mission_id))
    .where(claims.c.vp_id == bindparam("vp_id"), claims.c.session_id != bindparam("session_id"))
    .where(is_open | _is_to_publish)
    .order_by(missions.c.created_at)
)
UNHELD = (
    _unheld.where(is_open, missions.c.status == Status.RUNNING.value)
    .order_by(missions.c.created_at)
    .limit(bindparam("limit"))
)
UNMARKED = _unheld.where(_is_to_publish).order_by(missions.c.completed_at).limit(bindparam("limit"))
