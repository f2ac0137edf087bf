"""One writer, many callers: batches, errors that stay with their caller, stores that are busy."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.integration.ledger.places import START, Place, dispatched, new_mission, piled_up
from ua_vp.errors import LedgerBusyError, LedgerGoneError
from ua_vp.ledger import Ledger, Transaction, events, missions, writer
from ua_vp.ledger.engine import wait_for_write_lock
from ua_vp.ports import Ports


class RefusedError(Exception):
    pass


def count(ledger: Ledger) -> int:
    return len(ledger.read(lambda tx: missions.page_missions(tx, limit=10_000)))


def test_waiting_steps_share_one_transaction(place: Place, ledger: Ledger) -> None:
    before = ledger.batches
    piled_up(place, ledger, [threading.Thread(target=dispatched, args=(ledger,)) for _ in range(100)])
    assert count(ledger) == 100
    assert ledger.batches - before == 2, "the one that was held up, and one for all hundred"


def test_a_step_that_raises_undoes_only_itself(place: Place, ledger: Ledger) -> None:
    told: list[Exception] = []

    def fail(number: int) -> None:
        def step(tx: Transaction) -> None:
            missions.dispatch(tx, new_mission(), now=START)
            raise RefusedError(str(number))

        try:
            ledger.run(step)
        except RefusedError as error:
            told.append(error)

    callers = [
        threading.Thread(target=fail, args=(n,)) if n % 2 else threading.Thread(target=dispatched, args=(ledger,))
        for n in range(40)
    ]
    piled_up(place, ledger, callers)
    assert sorted(int(str(error)) for error in told) == list(range(1, 40, 2))
    assert count(ledger) == 20
    seen = ledger.read(lambda tx: events.page_events(tx, after=0, limit=100))
    assert len(seen) == 20
    assert sum(ledger.read(missions.counts).counts.values()) == 20


def test_a_step_that_breaks_a_constraint_hears_of_it_and_nobody_else(ledger: Ledger) -> None:
    mission = dispatched(ledger)
    with pytest.raises(Exception, match="already"):
        dispatched(ledger, mission_id=mission.mission_id)
    dispatched(ledger)
    assert count(ledger) == 2


def test_when_nobody_is_let_in_the_callers_of_a_failed_batch_wait_once_for_all(
    place: Place, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, busy = list[float](), list[LedgerBusyError]()

    def wait(begin: Callable[[], bool], ports: Ports, *, limit: float) -> None:
        waits.append(limit)
        if len(waits) > 2:  # the first is that of the Step that holds the writer up
            raise LedgerBusyError("somebody else has it")
        wait_for_write_lock(begin, ports, limit=limit)

    def ask() -> None:
        try:
            ledger.run(lambda _: 1 // 0)
        except LedgerBusyError as error:
            busy.append(error)

    monkeypatch.setattr(writer, "wait_for_write_lock", wait)
    piled_up(place, ledger, [threading.Thread(target=ask) for _ in range(5)])
    assert (len(busy), len(waits)) == (5, 3)


def test_a_reader_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(Exception, match=r"read-?only"):
        ledger.read(lambda tx: missions.dispatch(tx, new_mission(), now=START))
    assert count(ledger) == 0


def test_a_reader_sees_one_snapshot_and_stops_no_writer(ledger: Ledger) -> None:
    def look(tx: Transaction) -> tuple[int, int]:
        before = len(missions.page_missions(tx, limit=10))
        writer = threading.Thread(target=dispatched, args=(ledger,))
        writer.start()
        writer.join()
        return before, len(missions.page_missions(tx, limit=10))

    assert ledger.read(look) == (0, 0)
    assert count(ledger) == 1


def test_many_readers_read_at_once(ledger: Ledger) -> None:
    dispatched(ledger)
    together = threading.Barrier(30)
    found: list[int] = []

    def look(tx: Transaction) -> int:
        together.wait()
        return len(missions.page_missions(tx, limit=10))

    readers = [threading.Thread(target=lambda: found.append(ledger.read(look))) for _ in range(30)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [1] * 30


def test_a_closed_ledger_says_so(place: Place) -> None:
    ledger = place.open()
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerGoneError, match="closed"):
        dispatched(ledger)
    with pytest.raises(LedgerGoneError, match="closed"):
        count(ledger)


@contextmanager
def locked_elsewhere(place: Place) -> Iterator[threading.Event]:
    """The write lock, held by a connection that is not ours until the event is set."""
    let_go, held = threading.Event(), threading.Event()

    def hold() -> None:
        with place.locked():
            held.set()
            let_go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        yield let_go
    finally:
        let_go.set()
        holder.join()


def test_a_lock_shorter_than_the_limit_is_waited_out(place: Place) -> None:
    ledger = place.open(busy_seconds=30)
    with locked_elsewhere(place) as let_go:
        asked = threading.Thread(target=dispatched, args=(ledger,))
        asked.start()
        asked.join(0.3)
        assert asked.is_alive(), "it waits"
        let_go.set()
        asked.join()
    assert count(ledger) == 1


def test_a_lock_longer_than_the_limit_is_ledger_busy_and_records_nothing(place: Place) -> None:
    ledger = place.open(busy_seconds=0.2)
    with locked_elsewhere(place):
        with pytest.raises(LedgerBusyError):
            dispatched(ledger)
        assert count(ledger) == 0, "reading goes on"
    dispatched(ledger)
    assert count(ledger) == 1
