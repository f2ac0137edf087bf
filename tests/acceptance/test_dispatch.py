"""Dispatch: each key once, and the checks in the order of the contract."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import Keys
from tests.product import CODER, ECHO, GENERAL, OPS, Product, lanes_table

pytestmark = pytest.mark.timeout(180)

DISPATCH = f"{OPS}/missions/dispatch"


def body(**more: Any) -> dict[str, Any]:
    return {"vp_id": ECHO, "objective": "Say it", **more}


def outcome(answer: httpx2.Response) -> tuple[int, str]:
    """Status and error code."""
    return answer.status_code, answer.json().get("code", "")


def test_the_same_key_and_request_is_the_first_mission(serving: Product, new_key: Keys) -> None:
    key = new_key()
    first = serving.post(DISPATCH, body(idempotency_key=key))
    assert first.status_code == 202
    assert first.headers["Location"].endswith(first.json()["mission"]["mission_id"])
    assert "Idempotent-Replayed" not in first.headers
    mission_id = first.json()["mission"]["mission_id"]
    defaults = {"mission_type": "task", "constraints": {}, "budget": {}, "inputs": [], "max_tries": 3}
    for again in (
        serving.post(DISPATCH, body(idempotency_key=key)),
        serving.post(DISPATCH, body(), **{"Idempotency-Key": key}),
        serving.post(DISPATCH, body(idempotency_key=key), **{"Idempotency-Key": key}),
        serving.post(DISPATCH, body(idempotency_key=key, **defaults)),
        serving.post(DISPATCH, body(idempotency_key=key, priority=5, source_session_id="s", reply_mode="none")),
    ):
        assert again.status_code == 200
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json()["mission"]["mission_id"] == mission_id
    assert serving.mission(mission_id)["priority"] == 100
    assert len(serving.events(mission_id=mission_id)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"objective": "Say something else"},
        {"budget": {"seconds": 5}},
        {"max_tries": 2},
        {"not_before": "2999-01-01T00:00:00Z"},
        {"mission_type": "no-such-type"},
        {"constraints": {"unknown": 1}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_the_same_key_and_another_request_is_a_conflict_that_names_the_mission(
    serving: Product, new_key: Keys, other: dict[str, Any]
) -> None:
    key = new_key()
    mission_id = serving.dispatch(**body(idempotency_key=key))
    before = len(serving.missions())

    answer = serving.post(DISPATCH, body(idempotency_key=key, **other))

    assert outcome(answer) == (409, "idempotency_conflict")
    assert mission_id in answer.json()["detail"]
    assert len(serving.missions()) == before


def test_a_key_belongs_to_its_lane(serving: Product, new_key: Keys) -> None:
    key = new_key()
    missions = {serving.dispatch(**body(idempotency_key=key)), serving.command("true", idempotency_key=key)}
    assert len(missions) == 2


def test_keys_of_the_server_and_two_different_keys_are_refused(serving: Product, new_key: Keys) -> None:
    before = len(serving.missions())
    for answer in (
        serving.post(DISPATCH, body(idempotency_key="turn:1")),
        serving.post(DISPATCH, body(), **{"Idempotency-Key": "turn:1"}),
        serving.post(DISPATCH, body(idempotency_key=new_key()), **{"Idempotency-Key": new_key()}),
    ):
        assert outcome(answer) == (400, "validation_error")
    assert len(serving.missions()) == before


def test_a_key_is_answered_with_its_mission_in_whatever_state_mission_and_lane_are_by_then(product: Product) -> None:
    api = product.serve()
    request = body(idempotency_key="once")
    mission_id = product.dispatch(**request)
    product.once("echo")
    replay = product.post(DISPATCH, request)
    assert (replay.status_code, replay.json()["mission"]["status"]) == (200, "completed")

    api.end()
    product.configure(lanes_table("general"))  # echo without a sandbox takes nothing
    product.serve()

    assert outcome(product.post(DISPATCH, body())) == (503, "lane_unavailable")
    replay = product.post(DISPATCH, request)
    assert (replay.status_code, replay.json()["mission"]["mission_id"]) == (200, mission_id)
    assert outcome(product.post(DISPATCH, {**request, "objective": "other"})) == (409, "idempotency_conflict")


def test_checks_come_in_the_order_of_the_contract(serving: Product, new_key: Keys) -> None:
    """Each request has two faults; the earlier one is answered."""
    bad_schema, refused = {"unknown": 1}, {"repository": str(serving.home)}
    nobody = serving.api.post(DISPATCH, json={"objective": ""})
    assert outcome(nobody) == (401, "unauthorized")
    key = new_key()
    serving.dispatch(**body(idempotency_key=key))
    mend = {"vp_id": CODER, "objective": "x", "mission_type": "mend"}
    for request, due in (
        ({"vp_id": "vp.nobody.primary", "objective": ""}, (400, "validation_error")),
        (body(idempotency_key=key, priority="high"), (400, "validation_error")),
        (body(idempotency_key=key, constraints=bad_schema), (409, "idempotency_conflict")),
        ({"vp_id": "vp.nobody.primary", "objective": "x", "constraints": bad_schema}, (404, "not_found")),
        ({"vp_id": GENERAL, "objective": "x", "constraints": bad_schema}, (503, "lane_unavailable")),
        ({**mend, "constraints": {**refused, **bad_schema}}, (400, "validation_error")),
        ({**mend, "constraints": refused}, (422, "guardrail_violation")),
    ):
        assert outcome(serving.post(DISPATCH, request)) == due, request


def test_an_unavailable_type_says_what_to_do_and_when_to_come_back(serving: Product) -> None:
    answer = serving.post(DISPATCH, {"vp_id": GENERAL, "objective": "Think about it"})

    assert outcome(answer) == (503, "lane_unavailable")
    assert answer.json()["retryable"] is True
    assert int(answer.headers["Retry-After"]) > 0
    published = serving.lane(GENERAL)["mission_types"]["task"]
    assert published["available"] is False
    assert published["remedy"]
    assert published["remedy"] in answer.json()["detail"]
    assert serving.lane(GENERAL)["available"] is True, "its recipes can be had"


def test_a_dispatch_is_shown_as_it_was_asked_with_the_defaults(serving: Product) -> None:
    mission = serving.mission(serving.dispatch(ECHO, "Say it", priority=0, source_session_id="s", source_turn_id="t"))

    asked = {"vp_id": ECHO, "objective": "Say it", "mission_type": "task", "constraints": {}, "priority": 0}
    assert {name: mission[name] for name in asked} == asked
    assert (mission["source_session_id"], mission["source_turn_id"], mission["reply_mode"]) == ("s", "t", "async")
    assert (mission["status"], mission["attempt"], mission["tries"], mission["max_tries"]) == ("queued", 0, 0, 3)
    assert (mission["queued_reason"], mission["result_ref"], mission["sync_state"]) == (
        "no_live_worker", None, "not_ready"
    )  # fmt: skip
    assert "cancel" in mission["actions"]


def test_prefer_wait_answers_when_the_mission_has_ended(product: Product) -> None:
    product.serve()
    product.worker("echo")

    answer = product.post(DISPATCH, body(), Prefer="wait=20")

    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"].startswith("wait")
    assert answer.json()["mission"]["status"] == "completed"
    assert answer.json()["mission"]["sync_state"] == "ready"
