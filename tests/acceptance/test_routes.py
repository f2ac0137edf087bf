"""The API's manners: who may ask, what is refused and how, and what every answer carries."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
import pytest

from tests.product import ECHO, GENERAL, OPS, Product

pytestmark = pytest.mark.timeout(180)

OPEN = ("/livez", "/readyz", "/api/v1/version", "/openapi.json")
NO_MISSION = f"{OPS}/missions/vp-mission-{'0' * 32}"
METHODS = ("get", "post", "put", "patch", "delete")


def problem(answer: httpx2.Response) -> tuple[int, str]:
    """Status and code of an error, which has the shape that every error has."""
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.text
    told = answer.json()
    assert told["status"] == answer.status_code
    assert told["detail"]
    assert told["request_id"]
    assert isinstance(told["retryable"], bool)
    assert isinstance(told["errors"], list)
    return answer.status_code, told["code"]


def operations(product: Product) -> list[tuple[str, str]]:
    """Method and path of everything the API says it has, placeholders filled in."""
    document = product.api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    values = {"mission_id": f"vp-mission-{'0' * 32}"}

    def filled(path: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: values.get(match.group(1), "x"), path)

    return [
        (method, filled(path))
        for path, operations in document["paths"].items()
        for method in operations
        if method in METHODS
    ]


def test_nothing_but_the_four_open_paths_answers_without_a_token(serving: Product) -> None:
    asked = operations(serving)
    assert len(asked) > 15
    for method, path in asked:
        for headers in ({}, {"Authorization": "Bearer nobody"}, {"Authorization": serving.token}):
            answer = serving.api.request(method, path, headers=headers)
            if path in OPEN:
                assert answer.status_code == 200, path
            else:
                assert problem(answer) == (401, "unauthorized"), path
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_core_of_the_contract_is_there(serving: Product) -> None:
    mission = f"{OPS}/missions/vp-mission-{'0' * 32}"
    assert {
        ("post", f"{OPS}/missions/dispatch"),
        ("get", f"{OPS}/missions"),
        *(("get", mission + rest) for rest in ("", "/wait", "/attempts", "/artifacts", "/artifacts/x", "/log")),
        *(("post", f"{mission}/{verb}") for verb in ("cancel", "retry", "requeue", "fail")),
        *(("post", f"{OPS}/lanes/x/{verb}") for verb in ("pause", "resume", "drain")),
        *(("get", f"{OPS}/{name}") for name in ("events", "sessions", "lanes")),
        ("get", "/api/v1/ops/metrics/vp"),
        *(("get", path) for path in OPEN if path != "/openapi.json"),
    } <= {*operations(serving)}


def test_version_says_which_code_serves_which_ledger(serving: Product) -> None:
    told = serving.api.get("/api/v1/version").json()

    ledger_id = json.loads((serving.home / "ops.json").read_text())["ledger_id"]
    assert told["ledger_id"] == ledger_id
    assert told["version"] == "0.1.0"
    assert {"build", "schema_revision"} <= told.keys()


def test_the_servers_own_files_are_for_its_user_alone(serving: Product) -> None:
    token = serving.home / "credentials" / "ops.token"
    assert token.stat().st_mode & 0o777 == 0o600
    running = json.loads((serving.home / "ops.json").read_text())
    assert (running["url"], set(running)) == (serving.url, {"url", "pid", "ledger_id"})
    secret = serving.token
    ledger = b"".join(file.read_bytes() for file in serving.home.glob("vp_state.db*"))
    assert secret.encode() not in ledger, "tokens are stored hashed"


@pytest.mark.parametrize(
    ("method", "path", "sent", "due"),
    [
        ("get", NO_MISSION, {}, (404, "not_found")),
        ("get", f"{NO_MISSION}/wait", {}, (404, "not_found")),
        ("get", f"{NO_MISSION}/attempts", {}, (404, "not_found")),
        ("get", f"{NO_MISSION}/artifacts", {}, (404, "not_found")),
        ("get", f"{NO_MISSION}/artifacts/work_products/a", {}, (404, "not_found")),
        ("get", f"{NO_MISSION}/log", {}, (404, "not_found")),
        ("post", f"{NO_MISSION}/cancel", {"json": {}}, (404, "not_found")),
        ("get", f"{OPS}/missions/nonsense", {}, (404, "not_found")),
        ("get", f"{OPS}/nothing-here", {}, (404, "not_found")),
        ("get", "/nothing-here", {}, (404, "not_found")),
        ("delete", f"{OPS}/missions", {}, (405, "method_not_allowed")),
        ("get", f"{OPS}/missions/dispatch", {}, (404, "not_found")),
        ("get", f"{OPS}/missions", {"headers": {"Accept": "image/png"}}, (406, "not_acceptable")),
        ("get", f"{OPS}/missions", {"params": {"limti": "5"}}, (400, "validation_error")),
        ("get", f"{OPS}/missions", {"params": {"limit": "0"}}, (400, "validation_error")),
        ("get", f"{OPS}/missions", {"params": {"limit": "many"}}, (400, "validation_error")),
        ("get", f"{OPS}/missions", {"params": {"status": "queued,lost"}}, (400, "validation_error")),
        ("get", f"{OPS}/missions", {"params": {"cursor": "made-up"}}, (400, "validation_error")),
        ("get", f"{OPS}/events", {"params": {"after": "-1"}}, (400, "validation_error")),
        ("get", f"{OPS}/events", {"params": {"after": "x"}}, (400, "validation_error")),
        ("get", "/api/v1/ops/metrics/vp", {"params": {"vp_id": "vp.nobody.primary"}}, (404, "not_found")),
        ("get", f"{OPS}/missions", {"headers": {"Host": "evil.example"}}, (421, "host_refused")),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused_with_the_code_of_the_contract(
    serving: Product, method: str, path: str, sent: dict[str, Any], due: tuple[int, str]
) -> None:
    headers = {"Authorization": f"Bearer {serving.token}", **sent.get("headers", {})}
    answer = serving.api.request(method, path, **{**sent, "headers": headers})
    if path.endswith("/missions/dispatch"):
        assert answer.status_code in {404, 405}  # a mission's id, or a path for POST alone: both are true
    else:
        assert problem(answer) == due


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/objective"),
        ({"objective": ""}, "#/objective"),
        ({"objective": " \n"}, "#/objective"),
        ({"objective": 5}, "#/objective"),
        ({"objective": "a\0b"}, "#/objective"),
        ({"objective": "x", "objectiv": "y"}, "#/objectiv"),
        ({"objective": "x", "priority": 1_000_001}, "#/priority"),
        ({"objective": "x", "priority": 1.5}, "#/priority"),
        ({"objective": "x", "priority": True}, "#/priority"),
        ({"objective": "x", "max_tries": 0}, "#/max_tries"),
        ({"objective": "x", "budget": {"seconds": -1}}, "#/budget/seconds"),
        ({"objective": "x", "budget": {"sconds": 1}}, "#/budget/sconds"),
        ({"objective": "x", "budget": {"usd_cents": 1}}, "#/budget/usd_cents"),
        ({"objective": "x", "not_before": "tomorrow"}, "#/not_before"),
        ({"objective": "x", "not_before": "2030-01-01T00:00:00"}, "#/not_before"),
        ({"objective": "x", "reply_mode": "loud"}, "#/reply_mode"),
        ({"objective": "x", "constraints": []}, "#/constraints"),
        ({"objective": "x", "mission_type": "no-such-type"}, "#/mission_type"),
        ({"objective": "x", "idempotency_key": ""}, "#/idempotency_key"),
    ],
    ids=str,
)
def test_a_wrong_body_is_400_and_points_at_the_fault(serving: Product, body: dict[str, Any], pointer: str) -> None:
    before = len(serving.missions())

    answer = serving.post(f"{OPS}/missions/dispatch", {"vp_id": ECHO, **body})

    assert problem(answer) == (400, "validation_error")
    assert pointer in [error["pointer"] for error in answer.json()["errors"]], answer.text
    assert len(serving.missions()) == before


@pytest.mark.parametrize(
    ("content", "kind", "due"),
    [
        (b"{", "application/json", (400, "validation_error")),
        (b"[]", "application/json", (400, "validation_error")),
        (b"\xff", "application/json", (400, "validation_error")),
        (b'{"objective": "a", "objective": "b"}', "application/json", (400, "validation_error")),
        (b'{"objective": NaN}', "application/json", (400, "validation_error")),
        (b'{"objective": "\\ud800"}', "application/json", (400, "validation_error")),
        (b"[" * 100_000, "application/json", (400, "validation_error")),
        (b"objective=x", "application/x-www-form-urlencoded", (415, "unsupported_media_type")),
        (b"x" * 2_000_000, "application/json", (413, "too_large")),
    ],
    ids=["half", "list", "no text", "twice", "nan", "surrogate", "deep", "form", "large"],
)
def test_a_body_that_is_no_plain_json_object_is_refused(
    serving: Product, content: bytes, kind: str, due: tuple[int, str]
) -> None:
    headers = {"Authorization": f"Bearer {serving.token}", "Content-Type": kind}
    answer = serving.api.post(f"{OPS}/missions/dispatch", content=content, headers=headers)
    assert problem(answer) == due


def test_a_mission_that_did_not_change_is_not_sent_again(serving: Product) -> None:
    mission_id = serving.dispatch(ECHO)
    headers = {"Authorization": f"Bearer {serving.token}"}
    first = serving.api.get(f"{OPS}/missions/{mission_id}", headers=headers)

    again = serving.api.get(f"{OPS}/missions/{mission_id}", headers=headers | {"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.content) == (304, b"")
    serving.cancel(mission_id)
    changed = serving.api.get(
        f"{OPS}/missions/{mission_id}", headers=headers | {"If-None-Match": first.headers["ETag"]}
    )
    assert (changed.status_code, changed.json()["mission"]["status"]) == (200, "cancelled")


def test_a_wait_that_times_out_is_no_error(serving: Product) -> None:
    answer = serving.answer(f"/missions/{serving.dispatch(ECHO)}/wait", timeout_seconds=1)

    assert (answer["timed_out"], answer["mission"]["status"]) == (True, "queued")


def test_lists_are_paged_newest_first_without_gap_or_repeat(serving: Product) -> None:
    made = [serving.dispatch(ECHO, source_session_id="pages") for _ in range(5)]
    found, cursor = [], None
    while True:
        page = serving.answer("/missions", source_session_id="pages", limit=2, **({"cursor": cursor} if cursor else {}))
        found += [mission["mission_id"] for mission in page["missions"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == made[::-1]
    serving.cancel(made[0])
    assert [m["mission_id"] for m in serving.missions(source_session_id="pages", status="cancelled")] == made[:1]
    assert serving.missions(source_session_id="pages", vp_id=GENERAL) == []


def test_events_are_read_in_order_from_a_cursor(serving: Product) -> None:
    made = [serving.dispatch(ECHO, source_session_id="events") for _ in range(3)]
    first = serving.answer("/events", after=0, source_session_id="events", limit=2)
    rest = serving.answer("/events", after=first["next_after"], source_session_id="events")

    events = first["events"] + rest["events"]
    assert [event["mission_id"] for event in events] == made
    sequence = [event["seq"] for event in events]
    assert sequence == sorted(set(sequence))
    newest = serving.answer("/events", source_session_id="events", limit=1)["events"]
    assert [event["seq"] for event in newest] == sequence[-1:]
    empty = serving.answer("/events", after=sequence[-1], source_session_id="events")
    assert (empty["events"], empty["next_after"] >= sequence[-1]) == ([], True)
    assert events[0]["actor"]["via"] == "api"
