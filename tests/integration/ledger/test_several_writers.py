"""Several processes' worth of writers on one ledger, each with connections of its own: what one writer's order hides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from tests.figures import Figures
from tests.integration.ledger.places import (
    DONE,
    LANE,
    LEASE,
    SOMEBODY,
    START,
    Place,
    Worker,
    cancelled,
    dispatched,
    event_types,
    manifest,
    new_mission,
    read,
    register_lane,
    verdict,
)
from tests.waiting import wait_until
from ua_vp.ledger import (
    Dispatched,
    FinishVerdict,
    KeyConflict,
    Ledger,
    Transaction,
    events,
    lanes,
    missions,
    sessions,
    tables,
    verify_rows,
)
from ua_vp.mission import Claim, Ending, Mission, RequeueReason, Status

WRITERS = 6
STOPPED = Ending(status=Status.CANCELLED, summary="stopped")


@pytest.fixture
def several(place: Place) -> list[Ledger]:
    """Ledgers on one store that share nothing but it."""
    return [place.open(busy_seconds=30) for _ in range(WRITERS)]


def at_once(acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the acts give, each on a thread of its own, begun together; in their order."""
    together, given = threading.Barrier(len(acts)), dict[int, Any]()

    def run(number: int, act: Callable[[], Any]) -> None:
        together.wait()
        given[number] = act()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == len(acts), "an act raised"
    return [given[number] for number in range(len(acts))]


def test_the_order_of_seq_is_the_order_of_commits(place: Place) -> None:
    slow, quick = place.open(busy_seconds=30), place.open(busy_seconds=30)
    written, go_on = threading.Event(), threading.Event()

    def hold_up(tx: Transaction) -> None:
        missions.dispatch(tx, new_mission(), now=START)
        written.set()
        go_on.wait(30)

    first = threading.Thread(target=slow.run, args=(hold_up,))
    first.start()
    written.wait(30)
    second = threading.Thread(target=dispatched, args=(quick,))
    second.start()
    second.join(0.3)
    seen = [event.seq for event in place.opened[1].read(lambda tx: events.page_events(tx, after=0, limit=9))]
    cursor = seen[-1] if seen else 0
    go_on.set()
    first.join()
    second.join()
    later = quick.read(lambda tx: events.page_events(tx, after=cursor, limit=9))
    assert len(seen) + len(later) == 2, "a reader that resumes misses nothing, whoever took the first number"


def test_a_reader_that_follows_sees_every_event_once_and_in_order(several: list[Ledger], figures: Figures) -> None:
    each, seen, cursor, done = 40, list[int](), 0, threading.Event()

    def write(ledger: Ledger) -> None:
        for _ in range(each):
            dispatched(ledger)

    def follow() -> None:
        nonlocal cursor
        last = False
        while not last:
            last = done.is_set()
            for event in several[0].read(partial(events.page_events, after=cursor, limit=7)):
                seen.append(event.seq)
                cursor = event.seq
                last = False

    reader = threading.Thread(target=follow)
    reader.start()
    at_once([partial(write, ledger) for ledger in several])
    done.set()
    reader.join()
    total = WRITERS * each
    there = [event.seq for event in several[0].read(lambda tx: events.page_events(tx, after=0, limit=10_000))]
    assert len(there) == total
    figures(
        "a reader follows while several writers commit",
        tried=total,
        lost=len(set(there) - set(seen)),
        double=len(seen) - len(set(seen)),
    )
    assert seen == sorted(seen)


def test_one_key_from_everywhere_makes_one_mission(several: list[Ledger], figures: Figures) -> None:
    turns, double = 10, 0
    for turn in range(turns):

        def ask(ledger: Ledger, objective: str, key: str = f"k{turn}") -> Dispatched | KeyConflict:
            new = new_mission(idempotency_key=key, objective=objective)
            return ledger.run(lambda tx: missions.dispatch(tx, new, now=START))

        objectives = ["this"] * (WRITERS - 1) + ["another"]
        answers = at_once([partial(ask, it, text) for it, text in zip(several, objectives, strict=True)])
        made = {it.mission.mission_id if isinstance(it, Dispatched) else it.mission_id for it in answers}
        double += len(made) - 1
        assert sum(isinstance(it, Dispatched) and not it.replayed for it in answers) == 1
    double += len(several[0].read(lambda tx: missions.page_missions(tx, limit=99))) - turns
    figures("one key from several writers at once", tried=turns * WRITERS, double=double)


