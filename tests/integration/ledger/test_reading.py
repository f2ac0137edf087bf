"""Listing missions, events and numbers."""

from collections.abc import Callable

import pytest

from tests.integration.ledger.places import LANE, OTHER_LANE, START, Worker, cancelled, dispatched
from ua_vp.ledger import Ledger, events, missions
from ua_vp.mission import Ending, FailureMode, Status
from ua_vp.ports import MICROS

Workers = Callable[[str], Worker]


def test_pages_of_missions_are_newest_first_without_gap_or_repeat(ledger: Ledger) -> None:
    asked = [dispatched(ledger, now=START + number // 3).mission_id for number in range(10)]
    seen: list[str] = []
    before: tuple[int, str] | None = None
    while page := ledger.read(lambda tx, before=before: missions.page_missions(tx, limit=3, before=before)):  # type: ignore[misc]
        seen += [mission.mission_id for mission in page]
        before = (page[-1].created_at, page[-1].mission_id)
        dispatched(ledger, now=START + 100)
    assert seen == asked[::-1]


def test_missions_are_found_by_what_they_are(ledger: Ledger, worker: Workers) -> None:
    plain = dispatched(ledger, objective="Check the 100% links", source_session_id="a").mission_id
    other = dispatched(ledger, vp_id=OTHER_LANE, objective="mends the 1000 faults", source_session_id="b").mission_id
    ended = dispatched(ledger, objective="check links_too").mission_id
    cancelled(ledger, ended)

    def found(**narrow: object) -> set[str]:
        page = ledger.read(lambda tx: missions.page_missions(tx, limit=9, **narrow))  # type: ignore[arg-type]
        return {mission.mission_id for mission in page}

    assert found() == {plain, other, ended}
    assert found(vp_id=OTHER_LANE) == {other}
    assert found(statuses=[Status.QUEUED]) == {plain, other}
    assert found(statuses=[Status.QUEUED, Status.CANCELLED], vp_id=LANE) == {plain, ended}
    assert found(source_session_id="a") == {plain}
    assert found(q="CHECK") == {plain, ended}
    assert found(q="0%") == {plain}, "a wild card is taken as it is"
    assert found(q="s_t") == {ended}
    assert found(q=other[-12:]) == {other}
    assert found(lanes=[OTHER_LANE]) == {other}
    assert found(lanes=[]) == set()


def test_events_come_in_growing_seq_after_a_cursor_or_the_newest(ledger: Ledger, worker: Workers) -> None:
    ids = [dispatched(ledger, source_session_id=f"source-{number}").mission_id for number in range(4)]
    dispatched(ledger, vp_id=OTHER_LANE)
    seen = [event.seq for event in ledger.read(lambda tx: events.page_events(tx, after=0, limit=100))]
    assert seen == sorted(seen)
    assert len(seen) == 5

    def page(**narrow: object) -> list[int]:
        asked = {"after": None, "limit": 100, **narrow}
        return [event.seq for event in ledger.read(lambda tx: events.page_events(tx, **asked))]  # type: ignore[arg-type]

    assert page(limit=2) == seen[-2:]
    assert page(after=seen[1], limit=2) == seen[2:4]
    assert page(after=seen[-1]) == []
    assert page(mission_id=ids[2]) == [seen[2]]
    assert page(source_session_id="source-1") == [seen[1]]
    assert page(vp_id=LANE) == seen[:4]
    assert page(lanes=[OTHER_LANE]) == seen[4:]
    assert page(types=["vp.mission.started"]) == []
    worker("s").claim()
    assert len(page(types=["vp.mission.started", "vp.mission.completed"])) == 1
    assert ledger.read(events.newest_seq) == page(limit=1)[0]
    assert ledger.read(lambda tx: events.count_events(tx, ids[0])) == 2


def test_an_event_has_a_stable_id_of_its_own(ledger: Ledger) -> None:
    for _ in range(3):
        dispatched(ledger)
    first, second = (ledger.read(lambda tx: events.page_events(tx, after=0, limit=9)) for _ in range(2))
    assert [event.event_id for event in first] == [event.event_id for event in second]
    assert len({event.event_id for event in first}) == 3


def test_a_ledger_without_events_says_so(ledger: Ledger) -> None:
    assert ledger.read(events.newest_seq) == 0
    assert ledger.read(lambda tx: events.page_events(tx, after=None, limit=5)) == []


def test_metrics_count_what_is_there(ledger: Ledger, worker: Workers) -> None:
    for number in range(6):
        dispatched(ledger, now=START + number)
    dispatched(ledger, vp_id=OTHER_LANE)
    one = worker("s")
    one.now = START + 10
    for number, claim in enumerate(one.claim(4), start=1):
        one.now = START + 10 + number * MICROS
        if number < 4:
            mode = FailureMode.TIMEOUT
            failed = Ending(status=Status.FAILED, summary="no", failure_mode=mode)
            one.finish(claim, failed if number == 1 else Ending(status=Status.COMPLETED, summary="yes"))
    lane = ledger.read(lambda tx: missions.counts(tx, LANE))
    assert lane.counts == {"queued": 2, "running": 1, "completed": 2, "failed": 1, "cancelled": 0}
    assert lane.events["vp.mission.dispatched"] == 6
    assert (lane.queued, lane.running, lane.oldest_queued) == ({LANE: 2}, {LANE: 1}, START + 4)
    spans = lane.durations
    assert (spans.count, spans.avg, spans.p50, spans.p95, spans.max) == (3, 2.0, 2.0, 3.0, 3.0)
    whole = ledger.read(lambda tx: missions.counts(tx, None))
    assert whole.queued == {LANE: 2, OTHER_LANE: 1}
    assert whole.events["vp.mission.dispatched"] == 7
    assert whole.oldest_queued == START


@pytest.mark.parametrize("vp_id", [LANE, None])
def test_metrics_of_nothing_are_zeros(ledger: Ledger, vp_id: str | None) -> None:
    found = ledger.read(lambda tx: missions.counts(tx, vp_id))
    assert set(found.counts.values()) == {0}
    assert (found.durations.count, found.durations.p95, found.oldest_queued) == (0, 0.0, None)
