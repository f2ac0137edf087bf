"""PostgreSQL restarted, cut off, replaced: what was acknowledged is there, and nobody has to start the product again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy

from tests.figures import Figures, Rounds
from tests.integration.ledger.cut_wire import Cut, Wire, wire_to
from tests.integration.ledger.places import START, Place, cut_all_others, dispatched, new_mission, piled_up
from tests.postgres import Cluster
from tests.waiting import wait_until
from ua_vp.errors import ConfigurationError, LedgerBusyError, LedgerGoneError, OutcomeUnknownError, VpError
from ua_vp.ledger import Dispatched, Ledger, Transaction, migrate, missions, open_ledger, place_of, postgres
from ua_vp.ledger import ledger as ledger_module
from ua_vp.ledger.transaction import LedgerIdentity

URL = "postgresql+psycopg://somebody:s3cret@127.0.0.1:1/nowhere"
WRONG_OPTIONS = ("?pasword=s3cret", "?connect_timeout=long", "?port=1,2", "?sslmode=perhaps")


@pytest.fixture
def wire(cluster: Cluster) -> Iterator[Wire]:
    with wire_to(cluster.port) as made:
        yield made


@pytest.fixture
def wired(place: Place, cluster: Cluster, wire: Wire) -> Place:
    """The same database, over a wire."""
    assert place.url is not None
    place.url = place.url.replace(f":{cluster.port}/", f":{wire.port}/")
    return place


def seen(ledger: Ledger) -> int:
    return len(ledger.read(lambda tx: missions.page_missions(tx, limit=10_000)))


def test_a_server_that_restarts_is_waited_for_and_reached_again(
    place: Place, cluster: Cluster, rounds: Rounds, figures: Figures
) -> None:
    ledger = place.open(busy_seconds=60)
    called = threading.Event()
    watch = ledger.watch(called.set)
    asked, restarts = list[str](), rounds(ci=2, soak=200)
    for number in range(restarts):
        asked.append(dispatched(ledger).mission_id)
        cluster.kill() if number % 2 else cluster.stop()
        waiting = [threading.Thread(target=lambda: asked.append(dispatched(ledger).mission_id)) for _ in range(4)]
        for thread in waiting:
            thread.start()
        cluster.start()
        for thread in waiting:
            thread.join()
        wait_until(lambda: seen(ledger) == len(asked), within=30, why="readers reach it")
        called.clear()
        asked.append(dispatched(ledger).mission_id)
        wait_until(called.is_set, within=30, why="watchers hear again")
    watch.close()
    there = [it.mission_id for it in ledger.read(lambda tx: missions.page_missions(tx, limit=10_000))]
    figures(
        "PostgreSQL stopped and killed under callers",
        tried=restarts,
        lost=len(set(asked) - set(there)),
        double=len(there) - len(asked),
    )


def test_a_server_away_for_longer_is_busy_says_no_secret_and_comes_back(place: Place, cluster: Cluster) -> None:
    ledger = place.open(busy_seconds=0.3)
    dispatched(ledger)
    cluster.stop()
    try:
        for ask in (
            lambda: dispatched(ledger),
            lambda: seen(ledger),
            ledger.lease_time,
            lambda: place.open(busy_seconds=0.3),
        ):
            with pytest.raises(LedgerBusyError, match="cannot be reached") as raised:
                ask()
            assert secret(place) not in str(raised.value)
    finally:
        cluster.start()
    dispatched(ledger)
    assert seen(ledger) == 2
    assert ledger.lease_time().now > START // 2


def secret(place: Place) -> str:
    assert place.url is not None
    password = sqlalchemy.make_url(place.url).password
    assert isinstance(password, str)
    return password


def test_a_connection_lost_inside_a_transaction_costs_nobody_anything(place: Place, figures: Figures) -> None:
    ledger = place.open()
    tried, runs = 10, 0

    def step(tx: Transaction) -> str:
        nonlocal runs
        runs += 1
        first = missions.dispatch(tx, new_mission(), now=START)
        assert isinstance(first, Dispatched)
        if runs % 2:
            cut_all_others(place)
        second = missions.dispatch(tx, new_mission(), now=START)
        assert isinstance(second, Dispatched)
        return second.mission.mission_id

    made = [ledger.run(step) for _ in range(tried)]
    assert runs == 2 * tried
    found = seen(ledger)
    figures(
        "connection cut inside a transaction", tried=tried, lost=max(0, 2 * tried - found), double=found - 2 * tried
    )
    assert len(set(made)) == tried


@pytest.mark.parametrize("cut", Cut)
def test_a_commit_without_an_answer_is_unknown_to_all_of_it_and_known_by_the_key(
    wired: Place, wire: Wire, cut: Cut, figures: Figures, rounds: Rounds
) -> None:
    ledger = wired.open()
    callers, turns, lost, double = 5, rounds(ci=4, soak=500), 0, 0
    for turn in range(turns):
        before = seen(ledger)
        keys = [f"{turn}-{number}" for number in range(callers)]
        assert at_a_cut(wired, ledger, wire, cut, keys) == [OutcomeUnknownError] * callers
        assert seen(ledger) - before == (callers if cut is Cut.AFTER else 0)
        again = [asked_by_key(ledger, key) for key in keys]
        assert all(it.replayed is (cut is Cut.AFTER) for it in again)
        lost += max(0, callers - (seen(ledger) - before))
        double += max(0, seen(ledger) - before - callers)
    figures(f"wire cut {cut.value} COMMIT reached the server", tried=callers * turns, lost=lost, double=double)


def at_a_cut(place: Place, ledger: Ledger, wire: Wire, cut: Cut, keys: list[str]) -> list[type[VpError]]:
    """What callers hear whose common COMMIT is cut."""
    told: list[type[VpError]] = []

    def ask(key: str) -> None:
        def step(tx: Transaction) -> None:
            wire.cut = cut
            missions.dispatch(tx, new_mission(idempotency_key=key), now=START)

        try:
            ledger.run(step)
        except VpError as error:
            told.append(type(error))

    piled_up(place, ledger, [threading.Thread(target=ask, args=(key,)) for key in keys])
    return told


def asked_by_key(ledger: Ledger, key: str) -> Dispatched:
    outcome = ledger.run(lambda tx: missions.dispatch(tx, new_mission(idempotency_key=key), now=START))
    assert isinstance(outcome, Dispatched)
    return outcome


def test_a_writer_that_stops_with_the_lock_in_its_hand_is_cut_off(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "SESSION", postgres.SESSION.replace("'5s'", "'500ms'"))
    stopped, quick = place.open(), place.open(busy_seconds=20)
    inside, go_on = threading.Event(), threading.Event()

    def step(tx: Transaction) -> None:
        missions.dispatch(tx, new_mission(), now=START)
        inside.set()
        go_on.wait(20)

    slow = threading.Thread(target=stopped.run, args=(step,))
    slow.start()
    inside.wait(20)
    dispatched(quick)
    assert seen(quick) == 1, "what the stopped one had begun was undone"
    go_on.set()
    slow.join()
    assert seen(quick) == 2, "and done again when it woke"


def test_a_step_that_swallows_an_error_of_the_database_is_not_acknowledged(place: Place) -> None:
    ledger = place.open()
    there = dispatched(ledger)

    def step(tx: Transaction) -> None:
        try:
            missions.dispatch(tx, new_mission(mission_id=there.mission_id), now=START)
        except psycopg.Error:
            return

    with pytest.raises(psycopg.Error):
        ledger.run(step)
    dispatched(ledger)
    assert seen(ledger) == 2


def test_another_ledger_in_its_place_is_gone_for_good(place: Place) -> None:
    ledger = place.open()
    dispatched(ledger)
    with place.raw() as server:
        server.execute("UPDATE vp_ledger SET epoch = epoch + 1")
    cut_all_others(place)
    with pytest.raises(LedgerGoneError, match="another ledger"):
        seen(ledger)
    with pytest.raises(LedgerGoneError, match="another ledger"):
        dispatched(ledger)
    with pytest.raises(LedgerGoneError, match="another ledger"):
        ledger.check()
    assert seen(place.open()) == 1


def test_a_server_that_takes_no_writes_is_busy_and_takes_them_again(place: Place) -> None:
    ledger = place.open(busy_seconds=0.3)
    with place.raw() as server:
        server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        server.execute("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: refused(ledger), within=10, why="nothing can be written")
        finally:
            server.execute("ALTER SYSTEM RESET default_transaction_read_only")
            server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: not refused(ledger), within=10, why="it can again")


def refused(ledger: Ledger) -> bool:
    try:
        dispatched(ledger)
    except LedgerBusyError:
        return True
    return False


def test_a_wait_for_the_lock_that_somebody_cancels_is_begun_again(place: Place) -> None:
    ledger = place.open()
    with place.locked():
        caller = threading.Thread(target=dispatched, args=(ledger,))
        caller.start()
        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'"
        with place.raw() as server:
            wait_until(lambda: server.execute(cancel).fetchone(), within=10, why="it waits, and waits no longer")
    caller.join()
    assert seen(ledger) == 1


def test_a_connection_lost_while_the_ledger_is_opened_is_made_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def bring_up(*args: Any, **options: Any) -> LedgerIdentity:
        nonlocal tries
        tries += 1
        if tries < 3:
            cut_all_others(place)
        return migrate.bring_up(*args, **options)

    monkeypatch.setattr(ledger_module, "bring_up", bring_up)
    dispatched(place.open())
    assert tries == 3


def test_one_lost_reader_tells_of_all_that_wait(place: Place) -> None:
    ledger = place.open()
    all_at_once = threading.Barrier(3)
    readers = [threading.Thread(target=ledger.read, args=(lambda _: all_at_once.wait(),)) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(ledger._idle) == 3
    cut_all_others(place)
    assert seen(ledger) == 0
    assert len(ledger._idle) == 1


def test_a_lost_listener_is_made_again_and_looks_at_once(place: Place) -> None:
    ledger = place.open()
    bell = ledger._store.listen()
    assert not bell.wait(0.05)
    cut_all_others(place)
    rings = [bell.wait(0.05) for _ in range(3)]
    assert any(rings), "being reached again counts: what was missed meanwhile is looked for"
    dispatched(ledger)
    assert bell.wait(10)
    bell.close()


def test_an_old_server_a_poor_encoding_and_strange_tables_are_refused(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.raw() as server:
        server.execute("DROP DATABASE IF EXISTS ascii")
        server.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        server.execute("CREATE TABLE strange (a int)")
    with pytest.raises(ConfigurationError, match="no ledger"):
        place.open()
    with pytest.raises(ConfigurationError, match="SQL_ASCII"):
        open_ledger(cluster.url("ascii"), ports=place.ports)
    monkeypatch.setattr(postgres, "OLDEST", 99)
    with pytest.raises(ConfigurationError, match="needs 99 or newer"):
        place.open()


def test_an_empty_database_is_not_made_a_ledger_unasked(place: Place) -> None:
    with pytest.raises(LedgerGoneError, match="empty"):
        place.open(create=False)


@pytest.mark.parametrize(
    "url",
    [
        URL.replace(":1/", ":one/"),
        URL.replace("/nowhere", ""),
        "postgresql+psycopg://a:s3cret@[::1/x",
        URL,
        *(URL + it for it in WRONG_OPTIONS),
    ],
)
def test_an_url_that_leads_nowhere_is_not_repeated(place: Place, url: str) -> None:
    with pytest.raises((ConfigurationError, LedgerBusyError)) as raised:
        open_ledger(url, ports=place.ports, busy_seconds=0.1)
    shown = f"{raised.value!r} {raised.value} {raised.value.__cause__} {place_of(url)}"
    assert "s3cret" not in shown


def test_without_the_driver_the_remedy_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "ua_vp.ledger.postgres")
    with pytest.raises(ConfigurationError, match=r"pip install 'ua-vp\[postgresql\]'"):
        open_ledger(URL, ports=place.ports)
