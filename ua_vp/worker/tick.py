"""The worker's one Step: what ended, what lives, what is next, in a single transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ua_vp.ledger import FinishVerdict, Renewal, RequeueVerdict, Transaction, claims, missions
from ua_vp.mission import Claim, Status
from ua_vp.worker.context import Progress
from ua_vp.worker.messages import Finish, Late, Requeue, Settled


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """What one tick brings to the ledger. Instants: `now` wall µs, `boot_now` and `deadline` boot µs."""

    vp_id: str
    session_id: str
    worker_id: str
    now: int
    boot_id: str
    boot_now: int
    deadline: int
    finishes: Sequence[Finish] = ()
    requeues: Sequence[Requeue] = ()
    progress: Sequence[Progress] = ()
    settled: Sequence[Settled] = ()
    late: Sequence[Late] = ()
    held: frozenset[str] = frozenset()
    """Missions this process knows it holds."""
    claiming: bool = True
    """Whether new missions are wanted."""
    free: int = 0
    """Slots that are free before this tick; what ends in it frees more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticked:
    """What came of it, in the order of what was brought."""

    finishes: tuple[FinishVerdict, ...]
    requeues: tuple[RequeueVerdict, ...]
    renewal: Renewal
    claims: tuple[Claim, ...]
    next_due: int | None


def tick(tx: Transaction, due: Due) -> Ticked:
    """Finish what ended, stamp what is published, renew all claims, claim into the free slots.

    It may be run again after a commit of unknown outcome: every write is fenced, and what this process ended itself
    is recognised by its attempt.
    """
    finishes = tuple(_finish(tx, finish) for finish in due.finishes)
    requeues = tuple(
        claims.requeue(tx, item.claim, item.reason, now=due.now, backoff=item.backoff, detail=item.detail)
        for item in due.requeues
    )
    _note_down(tx, due)
    renewal = claims.renew(
        tx, session_id=due.session_id, now=due.now, boot_id=due.boot_id, boot_now=due.boot_now, deadline=due.deadline
    )
    taken = _forgotten(tx, due, renewal) if renewal.alive else []
    free = due.free + _freed(finishes, requeues) - len(taken)
    if renewal.alive and due.claiming and free > 0:
        taken += claims.claim(
            tx,
            vp_id=due.vp_id,
            session_id=due.session_id,
            worker_id=due.worker_id,
            limit=free,
            now=due.now,
            boot_id=due.boot_id,
            deadline=due.deadline,
        )
    return Ticked(
        finishes=finishes,
        requeues=requeues,
        renewal=renewal,
        claims=tuple(taken),
        next_due=claims.next_due(tx, due.vp_id, due.now),
    )


def _freed(finishes: Sequence[FinishVerdict], requeues: Sequence[RequeueVerdict]) -> int:
    """Slots of missions that need no lane any more; what is refused goes on in its slot."""
    return sum(v is not FinishVerdict.CANCEL_FIRST for v in finishes) + requeues.count(RequeueVerdict.REQUEUED)


def _finish(tx: Transaction, finish: Finish) -> FinishVerdict:
    staged = finish.staged
    verdict = claims.finish(
        tx,
        staged.claim,
        staged.ending,
        completed_at=staged.completed_at,
        result_ref=staged.result_ref,
        receipt_path=staged.receipt_path,
        sync_marker_path=staged.sync_marker_path,
    )
    if verdict is FinishVerdict.LEASE_LOST:
        mission = missions.get_mission(tx, staged.claim.mission_id)
        if mission is not None and mission.status.terminal and mission.attempt == staged.claim.attempt:
            return FinishVerdict.DONE  # our own commit, whose answer was lost
    return verdict


def _note_down(tx: Transaction, due: Due) -> None:
    """What needs no answer: signs of life, stamps, outcomes that came too late."""
    for note in due.progress:
        _note(tx, note, due.now)
    for item in due.settled:
        claims.stamp_published(tx, item.claim, now=due.now)
        claims.stamp_marked(tx, item.claim, now=due.now, receipt_sha256=item.receipt_sha256)
    for late in due.late:
        claims.record_late_outcome(tx, late.claim.mission_id, late.claim.attempt, late.outcome)


def _note(tx: Transaction, note: Progress, now: int) -> None:
    running = note.running
    claims.note_progress(
        tx,
        running.claim,
        now=now,
        summary=note.summary,
        data=note.data or {},
        usage=running.usage,
        engaged=True,
    )


def _forgotten(tx: Transaction, due: Due, renewal: Renewal) -> list[Claim]:
    """Claims that a commit of unknown outcome gave us without our hearing of it."""
    forgotten = []
    for mission_id, renewed in renewal.missions.items():
        mission = None if mission_id in due.held else missions.get_mission(tx, mission_id)
        if mission is not None and mission.status is Status.RUNNING:
            forgotten.append(
                Claim(
                    mission=mission,
                    attempt=renewed.attempt,
                    session_id=due.session_id,
                    worker_id=due.worker_id,
                    deadline=due.deadline,
                )
            )
    return forgotten
