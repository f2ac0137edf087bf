"""Events: pages, and streams that are taken up again without gap or repeat."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.integration.api.handwork import hand
from tests.integration.api.problems import refusal
from tests.integration.api.serving import CODER, GENERAL, ROOT, Api
from ua_vp.access import Scope
from ua_vp.ledger import events

EVENTS = f"{ROOT}/events"
STREAM = {"Accept": "text/event-stream"}


@contextmanager
def stream(caller: httpx2.Client, *, last: int | None = None, **params: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a stream as they come; it is known to listen once this is entered."""
    headers = STREAM | ({"Last-Event-ID": str(last)} if last is not None else {})
    with caller.stream("GET", EVENTS, params=params, headers=headers, timeout=20) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        while not next(lines).startswith("retry:"):
            pass
        yield messages(lines)


def messages(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            event = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (str(event["seq"]), event["type"])
            yield event
            fields = {}


def newest(api: Api) -> int:
    return api.ledger.read(events.newest_seq)


def test_a_page_gives_what_comes_after_or_the_newest(api: Api) -> None:
    start = newest(api)
    for _ in range(5):
        api.mission_id()

    after = api.get(EVENTS, after=start, limit=3).json()
    rest = api.get(EVENTS, after=after["next_after"]).json()
    latest = api.get(EVENTS, limit=2).json()
    nothing = api.get(EVENTS, after=start + 5).json()
    nobodys = api.get(EVENTS, mission_id="vp-mission-0").json()

    assert [event["seq"] for event in after["events"]] == [start + 1, start + 2, start + 3]
    assert [event["seq"] for event in rest["events"]] == [start + 4, start + 5]
    assert [event["seq"] for event in latest["events"]] == [start + 4, start + 5]
    assert nothing == {"events": [], "next_after": start + 5}
    assert nobodys == {"events": [], "next_after": start + 5}
    assert api.get(EVENTS, after=10**12).json() == {"events": [], "next_after": 10**12}


def test_a_page_can_be_narrowed(api: Api) -> None:
    mine = api.mission_id(source_session_id="s1")
    api.mission_id(vp_id=CODER)
    api.http.post(f"{ROOT}/missions/{mine}/cancel")

    def types(**params: Any) -> list[str]:
        return [event["type"] for event in api.get(EVENTS, after=0, **params).json()["events"]]

    both = ["vp.mission.dispatched", "vp.mission.cancelled"]
    assert types(mission_id=mine) == types(source_session_id="s1") == both
    assert types(mission_id=mine, type="vp.mission.cancelled,vp.mission.failed") == both[1:]
    assert types(vp_id=CODER, type="vp.mission.dispatched") == both[:1]
    event = api.get(EVENTS, mission_id=mine, limit=1).json()["events"][0]
    assert event["actor"] == {"name": "ops", "via": "api"}
    assert list(event) == [
        *("seq", "event_id", "type", "mission_id", "vp_id", "session_id", "source_session_id", "attempt", "actor"),
        *("at", "payload"),
    ]


def test_a_stream_gives_what_happens_from_now_on(api: Api) -> None:
    api.mission_id()
    with stream(api.http, vp_id=GENERAL) as coming:
        with api.as_holder_of(api.token) as other:
            made = other.post(
                f"{ROOT}/missions/dispatch", json={"vp_id": GENERAL, "objective": "x", "mission_type": "plain"}
            )
        began = time.monotonic()
        assert next(coming)["mission_id"] == made.json()["mission"]["mission_id"]
        assert time.monotonic() - began < 5, "it was woken, it did not look by itself"


def test_a_stream_taken_up_again_has_neither_gap_nor_repeat(api: Api) -> None:
    start = newest(api)
    seen: list[int] = []

    def busy(number: int) -> None:
        with api.as_holder_of(api.token) as caller:
            for _ in range(20):
                caller.post(
                    f"{ROOT}/missions/dispatch", json={"vp_id": GENERAL, "objective": "x", "mission_type": "plain"}
                )

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(busy, number) for number in range(3)]
        while len(seen) < 60:
            # Broken off after every seventh event, in the midst of the writing.
            with stream(api.http, last=seen[-1] if seen else start) as coming:
                seen += [next(coming)["seq"] for _ in range(min(7, 60 - len(seen)))]
        for writer in writers:
            writer.result()

    assert seen == list(range(start + 1, start + 61))


def test_where_to_begin_is_the_last_event_before_the_parameter(api: Api) -> None:
    start = newest(api)
    for _ in range(3):
        api.mission_id()

    with stream(api.http, last=start + 2, after=start) as coming:
        assert next(coming)["seq"] == start + 3
    with stream(api.http, after=start + 1) as coming:
        assert next(coming)["seq"] == start + 2
    assert refusal(api.http.get(EVENTS, headers=STREAM | {"Last-Event-ID": "x"})) == (400, "validation_error")


def test_a_stream_stays_within_its_bounds(api: Api) -> None:
    start = newest(api)
    api.mission_id(vp_id=CODER)
    mine = api.mission_id()
    with api.as_holder_of(api.token_with(Scope.EVENTS_READ, lanes=[GENERAL])) as caller:
        assert refusal(caller.get(EVENTS, params={"vp_id": CODER}, headers=STREAM)) == (404, "not_found")
        with stream(caller, after=start) as coming:
            assert next(coming)["mission_id"] == mine


def test_terminal_events_list_what_can_be_read_at_once(api: Api) -> None:
    mission_id = api.mission_id()
    worker = hand(api)
    claim = worker.claim()
    with stream(api.http, mission_id=mission_id, type="vp.mission.completed,vp.mission.ready") as coming:
        worker.work(claim)
        sha256 = worker.commit(claim)
        completed = next(coming)
        with api.as_holder_of(api.token) as reader:
            for artifact in completed["payload"]["artifacts"]:
                path = f"{ROOT}/missions/{mission_id}/artifacts/{artifact['path']}"
                assert reader.get(path).headers["etag"] == f'"{artifact["sha256"]}"'
        worker.publish(claim)
        worker.mark(claim, sha256)
        assert next(coming)["payload"] == {"receipt_sha256": sha256}


def test_a_stream_ends_when_its_token_is_used_up(api: Api) -> None:
    with api.as_holder_of(api.token_with(Scope.EVENTS_READ, lives=1_500_000)) as caller, stream(caller) as coming:
        while (event := next(coming, None)) is not None:  # each wake-up looks at the token
            assert event["type"] == "vp.mission.dispatched"
        assert refusal(caller.get(EVENTS)) == (401, "unauthorized")


def test_a_head_request_does_not_start_a_stream(api: Api) -> None:
    response = api.http.head(EVENTS, headers=STREAM)

    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, "text/event-stream")
