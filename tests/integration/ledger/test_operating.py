"""What operators and mirrors do: retry, put back, fail, block, release, acknowledge, purge."""

from collections.abc import Callable

import pytest

from tests.integration.ledger.places import (
    SOMEBODY,
    START,
    Worker,
    cancelled,
    dispatched,
    event_types,
    new_mission,
    read,
    register_lane,
)
from ua_vp.events import Event
from ua_vp.ledger import (
    Dispatched,
    FinishVerdict,
    KeyConflict,
    Ledger,
    RequeueVerdict,
    events,
    missions,
    operating,
    verify_rows,
)
from ua_vp.mission import Action, Claim, FailureMode, Mission, RequeueReason, Status, SyncState

Workers = Callable[[str], Worker]
Steered = Mission | operating.InvalidState | None


def requeued(ledger: Ledger, mission_id: str, *, now: int = START) -> Steered:
    return ledger.run(lambda tx: operating.requeue(tx, mission_id, reason="wrong host", actor=SOMEBODY, now=now))


def failed(ledger: Ledger, mission_id: str, *, now: int = START) -> Steered:
    return ledger.run(lambda tx: operating.fail(tx, mission_id, reason="it is stuck", actor=SOMEBODY, now=now))


def released(ledger: Ledger, mission_id: str) -> Steered:
    return ledger.run(lambda tx: operating.release_sync(tx, mission_id, now=START + 7))


def acknowledged(ledger: Ledger, mission_id: str, sha256: str, *, now: int = START) -> operating.MirrorVerdict | None:
    return ledger.run(
        lambda tx: operating.acknowledge(
            tx, mission_id, mirror_id="home", receipt_sha256=sha256, actor=SOMEBODY, now=now
        )
    )


def purged(ledger: Ledger, mission_id: str, *, now: int = START) -> bool:
    return ledger.run(lambda tx: operating.stamp_purged(tx, mission_id, now=now))


def blocked(ledger: Ledger, claim: Claim, *, now: int = START) -> bool:
    return ledger.run(lambda tx: operating.stamp_blocked(tx, claim, now=now, detail="a live secret"))


def retried(
    ledger: Ledger, mission_id: str, *, limit: int = 10, **fields: object
) -> Dispatched | KeyConflict | operating.InvalidState | operating.RetryLimit | None:
    again = new_mission(retry_of=mission_id, **fields)
    return ledger.run(lambda tx: operating.retry(tx, again, now=START, limit=limit))


def last_event(ledger: Ledger) -> Event:
    return ledger.read(lambda tx: events.page_events(tx, after=None, limit=1))[0]


def ended(ledger: Ledger, one: Worker) -> Claim:
    """A mission that its worker finished and published, without a marker."""
    dispatched(ledger)
    (claim,) = one.claim()
    one.finish(claim)
    one.publish(claim)
    return claim


