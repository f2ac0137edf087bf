"""Tokens that are made, bound, listed and revoked; nobody gives away more than they have."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.integration.api.problems import refusal
from tests.integration.api.serving import CODER, GENERAL, ROOT, Api
from ua_vp.access import Scope
from ua_vp.ports import MICROS
from ua_vp.wire import to_iso

TOKENS = f"{ROOT}/tokens"


def make(caller: httpx2.Client, **body: Any) -> httpx2.Response:
    return caller.post(TOKENS, json={"name": "simone", "scopes": ["missions:read"]} | body)


def test_a_token_allows_what_it_was_made_for_and_its_secret_is_told_once(api: Api) -> None:
    response = make(api.http, lanes=[GENERAL], sources=["s1"])

    made = response.json()
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    assert made["token"]["state"] == "active"
    assert (made["token"]["lanes"], made["token"]["sources"]) == ([GENERAL], ["s1"])
    mine, other = api.mission_id(source_session_id="s1"), api.mission_id(source_session_id="s2")
    with api.as_holder_of(made["secret"]) as caller:
        assert [one["mission_id"] for one in caller.get(f"{ROOT}/missions").json()["missions"]] == [mine]
        assert refusal(caller.get(f"{ROOT}/missions/{other}")) == (404, "not_found")
        assert refusal(caller.post(f"{ROOT}/missions/{mine}/cancel")) == (403, "forbidden")
        assert refusal(caller.get(TOKENS)) == (403, "forbidden")
    assert made["secret"] not in api.get(TOKENS).text


def test_whatever_a_token_does_bears_its_name(api: Api) -> None:
    secret = make(api.http, scopes=["missions:read", "missions:dispatch"], name="night shift").json()["secret"]
    with api.as_holder_of(secret) as caller:
        body = {"vp_id": GENERAL, "objective": "x", "mission_type": "plain"}
        mission = caller.post(f"{ROOT}/missions/dispatch", json=body).json()["mission"]
    assert mission["created_by"] == "night shift"


def test_a_revoked_token_is_refused_at_once_and_for_good(api: Api) -> None:
    made = make(api.http).json()
    url = f"{TOKENS}/{made['token']['token_id']}"

    revoked = api.http.delete(url).json()["token"]
    again = api.http.delete(url).json()["token"]

    assert revoked["state"] == "revoked"
    assert again == revoked
    with api.as_holder_of(made["secret"]) as caller:
        assert refusal(caller.get(f"{ROOT}/missions")) == (401, "unauthorized")
    states = {token["token_id"]: token["state"] for token in api.get(TOKENS).json()["tokens"]}
    assert states[made["token"]["token_id"]] == "revoked"
    assert refusal(api.http.delete(f"{TOKENS}/token-0")) == (404, "not_found")


def test_nobody_locks_themselves_out(api: Api) -> None:
    own = [token for token in api.get(TOKENS).json()["tokens"] if token["name"] == "ops"]
    refused = api.http.delete(f"{TOKENS}/{own[0]['token_id']}")
    assert refusal(refused) == (409, "invalid_state")
    assert api.get(TOKENS).is_success


def test_a_token_ends_when_it_is_to(api: Api) -> None:
    now = api.ports.clock.now()
    made = make(api.http, expires_at=to_iso(now + 3600 * MICROS)).json()
    assert made["token"]["expires_at"] == to_iso(now + 3600 * MICROS)
    assert refusal(make(api.http, expires_at=to_iso(now - MICROS))) == (400, "validation_error")
    expired = api.token_with(Scope.MISSIONS_READ, lives=-1)
    with api.as_holder_of(expired) as caller:
        assert refusal(caller.get(f"{ROOT}/missions")) == (401, "unauthorized")
    assert {token["state"] for token in api.get(TOKENS).json()["tokens"]} == {"active", "expired"}


def test_nobody_gives_away_more_than_they_have(api: Api) -> None:
    narrow = api.token_with(Scope.ADMIN, Scope.MISSIONS_READ, lanes=(GENERAL,), sources=("s1",))
    with api.as_holder_of(narrow) as caller:
        refused = make(caller, scopes=["missions:control", "missions:read"])
        assert refusal(refused) == (403, "forbidden")
        assert "missions:control" in refused.json()["detail"]
        assert refusal(make(caller, lanes=[CODER])) == (404, "not_found")
        assert refusal(make(caller, sources=["s2"])) == (404, "not_found")
        made = make(caller).json()["token"]
        assert (made["lanes"], made["sources"]) == ([GENERAL], ["s1"]), "as bound as the one that made it"
        wider = make(api.http).json()["token"]
        assert wider["token_id"] not in caller.get(TOKENS).text
        assert refusal(caller.delete(f"{TOKENS}/{wider['token_id']}")) == (404, "not_found")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"scopes": []}, "#/scopes"),
        ({"scopes": ["missions:raed"]}, "#/scopes/0"),
        ({"scopes": "missions:read"}, "#/scopes"),
        ({"name": ""}, "#/name"),
        ({"name": "a\nb"}, "#/name"),
        ({"expires_at": "tomorrow"}, "#/expires_at"),
        ({"scope": ["missions:read"]}, "#/scope"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(api: Api, changes: dict[str, Any], pointer: str) -> None:
    before = api.get(TOKENS).json()
    refused = make(api.http, **changes)
    assert refusal(refused) == (400, "validation_error")
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert api.get(TOKENS).json() == before


def test_a_lane_that_is_not_there_is_named_with_the_near_one(api: Api) -> None:
    refused = make(api.http, lanes=["vp.genral.primary"])
    assert refusal(refused) == (404, "not_found")
    assert f"did you mean {GENERAL}" in refused.json()["detail"]
