"""What a worker does with a mission, and what a worker that lost it cannot do any more."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.ledger.places import (
    BOOT,
    DONE,
    LANE,
    LEASE,
    START,
    Place,
    Worker,
    cancelled,
    dispatched,
    event_types,
    read,
    register_lane,
)
from tests.integration.ledger.places import SOMEBODY as OPERATOR
from ua_vp.ledger import (
    FinishVerdict,
    Holder,
    Ledger,
    Renewed,
    RequeueVerdict,
    claims,
    events,
    lanes,
    missions,
    open_ledger,
    verify_rows,
)
from ua_vp.mission import Artifact, Category, Claim, Ending, FailureMode, RequeueReason, Status
from ua_vp.runtime import real_ports

Workers = Callable[[str], Worker]
LOST = Ending(status=Status.FAILED, summary="lease expired", failure_mode=FailureMode.LEASE_EXPIRED)


def test_a_claim_starts_the_next_attempt(ledger: Ledger, worker: Workers) -> None:
    asked = dispatched(ledger, source_session_id="asker")
    one = worker("s")
    one.now = START + 7
    (claim,) = one.claim()
    assert (claim.attempt, claim.session_id, claim.deadline, claim.closing) == (1, "s", LEASE, False)
    mission = read(ledger, asked.mission_id)
    assert mission == claim.mission
    assert (mission.status, mission.attempt, mission.worker_id) == (Status.RUNNING, 1, one.worker_id)
    assert (mission.lease_boot, mission.lease_deadline, mission.started_at) == (BOOT, LEASE, START + 7)
    (record,) = ledger.read(lambda tx: missions.list_attempts(tx, asked.mission_id))
    assert (record.attempt, record.worker_id, record.claimed_at) == (1, one.worker_id, START + 7)
    assert record.ended_at is None
    _, started = ledger.read(lambda tx: events.page_events(tx, after=0, source_session_id="asker", limit=9))
    assert (started.type, started.payload, started.attempt) == ("vp.mission.started", {"worker_id": one.worker_id}, 1)
    assert one.claim(5) == []


@pytest.mark.parametrize("switch", ["paused", "draining"])
def test_a_lane_that_is_paused_or_draining_gives_nothing(ledger: Ledger, worker: Workers, switch: str) -> None:
    register_lane(ledger)
    dispatched(ledger)
    for on in (True, False):
        ledger.run(lambda tx, on=on: lanes.steer_lane(tx, LANE, **{switch: on}, now=START, actor=OPERATOR))  # type: ignore[misc]
        assert ledger.read(lambda tx: claims.has_due(tx, LANE, START)) is not on
        assert len(worker(f"s-{on}").claim(5)) == (0 if on else 1)


def test_a_mission_ends_with_its_record_its_event_and_its_hash(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    mission_id = dispatched(ledger).mission_id
    (claim,) = one.claim()
    artifacts = tuple(
        Artifact(path=f"work_products/{n}.md", category=Category.PRIMARY, bytes=n, sha256="ab") for n in range(60)
    )
    one.now = START + 1000
    ending = Ending(status=Status.COMPLETED, summary="all done", artifacts=artifacts, usage={"tokens": 12})
    assert one.finish(claim, ending) is FinishVerdict.DONE
    mission = read(ledger, mission_id)
    assert (mission.status, mission.summary, mission.completed_at) == (Status.COMPLETED, "all done", START + 1000)
    assert mission.result_ref == f"workspace:///srv/{mission_id}"
    assert mission.usage == {"tokens": 12}
    (record,) = ledger.read(lambda tx: missions.list_attempts(tx, mission_id))
    assert (record.ended_at, record.end_reason, record.usage) == (START + 1000, "completed", {"tokens": 12})
    event = ledger.read(lambda tx: events.page_events(tx, after=None, limit=1))[0]
    assert event.type == "vp.mission.completed"
    assert event.payload["artifacts_total"] == 60
    listed = event.payload["artifacts"]
    assert isinstance(listed, list)
    assert len(listed) == 50
    assert listed[0] == {"path": "work_products/0.md", "category": "primary", "bytes": 0, "sha256": "ab"}
    assert event.payload["receipt_path"] == f"/srv/{mission_id}/mission_receipt.json"
    assert event.payload["sync_marker_path"] == f"/srv/{mission_id}/sync_ready.json"
    assert ledger.read(verify_rows) == []


def test_publishing_and_marking_are_stamped_once_and_the_mark_gives_up_the_claim(
    ledger: Ledger, worker: Workers
) -> None:
    one = worker("s")
    mission_id = dispatched(ledger).mission_id
    (claim,) = one.claim()
    assert not one.publish(claim), "it has not ended"
    one.finish(claim)
    one.now = START + 10
    assert one.publish(claim)
    one.now = START + 20
    assert one.publish(claim), "a second time is the same"
    assert one.renew().missions[mission_id].ended, "the claim stays until the mark"
    assert one.mark(claim)
    one.now = START + 30
    assert one.mark(claim)
    mission = read(ledger, mission_id)
    assert (mission.published_at, mission.marked_at, mission.updated_at) == (START + 10, START + 20, START + 20)
    assert one.renew().missions == {}
    assert mission.worker_id == one.worker_id
    assert mission.lease_deadline is None
    assert event_types(ledger, mission_id) == ["dispatched", "started", "completed", "ready"]


def test_progress_is_an_event_only_with_a_summary(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    mission_id = dispatched(ledger).mission_id
    (claim,) = one.claim()
    one.now = START + 5
    assert one.progress(claim, None, engaged=True, usage={"tokens": 3})
    one.now = START + 9
    assert one.progress(claim, "half way", engaged=True)
    mission = read(ledger, mission_id)
    assert (mission.last_progress_at, mission.updated_at, mission.usage) == (START + 9, START + 9, {"tokens": 3})
    (record,) = ledger.read(lambda tx: missions.list_attempts(tx, mission_id))
    assert (record.engaged_at, record.usage) == (START + 5, {"tokens": 3})
    assert event_types(ledger, mission_id) == ["dispatched", "started", "progress"]


def test_a_worker_that_lost_its_claim_changes_nothing(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    old, new = worker("old"), worker("new")
    (stale,) = old.claim()
    new.boot_now = 2 * LEASE
    assert [mission.mission_id for mission in new.reconcile().requeued] == [mission_id]
    (fresh,) = new.claim()
    before = read(ledger, mission_id), event_types(ledger, mission_id)
    assert not old.progress(stale, engaged=True, usage={"tokens": 1})
    assert old.finish(stale) is FinishVerdict.LEASE_LOST
    assert old.requeue(stale, RequeueReason.DRAINED) is RequeueVerdict.LEASE_LOST
    holder = Holder(session_id="old", worker_id="w", boot_id=BOOT, deadline=1)
    assert ledger.run(lambda tx: claims.supersede(tx, stale, holder, now=START, end_reason="abandoned")) is None
    assert old.renew().missions == {}
    assert (read(ledger, mission_id), event_types(ledger, mission_id)) == before
    new.finish(fresh)
    ended = read(ledger, mission_id)
    assert old.finish(stale) is FinishVerdict.LEASE_LOST
    assert not old.publish(stale)
    assert not old.mark(stale)
    assert read(ledger, mission_id) == ended
    ledger.run(lambda tx: claims.record_late_outcome(tx, mission_id, stale.attempt, {"status": "completed"}))
    first, second = ledger.read(lambda tx: missions.list_attempts(tx, mission_id))
    assert (first.end_reason, first.late_outcome) == ("lease_lost", {"status": "completed"})
    assert (second.end_reason, second.late_outcome) == ("completed", None)


def test_only_lost_and_retried_attempts_count_as_tries(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    mission_id = dispatched(ledger, max_tries=2).mission_id
    uncounted = (RequeueReason.DRAINED, RequeueReason.OPERATOR, RequeueReason.PROVIDER_HOLD, RequeueReason.DRAINED)
    for reason in uncounted:
        (claim,) = one.claim()
        assert one.requeue(claim, reason) is RequeueVerdict.REQUEUED
    assert read(ledger, mission_id).tries == 0
    (claim,) = one.claim()
    assert one.requeue(claim, RequeueReason.RETRYABLE) is RequeueVerdict.REQUEUED
    (claim,) = one.claim()
    assert (claim.attempt, claim.mission.tries) == (6, 1)
    assert one.requeue(claim, RequeueReason.RETRYABLE) is RequeueVerdict.EXHAUSTED
    assert read(ledger, mission_id).status is Status.RUNNING
    assert one.finish(claim, LOST) is FinishVerdict.DONE
    records = ledger.read(lambda tx: missions.list_attempts(tx, mission_id))
    reasons = [reason.value for reason in uncounted]
    assert [record.end_reason for record in records] == [*reasons, "retryable", "failed"]


def test_an_attempt_that_does_not_return_is_superseded(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    mission_id = dispatched(ledger).mission_id
    (stuck,) = one.claim()
    holder = Holder(session_id="s", worker_id=one.worker_id, boot_id=BOOT, deadline=LEASE)
    closing = ledger.run(lambda tx: claims.supersede(tx, stuck, holder, now=START, end_reason="abandoned"))
    assert closing is not None
    assert (closing.attempt, closing.closing) == (2, True)
    assert one.renew().missions == {
        mission_id: Renewed(attempt=2, cancel_requested=False, cancel_reason=None, ended=False, closing=True)
    }
    assert one.finish(stuck) is FinishVerdict.LEASE_LOST
    assert one.finish(closing, LOST) is FinishVerdict.DONE
    (record,) = ledger.read(lambda tx: missions.list_attempts(tx, mission_id))
    assert (record.attempt, record.end_reason) == (1, "abandoned")
    assert read(ledger, mission_id).attempt == 2


def test_what_a_worker_did_whose_answer_was_lost_is_known_again_when_done_again(
    ledger: Ledger, worker: Workers
) -> None:
    one, other = worker("s"), worker("t")
    mission_id = dispatched(ledger).mission_id
    (claim,) = one.claim()
    for _ in range(2):
        assert one.requeue(claim, RequeueReason.DRAINED) is RequeueVerdict.REQUEUED
    assert one.requeue(claim, RequeueReason.RETRYABLE) is RequeueVerdict.LEASE_LOST, "that was never done"
    assert event_types(ledger, mission_id).count("requeued") == 1
    (stuck,) = other.claim()
    assert one.requeue(claim, RequeueReason.DRAINED) is RequeueVerdict.REQUEUED, "whoever has it by now"
    holder = Holder(session_id="t", worker_id=other.worker_id, boot_id=BOOT, deadline=LEASE)
    stranger = Holder(session_id="s", worker_id=one.worker_id, boot_id=BOOT, deadline=LEASE)

    def superseded(by: Holder) -> Claim | None:
        return ledger.run(lambda tx: claims.supersede(tx, stuck, by, now=START, end_reason="abandoned"))

    first, again = superseded(holder), superseded(holder)
    assert first is not None
    assert first == again
    assert (first.attempt, first.closing) == (stuck.attempt + 1, True)
    assert superseded(stranger) is None
    assert other.finish(first, LOST) is FinishVerdict.DONE
    assert superseded(holder) is None


def test_a_renewal_tells_of_cancel_and_moves_every_lease(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    ids = [dispatched(ledger).mission_id for _ in range(2)]
    one.claim(2)
    cancelled(ledger, ids[0], reason="not needed")
    one.boot_now = 10
    renewal = one.renew()
    assert renewal.alive
    assert renewal.missions == {
        ids[0]: Renewed(attempt=1, cancel_requested=True, cancel_reason="not needed", ended=False, closing=False),
        ids[1]: Renewed(attempt=1, cancel_requested=False, cancel_reason=None, ended=False, closing=False),
    }
    assert read(ledger, ids[1]).lease_deadline == 10 + LEASE


def test_a_late_renewal_of_what_nobody_took_is_good(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    mission_id = dispatched(ledger).mission_id
    (claim,) = one.claim()
    one.finish(claim)
    one.boot_now = 5 * LEASE
    assert one.renew().missions[mission_id].ended
    assert worker("t").reconcile().closing == []
    assert read(ledger, mission_id).lease_deadline == 6 * LEASE


MISSIONS, PROCESSES = 50, 4


def _claim_all(
    where: Path | str, session: str, go: object, told: "multiprocessing.Queue[list[tuple[str, int]]]"
) -> None:
    ledger = open_ledger(where, ports=real_ports(os.environ), create=False)
    one = Worker(ledger, session).start()
    go.wait()  # type: ignore[attr-defined]  # a barrier
    mine = []
    while taken := one.claim(1):
        mine += [(claim.mission_id, claim.attempt) for claim in taken]
        one.finish(taken[0], DONE)
    told.put(mine)
    ledger.close()


def test_processes_that_claim_at_once_never_get_the_same_mission(place: Place) -> None:
    ledger = place.open()
    asked = {dispatched(ledger).mission_id for _ in range(MISSIONS)}
    context = multiprocessing.get_context("spawn")
    go, told = context.Barrier(PROCESSES), context.Queue()
    started = [
        context.Process(target=_claim_all, args=(place.where, f"p{number}", go, told), daemon=True)
        for number in range(PROCESSES)
    ]
    for process in started:
        process.start()
    taken = [pair for _ in started for pair in told.get(timeout=45)]
    for process in started:
        process.join(10)
    assert [process.exitcode for process in started] == [0] * PROCESSES
    assert len(taken) == MISSIONS
    assert set(taken) == {(mission_id, 1) for mission_id in asked}
    seqs = [event.seq for event in ledger.read(lambda tx: events.page_events(tx, after=0, limit=1000))]
    assert seqs == sorted(set(seqs))
    assert ledger.read(verify_rows) == []