def test_an_operator_takes_a_running_mission_back_uncounted(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    one = worker("s")
    (claim,) = one.claim()
    mission = requeued(ledger, mission_id, now=START + 5)
    assert isinstance(mission, Mission)
    assert (mission.status, mission.tries, mission.attempt) == (Status.QUEUED, 0, 1)
    assert (mission.requeue_reason, mission.worker_id) == (RequeueReason.OPERATOR, None)
    event = last_event(ledger)
    assert event.payload == {"reason": "operator", "detail": "wrong host", "tries": 0}
    assert (event.actor, event.session_id, event.attempt) == (SOMEBODY, None, 1)
    (record,) = ledger.read(lambda tx: missions.list_attempts(tx, mission_id))
    assert (record.ended_at, record.end_reason) == (START + 5, "operator")
    assert one.renew().missions == {}
    assert one.finish(claim) is FinishVerdict.LEASE_LOST
    assert one.requeue(claim, RequeueReason.DRAINED) is RequeueVerdict.LEASE_LOST
    assert [it.attempt for it in worker("t").claim()] == [2]


def test_an_operator_fails_a_running_mission_over_its_workers_head(ledger: Ledger, worker: Workers) -> None:
    register_lane(ledger)
    mission_id = dispatched(ledger).mission_id
    one = worker("s")
    (claim,) = one.claim()
    mission = failed(ledger, mission_id, now=START + 5)
    assert isinstance(mission, Mission)
    assert (mission.status, mission.failure_mode) == (Status.FAILED, FailureMode.OPERATOR)
    assert (mission.attempt, mission.completed_at) == (2, START + 5)
    assert mission.failure_detail == "it is stuck"
    assert mission.result_ref is not None
    assert mission.result_ref.endswith(mission_id)
    assert one.renew().missions == {}
    assert one.finish(claim) is FinishVerdict.LEASE_LOST
    assert not one.publish(claim)
    assert event_types(ledger, mission_id) == ["dispatched", "started", "failed"]
    (record,) = ledger.read(lambda tx: missions.list_attempts(tx, mission_id))
    assert record.end_reason == "operator"
    (closing,) = worker("t").reconcile().closing
    assert (closing.mission_id, closing.attempt, closing.closing) == (mission_id, 2, True)
    assert ledger.read(verify_rows) == []


@pytest.mark.parametrize("act", [requeued, failed])
def test_a_cancel_that_was_committed_before_wins(
    ledger: Ledger, worker: Workers, act: Callable[[Ledger, str], Steered]
) -> None:
    mission_id = dispatched(ledger).mission_id
    one = worker("s")
    one.claim()
    cancelled(ledger, mission_id, reason="not needed")
    mission = act(ledger, mission_id)
    assert isinstance(mission, Mission)
    assert (mission.status, mission.attempt) == (Status.CANCELLED, 2)
    assert (mission.cancel_reason, mission.cancelled_by) == ("not needed", SOMEBODY.name)
    assert event_types(ledger, mission_id) == ["dispatched", "started", "cancel_requested", "cancelled"]
    assert one.renew().missions == {}


@pytest.mark.parametrize("act", [requeued, failed])
def test_only_a_running_mission_is_taken_from_its_worker(
    ledger: Ledger, worker: Workers, act: Callable[[Ledger, str], Steered]
) -> None:
    queued = dispatched(ledger)
    assert act(ledger, queued.mission_id) == operating.InvalidState(mission=queued)
    assert (Action.REQUEUE in queued.actions, Action.FAIL in queued.actions) == (False, False)
    one = worker("s")
    (claim,) = one.claim()
    one.finish(claim)
    over = read(ledger, queued.mission_id)
    assert act(ledger, queued.mission_id) == operating.InvalidState(mission=over)
    assert event_types(ledger, queued.mission_id) == ["dispatched", "started", "completed"]
    assert act(ledger, "vp-mission-unknown") is None


def test_a_retry_is_a_new_mission_that_names_the_old_one(ledger: Ledger, worker: Workers) -> None:
    claim = ended(ledger, worker("s"))
    outcome = retried(ledger, claim.mission_id)
    assert isinstance(outcome, Dispatched)
    assert (outcome.mission.retry_of, outcome.mission.status) == (claim.mission_id, Status.QUEUED)
    assert event_types(ledger, outcome.mission.mission_id) == ["dispatched"]
    assert event_types(ledger, claim.mission_id) == ["dispatched", "started", "completed"]


def test_a_mission_that_has_not_ended_is_not_retried(ledger: Ledger) -> None:
    queued = dispatched(ledger)
    assert retried(ledger, queued.mission_id) == operating.InvalidState(mission=queued)
    assert retried(ledger, "vp-mission-unknown") is None


def test_a_retry_is_made_once_per_key(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    first, second = (ended(ledger, one).mission_id for _ in range(2))
    made = retried(ledger, first, idempotency_key="k")
    assert isinstance(made, Dispatched)
    again = retried(ledger, first, idempotency_key="k")
    assert again == Dispatched(mission=made.mission, replayed=True)
    conflict = KeyConflict(mission_id=made.mission.mission_id)
    assert retried(ledger, first, idempotency_key="k", objective="another") == conflict
    assert retried(ledger, second, idempotency_key="k") == conflict


@pytest.mark.parametrize("parents", [(0, 1, 2), (0, 0, 0), (0, 0, 1)], ids=["a chain", "a bush", "a tree"])
def test_the_retries_of_a_mission_are_limited_whichever_of_them_is_repeated(
    ledger: Ledger, parents: tuple[int, ...]
) -> None:
    family, other = [dispatched(ledger).mission_id], dispatched(ledger).mission_id
    for parent in parents:
        cancelled(ledger, family[-1])
        outcome = retried(ledger, family[parent], limit=3, idempotency_key=f"k-{len(family)}")
        assert isinstance(outcome, Dispatched)
        family.append(outcome.mission.mission_id)
    cancelled(ledger, family[-1])
    for mission_id in family:
        assert retried(ledger, mission_id, limit=3) == operating.RetryLimit(limit=3)
    again = retried(ledger, family[parents[-1]], limit=3, idempotency_key="k-3")
    assert isinstance(again, Dispatched)
    assert (again.mission.mission_id, again.replayed) == (family[3], True), "a key that was used brings no new one"
    assert ledger.read(missions.counts).events["vp.mission.dispatched"] == 5
    cancelled(ledger, other)
    assert isinstance(retried(ledger, other, limit=3), Dispatched)


def test_a_blocked_mission_gets_no_marker_until_it_is_released(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    claim = ended(ledger, one)
    assert released(ledger, claim.mission_id) == operating.InvalidState(mission=read(ledger, claim.mission_id))
    assert blocked(ledger, claim, now=START + 5)
    assert blocked(ledger, claim, now=START + 6)
    assert event_types(ledger, claim.mission_id) == ["dispatched", "started", "completed", "sync_blocked"]
    assert last_event(ledger).payload == {"detail": "a live secret"}
    assert (one.renew().missions, one.reconcile().closing, one.mark(claim)) == ({}, [], False)
    mission = read(ledger, claim.mission_id)
    assert (mission.sync_state, mission.blocked_at, mission.marked_at) == (SyncState.BLOCKED, START + 5, None)

    mission = released(ledger, claim.mission_id)  # type: ignore[assignment]  # it is there and blocked
    assert (mission.sync_state, mission.released_at) == (SyncState.NOT_READY, START + 7)
    assert isinstance(released(ledger, claim.mission_id), operating.InvalidState)
    (closing,) = one.reconcile().closing
    assert one.mark(closing)
    assert read(ledger, claim.mission_id).sync_state is SyncState.READY


def test_only_the_attempt_that_ended_it_blocks_a_mission_and_not_behind_its_marker(
    ledger: Ledger, worker: Workers
) -> None:
    mission_id = dispatched(ledger).mission_id
    one = worker("s")
    (old,) = one.claim()
    assert not blocked(ledger, old)
    one.requeue(old, RequeueReason.DRAINED)
    (claim,) = one.claim()
    one.finish(claim)
    assert not blocked(ledger, old)
    one.mark(claim)
    assert not blocked(ledger, claim)
    assert read(ledger, mission_id).blocked_at is None


def test_a_mirror_acknowledges_the_receipt_that_was_marked_once(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    claim = ended(ledger, one)
    assert acknowledged(ledger, claim.mission_id, "abc") is operating.MirrorVerdict.NOT_READY
    one.mark(claim)
    assert acknowledged(ledger, claim.mission_id, "other") is operating.MirrorVerdict.DIFFERS
    for later in (5, 6):
        verdict = acknowledged(ledger, claim.mission_id, "abc", now=START + later)
        assert verdict is operating.MirrorVerdict.ACKNOWLEDGED
    assert read(ledger, claim.mission_id).mirrored_at == START + 5
    last = last_event(ledger)
    assert (last.type, last.mission_id) == ("vp.mirror.acknowledged", claim.mission_id)
    assert last.payload == {"mirror_id": "home", "receipt_sha256": "abc"}
    total = ledger.read(missions.counts).events["vp.mirror.acknowledged"]
    assert (total, acknowledged(ledger, "vp-mission-unknown", "abc")) == (1, None)


def test_a_mission_is_purged_once_and_only_behind_its_marker(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    claim = ended(ledger, one)
    assert not purged(ledger, claim.mission_id)
    one.mark(claim)
    assert purged(ledger, claim.mission_id, now=START + 5)
    assert purged(ledger, claim.mission_id, now=START + 6)
    assert read(ledger, claim.mission_id).purged_at == START + 5
    assert not purged(ledger, "vp-mission-unknown")
