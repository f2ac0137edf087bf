"""What a lane's workers do for each other's missions: take up what a dead one left, bring ended ones to their marker."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, select

from ua_vp.ledger.finishing import put_back, take_over
from ua_vp.ledger.holding import Holder, hold
from ua_vp.ledger.rows import LOCKED, new
from ua_vp.ledger.sessions import extend, report_lost
from ua_vp.ledger.tables import claims, is_open, is_unmarked, missions
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
) -> Reconciled:
    """Set right what dead workers of the lane left, at most `limit` missions; start with renewing our own claims.

    Our own claims are never taken, however late we are: renewing them comes first, in the same transaction. A running
    mission whose claim is dead goes back to the queue; if its tries are used up or a cancel was requested, it becomes
    ours at the next attempt, to be ended. An ended mission without a marker (not blocked, or released) that nobody
    holds becomes ours at its last attempt, to be published.
    """
    extend(tx, session_id, now=now, boot_id=boot_id, deadline=deadline)
    tx.run(RENEW_OWN, session_id=session_id, new_boot=boot_id, new_deadline=deadline)
    clock: dict[str, str | int] = {"boot_id": boot_id, "boot_now": boot_now}
    us = Holder(session_id=session_id, worker_id=worker_id, boot_id=boot_id, deadline=deadline)
    requeued: list[Mission] = []
    closing: list[Claim] = []
    for dead in tx.rows(DEAD, vp_id=vp_id, session_id=session_id, **clock, limit=limit):
        taken = _take_up(tx, dead, us, now=now)
        closing.append(taken) if isinstance(taken, Claim) else requeued.append(taken)
    left = max(0, limit - len(requeued) - len(closing))
    unmarked = tx.rows(UNMARKED, vp_id=vp_id, session_id=session_id, **clock, limit=left)
    closing += [hold(tx, row, us, closing=True) for row in unmarked]
    lost = report_lost(tx, vp_id=vp_id, but=session_id, by=worker_id, now=now, boot_id=boot_id, boot_now=boot_now)
    return Reconciled(requeued=requeued, closing=closing, lost_sessions=lost)


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
        worker_id=us.worker_id,
        session_id=us.session_id,
    )


_of_lane = missions.c.vp_id == bindparam("vp_id")
_nobody = claims.c.mission_id.is_(None) | (
    (claims.c.session_id != bindparam("session_id"))
    & ((claims.c.boot != bindparam("boot_id")) | (claims.c.deadline < bindparam("boot_now")))
)
"""No live claim, and none of our own."""
_with_claim = missions.outerjoin(claims, claims.c.mission_id == missions.c.mission_id)

RENEW_OWN = claims.update().where(claims.c.session_id == bindparam("session_id")).values(**new("boot", "deadline"))
DEAD = (
    select(missions.c.mission_id, claims.c.worker_id, claims.c.closing)
    .select_from(_with_claim)
    .where(_of_lane, is_open, missions.c.status == Status.RUNNING.value, _nobody)
    .order_by(missions.c.created_at)
    .limit(bindparam("limit"))
)
UNMARKED = (
    select(missions)
    .select_from(_with_claim)
    .where(_of_lane, is_unmarked, missions.c.blocked_at.is_(None) | missions.c.released_at.is_not(None), _nobody)
    .order_by(missions.c.completed_at)
    .limit(bindparam("limit"))
)
