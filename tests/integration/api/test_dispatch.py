"""Dispatch: the order of its checks, its key, its refusals."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.api.handwork import hand
from tests.integration.api.problems import problem, refusal
from tests.integration.api.serving import BROKEN, CODER, DISPATCH, GENERAL, ROOT, Api, manifest, verdict
from ua_vp.access import Scope
from ua_vp.lane import Availability
from ua_vp.ledger import events

PLAIN = {"vp_id": GENERAL, "objective": "Do it", "mission_type": "plain"}


def test_a_dispatch_is_taken_with_every_default(api: Api) -> None:
    response = api.http.post(DISPATCH, json=PLAIN)

    mission = response.json()["mission"]
    assert response.status_code == 202
    assert response.headers["location"] == f"{ROOT}/missions/{mission['mission_id']}"
    assert "idempotent-replayed" not in response.headers
    assert mission["status"] == "queued"
    assert (mission["priority"], mission["max_tries"], mission["attempt"], mission["tries"]) == (100, 3, 0, 0)
    assert (mission["reply_mode"], mission["constraints"], mission["budget"], mission["inputs"]) == (
        "async",
        {},
        {},
        [],
    )
    assert mission["queued_reason"] == "no_live_worker"
    assert mission["created_by"] == "ops"
    assert mission["actions"] == ["cancel"]
    assert api.get(response.headers["location"]).json()["mission"]["mission_id"] == mission["mission_id"]


def test_the_same_key_and_request_give_the_first_mission_again(api: Api) -> None:
    first = api.dispatch(idempotency_key="k1", priority=5)

    again = api.http.post(DISPATCH, json=PLAIN | {"priority": 7}, headers={"Idempotency-Key": "k1"})
    quoted = api.http.post(DISPATCH, json=PLAIN, headers={"Idempotency-Key": '"k1"'})

    assert first.status_code == 202
    for response in (again, quoted):
        assert response.status_code == 200
        assert response.headers["idempotent-replayed"] == "true"
        assert response.json()["replayed"] is True
        assert response.json()["mission"]["mission_id"] == first.json()["mission"]["mission_id"]


def test_the_same_key_and_another_request_are_a_conflict_that_names_the_mission(api: Api) -> None:
    first = api.dispatch(idempotency_key="k1").json()["mission"]["mission_id"]

    response = api.dispatch(idempotency_key="k1", objective="Something else")

    assert refusal(response) == (409, "idempotency_conflict")
    assert response.json()["mission_id"] == first
    assert first in response.json()["detail"]


def test_a_key_is_unique_within_its_lane_alone(api: Api) -> None:
    assert api.dispatch(idempotency_key="k1").status_code == 202
    assert api.dispatch(idempotency_key="k1", vp_id=CODER).status_code == 202


def test_a_hundred_callers_with_one_key_make_one_mission(api: Api) -> None:
    with ThreadPoolExecutor(32) as pool:
        same = list(pool.map(lambda _: api.dispatch(idempotency_key="one"), range(100)))
        other = list(pool.map(lambda n: api.dispatch(idempotency_key="one", objective=f"other {n}"), range(100)))

    assert Counter(response.status_code for response in same) == {202: 1, 200: 99}
    assert len({response.json()["mission"]["mission_id"] for response in same}) == 1
    assert Counter(refusal(response) for response in other) == {(409, "idempotency_conflict"): 100}
    dispatched = api.ledger.read(lambda tx: events.page_events(tx, after=0, types=["vp.mission.dispatched"], limit=300))
    assert len(dispatched) == 1


def test_a_replay_is_answered_whatever_became_of_the_lane(api: Api) -> None:
    first = api.mission_id(idempotency_key="k1")
    api.publish(verdict(manifest(api.settings, availability=Availability(available=False, remedy="mend it"))))

    assert api.dispatch(idempotency_key="k1").json()["mission"]["mission_id"] == first
    assert refusal(api.dispatch(idempotency_key="k2")) == (503, "lane_unavailable")


def bad_schema(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"mission_type": "summarise", "constraints": {"words": 0}}


def at_home(body: dict[str, Any], api: Api) -> dict[str, Any]:
    return body | {"mission_type": "pointed", "constraints": {"repository": str(api.settings.home)}}


ORDER: list[tuple[str, Callable[[dict[str, Any], Api], dict[str, Any]], tuple[int, str]]] = [
    ("guardrails", at_home, (422, "guardrail_violation")),
    ("schema", lambda body, _: bad_schema(body), (400, "validation_error")),
    ("available", lambda body, _: body | {"vp_id": BROKEN}, (503, "lane_unavailable")),
    ("lane known", lambda body, _: body | {"vp_id": "vp.nobody.primary"}, (404, "not_found")),
    ("replay", lambda body, _: body | {"vp_id": GENERAL, "idempotency_key": "used"}, (409, "idempotency_conflict")),
    ("turn", lambda body, _: body | {"turn_id": "none"}, (404, "not_found")),
    ("body", lambda body, _: body | {"objective": "  "}, (400, "validation_error")),
    ("bounds", lambda body, _: body | {"vp_id": CODER}, (404, "not_found")),
]
"""Each row breaks one more rule than the row before: the answer must be that of the rule that is checked first."""


def test_the_checks_of_a_dispatch_come_in_the_order_of_the_contract(api: Api) -> None:
    api.mission_id(idempotency_key="used")
    bound = [GENERAL, BROKEN, "vp.nobody.primary"]
    body: dict[str, Any] = dict(PLAIN)

    with api.as_holder_of(api.token_with(Scope.MISSIONS_DISPATCH, lanes=bound)) as caller:
        for name, breaking, expected in ORDER:
            body = breaking(body, api)
            assert refusal(caller.post(DISPATCH, json=body)) == expected, name
    with api.as_holder_of(api.token_with(Scope.MISSIONS_READ)) as caller:
        assert refusal(caller.post(DISPATCH, json=body)) == (403, "forbidden")
    with api.as_holder_of(None) as caller:
        assert refusal(caller.post(DISPATCH, json=body)) == (401, "unauthorized")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"objective": ""}, "#/objective"),
    ({"objective": " \n\t"}, "#/objective"),
    ({"objective": "x" * 100_001}, "#/objective"),
    ({"objective": 7}, "#/objective"),
    ({"objective": None}, "#/objective"),
    ({"vp_id": ""}, "#/vp_id"),
    ({"priority": "100"}, "#/priority"),
    ({"priority": True}, "#/priority"),
    ({"priority": 1.0}, "#/priority"),
    ({"priority": 1_000_001}, "#/priority"),
    ({"max_tries": 0}, "#/max_tries"),
    ({"max_tries": 21}, "#/max_tries"),
    ({"not_before": "2030-01-01T00:00:00"}, "#/not_before"),
    ({"not_before": "soon"}, "#/not_before"),
    ({"not_before": 1}, "#/not_before"),
    ({"reply_mode": "loud"}, "#/reply_mode"),
    ({"constraints": []}, "#/constraints"),
    ({"budget": {"seconds": 0}}, "#/budget/seconds"),
    ({"budget": {"tokens": 1.5}}, "#/budget/tokens"),
    ({"budget": {"minutes": 1}}, "#/budget/minutes"),
    ({"budget": {"usd_cents": 5}}, "#/budget/usd_cents"),
    ({"inputs": [{"input_id": "i1", "path": "a"}]}, "#/inputs/0/input_id"),
    ({"inputs": [{"input_id": "i1", "path": "../a"}]}, "#/inputs/0/path"),
    ({"idempotency_key": ""}, "#/idempotency_key"),
    ({"idempotency_key": "turn:1"}, "#/idempotency_key"),
    ({"idempotency_key": "k" * 201}, "#/idempotency_key"),
    ({"continues": "vp-mission-0"}, "#/continues"),
    ({"surprise": 1}, "#/surprise"),
    ({"mission_type": "plane"}, "#/mission_type"),
    ({"mission_type": "plain", "constraints": {"surprise": 1}}, "#/constraints"),
    ({"mission_type": "summarise", "constraints": {"words": 1, "tags": ["a", 2]}}, "#/constraints/tags/1"),
]


@pytest.mark.parametrize(
    ("wrong", "pointer"), REFUSED, ids=[f"{pointer}-{n}" for n, (_, pointer) in enumerate(REFUSED)]
)
def test_a_wrong_field_is_refused_and_pointed_at(shared: Api, wrong: dict[str, Any], pointer: str) -> None:
    status, code, pointers = problem(shared.http.post(DISPATCH, json=PLAIN | wrong))

    assert (status, code) == (400, "validation_error")
    assert pointer in pointers


@pytest.mark.parametrize("missing", ["vp_id", "objective"])
def test_what_is_needed_must_be_there(shared: Api, missing: str) -> None:
    body = {name: value for name, value in PLAIN.items() if name != missing}

    assert problem(shared.http.post(DISPATCH, json=body)) == (400, "validation_error", [f"#/{missing}"])


def test_a_near_name_is_suggested(shared: Api) -> None:
    assert "did you mean plain" in shared.dispatch(mission_type="plian").json()["detail"]
    assert f"did you mean {GENERAL}" in shared.dispatch(vp_id="vp.generl.primary").json()["detail"]


def test_an_unavailable_type_and_a_degraded_plugin_say_their_remedy(shared: Api) -> None:
    for body, remedy in (({"mission_type": "task"}, "install an agent"), ({"vp_id": BROKEN}, "reinstall ua-vp-broken")):
        response = shared.dispatch(**body)
        assert refusal(response) == (503, "lane_unavailable")
        assert remedy in response.json()["detail"]
        assert response.json()["retryable"] is True
        assert int(response.headers["retry-after"]) > 0


def test_a_limit_that_the_lane_measures_is_taken(shared: Api) -> None:
    mission = shared.dispatch(budget={"tokens": 5, "seconds": 1.5}).json()["mission"]
    assert mission["budget"] == {"tokens": 5, "seconds": 1.5}


def test_header_and_body_key_must_not_differ(shared: Api) -> None:
    headers = {"Idempotency-Key": "a"}
    assert problem(shared.http.post(DISPATCH, json=PLAIN | {"idempotency_key": "b"}, headers=headers))[0] == 400
    assert shared.http.post(DISPATCH, json=PLAIN | {"idempotency_key": "a"}, headers=headers).status_code == 202
    assert problem(shared.http.post(DISPATCH, json=PLAIN, headers={"Idempotency-Key": "turn:x"}))[0] == 400


def test_a_dispatch_may_wait_for_its_end(api: Api) -> None:
    worker = hand(api)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(lambda: api.http.post(DISPATCH, json=PLAIN, headers={"Prefer": "respond-async, wait=20"}))
        claim = worker.claim_when_there()
        worker.finish(claim)
        response = held.result(20)

    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=20"
    assert response.json()["mission"]["status"] == "completed"
    assert response.json()["mission"]["sync_state"] == "ready"


def test_a_dispatch_that_does_not_end_in_time_is_taken_all_the_same(api: Api) -> None:
    response = api.http.post(DISPATCH, json=PLAIN, headers={"Prefer": "wait=1"})

    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=1")
    assert response.json()["mission"]["status"] == "queued"


def test_not_before_and_pause_say_why_it_waits(api: Api) -> None:
    hand(api)

    assert api.dispatch(not_before="2999-01-01T00:00:00+02:00").json()["mission"]["queued_reason"] == "not_before"
    later = api.dispatch(not_before="2999-01-01T00:00:00+02:00").json()["mission"]
    assert later["not_before"] == "2998-12-31T22:00:00.000000Z"
    assert api.dispatch().json()["mission"]["queued_reason"] == "waiting_for_worker"


def test_a_caller_bound_to_a_source_dispatches_as_that_source(api: Api) -> None:
    token = api.token_with(Scope.MISSIONS_DISPATCH, Scope.MISSIONS_READ, sources=["s1"])
    foreign = api.mission_id(source_session_id="s2", idempotency_key="k")

    with api.as_holder_of(token) as caller:
        mine = caller.post(DISPATCH, json=PLAIN).json()["mission"]
        assert mine["source_session_id"] == "s1"
        assert refusal(caller.post(DISPATCH, json=PLAIN | {"source_session_id": "s2"})) == (404, "not_found")
        conflict = caller.post(DISPATCH, json=PLAIN | {"idempotency_key": "k"})
        assert refusal(conflict) == (409, "idempotency_conflict")
        assert foreign not in conflict.text
        assert refusal(caller.get(f"{ROOT}/missions/{foreign}")) == (404, "not_found")
        assert [m["mission_id"] for m in caller.get(f"{ROOT}/missions").json()["missions"]] == [mine["mission_id"]]


def test_a_schema_that_is_none_is_the_lanes_fault(api: Api) -> None:
    good = manifest(api.settings)
    kinds = {"plain": replace(good.info.mission_types["plain"], schema={"type": "no such type"})}
    api.publish(verdict(replace(good, info=replace(good.info, mission_types=kinds))))

    response = api.dispatch()

    assert refusal(response) == (503, "lane_unavailable")
    assert "JSON Schema" in response.json()["detail"]