def test_claims_from_everywhere_never_meet(several: list[Ledger], figures: Figures) -> None:
    asked = {dispatched(several[0]).mission_id for _ in range(60)}

    def work(ledger: Ledger, number: int) -> list[tuple[str, int]]:
        one, mine = Worker(ledger, f"s{number}").start(), []
        while taken := one.claim(3):
            for claim in taken:
                mine.append((claim.mission_id, claim.attempt))
                assert one.finish(claim) is FinishVerdict.DONE
                assert one.mark(claim)
        return mine

    taken = at_once([partial(work, it, n) for n, it in enumerate(several)])
    claimed = [pair for pairs in taken for pair in pairs]
    figures(
        "several workers claim at once",
        tried=len(asked),
        lost=len(asked - {mission_id for mission_id, _ in claimed}),
        double=len(claimed) - len(set(claimed)),
        orphaned=len(several[0].read(lambda tx: tx.search(tables.claims.select()))),
    )
    assert several[0].read(verify_rows) == []


def test_of_cancel_and_finish_at_once_one_comes_first(several: list[Ledger]) -> None:
    one = Worker(several[0], "s").start()
    for _ in range(25):
        mission_id = dispatched(several[0]).mission_id
        (claim,) = one.claim()
        finished, asked = at_once([partial(one.finish, claim), partial(cancelled, several[1], mission_id)])
        if finished is FinishVerdict.CANCEL_FIRST:
            assert read(several[0], mission_id).cancel_requested
            assert one.finish(claim, STOPPED) is FinishVerdict.DONE
            assert event_types(several[0], mission_id)[-2:] == ["cancel_requested", "cancelled"]
        else:
            assert (finished, asked.already_terminal) == (FinishVerdict.DONE, True)
            assert event_types(several[0], mission_id)[-1] == "completed"


def test_of_cancel_and_claim_at_once_one_comes_first(several: list[Ledger]) -> None:
    one = Worker(several[0], "s").start()
    for _ in range(25):
        mission_id = dispatched(several[0]).mission_id
        taken, _ = at_once([one.claim, partial(cancelled, several[1], mission_id)])
        mission = read(several[0], mission_id)
        if taken:
            assert (mission.status, mission.cancel_requested) == (Status.RUNNING, True)
            assert one.finish(taken[0], STOPPED) is FinishVerdict.DONE
        else:
            assert (mission.status, mission.attempt) == (Status.CANCELLED, 1)


def test_what_a_dead_worker_left_is_taken_up_once(several: list[Ledger], figures: Figures) -> None:
    rounds, twice = 12, 0
    for number in range(rounds):
        dead = Worker(several[0], f"dead-{number}").start()
        for tries in (3, 3, 1):
            dispatched(several[0], max_tries=tries)
        left = {claim.mission_id for claim in dead.claim(3)}
        others = [Worker(it, f"alive-{number}-{n}", boot_now=LEASE + 1).start() for n, it in enumerate(several[1:])]
        found = at_once([other.reconcile for other in others])
        requeued = [mission.mission_id for it in found for mission in it.requeued]
        closing = [claim for it in found for claim in it.closing]
        lost = [session for it in found for session in it.lost_sessions]
        assert {*requeued, *(claim.mission_id for claim in closing)} == left
        twice += len(requeued) + len(closing) - len(left) + lost.count(dead.session_id) - 1
        for claim in (claim for other in others for claim in other.claim(5)):
            _end(others, claim)
        for claim in closing:
            _end(others, claim)
    figures("several workers reconcile at once", tried=3 * rounds, double=twice)


def _end(workers: Sequence[Worker], claim: Claim) -> None:
    (holder,) = (it for it in workers if it.session_id == claim.session_id)
    assert holder.finish(claim, DONE if not claim.closing else STOPPED) is FinishVerdict.DONE
    assert holder.mark(claim)


