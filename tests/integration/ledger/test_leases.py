"""Who is taken for dead: by the machine's own boot clock, or by a database's clock that may step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.integration.ledger.places import LANE, LEASE, Place, Worker, dispatched, read
from ua_vp.ledger import LeaseTime, Ledger, Sightings, sessions
from ua_vp.ledger.leases import DATABASE
from ua_vp.mission import Status
from ua_vp.ports import MICROS

Workers = Callable[[str], Worker]
HOUR = 3600 * MICROS
OWN = 1_000 * MICROS
"""The observer's own boot clock when it begins."""


def at(now: int) -> LeaseTime:
    return LeaseTime(boot_id=DATABASE, now=now, steady=False)


def dead_after(sightings: Sightings, leases: Callable[[int], int], deadline: int) -> int:
    """How long (µs) an observer that looks each eighth of a lease has watched when it says that it is over."""
    for passed in range(0, 10 * LEASE, LEASE // 8):
        if sightings.judge(at(leases(passed)), own=OWN + passed)("m", DATABASE, deadline):
            return passed
    raise AssertionError("it is never over")


def test_a_lease_is_over_when_what_was_left_of_it_and_a_quarter_have_passed() -> None:
    half = HOUR + LEASE // 2
    assert dead_after(Sightings(LEASE), lambda passed: HOUR + passed, half) == LEASE // 2 + LEASE // 4


def test_nobody_is_watched_for_longer_than_a_lease() -> None:
    assert dead_after(Sightings(LEASE), lambda passed: HOUR + passed, HOUR + LEASE) == LEASE


def test_one_that_ran_out_before_anybody_looked_is_watched_for_half_a_lease() -> None:
    """A worker that lives renews each third of a lease: a step of the clock before the first look costs it nothing."""
    assert dead_after(Sightings(LEASE), lambda passed: HOUR + passed, 0) == LEASE // 2


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_databases_clock_neither_kills_nor_saves(step: int) -> None:
    def stepped(passed: int) -> int:
        return HOUR + passed + (step if passed >= LEASE // 2 else 0)

    assert dead_after(Sightings(LEASE), stepped, HOUR + LEASE) == LEASE


def test_a_deadline_further_off_than_a_lease_counts_as_one_lease() -> None:
    assert dead_after(Sightings(LEASE), lambda passed: passed, HOUR) == LEASE


def test_a_renewal_begins_the_watch_anew() -> None:
    sightings = Sightings(LEASE)
    for turn in range(20):
        deadline = HOUR + turn  # renewed between every two looks, on a clock that stands far behind
        assert not sightings.judge(at(2 * HOUR), own=OWN + turn * LEASE // 4)("m", DATABASE, deadline)


def test_asked_twice_about_the_same_it_says_the_same_and_forgets_what_is_long_over() -> None:
    sightings = Sightings(LEASE)
    for passed in (0, LEASE // 2, LEASE // 2):
        judge = sightings.judge(at(HOUR), own=OWN + passed)
        answers = {judge("m", DATABASE, 0) for _ in range(3)}
        assert answers == {passed > 0}
    sightings.judge(at(HOUR), own=OWN + 3 * LEASE)
    assert sightings._over_at == {}


def test_a_steady_clock_is_taken_at_its_word() -> None:
    judge = Sightings(LEASE).judge(LeaseTime(boot_id="b", now=100, steady=True), own=100)
    assert [judge("m", boot, deadline) for boot, deadline in (("b", 99), ("b", 100), ("a", 999))] == [True, False, True]


def test_reconcile_takes_only_whom_its_judge_takes_for_dead(ledger: Ledger, worker: Workers) -> None:
    ids = {dispatched(ledger).mission_id for _ in range(2)}
    one, other = worker("one"), worker("other")
    one.claim(2)
    spared, *_ = sorted(ids)
    found = other.reconcile(judge=lambda whose, _boot, _deadline: whose not in {spared, "one"})
    assert {mission.mission_id for mission in found.requeued} == ids - {spared}
    assert found.lost_sessions == []
    assert read(ledger, spared).status is Status.RUNNING
    (lost,) = other.reconcile(judge=lambda whose, _boot, _deadline: whose == "one").lost_sessions
    assert lost == "one"


def test_the_lease_clock_is_the_stores_own_or_the_machines(ledger: Ledger, place: Place) -> None:
    clock = place.ports.clock
    if place.url is None:
        before, found, after = clock.boot(), ledger.lease_time(), clock.boot()
        assert before <= found.now <= after
        assert (found.boot_id, found.steady) == (clock.boot_id, True)
        return
    before, found, after = clock.now(), ledger.lease_time(), clock.now()
    assert before <= found.now <= after, "one machine, one clock"
    assert (found.boot_id, found.steady) == (DATABASE, False)
    place.shift_clock(HOUR)
    assert HOUR - MICROS < ledger.lease_time().now - found.now < HOUR + 60 * MICROS


def test_sessions_and_claims_live_by_the_lease_clock(ledger: Ledger, worker: Workers) -> None:
    time = ledger.lease_time()
    one = replace(worker("s"), boot_id=time.boot_id, boot_now=time.now)
    one.renew()
    dispatched(ledger)
    (claim,) = one.claim()
    time = ledger.lease_time()
    (session,) = ledger.read(lambda tx: sessions.list_sessions(tx, LANE))
    assert sessions.session_state(session, time.boot_id, time.now) == "live"
    assert sessions.session_state(session, time.boot_id, time.now + 2 * LEASE) == "stale"
    mission = read(ledger, claim.mission_id)
    assert (mission.lease_boot, mission.lease_deadline) == (time.boot_id, one.deadline)
