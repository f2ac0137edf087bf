"""The edge: hosts, methods, media types, bodies that nobody should send, and errors that nobody expected."""

import json
import socket
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import urlsplit

import pytest
import structlog

from tests.integration.api.problems import problem, refusal
from tests.integration.api.serving import DISPATCH, GENERAL, ROOT, Api
from ua_vp.wire import LONGEST_BODY

PLAIN = {"vp_id": GENERAL, "objective": "Do it", "mission_type": "plain"}
JSON = {"Content-Type": "application/json"}


def post(api: Api, body: bytes, headers: Mapping[str, str] = JSON) -> tuple[int, str]:
    return refusal(api.http.post(DISPATCH, content=body, headers=dict(headers)))


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1", True),
        ("LOCALHOST:80", True),
        ("[::1]:8790", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1:80:80", False),
        ("127.0.0.1@evil.example", False),
        ("::1", False),
        ("localhost:99999999", False),
    ],
)
def test_only_hosts_on_the_list_are_served(shared: Api, host: str, served: bool) -> None:
    for path in ("/livez", f"{ROOT}/missions", "/nope"):
        response = shared.http.get(path, headers={"Host": host})
        if served:
            assert response.status_code in {200, 404}
        else:
            assert refusal(response) == (421, "host_refused")


def test_unknown_paths_and_methods_are_problems(shared: Api) -> None:
    assert refusal(shared.get("/nope")) == (404, "not_found")
    assert refusal(shared.get(f"{ROOT}/missions/")) == (404, "not_found")
    for method, path, allowed in (
        ("DELETE", f"{ROOT}/missions", {"GET", "HEAD"}),
        ("GET", DISPATCH, {"POST"}),
        ("OPTIONS", f"{ROOT}/lanes", {"GET", "HEAD"}),
        ("POST", "/livez", {"GET", "HEAD"}),
    ):
        response = shared.http.request(method, path)
        assert refusal(response) == (405, "method_not_allowed")
        assert set(response.headers["allow"].split(", ")) == allowed
        assert "access-control-allow-origin" not in response.headers


def test_head_is_get_without_a_body(shared: Api) -> None:
    for path in (f"{ROOT}/missions", "/livez", "/openapi.json", f"{ROOT}/events"):
        got, head = shared.http.get(path), shared.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


def test_query_parameters_are_known_single_and_sound(shared: Api) -> None:
    for path, pointer in (
        (f"{ROOT}/missions?foo=1", "#/foo"),
        (f"{ROOT}/missions?limit=5&limit=6", "#/limit"),
        (f"{ROOT}/missions?limit=0", "#/limit"),
        (f"{ROOT}/missions?limit=501", "#/limit"),
        (f"{ROOT}/missions?limit=ten", "#/limit"),
        (f"{ROOT}/missions?limit=%D9%A5", "#/limit"),
        (f"{ROOT}/missions?status=queued,asleep", "#/status/1"),
        (f"{ROOT}/missions?cursor=nonsense", "#/cursor"),
        (f"{ROOT}/missions?q=%00", "#/q"),
        (f"{ROOT}/events?after=-1", "#/after"),
        (f"{ROOT}/events?after=99999999999999999999", "#/after"),
        (f"{ROOT}/events?type=completed", "#/type/0"),
        (f"{ROOT}/missions/x/wait?timeout_seconds=51", "#/timeout_seconds"),
        (f"{ROOT}/missions/x/wait?timeout_seconds=0", "#/timeout_seconds"),
        ("/livez?x=1", "#/x"),
    ):
        assert problem(shared.http.get(path)) == (400, "validation_error", [pointer]), path
    assert refusal(shared.http.post(f"{DISPATCH}?x=1", json=PLAIN)) == (400, "validation_error")


def test_a_body_must_be_json_in_utf_8(shared: Api) -> None:
    body = json.dumps(PLAIN).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""):
        assert post(shared, body, {"Content-Type": kind}) == (415, "unsupported_media_type")
    good = shared.http.post(DISPATCH, content=body, headers={"Content-Type": 'Application/JSON; charset="UTF-8"'})
    assert good.status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}{}",
        b'\xff\xfe{"vp_id": 1}',
        b'{"vp_id": "a", "vp_id": "b"}',
        b'{"vp_id": NaN}',
        b'{"vp_id": "vp.general.primary", "objective": "x", "budget": {"seconds": 1e999}}',
        b'{"vp_id": "vp.general.primary", "objective": "x", "priority": ' + b"9" * 5000 + b"}",
        b'{"vp_id": "vp.general.primary", "objective": "x", "constraints": {"n": ' + b"9" * 30 + b"}}",
        b'{"vp_id": "vp.general.primary", "objective": "a\\u0000b"}',
        b'{"vp_id": "vp.general.primary", "objective": "a\\ud800b"}',
        b'{"vp_id": "vp.general.primary", "objective": "x", "constraints": {"argv": ["a", "\\udfff"]}}',
        b'{"vp_id": "vp.general.primary", "objective": "x", "constraints": {"\\u0000": 1}}',
        b'{"vp_id": "vp.general.primary", "objective": "x", "\\ud800": 1}',
        b'{"vp_id": "vp.general.primary", "objective": "x", "constraints": ' + b'{"a":' * 100 + b"1" + b"}" * 101,
        b'{"vp_id": "vp.general.primary", "objective": "x", "constraints": {"a": '
        + b"[" * 100_000
        + b"]" * 100_000
        + b"}}",
        b'{"vp_id": "vp.general.primary\\n", "objective": "x"}',
        b'{"vp_id": "vp.general.primary", "objective": "x", "idempotency_key": "a\\u001bb"}',
    ],
    ids=range(21),
)
def test_a_body_that_is_no_plain_json_object_is_refused(shared: Api, body: bytes) -> None:
    assert post(shared, body) == (400, "validation_error")


