"""The real ledger behind the vocabulary of the reference: the only module of the model that calls Steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.model.steps import (
    LEASE,
    OPERATOR,
    SOMEBODY,
    Held,
    Moment,
    Row,
    Step,
    artifacts,
    receipt_sha256,
    result_ref,
    worker_of,
)
from ua_vp.events import TERMINAL_EVENT
from ua_vp.ledger import Holder, Session, Transaction, claims, events, lanes, missions, operating, sessions
from ua_vp.mission import (
    Actor,
    Artifact,
    Budget,
    Category,
    Claim,
    Ending,
    FailureMode,
    Mission,
    NewMission,
    ReplyMode,
    RequeueReason,
    Status,
)

SIMONE, OPS = (Actor(name=name, via=via) for name, via in (SOMEBODY, OPERATOR))
Given = dict[Held, Claim]
"""The claims that the ledger gave, as workers keep them."""


@dataclass(frozen=True, slots=True)
class Real:
    """Steps of one transaction at one moment; the verdicts are those of `Reference`."""

    tx: Transaction
    moment: Moment
    given: Given
    seqs: Sequence[int] = field(default=())
    """The `seq` of every event of the run so far, for those who page."""

    def run(self, step: Step) -> Any:
        """The verdict of a step."""
        act: Callable[..., Any] = getattr(self, step.verb)
        return act(**step.values)

    # Dispatch and cancel.

    def dispatch(self, *, mission: str, lane: str, key: str | None, source: str | None, **wanted: Any) -> Any:
        return self._dispatched(missions.dispatch(self.tx, _new(mission, lane, key, source, **wanted), now=self._now))

    def retry(
        self, *, mission: str, retry_of: str, limit: int, key: str | None, source: str | None, **wanted: Any
    ) -> Any:
        first = missions.get_mission(self.tx, retry_of)
        lane = first.vp_id if first else "vp.nowhere.primary"
        again = _new(mission, lane, key, source, **wanted, retry_of=retry_of)
        return self._dispatched(operating.retry(self.tx, again, now=self._now, limit=limit))

    def cancel(self, *, mission: str, reason: str) -> Any:
        outcome = missions.request_cancel(self.tx, mission, reason=reason, actor=SIMONE, now=self._now)
        if outcome is None:
            return None
        return "ended" if outcome.ended else "already_terminal" if outcome.already_terminal else "requested"

    # What a worker does.

    def claim(self, *, session: str, lane: str, limit: int) -> Any:
        taken = claims.claim(
            self.tx, vp_id=lane, session_id=session, worker_id=worker_of(session), limit=limit, now=self._now,
            boot_id=self.moment.boot, deadline=self._deadline,
        )  # fmt: skip
        return [self._take(claim, closing=False) for claim in taken]

    def renew(self, *, session: str) -> Any:
        renewal = claims.renew(
            self.tx, session_id=session, now=self._now, boot_id=self.moment.boot, boot_now=self.moment.boot_now,
            deadline=self._deadline,
        )  # fmt: skip
        return _holding(renewal.missions) if renewal.alive else None

    def progress(self, *, held: Held, summary: str | None, usage: Row | None, engaged: bool) -> Any:
        return claims.note_progress(
            self.tx, self.given[held], now=self._now, summary=summary, data={}, usage=usage, engaged=engaged
        )

    def finish(self, *, held: Held, status: str, usage: Row | None, made: int) -> Any:
        failed = status == Status.FAILED
        ending = Ending(
            status=Status(status),
            summary=f"it was {status}",
            failure_mode=FailureMode.TIMEOUT if failed else None,
            failure_detail="too slow" if failed else None,
            artifacts=tuple(Artifact(**{**it, "category": Category.PRIMARY}) for it in artifacts(made)),
            usage=usage or {},
        )
        ref = result_ref(held.mission)
        folder = ref.removeprefix("workspace://")
        return claims.finish(
            self.tx, self.given[held], ending, completed_at=self._now, result_ref=ref,
            receipt_path=f"{folder}/mission_receipt.json", sync_marker_path=f"{folder}/sync_ready.json",
        ).value  # fmt: skip

    def requeue(self, *, held: Held, reason: str, backoff: int) -> Any:
        claim, why = self.given[held], RequeueReason(reason)
        return claims.requeue(self.tx, claim, why, now=self._now, backoff=backoff, detail="because").value

    def supersede(self, *, held: Held) -> Any:
        us = Holder(session_id=held.session, worker_id=held.worker, boot_id=self.moment.boot, deadline=self._deadline)
        taken = claims.supersede(self.tx, self.given[held], us, now=self._now, end_reason="abandoned")
        return self._take(taken, closing=True) if taken is not None else None

    def late(self, *, held: Held, outcome: Row) -> Any:
        claims.record_late_outcome(self.tx, held.mission, held.attempt, outcome)

    def publish(self, *, held: Held) -> Any:
        return claims.stamp_published(self.tx, self.given[held], now=self._now)

    def mark(self, *, held: Held) -> Any:
        sha256 = receipt_sha256(held.mission, held.attempt)
        return claims.stamp_marked(self.tx, self.given[held], now=self._now, receipt_sha256=sha256)

    def block(self, *, held: Held) -> Any:
        return operating.stamp_blocked(self.tx, self.given[held], now=self._now, detail="a live secret")

    def reconcile(self, *, session: str, lane: str, limit: int) -> Any:
        done = claims.reconcile(
            self.tx, vp_id=lane, session_id=session, worker_id=worker_of(session), now=self._now,
            boot_id=self.moment.boot, boot_now=self.moment.boot_now, deadline=self._deadline, limit=limit,
        )  # fmt: skip
        closing = [self._take(claim, closing=True) for claim in done.closing]
        return {"requeued": [it.mission_id for it in done.requeued], "closing": closing, "lost": done.lost_sessions}

    def open(self, *, session: str, lane: str) -> Any:
        sessions.open_session(
            self.tx,
            Session(
                session_id=session, vp_id=lane, worker_id=worker_of(session), pid=1, host="host", build="1.0",
                opened_at=self._now, last_heartbeat_at=self._now, lease_boot=self.moment.boot,
                lease_deadline=self._deadline,
            ),
        )  # fmt: skip

    def close(self, *, session: str) -> Any:
        sessions.close_session(self.tx, session, self._now)

    # What operators, mirrors and retention do.

    def operator_requeue(self, *, mission: str) -> Any:
        outcome = operating.requeue(self.tx, mission, reason="wrong host", actor=OPS, now=self._now)
        return self._steered(outcome)

    def operator_fail(self, *, mission: str) -> Any:
        outcome = operating.fail(self.tx, mission, reason="it is stuck", actor=OPS, now=self._now)
        return self._steered(outcome)

    def release(self, *, mission: str) -> Any:
        outcome = operating.release_sync(self.tx, mission, now=self._now)
        return outcome.released_at is not None if isinstance(outcome, Mission) else self._steered(outcome)

    def acknowledge(self, *, mission: str, attempt: int) -> Any:
        sha256 = receipt_sha256(mission, attempt)
        actor = OPS
        verdict = operating.acknowledge(
            self.tx, mission, mirror_id="home", receipt_sha256=sha256, actor=actor, now=self._now
        )
        return verdict and verdict.value

    def purge(self, *, mission: str) -> Any:
        return operating.stamp_purged(self.tx, mission, now=self._now)

    def steer(self, *, lane: str, paused: bool | None, draining: bool | None) -> Any:
        record = lanes.steer_lane(self.tx, lane, paused=paused, draining=draining, now=self._now, actor=OPS)
        return record and (record.paused, record.draining)

    # Reading.

    def get(self, *, mission: str) -> Any:
        it = missions.get_mission(self.tx, mission)
        return it and {
            "status": it.status.value, "attempt": it.attempt, "tries": it.tries, "due_at": it.due_at,
            "cancel_requested": it.cancel_requested, "worker_id": it.worker_id, "lease_deadline": it.lease_deadline,
            "updated_at": it.updated_at,
        }  # fmt: skip

    def by_key(self, *, lane: str, key: str) -> Any:
        found = missions.find_by_key(self.tx, lane, key)
        return found and found.mission.mission_id

    def page(self, *, lane: str, statuses: tuple[str, ...], before: str | None, limit: int) -> Any:
        last = missions.get_mission(self.tx, before) if before else None
        behind = (last.created_at, last.mission_id) if last else None
        wanted = [Status(status) for status in statuses]
        found = missions.page_missions(self.tx, vp_id=lane, statuses=wanted, limit=limit, before=behind)
        return [it.mission_id for it in found]

    def log(self, *, lane: str, mission: str | None, ends: bool, after: int | None, limit: int) -> Any:
        cursor = None if after is None else ([0, *self.seqs])[after]
        kinds = [kind.value for kind in TERMINAL_EVENT.values()] if ends else []
        found = events.page_events(self.tx, after=cursor, mission_id=mission, vp_id=lane, types=kinds, limit=limit)
        return [event.type for event in found]

    def has_due(self, *, lane: str) -> Any:
        return claims.has_due(self.tx, lane, self._now)

    def next_due(self, *, lane: str) -> Any:
        return claims.next_due(self.tx, lane, self._now)

    def holding(self, *, session: str) -> Any:
        return _holding(claims.holding(self.tx, session))

    def counts(self, *, lane: str) -> Any:
        said = missions.counts(self.tx, lane)
        return {
            "counts": dict(said.counts), "events": dict(said.events), "oldest_queued": said.oldest_queued,
            "durations": (said.durations.count, said.durations.max),
        }  # fmt: skip

    def attempts_of(self, *, mission: str) -> Any:
        found = missions.list_attempts(self.tx, mission)
        return [(it.attempt, it.worker_id, it.end_reason, it.late_outcome, it.usage) for it in found]

    def sessions_of(self, *, lane: str) -> Any:
        at = self.moment
        return [
            (it.session_id, sessions.session_state(it, at.boot, at.boot_now), it.lost_at is not None)
            for it in sessions.list_sessions(self.tx, lane)
        ]

    @property
    def _now(self) -> int:
        return self.moment.now

    @property
    def _deadline(self) -> int:
        return self.moment.boot_now + LEASE

    def _take(self, claim: Claim, *, closing: bool) -> Any:
        """Keep a claim as its worker does; a verdict names mission and attempt."""
        assert claim.closing == closing, claim
        self.given[Held(claim.mission_id, claim.attempt, claim.session_id)] = claim
        return [claim.mission_id, claim.attempt]

    def _dispatched(self, outcome: object) -> Any:
        if isinstance(outcome, missions.Dispatched):
            return ("replayed" if outcome.replayed else "new", outcome.mission.mission_id)
        if isinstance(outcome, missions.KeyConflict):
            return ("conflict", outcome.mission_id)
        return self._steered(outcome)

    def _steered(self, outcome: object) -> Any:
        match outcome:
            case Mission():
                return outcome.status.value
            case operating.InvalidState():
                return "invalid_state"
            case operating.RetryLimit():
                return "retry_limit"
            case _:
                return None


def _holding(held: Any) -> Any:
    return {
        mission: (it.attempt, it.cancel_requested, it.cancel_reason, it.ended, it.closing)
        for mission, it in held.items()
    }


def _new(
    mission: str, lane: str, key: str | None, source: str | None, *, objective: str, priority: int, max_tries: int,
    not_before: int | None, retry_of: str | None = None,
) -> NewMission:  # fmt: skip
    return NewMission(
        mission_id=mission, vp_id=lane, mission_type="task", objective=objective, constraints={}, budget=Budget(),
        inputs=(), priority=priority, max_tries=max_tries, not_before=not_before, idempotency_key=key,
        source_session_id=source, source_turn_id=None, turn_id=None, reply_mode=ReplyMode.ASYNC,
        created_by=SIMONE, retry_of=retry_of,
    )  # fmt: skip
