"""The file under a ledger: gone, replaced, full, damaged; its log; its lock."""

import multiprocessing
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.integration.ledger.places import START, Place, dispatched, new_mission, piled_up
from tests.waiting import wait_until
from ua_vp.errors import ConfigurationError, DiskFullError, LedgerGoneError, OutcomeUnknownError, VpError
from ua_vp.ledger import Ledger, Transaction, missions, open_ledger, verify_rows
from ua_vp.ledger.checkpoint import LOG_BYTES, Checkpointer
from ua_vp.ledger.sqlite import SqliteStore
from ua_vp.runtime import real_ports


def remove(path: Path) -> None:
    path.unlink()


def replace_by_copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def replace_by_nothing(path: Path) -> None:
    path.with_name("copy").touch()
    path.with_name("copy").rename(path)


@pytest.mark.parametrize("harm", [remove, replace_by_copy, replace_by_nothing])
def test_a_ledger_deleted_or_replaced_acknowledges_nothing(place: Place, harm: Callable[[Path], None]) -> None:
    ledger = place.open()
    dispatched(ledger)
    harm(place.path)
    for _ in range(2):
        with pytest.raises(LedgerGoneError):
            dispatched(ledger)
        with pytest.raises(LedgerGoneError):
            ledger.read(lambda tx: missions.page_missions(tx, limit=1))