def test_a_fault_deep_in_a_body_is_pointed_at(shared: Api) -> None:
    body = b'{"vp_id": "vp.general.primary", "objective": "x", "constraints": {"a/b": ["y", "\\u0000"]}}'

    response = shared.http.post(DISPATCH, content=body, headers=JSON)

    assert problem(response) == (400, "validation_error", ["#/constraints/a~1b/1"])


def test_a_body_that_is_too_large_is_refused_however_it_comes(shared: Api) -> None:
    body = json.dumps(PLAIN | {"constraints": {"filler": "x" * 2 * LONGEST_BODY}}).encode()

    assert post(shared, body) == (413, "too_large")
    chunked = shared.http.post(
        DISPATCH, content=(body[n : n + 65536] for n in range(0, len(body), 65536)), headers=JSON
    )
    assert refusal(chunked) == (413, "too_large")


def test_what_the_caller_does_not_accept_is_not_given(shared: Api) -> None:
    def accepted(accept: str) -> int:
        return shared.http.get(f"{ROOT}/lanes", headers={"Accept": accept}).status_code

    assert accepted("*/*") == accepted("application/*;q=0.5") == accepted("text/html, application/json;q=0.1") == 200
    assert refusal(shared.http.get(f"{ROOT}/lanes", headers={"Accept": "text/html"})) == (406, "not_acceptable")
    assert accepted("application/json;q=0") == 406


def test_a_sane_request_id_is_kept_and_another_is_replaced(shared: Api) -> None:
    def given(request_id: str) -> str:
        response = shared.http.get("/nope", headers={"X-Request-Id": request_id})
        assert response.json()["request_id"] == response.headers["x-request-id"]
        return str(response.headers["x-request-id"])

    assert given("abc-123.Z") == "abc-123.Z"
    for odd in ("a b", "x" * 200, "<script>", ""):
        assert given(odd) != odd
    first, second = (shared.get("/livez").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_two_host_headers_are_refused(shared: Api) -> None:
    address = urlsplit(shared.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        status = raw.makefile("rb").readline()
    assert status.split()[1] in {b"421", b"400"}


def test_what_nobody_expected_is_a_problem_that_gives_nothing_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("ua_vp.control.lanes.missions.counts", crash)
    with structlog.testing.capture_logs() as logged:
        response = api.get(f"{ROOT}/lanes")

    assert refusal(response) == (500, "internal_error")
    assert [(line["event"], line["request_id"]) for line in logged] == [
        ("request_failed", response.json()["request_id"])
    ]
    assert isinstance(logged[0]["exc_info"], ZeroDivisionError)
    assert "secret detail" not in response.text
    assert response.json()["request_id"] in response.json()["detail"]
    assert api.get("/livez").status_code == 200


def test_a_ledger_that_is_gone_is_said_and_may_come_back(api: Api) -> None:
    api.settings.ledger_path.rename(api.settings.ledger_path.with_suffix(".away"))

    read = api.get(f"{ROOT}/missions")
    ready = api.get("/readyz")

    assert refusal(read) == (503, "ledger_gone")
    assert int(read.headers["retry-after"]) > 0
    assert refusal(ready) == (503, "ledger_gone")
    assert ready.json()["ready"] is False
    assert ready.json()["reasons"]
    assert api.get("/livez").status_code == 200


def test_a_ledger_that_somebody_else_keeps_locked_is_busy_and_nothing_was_taken(api: Api) -> None:
    with closing(sqlite3.connect(api.settings.ledger_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = api.dispatch()
        assert refusal(refused) == (503, "ledger_busy")
        assert refused.json()["retryable"] is True
        assert int(refused.headers["retry-after"]) > 0
        assert api.get(f"{ROOT}/missions").json()["missions"] == []
        other.execute("ROLLBACK")

    assert api.dispatch().status_code == 202
