"""The log of a ledger on SQLite when its checkpoint fails: nobody pays for it, and later all is well again."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.ledger.places import Place, dispatched
from ua_vp.ledger import Ledger, missions, open_ledger, verify_rows
from ua_vp.ledger.checkpoint import Checkpointer
from ua_vp.ledger.sqlite import SqliteStore
from ua_vp.runtime import real_ports

LIMIT = 256 * 1024
OBJECTIVE = "x" * 8000


def checkpointer_of(ledger: Ledger, path: Path) -> Checkpointer:
    """The ledger's, made to act often."""
    store = ledger._store
    assert isinstance(store, SqliteStore)
    store._checkpointer = Checkpointer(path, store._connect, log_bytes=LIMIT)
    return store._checkpointer


def log_size(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_FULL])
def test_a_checkpoint_that_fails_costs_nobody_anything(place: Place, code: int) -> None:
    ledger = place.open()
    checkpointer, copy, tried = checkpointer_of(ledger, place.path), Checkpointer._copy, []

    def fail(_: sqlite3.Connection) -> bool:
        tried.append(code)
        error = sqlite3.OperationalError("the disk says no")
        error.sqlite_errorcode = code
        raise error

    checkpointer._copy = fail  # type: ignore[method-assign, assignment]
    for _ in range(40):
        dispatched(ledger, objective=OBJECTIVE)
    assert 0 < len(tried) < 8, "one that failed is tried again at each doubling, not at each commit"
    assert log_size(place.path) > 2 * LIMIT
    checkpointer._copy = lambda connection: copy(checkpointer, connection)  # type: ignore[method-assign]
    while log_size(place.path) > LIMIT:  # an endless loop is a fault, found by the test's time limit
        dispatched(ledger, objective=OBJECTIVE)


def test_a_lock_file_that_cannot_be_made_costs_only_the_length_of_the_log(place: Place) -> None:
    ledger = place.open()
    lock = checkpointer_of(ledger, place.path)._lock_path
    lock.unlink(missing_ok=True)
    lock.mkdir()
    for _ in range(20):
        dispatched(ledger, objective=OBJECTIVE)
    assert log_size(place.path) > LIMIT
    lock.rmdir()
    while log_size(place.path) > LIMIT:
        dispatched(ledger, objective=OBJECTIVE)


def _work_where_the_file_cannot_grow(path: Path) -> None:
    """In a process of its own: files may not grow beyond what the ledger's has, and the log is still shorter."""
    ledger = open_ledger(path, ports=real_ports(os.environ))
    checkpointer_of(ledger, path)
    (_, hard) = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    until = path.stat().st_size - LIMIT
    while log_size(path) < until:
        dispatched(ledger, objective=OBJECTIVE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while log_size(path) > LIMIT:
        dispatched(ledger, objective=OBJECTIVE)
    ledger.close()


def test_a_file_that_can_really_not_grow_at_a_checkpoint_loses_nothing_and_grows_later(place: Place) -> None:
    ledger = place.open()
    for _ in range(60):
        dispatched(ledger, objective=OBJECTIVE * 4)
    before = ledger.read(lambda tx: len(missions.page_missions(tx, limit=10_000)))
    place.close()
    size = place.path.stat().st_size
    assert size > 6 * LIMIT
    process = multiprocessing.get_context("spawn").Process(target=_work_where_the_file_cannot_grow, args=(place.path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert place.path.stat().st_size > size
    with closing(sqlite3.connect(place.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    ledger = place.open()
    assert ledger.read(lambda tx: len(missions.page_missions(tx, limit=10_000))) > before + 20
    assert ledger.read(verify_rows) == []