def test_of_a_finish_and_a_takeover_at_once_one_counts(several: list[Ledger]) -> None:
    for number in range(15):
        mission_id = dispatched(several[0]).mission_id
        late, other = Worker(several[0], f"late-{number}").start(), Worker(several[1], f"o-{number}").start()
        (claim,) = late.claim()
        other.boot_now = LEASE + 1
        finished, found = at_once([partial(late.finish, claim), other.reconcile])
        mission = read(several[0], mission_id)
        if finished is FinishVerdict.DONE:
            assert mission.status is Status.COMPLETED
            assert found.requeued == []
            other.mark(found.closing[0] if found.closing else claim)
        else:
            assert (mission.status, mission.requeue_reason) == (Status.QUEUED, RequeueReason.LEASE_LOST)
            cancelled(several[0], mission_id)


def test_a_lane_that_is_paused_gives_nothing_from_then_on(several: list[Ledger]) -> None:
    register_lane(several[0])
    one = Worker(several[1], "s").start()

    def pause() -> None:
        several[0].run(lambda tx: lanes.steer_lane(tx, LANE, paused=True, now=START, actor=SOMEBODY))

    for _ in range(10):
        several[0].run(lambda tx: lanes.steer_lane(tx, LANE, paused=False, now=START, actor=SOMEBODY))
        mission = dispatched(several[0])
        at_once([pause, one.claim])
        seen = several[0].read(lambda tx: events.page_events(tx, after=None, limit=2))
        kinds = [event.type for event in seen]
        started = "vp.mission.started" in kinds
        assert (read(several[0], mission.mission_id).status is Status.RUNNING) is started
        if started:
            assert kinds == ["vp.mission.started", "vp.lane.paused"], "what was claimed was claimed before"
        assert one.claim() == []
        if not started:
            cancelled(several[0], mission.mission_id)


def test_verdicts_published_at_once_leave_one_table_and_one_event(several: list[Ledger]) -> None:
    def publish(ledger: Ledger) -> None:
        told = [verdict("general", manifest(LANE)), verdict("other", manifest("vp.other.primary"))]
        ledger.run(lambda tx: lanes.publish_verdicts(tx, told, now=START, actor=SOMEBODY))

    at_once([partial(publish, it) for it in several])
    assert len(several[0].read(lanes.list_plugins)) == 2
    assert len(several[0].read(lanes.list_lanes)) == 2
    seen = several[0].read(lambda tx: events.page_events(tx, after=0, limit=99))
    assert sorted(event.vp_id or "" for event in seen) == [LANE, "vp.other.primary"]


def test_tallies_count_every_event_of_every_writer(several: list[Ledger]) -> None:
    def write(ledger: Ledger) -> list[Mission]:
        return [dispatched(ledger) for _ in range(20)]

    at_once([partial(write, it) for it in several])
    assert several[0].read(missions.counts).events["vp.mission.dispatched"] == 20 * WRITERS


def test_a_session_that_renews_while_another_reports_it_lost_is_open_in_the_end(several: list[Ledger]) -> None:
    one, other = Worker(several[0], "late").start(), Worker(several[1], "other").start()
    for turn in range(1, 10):
        one.boot_now = other.boot_now = turn * 3 * LEASE
        renewal, _ = at_once([one.renew, other.reconcile])
        assert renewal.alive
        (late,) = (it for it in several[0].read(sessions.list_sessions) if it.session_id == "late")
        assert (late.lost_at, late.lease_deadline) == (None, one.deadline)
        seen = several[0].read(lambda tx: events.page_events(tx, after=0, types=SEATS, limit=99))
        kinds = [event.type.removeprefix("vp.session.") for event in seen if event.session_id == "late"]
        assert kinds == ["opened", *["lost", "opened"] * (len(kinds) // 2)], "each loss is followed by a return"


SEATS = ("vp.session.opened", "vp.session.lost")


def test_a_writer_waits_for_another_and_no_longer_than_it_may(place: Place) -> None:
    ledger = place.open(busy_seconds=30)
    with place.locked():
        waits = threading.Thread(target=dispatched, args=(ledger,))
        waits.start()
        waits.join(0.7)
        assert waits.is_alive()
    waits.join()
    wait_until(lambda: ledger.read(events.newest_seq) == 1, within=5, why="it is written")
