"""What workers set right for each other."""

from collections.abc import Callable

import pytest

from tests.integration.ledger.places import (
    LEASE,
    OTHER_LANE,
    START,
    Worker,
    cancelled,
    dispatched,
    event_types,
    read,
    register_lane,
)
from ua_vp.ledger import FinishVerdict, Ledger, events, missions, sessions, tables
from ua_vp.mission import Claim, Ending, FailureMode, RequeueReason, Status

Workers = Callable[[str], Worker]
EXPIRED = Ending(status=Status.FAILED, summary="lease expired", failure_mode=FailureMode.LEASE_EXPIRED)
STOPPED = Ending(status=Status.CANCELLED, summary="stopped")


def left_behind(worker: Workers) -> tuple[Claim, Worker]:
    """A claim whose worker died, and another worker, later."""
    (claim,) = worker("dead").claim()
    other = worker("alive")
    other.boot_now = LEASE + 1
    return claim, other


def stamp(ledger: Ledger, mission_id: str, name: str) -> None:
    """What a scan for secrets, or an operator, does."""
    statement = tables.missions.update().where(tables.missions.c.mission_id == mission_id).values({name: START})
    ledger.run(lambda tx: tx.run(statement))


def test_what_a_dead_worker_ran_is_due_again_at_once(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    _, other = left_behind(worker)
    found = other.reconcile()
    assert [mission.mission_id for mission in found.requeued] == [mission_id]
    assert (found.closing, found.lost_sessions) == ([], ["dead"])
    mission = read(ledger, mission_id)
    assert mission == found.requeued[0]
    assert (mission.status, mission.tries, mission.requeue_reason) == (Status.QUEUED, 1, RequeueReason.LEASE_LOST)
    assert (mission.worker_id, mission.lease_deadline) == (None, None)
    assert event_types(ledger, mission_id)[-1] == "requeued"
    (claim,) = other.claim()
    assert claim.attempt == 2


def test_a_lease_that_still_runs_is_respected(ledger: Ledger, worker: Workers) -> None:
    dispatched(ledger)
    worker("slow").claim()
    other = worker("alive")
    other.boot_now = LEASE
    found = other.reconcile()
    assert (found.requeued, found.closing, found.lost_sessions) == ([], [], [])


def test_a_lease_of_another_boot_is_dead(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    worker("before").claim()
    rebooted = Worker(ledger, "after", boot_id="boot-2").start()
    assert [mission.mission_id for mission in rebooted.reconcile().requeued] == [mission_id]


def test_a_worker_that_slept_past_its_lease_never_takes_its_own(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    one = worker("sleeper")
    (claim,) = one.claim()
    one.boot_now = 10 * LEASE
    found = one.reconcile()
    assert (found.requeued, found.closing, found.lost_sessions) == ([], [], [])
    assert read(ledger, mission_id).lease_deadline == 11 * LEASE
    assert one.finish(claim) is FinishVerdict.DONE


def test_a_mission_without_tries_left_is_taken_over_to_be_ended(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger, max_tries=1).mission_id
    stale, other = left_behind(worker)
    found = other.reconcile()
    (closing,) = found.closing
    assert found.requeued == []
    assert (closing.mission_id, closing.attempt, closing.closing) == (mission_id, 2, True)
    assert (closing.mission.status, closing.mission.tries) == (Status.RUNNING, 1)
    assert read(ledger, mission_id) == closing.mission
    assert other.reconcile().closing == [], "it is ours now"
    assert other.finish(closing, EXPIRED) is FinishVerdict.DONE
    assert worker("third").finish(stale) is FinishVerdict.LEASE_LOST
    (record,) = ledger.read(lambda tx: missions.list_attempts(tx, mission_id))
    assert (record.attempt, record.end_reason) == (1, "lease_lost")
    assert read(ledger, mission_id).failure_mode is FailureMode.LEASE_EXPIRED


def test_a_mission_to_be_cancelled_is_taken_over_and_not_put_back(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    _, other = left_behind(worker)
    cancelled(ledger, mission_id, reason="never mind")
    (closing,) = other.reconcile().closing
    assert closing.mission.cancel_requested
    assert other.finish(closing, EXPIRED) is FinishVerdict.CANCEL_FIRST
    assert other.finish(closing, STOPPED) is FinishVerdict.DONE
    mission = read(ledger, mission_id)
    assert (mission.status, mission.cancel_reason, mission.attempt) == (Status.CANCELLED, "never mind", 2)


def test_whoever_dies_closing_a_mission_is_followed_by_the_next(ledger: Ledger, worker: Workers) -> None:
    dispatched(ledger, max_tries=1)
    _, other = left_behind(worker)
    other.reconcile()
    third = worker("third")
    third.boot_now = 10 * LEASE
    (closing,) = third.reconcile().closing
    assert (closing.attempt, closing.closing, closing.mission.tries) == (3, True, 1)


@pytest.mark.parametrize("published", [False, True])
def test_an_ended_mission_without_a_marker_is_brought_to_it(ledger: Ledger, worker: Workers, published: bool) -> None:
    mission_id = dispatched(ledger).mission_id
    dead = worker("dead")
    (claim,) = dead.claim()
    dead.finish(claim)
    if published:
        dead.publish(claim)
    other = worker("alive")
    assert other.reconcile().closing == [], "its worker is at it"
    other.boot_now = LEASE + 1
    (closing,) = other.reconcile().closing
    assert (closing.attempt, closing.closing) == (1, True)
    assert closing.mission.status is Status.COMPLETED
    assert (closing.mission.published_at is not None) is published
    assert other.publish(closing)
    assert other.mark(closing)
    assert dead.mark(claim), "the old worker finds it done"
    assert event_types(ledger, mission_id).count("ready") == 1
    assert other.reconcile().closing == []


def test_a_blocked_mission_is_left_alone_until_it_is_released(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    dead = worker("dead")
    dead.finish(dead.claim()[0])
    stamp(ledger, mission_id, "blocked_at")
    other = worker("alive")
    other.boot_now = LEASE + 1
    assert other.reconcile().closing == []
    stamp(ledger, mission_id, "released_at")
    assert [claim.mission_id for claim in other.reconcile().closing] == [mission_id]


def test_a_mission_cancelled_while_queued_gets_its_folder_from_reconcile(ledger: Ledger, worker: Workers) -> None:
    register_lane(ledger)
    mission_id = dispatched(ledger).mission_id
    cancelled(ledger, mission_id)
    one = worker("s")
    (closing,) = one.reconcile().closing
    assert (closing.mission_id, closing.attempt, closing.mission.status) == (mission_id, 1, Status.CANCELLED)
    assert one.reconcile().closing == []
    assert one.publish(closing)
    assert one.mark(closing)


def test_reconcile_keeps_to_its_lane_and_its_limit(ledger: Ledger, worker: Workers) -> None:
    for _ in range(3):
        dispatched(ledger)
    dispatched(ledger, vp_id=OTHER_LANE)
    worker("dead").claim(3)
    Worker(ledger, "dead-too", vp_id=OTHER_LANE).start().claim()
    other = worker("alive")
    other.boot_now = LEASE + 1
    assert len(other.reconcile(limit=2).requeued) == 2
    found = other.reconcile(limit=2)
    assert (len(found.requeued), found.lost_sessions) == (1, [])


def test_a_session_is_reported_lost_once_and_opens_again_when_it_wakes(ledger: Ledger, worker: Workers) -> None:
    sleeper, other = worker("sleeper"), worker("alive")
    other.boot_now = LEASE + 1
    assert other.reconcile().lost_sessions == ["sleeper"]
    assert other.reconcile().lost_sessions == []
    sleeper.boot_now = LEASE + 2
    assert sleeper.renew().alive
    seen = ledger.read(lambda tx: events.page_events(tx, after=0, limit=20))
    assert [event.type for event in seen if event.session_id == "sleeper"] == [
        "vp.session.opened",
        "vp.session.lost",
        "vp.session.opened",
    ]
    ledger.run(lambda tx: sessions.close_session(tx, "sleeper", START))
    assert not sleeper.renew().alive
