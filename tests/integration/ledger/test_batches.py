"""Changes that are kept back and sent together: nobody sees the difference but the store."""

import threading
from collections.abc import Callable

import pytest

from tests.integration.ledger.places import DONE, LANE, START, Place, Worker, dispatched, new_mission, piled_up
from ua_vp.ledger import FinishVerdict, Ledger, Transaction, claims, events, holding, missions
from ua_vp.ledger.finishing import TAKE
from ua_vp.ledger.transaction import Change, Waiting
from ua_vp.mission import Claim, Ending, Status


def test_what_a_step_wrote_it_reads_at_once(ledger: Ledger) -> None:
    def step(tx: Transaction) -> None:
        for number in range(1, 4):
            new = new_mission(idempotency_key=f"key-{number}")
            missions.dispatch(tx, new, now=START)
            assert missions.dispatch(tx, new, now=START).replayed  # type: ignore[union-attr]  # no other request
            assert missions.get_mission(tx, new.mission_id) is not None
            assert len(missions.page_missions(tx, limit=9)) == number
            assert events.newest_seq(tx) == events.page_events(tx, after=None, limit=1)[0].seq == number
            assert events.count_events(tx, new.mission_id) == 1
            assert sum(missions.counts(tx).counts.values()) == number

    ledger.run(step)


def test_many_missions_take_no_more_statements_than_a_few(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    run_each = Transaction._run_each

    def counted(self: Transaction, change: Change) -> object:
        sent.append(len(change.rows))
        return run_each(self, change)

    monkeypatch.setattr(Transaction, "_run_each", counted)

    def statements(missions_at_once: int) -> tuple[int, int]:
        sent.clear()
        worker = Worker(ledger, f"s-{missions_at_once}").start()
        ledger.run(lambda tx: [missions.dispatch(tx, new_mission(), now=START) for _ in range(missions_at_once)])
        assert len(worker.claim(missions_at_once)) == missions_at_once
        return len(sent), max(sent)

    few, many = statements(2), statements(50)
    assert few[0] == many[0]
    assert many[1] == 50


def test_a_change_that_finds_no_row_is_refused_alone(place: Place, ledger: Ledger) -> None:
    told: list[BaseException] = []

    def of_nobody(tx: Transaction) -> None:
        tx.write(holding.DROP_CLAIM, mission_id="vp-mission-nobody")

    def ask() -> None:
        try:
            ledger.run(of_nobody)
        except AssertionError as error:
            told.append(error)

    others = [threading.Thread(target=dispatched, args=(ledger,)) for _ in range(3)]
    piled_up(place, ledger, [*others, threading.Thread(target=ask)])
    assert len(told) == 1
    assert len(ledger.read(lambda tx: missions.page_missions(tx, limit=9))) == 3
    assert [event.seq for event in ledger.read(lambda tx: events.page_events(tx, after=0, limit=9))] == [1, 2, 3]
    ledger.run(lambda tx: tx.write(holding.DROP_CLAIM, mission_id="vp-mission-nobody", if_any=True))


def test_one_row_that_is_not_found_undoes_the_change_of_all(ledger: Ledger) -> None:
    for _ in range(3):
        dispatched(ledger)
    claimed = Worker(ledger, "s").start().claim(3)

    def one_is_of_another_attempt(tx: Transaction) -> None:
        for number, claim in enumerate(claimed):
            attempt = claim.attempt + number // 2
            tx.write(
                TAKE, mission_id=claim.mission_id, attempt=attempt, new_attempt=7, new_tries=0, new_updated_at=START
            )

    with pytest.raises(AssertionError, match="not there any more"):
        ledger.run(one_is_of_another_attempt)
    assert {mission.attempt for mission in ledger.read(lambda tx: missions.page_missions(tx, limit=9))} == {1}


def test_no_change_overtakes_another_of_its_mission() -> None:
    first, second = holding.INSERT, holding.DROP_CLAIM
    waiting = Waiting()

    def add(statement: object, mission_id: str) -> bool:
        return waiting.add(statement, {"mission_id": mission_id}, sure=True)  # type: ignore[arg-type]  # one of two

    assert add(first, "a")
    assert add(second, "a")
    assert add(first, "b")
    assert not add(first, "a"), "it would come before the second"
    assert [(change.statement, len(change.rows)) for change in waiting.take()] == [(first, 2), (second, 1)]
    assert add(first, "a"), "nothing waits any more"


def test_a_clock_that_steps_back_within_a_step_lets_nobody_overtake(ledger: Ledger) -> None:
    asked = [new_mission() for _ in range(3)]

    def step(tx: Transaction) -> None:
        for number, new in enumerate(asked):
            missions.dispatch(tx, new, now=START - number)

    ledger.run(step)
    taken = Worker(ledger, "s").start().claim(3)
    assert [claim.mission_id for claim in taken] == [new.mission_id for new in asked]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_ends_of_one_mission_the_current_attempts_counts(
    ledger: Ledger, worker: Callable[[str], Worker], order: tuple[int, int]
) -> None:
    dispatched(ledger)
    here = worker("s")
    (old,) = here.claim()
    holder = holding.Holder(session_id="s", worker_id=here.worker_id, boot_id=here.boot_id, deadline=here.deadline)
    new = ledger.run(lambda tx: claims.supersede(tx, old, holder, now=START, end_reason="unresponsive"))
    assert new is not None
    ends = [(old, DONE), (new, Ending(status=Status.COMPLETED, summary="taken over"))]

    def step(tx: Transaction) -> dict[int, FinishVerdict]:
        running = claims.all_running(tx, [claim for claim, _ in ends])
        found = {which: _finish(tx, *ends[which], running) for which in order}
        claims.settle(tx, [(ends[which][0], "abc") for which in order], now=START)
        return found

    assert ledger.run(step) == {0: FinishVerdict.LEASE_LOST, 1: FinishVerdict.DONE}
    (mission,) = ledger.read(lambda tx: missions.page_missions(tx, vp_id=LANE, limit=9))
    assert (mission.summary, mission.attempt, mission.marked_at) == ("taken over", 2, START)


def _finish(tx: Transaction, claim: Claim, ending: Ending, running: claims.Running) -> FinishVerdict:
    return claims.finish(
        tx,
        claim,
        ending,
        completed_at=START,
        result_ref="workspace:///srv/m",
        receipt_path="/srv/m/mission_receipt.json",
        sync_marker_path="/srv/m/sync_ready.json",
        running=running,
    )
