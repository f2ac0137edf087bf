"""What the API makes of a mission, a lane, a request; pure."""

from dataclasses import replace

import pytest

from ua_vp.control.asking import Moment, seal, unseal
from ua_vp.control.query import held_for
from ua_vp.control.views import LaneNow, mission_view, queued_reason
from ua_vp.errors import ValidationError
from ua_vp.mission import Budget, Mission, ReplyMode, RequeueReason, Status
from ua_vp.ops.boundary import host_allowed
from ua_vp.ops.files import as_attachment, matches, parse_range, shown_as
from ua_vp.ops.missions import etag_of, preferred_wait, unquoted
from ua_vp.wire import MissionDetail, from_iso, to_iso

NOW = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z"""
MOMENT = Moment(now=NOW, boot_id="b1", boot=5_000_000)
LANE = LaneNow(capacity=2, live_workers=1)
QUEUED = Mission(
    mission_id="vp-mission-1", vp_id="vp.general.primary", status=Status.QUEUED, mission_type="task", objective="x",
    constraints={}, budget=Budget(), inputs=(), priority=100, attempt=0, tries=0, max_tries=3, cancel_requested=False,
    cancel_reason=None, cancelled_by=None, result_ref=None, summary=None, failure_mode=None, failure_detail=None,
    source_session_id=None, source_turn_id=None, turn_id=None, reply_mode=ReplyMode.ASYNC, retry_of=None,
    continues=None, group_id=None, created_by="ops", not_before=None, due_at=NOW - 1, requeue_reason=None,
    created_at=NOW - 1, started_at=None, last_progress_at=None, completed_at=None, updated_at=NOW - 1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("mission", "lane", "reason"),
    [
        (QUEUED, LANE, "waiting_for_worker"),
        (QUEUED, None, "no_live_worker"),
        (QUEUED, replace(LANE, live_workers=0), "no_live_worker"),
        (QUEUED, replace(LANE, running=2), "lane_at_capacity"),
        (QUEUED, replace(LANE, running=2, live_workers=2), "waiting_for_worker"),
        (replace(QUEUED, due_at=NOW + 1, requeue_reason=RequeueReason.RETRYABLE), LANE, "retry_backoff"),
        (replace(QUEUED, due_at=NOW + 1, requeue_reason=RequeueReason.PROVIDER_HOLD), LANE, "provider_hold"),
        (replace(QUEUED, due_at=NOW, requeue_reason=RequeueReason.RETRYABLE), LANE, "waiting_for_worker"),
        (replace(QUEUED, due_at=NOW + 1, not_before=NOW + 1), replace(LANE, live_workers=0), "not_before"),
        (QUEUED, replace(LANE, draining=True, live_workers=0), "lane_draining"),
        (QUEUED, replace(LANE, draining=True, paused=True), "lane_paused"),
        (replace(QUEUED, status=Status.RUNNING), LANE, None),
    ],
)
def test_a_queued_mission_says_the_one_reason_that_comes_first(
    mission: Mission, lane: LaneNow | None, reason: str | None
) -> None:
    assert queued_reason(mission, MOMENT, lane) == reason


def test_a_lease_is_shown_under_its_own_boot_alone() -> None:
    running = replace(
        QUEUED, status=Status.RUNNING, lease_boot="b1", lease_deadline=8_000_000, started_at=NOW - 2_500_000
    )

    shown = mission_view(running, MOMENT, None)

    assert shown.lease_expires_at == "2026-01-01T00:00:03.000000Z"
    assert shown.duration_seconds == 2.5
    assert mission_view(replace(running, lease_boot="b2"), MOMENT, None).lease_expires_at is None
    assert mission_view(replace(running, lease_boot=None, lease_deadline=None), MOMENT, None).lease_expires_at is None


def test_a_result_is_shown_once_it_is_published() -> None:
    ended = replace(QUEUED, status=Status.COMPLETED, result_ref="workspace:///srv/m", completed_at=NOW - 5)

    assert mission_view(ended, MOMENT, None).result_ref is None
    published = mission_view(replace(ended, published_at=NOW, marked_at=NOW + 7), MOMENT, None)
    assert published.result_ref == "workspace:///srv/m"
    assert published.ready_at == published.updated_at == to_iso(NOW + 7)


def test_who_waits_is_held_until_it_is_ready_or_blocked_or_five_seconds_have_passed() -> None:
    ended = replace(QUEUED, status=Status.FAILED, completed_at=NOW)

    assert held_for(QUEUED, NOW) is None
    assert held_for(replace(QUEUED, status=Status.RUNNING), NOW) is None
    assert held_for(ended, NOW + 2_000_000) == 3.0
    assert held_for(ended, NOW + 5_000_000) == 0.0
    assert held_for(ended, NOW - 3_600_000_000) == 5.0, "a clock that stepped back holds nobody for an hour"
    assert held_for(replace(ended, marked_at=NOW), NOW) == 0.0
    assert held_for(replace(ended, blocked_at=NOW), NOW) == 0.0


def test_a_tag_does_not_change_with_the_clock_alone() -> None:
    running = replace(QUEUED, status=Status.RUNNING, lease_boot="b1", lease_deadline=8_000_000, started_at=NOW - 1)

    def tag(mission: Mission, moment: Moment) -> str:
        view = mission_view(mission, moment, None)
        return etag_of(
            MissionDetail(mission=view, terminal=False, events=[], events_total=0, artifacts=[], artifacts_total=0)
        )

    later = replace(MOMENT, now=NOW + 5, boot=MOMENT.boot + 9)
    assert tag(running, MOMENT) == tag(running, later)
    assert tag(running, MOMENT) != tag(replace(running, last_progress_at=NOW), MOMENT)
    assert tag(running, MOMENT) != tag(replace(running, summary="half way"), MOMENT)


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00Z", "2026-01-01T02:00:00+02:00", "2025-12-31T19:00:00.000000-05:00"]
)
def test_an_instant_is_read_in_any_zone(text: str) -> None:
    assert from_iso(text) == NOW
    assert to_iso(NOW) == "2026-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00", "2026-01-01", "now", "", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|outside"):
        from_iso(text)


def test_a_cursor_comes_back_as_it_was_and_no_other_is_taken() -> None:
    assert unseal(seal(5, "vp-mission-1"), 2) == ["5", "vp-mission-1"]
    for other in ("", "!", "x", seal(5), seal("a", "b"), seal(1, 2, 3), seal("9" * 40, "b"), "é"):
        with pytest.raises(ValidationError):
            unseal(other, 2)


def test_ranges_of_a_file() -> None:
    found = {
        wanted: parse_range(wanted, 10) for wanted in ("bytes=0-0", "bytes=3-99", "bytes=-4", "bytes=-99", "bytes=9-")
    }
    assert found == {
        "bytes=0-0": (0, 1),
        "bytes=3-99": (3, 10),
        "bytes=-4": (6, 10),
        "bytes=-99": (0, 10),
        "bytes=9-": (9, 10),
    }
    assert [
        parse_range(w, 10) for w in (None, "bytes=10-", "bytes=4-3", "bytes=-", "bytes=-0", "bytes=1-2,4-5", "x")
    ] == [None] * 7
    assert parse_range("bytes=0-", 0) is None


def test_files_are_sent_as_what_no_browser_runs() -> None:
    types = ("text/html", "image/svg+xml", "application/json", "application/octet-stream", "image/png", "")
    assert {kind: shown_as(kind).split(";")[0] for kind in types} == {
        "text/html": "text/plain",
        "image/svg+xml": "text/plain",
        "application/json": "text/plain",
        "application/octet-stream": "application/octet-stream",
        "image/png": "application/octet-stream",
        "": "application/octet-stream",
    }
    assert (
        as_attachment('a/b"\r\n\u202e.md')
        == "attachment; filename=\"b____.md\"; filename*=UTF-8''b%22%0D%0A%E2%80%AE.md"
    )


def test_tags_are_compared_weakly() -> None:
    assert matches('"a", W/"b"', 'W/"a"')
    assert matches("*", '"a"')
    assert not matches('"ab"', '"a"')
    assert not matches(None, '"a"')


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [(["wait=10"], 10), (["respond-async, wait = 7"], 7), (["wait=500"], 50), (["wait=0"], None), (["wait=-1"], None),
     (["wait=x"], None), ([], None), (["respond-async", "Wait=3"], 3)],
)  # fmt: skip
def test_a_preference_to_wait_is_read(prefer: list[str], seconds: int | None) -> None:
    assert preferred_wait(prefer) == seconds


def test_a_key_in_quotes_is_the_key() -> None:
    assert [unquoted(key) for key in ('"k"', "k", '""', '"', '"a')] == ["k", "k", '""', '"', '"a']


def test_a_host_is_compared_whole() -> None:
    allowed = frozenset({"127.0.0.1", "[::1]"})
    assert host_allowed(["127.0.0.1:8790"], allowed)
    assert host_allowed(["[::1]"], allowed)
    for hosts in ([], ["127.0.0.1", "127.0.0.1"], ["x127.0.0.1"], ["127.0.0.1:"], [""], ["127.0.0.1/x"]):
        assert not host_allowed(hosts, allowed)
