"""What operators do: retry, requeue and fail missions; pause, drain and resume lanes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.handwork import hand
from tests.integration.api.problems import refusal
from tests.integration.api.serving import GENERAL, ROOT, Api
from ua_vp.access import Scope
from ua_vp.ledger.operating import RETRY_LIMIT
from ua_vp.mission import Status


def ended(api: Api, status: Status = Status.COMPLETED, **body: Any) -> str:
    mission_id = api.mission_id(**body)
    worker = hand(api)
    claim = worker.claim()
    assert claim.mission_id == mission_id
    worker.finish(claim, status=status)
    return mission_id


def test_a_retry_is_a_new_mission_that_is_as_the_old_one_was(api: Api) -> None:
    first = ended(api, objective="Weigh it", priority=7, max_tries=5, source_session_id="s1", budget={"seconds": 60.0})
    response = api.http.post(f"{ROOT}/missions/{first}/retry")

    again, before = response.json()["mission"], api.mission(first)
    assert response.status_code == 202
    assert response.headers["location"] == f"{ROOT}/missions/{again['mission_id']}"
    assert (again["retry_of"], again["status"], again["attempt"]) == (first, "queued", 0)
    for (
        same
    ) in "vp_id mission_type objective constraints budget priority max_tries source_session_id reply_mode".split():
        assert again[same] == before[same], same
    assert before["actions"] == ["retry"]
    assert api.mission(first) == before


def test_a_retry_may_change_what_is_asked(api: Api) -> None:
    first = ended(api, objective="Weigh it", budget={"seconds": 60.0})
    changes = {"objective": "Weigh it again", "priority": 3, "budget": {"tokens": 9}, "max_tries": None}
    again = api.http.post(f"{ROOT}/missions/{first}/retry", json={"changes": changes}).json()["mission"]
    assert (again["objective"], again["priority"], again["budget"]) == ("Weigh it again", 3, {"tokens": 9})


def test_a_retry_with_a_key_is_done_once(api: Api) -> None:
    first, other = ended(api, objective="one"), ended(api, objective="one")
    url, headers = f"{ROOT}/missions/{first}/retry", {"Idempotency-Key": "again"}

    made = api.http.post(url, headers=headers)
    replayed = api.http.post(url, headers=headers)

    assert (made.status_code, replayed.status_code) == (202, 200)
    assert made.json()["mission"]["mission_id"] == replayed.json()["mission"]["mission_id"]
    assert replayed.headers["idempotent-replayed"] == "true"
    conflict = (409, "idempotency_conflict")
    assert refusal(api.http.post(url, headers=headers, json={"changes": {"objective": "two"}})) == conflict
    assert refusal(api.http.post(f"{ROOT}/missions/{other}/retry", headers=headers)) == conflict
    assert api.dispatch(objective="one", idempotency_key="other").status_code == 202
    assert refusal(api.http.post(url, headers={"Idempotency-Key": "other"})) == conflict, "it brought a dispatch"


def test_a_retry_must_make_sense(api: Api) -> None:
    running = api.mission_id()
    hand(api).claim()
    first = running
    assert refusal(api.http.post(f"{ROOT}/missions/{running}/retry")) == (409, "invalid_state")
    assert refusal(api.http.post(f"{ROOT}/missions/vp-mission-0/retry")) == (404, "not_found")
    bodies: tuple[object, ...] = (
        {"change": {}},
        {"changes": {"vp_id": GENERAL}},
        {"changes": {"objective": " "}},
        {"changes": []},
        1,
    )
    for body in bodies:
        assert refusal(api.http.post(f"{ROOT}/missions/{first}/retry", json=body)) == (400, "validation_error"), body


def test_a_mission_is_not_repeated_for_ever(api: Api) -> None:
    latest, worker = api.mission_id(), hand(api)
    for _ in range(RETRY_LIMIT):
        worker.finish(worker.claim())
        latest = api.http.post(f"{ROOT}/missions/{latest}/retry").json()["mission"]["mission_id"]
    worker.finish(worker.claim())
    refused = api.http.post(f"{ROOT}/missions/{latest}/retry")
    assert refusal(refused) == (409, "retry_limit")
    assert str(RETRY_LIMIT) in refused.json()["detail"]


@pytest.mark.parametrize(("verb", "status"), [("requeue", "queued"), ("fail", "failed")])
def test_a_running_mission_is_taken_from_its_worker(api: Api, verb: str, status: str) -> None:
    mission_id, worker = api.mission_id(), hand(api)
    claim = worker.claim()
    assert api.mission(mission_id)["actions"] == ["cancel", "requeue", "fail"]

    done = api.http.post(f"{ROOT}/missions/{mission_id}/{verb}", json={"reason": "it hangs"})

    assert (done.status_code, done.json()["mission"]["status"]) == (202, status)
    assert done.json()["mission"]["tries"] == 0
    worker.work(claim)
    worker.commit(claim)  # too late: fenced off
    assert api.mission(mission_id)["status"] == status
    event = api.get(f"{ROOT}/events", mission_id=mission_id).json()["events"][-1]
    assert event["actor"]["name"] == "ops"
    assert "it hangs" in str(event["payload"])


def test_a_failed_mission_says_who_ended_it_and_why(api: Api) -> None:
    mission_id = api.mission_id()
    hand(api).claim()
    mission = api.http.post(f"{ROOT}/missions/{mission_id}/fail", json={"reason": "it hangs"}).json()["mission"]
    assert (mission["failure_mode"], mission["failure_detail"]) == ("operator", "it hangs")


@pytest.mark.parametrize("verb", ["requeue", "fail"])
def test_what_does_not_run_is_neither_requeued_nor_failed(api: Api, verb: str) -> None:
    queued, over = api.mission_id(objective="first"), f"{ROOT}/missions/vp-mission-0/{verb}"
    url = f"{ROOT}/missions/{queued}/{verb}"

    refused = api.http.post(url, json={"reason": "x"})

    assert refusal(refused) == (409, "invalid_state")
    assert "queued" in refused.json()["detail"]
    assert "cancel is" in refused.json()["detail"]
    assert refusal(api.http.post(over, json={"reason": "x"})) == (404, "not_found")
    for body in ({}, {"reason": ""}, {"reason": " "}, {"why": "x"}, {"reason": "x" * 1001}):
        assert refusal(api.http.post(url, json=body)) == (400, "validation_error"), body
    assert api.mission(queued)["status"] == "queued"


def test_a_paused_lane_takes_missions_and_claims_none_until_it_is_resumed(api: Api) -> None:
    url = f"{ROOT}/lanes/{GENERAL}"
    paused = api.http.post(f"{url}/pause").json()["lane"]
    mission_id = api.mission_id()

    assert (paused["paused"], paused["draining"], paused["vp_id"]) == (True, False, GENERAL)
    assert hand(api).claims() == []
    assert api.mission(mission_id)["queued_reason"] == "lane_paused"
    assert api.http.post(f"{url}/drain").json()["lane"]["draining"]
    resumed = api.http.post(f"{url}/resume").json()["lane"]
    assert (resumed["paused"], resumed["draining"]) == (False, False)
    assert hand(api).claim().mission_id == mission_id
    kinds = [event["type"] for event in api.get(f"{ROOT}/events", vp_id=GENERAL).json()["events"]]
    assert [kind for kind in kinds if kind in {"vp.lane.paused", "vp.lane.draining", "vp.lane.resumed"}] == [
        "vp.lane.paused",
        "vp.lane.draining",
        "vp.lane.resumed",
    ]


def test_steering_needs_its_scope_and_a_lane_within_bounds(api: Api) -> None:
    with api.as_holder_of(api.token_with(Scope.MISSIONS_CONTROL)) as caller:
        assert refusal(caller.post(f"{ROOT}/lanes/{GENERAL}/pause")) == (403, "forbidden")
    with api.as_holder_of(api.token_with(Scope.MISSIONS_READ)) as caller:
        for verb in ("retry", "requeue", "fail"):
            assert refusal(caller.post(f"{ROOT}/missions/{api.mission_id()}/{verb}")) == (403, "forbidden")
    bound = api.token_with(Scope.LANES_CONTROL, lanes=("vp.other.primary",))
    with api.as_holder_of(bound) as caller:
        assert refusal(caller.post(f"{ROOT}/lanes/{GENERAL}/pause")) == (404, "not_found")
    assert refusal(api.http.post(f"{ROOT}/lanes/vp.nobody.primary/pause")) == (404, "not_found")
