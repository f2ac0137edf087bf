"""Dispatching: once per key, durable, in order."""

import threading
from dataclasses import replace

from tests.integration.ledger.places import LANE, OTHER_LANE, START, Place, dispatched, event_types, new_mission, read
from ua_vp.ledger import Dispatched, KeyConflict, Ledger, missions
from ua_vp.mission import Budget, InputFile, NewMission, Status


def test_a_dispatched_mission_reads_back_as_it_was_given(ledger: Ledger) -> None:
    new = new_mission(
        objective="naïve ≠ simple\nsecond line",
        constraints={"argv": ["echo", "ü"], "depth": {"n": 1.5, "on": True, "none": None}},
        budget=Budget(seconds=2.5, tokens=7),
        inputs=(InputFile(input_id="i1", path="a/b.txt"),),
        source_session_id="session-1",
        retry_of="vp-mission-0",
        continues="vp-mission-1",
        group_id="group",
    )
    outcome = ledger.run(lambda tx: missions.dispatch(tx, new, now=START))
    assert isinstance(outcome, Dispatched)
    assert not outcome.replayed
    mission = read(ledger, new.mission_id)
    assert mission == outcome.mission
    assert mission.status is Status.QUEUED
    assert (mission.attempt, mission.tries) == (0, 0)
    same = ("objective", "constraints", "budget", "inputs", "source_session_id", "retry_of", "continues", "group_id")
    assert [getattr(mission, name) for name in same] == [getattr(new, name) for name in same]
    assert event_types(ledger, new.mission_id) == ["dispatched"]


def test_the_same_key_and_request_give_the_first_mission(ledger: Ledger) -> None:
    first = dispatched(ledger, idempotency_key="k", priority=1)
    again = ledger.run(lambda tx: missions.dispatch(tx, new_mission(idempotency_key="k", priority=9), now=START + 1))
    assert isinstance(again, Dispatched)
    assert again.replayed
    assert again.mission == first
    assert event_types(ledger, first.mission_id) == ["dispatched"]


def test_the_same_key_and_another_request_are_refused_and_name_the_mission(ledger: Ledger) -> None:
    first = dispatched(ledger, idempotency_key="k")
    other = new_mission(idempotency_key="k", objective="something else")
    assert ledger.run(lambda tx: missions.dispatch(tx, other, now=START)) == KeyConflict(mission_id=first.mission_id)


def test_a_key_counts_within_its_lane(ledger: Ledger) -> None:
    first = dispatched(ledger, idempotency_key="k", vp_id=LANE)
    second = dispatched(ledger, idempotency_key="k", vp_id=OTHER_LANE)
    assert first.mission_id != second.mission_id
    found = ledger.read(lambda tx: missions.find_by_key(tx, OTHER_LANE, "k"))
    assert found is not None
    assert found.mission.mission_id == second.mission_id
    assert ledger.read(lambda tx: missions.find_by_key(tx, LANE, "another")) is None


def test_a_hundred_callers_with_one_key_make_one_mission(ledger: Ledger) -> None:
    asked = [new_mission(idempotency_key="k") for _ in range(100)]
    asked += [replace(new, mission_id=f"{new.mission_id[:-4]}ffff", objective="another") for new in asked[:20]]
    outcomes: list[Dispatched | KeyConflict] = []

    def ask(new: NewMission) -> None:
        outcomes.append(ledger.run(lambda tx: missions.dispatch(tx, new, now=START)))

    first = dispatched(ledger, idempotency_key="k")
    callers = [threading.Thread(target=ask, args=(new,)) for new in asked]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    replays = [outcome for outcome in outcomes if isinstance(outcome, Dispatched)]
    conflicts = [outcome for outcome in outcomes if isinstance(outcome, KeyConflict)]
    assert (len(replays), len(conflicts)) == (100, 20)
    assert all(outcome.replayed for outcome in replays)
    assert {o.mission.mission_id for o in replays} | {c.mission_id for c in conflicts} == {first.mission_id}
    assert len(ledger.read(lambda tx: missions.page_missions(tx, limit=200))) == 1


def test_a_hundred_callers_with_a_new_key_make_one_mission(ledger: Ledger) -> None:
    outcomes: list[Dispatched | KeyConflict] = []
    start = threading.Barrier(100)

    def ask() -> None:
        new = new_mission(idempotency_key="k")
        start.wait()
        outcomes.append(ledger.run(lambda tx: missions.dispatch(tx, new, now=START)))

    callers = [threading.Thread(target=ask) for _ in range(100)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    replayed = [outcome.replayed for outcome in outcomes if isinstance(outcome, Dispatched)]
    assert (len(replayed), sum(replayed)) == (100, 99)
    assert len(ledger.read(lambda tx: missions.page_missions(tx, limit=200))) == 1


def test_a_dispatch_outlives_the_ledger_that_took_it(place: Place) -> None:
    mission = dispatched(place.open())
    place.close()
    assert read(place.open(create=False), mission.mission_id) == mission
