"""The client against a real server on loopback that misbehaves on purpose."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.scripted_api import (
    DROPPED,
    MISSION_ID,
    Asked,
    Said,
    artifact,
    as_json,
    detail,
    event,
    mission,
    problem,
    scripted,
)
from ua_vp import errors
from ua_vp.client import Client, LogPart, find
from ua_vp.client.logs import follow
from ua_vp.client.transport import CLASSES
from ua_vp.errors import DifferenceError, LedgerBusyError, NotFoundError, UnreachableError, VpError, WorkspaceError
from ua_vp.runtime.clock import RealClock
from ua_vp.wire import DispatchRequest, MissionView

REQUEST = {"vp_id": "vp.general.primary", "objective": "Do it"}


def request(**more: object) -> DispatchRequest:
    return DispatchRequest.model_validate(REQUEST | more)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.code))
def test_a_refusal_is_the_error_of_its_code_in_its_own_words(kind: type[VpError]) -> None:
    faults = [{"pointer": "#/objective", "detail": "is empty"}]
    said = problem(kind.code, detail="  exactly\nthis ", errors=faults, mission_id=MISSION_ID)
    with scripted(lambda _: said) as api, api.client() as client, pytest.raises(kind) as raised:
        client.lanes()
    assert type(raised.value) is kind
    assert raised.value.detail == "  exactly\nthis "
    assert [(fault.pointer, fault.detail) for fault in raised.value.faults] == [("#/objective", "is empty")]
    assert raised.value.mission_id == MISSION_ID


def test_every_code_of_the_api_has_its_class() -> None:
    from ua_vp.ops.problems import STATUS

    without_class = {"internal_error", "route_mismatch", "turn_closed"}
    assert {kind.code for kind in CLASSES} == STATUS.keys() - without_class


def test_a_code_that_this_client_does_not_know_is_kept() -> None:
    said = problem("from_the_future", 418)
    with scripted(lambda _: said) as api, api.client() as client, pytest.raises(VpError) as raised:
        client.lanes()
    assert raised.value.code == "from_the_future"


def test_nobody_there_names_the_address_and_the_remedy() -> None:
    with scripted(lambda _: DROPPED) as api:
        gone = api.url
    with Client(gone, None, clock=RealClock(boot_id="")) as client, pytest.raises(UnreachableError) as raised:
        client.lanes()
    assert gone in raised.value.detail
    assert "`ua-vp up`" in raised.value.detail


@pytest.mark.parametrize("said", [Said(body=b"<html>"), Said(status=502, body=b"<html>"), as_json({"lanes": 3})])
def test_somebody_else_there_is_no_api(said: Said) -> None:
    with scripted(lambda _: said) as api, api.client() as client, pytest.raises(UnreachableError, match="UA_VP_URL"):
        client.lanes()


def test_a_dispatch_with_a_key_survives_a_lost_answer_and_a_busy_ledger() -> None:
    answers = iter([DROPPED, problem("ledger_busy", 503), as_json({"mission": mission()}, 202)])
    with scripted(lambda _: next(answers)) as api, api.client() as client:
        answer = client.dispatch(request(idempotency_key="k1"))
    assert answer.mission.mission_id == MISSION_ID
    assert [one.json for one in api.asked] == [REQUEST | {"idempotency_key": "k1"}] * 3


@pytest.mark.parametrize("said", [DROPPED, problem("ledger_busy", 503)])
def test_a_dispatch_without_a_key_is_sent_once(said: Said) -> None:
    lost = pytest.raises((UnreachableError, LedgerBusyError))
    with scripted(lambda _: said) as api, api.client() as client, lost:
        client.dispatch(request())
    assert len(api.asked) == 1


def test_an_unavailable_lane_is_told_at_once_though_it_may_come_back() -> None:
    said = problem("lane_unavailable", 503)
    with scripted(lambda _: said) as api, api.client() as client, pytest.raises(errors.LaneUnavailableError):
        client.dispatch(request(idempotency_key="k1"))
    assert len(api.asked) == 1


def test_a_wait_asks_again_until_the_mission_has_ended() -> None:
    states = iter(["queued", "running", "completed"])

    def answer(_: Asked) -> Said:
        state = next(states)
        return as_json({"mission": mission(state), "timed_out": state != "completed"})

    with scripted(answer) as api, api.client() as client:
        last = client.wait(MISSION_ID)
    assert (last.mission.status, last.timed_out) == ("completed", False)
    assert {one.query["timeout_seconds"] for one in api.asked} == {"50"}


def test_a_wait_outlasts_an_api_that_restarts() -> None:
    answers = iter([DROPPED, DROPPED, as_json({"mission": mission("failed"), "timed_out": False})])
    with scripted(lambda _: next(answers)) as api, api.client() as client:
        assert client.wait(MISSION_ID).mission.status == "failed"


def test_a_wait_whose_time_is_over_says_so() -> None:
    with scripted(lambda _: as_json(detail(mission()))) as api, api.client() as client:
        last = client.wait(MISSION_ID, timeout=0)
    assert last.timed_out
    assert api.paths() == [f"GET /api/v1/ops/vp/missions/{MISSION_ID}"]


def stream(*seqs: int, torn: bytes = b"") -> Said:
    text = "".join(f": ping\n\nid: {seq}\nevent: x\ndata: {json.dumps(event(seq))}\n\n" for seq in seqs)
    return Said(body=text.encode() + torn, headers={"Content-Type": "text/event-stream"}, cut=True)


def test_a_stream_is_taken_up_again_without_gap_or_repeat() -> None:
    torn = f"id: 6\ndata: {json.dumps(event(6))[:40]}".encode()
    answers = iter([stream(4, 5, torn=torn), DROPPED, stream(5, 6), stream(7)])
    with scripted(lambda _: next(answers)) as api, api.client() as client:
        seqs = [one.seq for one in itertools.islice(client.follow_events(after=3), 4)]
    assert seqs == [4, 5, 6, 7]
    assert [one.query["after"] for one in api.asked] == ["3", "5", "5", "6"]
    assert {one.headers["Accept"] for one in api.asked} == {"text/event-stream"}


def test_a_stream_from_now_on_begins_at_the_newest_event() -> None:
    answers = iter([as_json({"events": [event(9)], "next_after": 9}), stream(10)])
    with scripted(lambda _: next(answers)) as api, api.client() as client:
        assert next(client.follow_events()).seq == 10
    assert api.asked[1].query["after"] == "9"


def test_pages_are_read_to_the_end() -> None:
    def answer(asked: Asked) -> Said:
        pages = {None: ("c1", 2), "c1": (None, 1)}
        cursor, count = pages[asked.query.get("cursor")]
        return as_json({"missions": [mission()] * count, "next_cursor": cursor})

    with scripted(answer) as api, api.client() as client:
        assert len(list(client.each_mission())) == 3


def test_a_download_is_whole_or_not_there(tmp_path: Path) -> None:
    listed = artifact("work_products/a.txt", b"right")
    with scripted(lambda _: Said(body=b"right")) as api, api.client() as client:
        assert client.download(MISSION_ID, listed, tmp_path).read_bytes() == b"right"
    refused = pytest.raises(DifferenceError, match="another hash")
    with scripted(lambda _: Said(body=b"wrong")) as api, api.client() as client, refused:
        client.download(MISSION_ID, listed, tmp_path / "other")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.txt"]


@pytest.mark.parametrize("path", ["../a", "/etc/a", "link/a", "x/../../a"])
def test_a_download_stays_in_its_folder(tmp_path: Path, path: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    with (
        scripted(lambda _: Said(body=b"x")) as api,
        api.client() as client,
        pytest.raises(WorkspaceError, match="leads out"),
    ):
        client.download(MISSION_ID, artifact(path, b"x"), inside)
    assert list(tmp_path.iterdir()) == [inside]


def workspace() -> dict[str, bytes]:
    """A sound workspace, by path."""
    files = {"work_products/a.txt": b"A", "run.log": b"log"}
    listed = [artifact(path, content).model_dump() for path, content in files.items()]
    receipt = json.dumps({"mission_id": MISSION_ID, "artifacts": listed}).encode()
    marker = json.dumps({"receipt_sha256": artifact("", receipt).sha256}).encode()
    return files | {"mission_receipt.json": receipt, "sync_ready.json": marker}


def verified(files: dict[str, bytes], recorded: bytes) -> list[str]:
    def answer(asked: Asked) -> Said:
        if asked.path.endswith("/events"):
            ready = event(1, type="vp.mission.ready", payload={"receipt_sha256": artifact("", recorded).sha256})
            return as_json({"events": [ready], "next_after": 1})
        path = asked.path.split("/artifacts/", 1)[1]
        return Said(body=files[path]) if path in files else problem("not_found", 404)

    with scripted(answer) as api, api.client() as client:
        return [one.path for one in client.verify(MISSION_ID)]


def test_a_sound_workspace_verifies() -> None:
    files = workspace()
    assert verified(files, files["mission_receipt.json"]) == []


@pytest.mark.parametrize("path", ["work_products/a.txt", "run.log", "sync_ready.json", "mission_receipt.json"])
@pytest.mark.parametrize("content", [b"B", b"longer than it was", b"{}", None])
def test_every_difference_is_found(path: str, content: bytes | None) -> None:
    files = workspace()
    recorded = files["mission_receipt.json"]
    del files[path]
    if content is not None:
        files[path] = content
    assert path in verified(files, recorded)


def test_a_receipt_that_the_ledger_does_not_know_is_a_difference() -> None:
    assert verified(workspace(), b"another receipt") == ["mission_receipt.json"]


def look(*missions: dict[str, object]) -> Iterator[MissionView]:
    for one in missions:
        yield MissionView.model_validate(one)


def test_a_followed_log_goes_on_into_the_next_attempt_and_misses_nothing_before_the_end() -> None:
    texts = {1: b"first", 2: b"second"}
    seen = look(
        mission("queued"),
        mission("running", attempt=1),
        mission("queued", attempt=1),
        mission("running", attempt=2),
        mission("completed", attempt=2),
    )

    def read(attempt: int, offset: int) -> Iterator[LogPart]:
        data = texts[attempt][offset : offset + 3]
        if data:
            yield LogPart(attempt=attempt, data=data, next_offset=offset + len(data))

    parts = list(follow(read, lambda: next(seen), attempt=None))
    assert b"".join(part.data for part in parts) == b"first" + b"second"
    assert [part.attempt for part in parts] == [1, 1, 2, 2]


def test_a_log_that_is_not_opened_yet_is_waited_for() -> None:
    seen = look(mission("running"), mission("completed"))
    opened = iter([False, True])

    def read(attempt: int, offset: int) -> Iterator[LogPart]:
        if not next(opened):
            raise NotFoundError("no log yet")
        yield LogPart(attempt=attempt, data=b"all", next_offset=offset + 3)

    assert [part.data for part in follow(read, lambda: next(seen), attempt=None)] == [b"all"]


def test_the_place_is_what_was_given_or_what_the_running_api_wrote(tmp_path: Path) -> None:
    ops, token = tmp_path / "ops.json", tmp_path / "ops.token"
    with pytest.raises(UnreachableError, match="ua-vp up"):
        find(url=None, token=None, ops_file=ops, token_file=token)
    ops.write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 1, "ledger_id": "x"}))
    token.write_text("local\n")
    found = find(url=None, token=None, ops_file=ops, token_file=token)
    assert (found.url, found.token) == ("http://127.0.0.1:1", "local")
    given = find(url="unix:/run/a.sock", token="t", ops_file=ops, token_file=token)
    assert (given.socket, given.token) == ("/run/a.sock", "t")


@pytest.mark.parametrize("url", ["https://vps.tail.ts.net", "http://127.0.0.1.evil.example:8790", "http://10.0.0.1:1"])
def test_the_homes_own_token_is_never_sent_to_another_machine(tmp_path: Path, url: str) -> None:
    token = tmp_path / "ops.token"
    token.write_text("local")
    assert find(url=url, token=None, ops_file=tmp_path / "none", token_file=token).token is None


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8790", "http://", "unix:", "http://a:b@c/"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="UA_VP_URL"):
        find(url=url, token=None, ops_file=tmp_path, token_file=tmp_path)