def test_every_caller_of_a_batch_hears_that_the_ledger_is_gone(place: Place) -> None:
    ledger = place.open()
    told: list[VpError] = []
    place.path.unlink()

    def ask() -> None:
        try:
            dispatched(ledger)
        except LedgerGoneError as error:
            told.append(error)

    callers = [threading.Thread(target=ask) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(told) == len({id(error) for error in told}) == 20


def test_an_absent_ledger_is_an_error_with_a_remedy_unless_it_may_be_made(place: Place) -> None:
    with pytest.raises(LedgerGoneError, match="put it back"):
        place.open(create=False)
    assert not place.path.exists()
    first = place.open()
    assert place.open(create=False).identity == first.identity


def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(place: Place) -> None:
    place.path.write_text("")
    with pytest.raises(LedgerGoneError, match="folder"):
        open_ledger(place.path / "below" / "vp_state.db", ports=place.ports)


def test_an_empty_file_is_no_ledger_unless_it_may_be_made_one(place: Place) -> None:
    place.path.touch()
    with pytest.raises(LedgerGoneError, match="empty"):
        place.open(create=False)
    dispatched(place.open())


def test_a_file_that_is_something_else_is_left_alone(place: Place) -> None:
    place.path.write_bytes(b"not a database, only text\n" * 100)
    with pytest.raises(LedgerGoneError):
        place.open()
    assert place.path.read_bytes().startswith(b"not a database")
    place.path.unlink()
    with closing(sqlite3.connect(place.path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigurationError, match="another path"):
        place.open()


def test_another_store_is_refused_by_name(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="mysql"):
        open_ledger("mysql://host/db", ports=place.ports)


def test_a_full_disk_is_said_to_everybody_in_the_batch_and_records_nothing(place: Place) -> None:
    ledger = place.open()
    dispatched(ledger)
    limit_pages(ledger, 3)
    told: list[type[Exception]] = []

    def ask() -> None:
        try:
            dispatched(ledger, objective="x" * 20_000)
        except VpError as error:
            told.append(type(error))

    callers = [threading.Thread(target=ask) for _ in range(10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert told == [DiskFullError] * len(told)
    limit_pages(ledger, 1_000_000)
    recorded = len(ledger.read(lambda tx: missions.page_missions(tx, limit=100)))
    assert recorded == 1 + 10 - len(told)
    assert len(told) > 5
    dispatched(ledger, objective="x" * 20_000)


def test_an_error_that_ends_the_transaction_is_heard_by_its_step_alone(place: Place) -> None:
    ledger = place.open()
    told: list[type[Exception]] = []

    def ask(step: Callable[[Transaction], object]) -> None:
        try:
            ledger.run(step)
        except VpError as error:
            told.append(type(error))

    def plain(tx: Transaction) -> object:
        return missions.dispatch(tx, new_mission(), now=START)

    def rolls_back(tx: Transaction) -> object:
        """As SQLite does by itself on some SQLITE_FULL, SQLITE_IOERR and SQLITE_NOMEM."""
        tx._driver.execute("ROLLBACK")
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    steps = [plain, plain, rolls_back, plain]
    piled_up(place, ledger, [threading.Thread(target=ask, args=(step,)) for step in steps])
    assert told == [DiskFullError]
    assert len(ledger.read(lambda tx: missions.page_missions(tx, limit=9))) == 3
    dispatched(ledger)
    assert len(ledger.read(lambda tx: missions.page_missions(tx, limit=9))) == 4


def test_a_commit_that_fails_is_of_unknown_outcome_and_the_ledger_is_not_trusted_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = place.open()
    mission = new_mission(idempotency_key="k")

    def fail(_: SqliteStore, __: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(SqliteStore, "commit", fail)
    with pytest.raises(OutcomeUnknownError, match="by key"):
        ledger.run(lambda tx: missions.dispatch(tx, mission, now=START))
    monkeypatch.undo()
    with pytest.raises(LedgerGoneError):
        dispatched(ledger)


def limit_pages(ledger: Ledger, more: int) -> None:
    """Let the file grow by `more` pages."""

    def step(tx: Transaction) -> None:
        driver = tx._driver
        (pages,) = driver.execute("PRAGMA page_count").fetchone()
        driver.execute(f"PRAGMA max_page_count={pages + more}")

    ledger.run(step)


def log_size(place: Place) -> int:
    return os.stat(f"{place.path}-wal").st_size


def test_the_log_stays_bounded_over_5000_dispatches(place: Place) -> None:
    ledger = place.open()
    longest = 0

    def ask() -> None:
        nonlocal longest
        for _ in range(125):
            dispatched(ledger)
            longest = max(longest, log_size(place))

    callers = [threading.Thread(target=ask) for _ in range(40)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sum(ledger.read(missions.counts).queued.values()) == 5000
    assert place.path.stat().st_size > LOG_BYTES / 2, "it was emptied into the file"
    assert longest < 2 * LOG_BYTES


def test_the_log_of_small_commits_stays_bounded_too(place: Place) -> None:
    """Every commit is a few pages; the checkpointer is set to a small limit so that it acts often."""
    ledger = place.open()
    store = ledger._store
    assert isinstance(store, SqliteStore)
    store._checkpointer = Checkpointer(place.path, store._connect, log_bytes=256 * 1024)
    longest = 0
    for _ in range(300):
        dispatched(ledger)
        longest = max(longest, log_size(place))
    assert longest < 2 * 256 * 1024


def test_a_long_reader_keeps_the_log_but_a_checkpoint_after_it_empties_it(place: Place) -> None:
    ledger = place.open()
    store = ledger._store
    assert isinstance(store, SqliteStore)
    limit = 128 * 1024
    store._checkpointer = Checkpointer(place.path, store._connect, log_bytes=limit)

    def look(tx: Transaction) -> int:
        missions.page_missions(tx, limit=1)
        for _ in range(60):
            dispatched(ledger)
        return log_size(place)

    assert ledger.read(look) > 2 * limit
    for _ in range(120):
        dispatched(ledger)
    assert log_size(place) < 2 * limit


def test_the_checkpointers_turn_goes_with_its_process(place: Place) -> None:
    ledger = place.open()
    store = ledger._store
    assert isinstance(store, SqliteStore)
    dispatched(ledger)
    one, two = (Checkpointer(place.path, store._connect, log_bytes=log_size(place)) for _ in range(2))
    with closing(store._connect()) as driver:
        assert one._take_turn()
        assert not two.run_if_due(driver, store.begin_writing)
        one.close()
        assert two.run_if_due(driver, store.begin_writing)
        assert not driver.in_transaction
    two.close()


def test_a_checkpoint_never_runs_while_somebody_writes(place: Place) -> None:
    ledger = place.open()
    store = ledger._store
    assert isinstance(store, SqliteStore)
    dispatched(ledger)
    checkpointer = Checkpointer(place.path, store._connect, log_bytes=log_size(place))
    with closing(store._connect()) as driver, closing(store._connect()) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not checkpointer.run_if_due(driver, store.begin_writing)
        other.execute("ROLLBACK")
        assert checkpointer.run_if_due(driver, store.begin_writing)
    checkpointer.close()


def test_every_connection_is_set_up_for_durability(place: Place) -> None:
    ledger = place.open()

    def pragmas(tx: Transaction) -> list[object]:
        driver = tx._driver
        names = ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint", "busy_timeout")
        return [driver.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    for found in (ledger.run(pragmas), ledger.read(pragmas)):
        assert found == ["wal", 2, 1, 0, 0]


def test_a_watch_is_called_after_anybodys_commit(place: Place) -> None:
    mine, theirs = place.open(), place.open()
    called = threading.Event()
    watch = mine.watch(called.set)
    for writer in (theirs, mine):
        called.clear()
        dispatched(writer)
        wait_until(called.is_set, within=5, why="a commit is followed by a call")
    watch.close()
    called.clear()
    dispatched(theirs)
    assert not called.wait(0.3)


def test_a_watch_is_called_when_the_ledger_is_gone_so_that_its_owner_finds_out(place: Place) -> None:
    ledger = place.open()
    called = threading.Event()
    ledger.watch(called.set)
    place.path.unlink()
    wait_until(called.is_set, within=5, why="a ledger that is gone is a change")
    with suppress(FileNotFoundError):
        place.path.with_name("vp_state.db-wal").unlink()


def _dispatch_until_killed(path: Path, told: Connection) -> None:
    ledger = open_ledger(path, ports=real_ports(os.environ))

    def ask() -> None:
        while True:
            mission_id = dispatched(ledger).mission_id
            with saying:
                told.send(mission_id)

    saying = threading.Lock()
    for _ in range(8):
        threading.Thread(target=ask, daemon=True).start()
    threading.Event().wait()


def test_what_was_acknowledged_is_there_after_sigkill(place: Place) -> None:
    context = multiprocessing.get_context("spawn")
    acknowledged: set[str] = set()
    for kill in range(3):
        heard, told = context.Pipe(duplex=False)
        process = context.Process(target=_dispatch_until_killed, args=(place.path, told), daemon=True)
        process.start()
        told.close()
        for _ in range(40 + 30 * kill):
            acknowledged.add(heard.recv())
        process.kill()
        process.join()
        with suppress(EOFError):  # what it said before it died
            while True:
                acknowledged.add(heard.recv())
        ledger = place.open(create=False)
        found = {mission.mission_id for mission in ledger.read(lambda tx: missions.page_missions(tx, limit=100_000))}
        assert acknowledged <= found
        assert len(found) == sum(ledger.read(missions.counts).counts.values())
        assert ledger.read(verify_rows) == []
        place.close()
