"""Cancelling: at once while queued, by flag while running, refused at the end; committed first, it wins."""

from collections.abc import Callable

from tests.integration.ledger.places import (
    SOMEBODY,
    START,
    Worker,
    cancelled,
    dispatched,
    event_types,
    read,
    register_lane,
)
from ua_vp.ledger import FinishVerdict, Ledger, RequeueVerdict, events, missions, verify_rows
from ua_vp.mission import Ending, RequeueReason, Status

Workers = Callable[[str], Worker]
STOPPED = Ending(status=Status.CANCELLED, summary="stopped")


def test_a_queued_mission_ends_at_once(ledger: Ledger, worker: Workers) -> None:
    register_lane(ledger)
    mission_id = dispatched(ledger).mission_id
    outcome = cancelled(ledger, mission_id, reason="not needed", now=START + 5)
    assert (outcome.ended, outcome.already_terminal) == (True, False)
    mission = read(ledger, mission_id)
    assert mission == outcome.mission
    assert (mission.status, mission.attempt, mission.started_at) == (Status.CANCELLED, 1, None)
    assert (mission.cancel_reason, mission.cancelled_by) == ("not needed", SOMEBODY.name)
    base = "/srv/workspaces/vp_general_primary_external"
    assert mission.result_ref == f"workspace://{base}/{mission_id}"
    assert ledger.read(lambda tx: missions.list_attempts(tx, mission_id)) == []
    assert event_types(ledger, mission_id) == ["dispatched", "cancelled"]
    event = ledger.read(lambda tx: events.page_events(tx, after=None, limit=1))[0]
    assert event.payload["sync_marker_path"] == f"{base}/{mission_id}/sync_ready.json"
    assert worker("s").claim(5) == []
    assert ledger.read(verify_rows) == []


def test_a_running_mission_is_flagged_once(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    one = worker("s")
    (claim,) = one.claim()
    for reason in ("first", "second"):
        outcome = cancelled(ledger, mission_id, reason=reason)
        assert (outcome.ended, outcome.already_terminal) == (False, False)
        assert outcome.mission.cancel_requested
    assert event_types(ledger, mission_id) == ["dispatched", "started", "cancel_requested"]
    assert one.finish(claim) is FinishVerdict.CANCEL_FIRST
    assert read(ledger, mission_id).status is Status.RUNNING
    assert one.finish(claim, STOPPED) is FinishVerdict.DONE
    assert read(ledger, mission_id).cancel_reason == "first"


def test_a_finish_that_was_committed_first_wins(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    one = worker("s")
    (claim,) = one.claim()
    one.finish(claim)
    before = read(ledger, mission_id)
    outcome = cancelled(ledger, mission_id)
    assert (outcome.ended, outcome.already_terminal, outcome.mission) == (False, True, before)
    assert event_types(ledger, mission_id) == ["dispatched", "started", "completed"]


def test_a_requeue_with_a_cancel_requested_is_refused_so_that_it_ends_cancelled(
    ledger: Ledger, worker: Workers
) -> None:
    mission_id = dispatched(ledger).mission_id
    one = worker("s")
    (claim,) = one.claim()
    cancelled(ledger, mission_id)
    for reason in RequeueReason:
        assert one.requeue(claim, reason) is RequeueVerdict.CANCEL_FIRST
    assert one.finish(claim, STOPPED) is FinishVerdict.DONE


def test_a_mission_put_back_and_then_cancelled_ends_as_the_next_attempt(ledger: Ledger, worker: Workers) -> None:
    mission_id = dispatched(ledger).mission_id
    one = worker("s")
    (claim,) = one.claim()
    one.requeue(claim, RequeueReason.DRAINED)
    assert cancelled(ledger, mission_id).mission.attempt == 2


def test_a_mission_that_nobody_knows_cannot_be_cancelled(ledger: Ledger) -> None:
    assert ledger.run(lambda tx: missions.request_cancel(tx, "x", reason="r", actor=SOMEBODY, now=START)) is None
