"""Who runs first: priority that ages, then the order of dispatch; delayed missions stay out of the way."""

from collections.abc import Callable
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.ledger.places import LANE, OTHER_LANE, START, Place, Worker, dispatched, read
from ua_vp.ledger import Ledger, RequeueVerdict, claims, missions
from ua_vp.mission import AGEING_SECONDS, RequeueReason, Status
from ua_vp.ports import MICROS

STEP = AGEING_SECONDS * MICROS
Workers = Callable[[str], Worker]
numbers = count()


def test_missions_of_one_priority_run_in_order_of_dispatch(ledger: Ledger, worker: Workers) -> None:
    asked = [dispatched(ledger).mission_id for _ in range(5)]
    assert [claim.mission_id for claim in worker("s").claim(5)] == asked


def test_a_lower_number_runs_sooner_but_ages(ledger: Ledger, worker: Workers) -> None:
    late_urgent = dispatched(ledger, now=START + STEP, priority=99)
    early = dispatched(ledger, now=START + 2 * STEP, priority=100)
    overtaken = dispatched(ledger, now=START + 2 * STEP - 1 + STEP, priority=99)
    expected = [late_urgent.mission_id, overtaken.mission_id, early.mission_id]
    assert [claim.mission_id for claim in worker("s").claim(3)] == expected


def test_a_priority_of_zero_is_zero(ledger: Ledger, worker: Workers) -> None:
    plain, zero, negative = (dispatched(ledger, priority=priority) for priority in (1, 0, -1_000_000))
    expected = [negative.mission_id, zero.mission_id, plain.mission_id]
    assert [claim.mission_id for claim in worker("s").claim(3)] == expected


def test_a_wall_clock_that_stepped_back_lets_nobody_overtake(ledger: Ledger, worker: Workers) -> None:
    first = dispatched(ledger, now=START)
    second = dispatched(ledger, now=START - 3600 * MICROS)
    assert [claim.mission_id for claim in worker("s").claim(2)] == [first.mission_id, second.mission_id]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(
        st.tuples(st.integers(0, 5 * AGEING_SECONDS), st.sampled_from([-1_000_000, 0, 1, 99, 100, 101, 1_000_000])),
        min_size=1,
        max_size=12,
    )
)
def test_the_order_of_claims_is_that_of_instant_plus_priority_then_of_dispatch(
    place: Place, asked: list[tuple[int, int]]
) -> None:
    ledger = place.opened[0] if place.opened else place.open()
    lane = f"vp.l{next(numbers)}.primary"
    expected: list[tuple[int, int, str]] = []
    last = max((m.created_at for m in ledger.read(lambda tx: missions.page_missions(tx, limit=1))), default=0)
    for number, (seconds, priority) in enumerate(asked):
        now = START + seconds * MICROS
        mission = dispatched(ledger, now=now, vp_id=lane, priority=priority)
        last = max(last, now)
        expected.append((last + priority * STEP, number, mission.mission_id))
    one = Worker(ledger, f"session-{lane}", vp_id=lane)
    claimed = [claim.mission_id for _ in asked for claim in one.claim(1)]
    assert claimed == [mission_id for _, _, mission_id in sorted(expected)]


def test_a_delayed_mission_is_not_claimed_before_its_time_and_then_in_its_place(
    ledger: Ledger, worker: Workers
) -> None:
    delayed = dispatched(ledger, not_before=START + 100)
    prompt = dispatched(ledger)
    one = worker("s")
    assert [claim.mission_id for claim in one.claim(5)] == [prompt.mission_id]
    assert ledger.read(lambda tx: claims.next_due(tx, LANE, START)) == START + 100
    assert not ledger.read(lambda tx: claims.has_due(tx, LANE, START + 99))
    assert ledger.read(lambda tx: claims.has_due(tx, LANE, START + 100))
    later = dispatched(ledger, now=START + 50)
    one.now = START + 100
    assert [claim.mission_id for claim in one.claim(5)] == [delayed.mission_id, later.mission_id]
    assert ledger.read(lambda tx: claims.next_due(tx, LANE, START)) is None


def test_a_mission_put_back_keeps_its_place_and_waits_out_its_back_off(ledger: Ledger, worker: Workers) -> None:
    one = worker("s")
    first = dispatched(ledger)
    (claim,) = one.claim()
    second = dispatched(ledger, now=START + 1)
    assert one.requeue(claim, RequeueReason.RETRYABLE, backoff=5 * MICROS) is RequeueVerdict.REQUEUED
    waiting = read(ledger, first.mission_id)
    assert (waiting.status, waiting.due_at, waiting.tries) == (Status.QUEUED, START + 5 * MICROS, 1)
    assert waiting.requeue_reason is RequeueReason.RETRYABLE
    one.now = START + 5 * MICROS - 1
    assert [claim.mission_id for claim in one.claim(2)] == [second.mission_id]
    third = dispatched(ledger, now=START + 2)
    one.now = START + 5 * MICROS
    assert [claim.mission_id for claim in one.claim(2)] == [first.mission_id, third.mission_id]


def test_a_lane_claims_its_own_missions_only(ledger: Ledger, worker: Workers) -> None:
    dispatched(ledger, vp_id=OTHER_LANE)
    assert worker("s").claim(5) == []
