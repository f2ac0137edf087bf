"""The worker's one Step: what ended, what lives, what is next, in a single transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ua_vp.ledger import FinishVerdict, Renewal, RequeueVerdict, Transaction, claims, missions
from ua_vp.mission import Claim
from ua_vp.worker.assignment import Moment
from ua_vp.worker.context import Progress
from ua_vp.worker.hands import Key
from ua_vp.worker.messages import Finish, Late, Requeue, Settled
from ua_vp.worker.session import Seat


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """What one tick brings to the ledger."""

    vp_id: str
    seat: Seat
    moment: Moment
    finishes: Sequence[Finish] = ()
    requeues: Sequence[Requeue] = ()
    progress: Sequence[Progress] = ()
    settled: Sequence[Settled] = ()
    late: Sequence[Late] = ()
    held: frozenset[Key] = frozenset()
    """Attempts this process knows it holds."""
    claiming: bool = True
    """Whether new missions are wanted."""
    free: int = 0
    """Slots that are free before this tick; what ends in it frees more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticked:
    """What came of it, verdicts in the order of what was brought. `claims` may hold some that are only to be closed."""

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
    moment = due.moment
    for note in due.progress:  # before the ends: an ended mission takes no notes
        _note(tx, note, moment.now)
    running = claims.all_running(tx, [finish.staged.claim for finish in due.finishes])
    finishes = tuple(_finish(tx, finish, running) for finish in due.finishes)
    requeues = tuple(
        claims.requeue(tx, item.claim, item.reason, now=moment.now, backoff=item.backoff, detail=item.detail)
        for item in due.requeues
    )
    _settle(tx, due)
    renewal = claims.renew(
        tx,
        session_id=due.seat.session_id,
        now=moment.now,
        boot_id=moment.boot_id,
        boot_now=moment.boot_now,
        deadline=moment.deadline,
    )
    taken = _take(tx, due, renewal, free=due.free + _freed(due, finishes, requeues)) if renewal.alive else []
    return Ticked(
        finishes=finishes,
        requeues=requeues,
        renewal=renewal,
        claims=tuple(taken),
        next_due=claims.next_due(tx, due.vp_id, moment.now),
    )


def _take(tx: Transaction, due: Due, renewal: Renewal, *, free: int) -> list[Claim]:
    """Claims for this process: those it has without knowing, then new ones."""
    taken = _forgotten(tx, due, renewal)
    free -= sum(not claim.closing for claim in taken)
    if due.claiming and free > 0:
        taken += claims.claim(
            tx,
            vp_id=due.vp_id,
            session_id=due.seat.session_id,
            worker_id=due.seat.worker_id,
            limit=free,
            now=due.moment.now,
            boot_id=due.moment.boot_id,
            deadline=due.moment.deadline,
        )
    return taken


def _freed(due: Due, finishes: Sequence[FinishVerdict], requeues: Sequence[RequeueVerdict]) -> int:
    """Slots of missions that need no lane any more; what is refused goes on in its slot, a closing had none."""
    ended = zip(due.finishes, finishes, strict=True)
    freed = sum(
        verdict is not FinishVerdict.CANCEL_FIRST and not finish.staged.claim.closing for finish, verdict in ended
    )
    return freed + requeues.count(RequeueVerdict.REQUEUED)


def _finish(tx: Transaction, finish: Finish, running: claims.Running) -> FinishVerdict:
    staged = finish.staged
    verdict = claims.finish(
        tx,
        staged.claim,
        staged.ending,
        completed_at=staged.completed_at,
        result_ref=staged.result_ref,
        receipt_path=staged.receipt_path,
        sync_marker_path=staged.sync_marker_path,
        running=running,
    )
    if verdict is FinishVerdict.LEASE_LOST:
        mission = missions.get_mission(tx, staged.claim.mission_id)
        if mission is not None and mission.status.terminal and mission.attempt == staged.claim.attempt:
            return FinishVerdict.DONE  # our own commit, whose answer was lost
    return verdict


def _settle(tx: Transaction, due: Due) -> None:
    """What needs no answer: stamps, and outcomes that came too late."""
    claims.settle(tx, [(item.claim, item.receipt_sha256) for item in due.settled], now=due.moment.now)
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
    """Claims that a commit of unknown outcome, or a reconcile cut short, gave us without our hearing of it."""
    forgotten = []
    for mission_id, mine in renewal.missions.items():
        mission = None if (mission_id, mine.attempt) in due.held else missions.get_mission(tx, mission_id)
        if mission is not None and not mission.settled:
            forgotten.append(
                Claim(
                    mission=mission,
                    attempt=mine.attempt,
                    session_id=due.seat.session_id,
                    worker_id=due.seat.worker_id,
                    deadline=due.moment.deadline,
                    closing=mine.closing or mine.ended,
                )
            )
    return forgotten
