"""What a claim, a first page of missions and a page of events cost while finished missions pile up."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.arena import Arena, say
from benchmarks.contender import Order
from benchmarks.figures import Figures
from benchmarks.ledger import LANE, SEAT, TheLedger
from ua_vp.ledger import Transaction, claims, events, missions

QUICK, FULL = (0, 100_000), (0, 100_000, 1_000_000)
TURNS, EACH = 10, 30
"""Turns on each size, and claims in each: a median over 300."""


def measure(arena: Arena, figures: Figures, *, quick: bool) -> None:
    """Medians in µs, turn by turn over ledgers of each size."""
    sizes = QUICK if quick else FULL
    folders = {size: arena.folder / f"of-{size}" for size in sizes}
    ledgers = {size: _filled(folder, size) for size, folder in folders.items()}
    took: dict[tuple[int, str], list[float]] = {}
    for _ in range(TURNS):
        for size, ledger in ledgers.items():
            for name, seconds in _turn(ledger).items():
                took.setdefault((size, name), []).extend(seconds)
    for (size, name), seconds in took.items():
        figures.put(f"size/{size}/{name}", statistics.median(seconds) * 1e6)
    for ledger in ledgers.values():
        ledger.close()


def _filled(folder: Path, size: int) -> TheLedger:
    """A ledger with `size` finished missions, each with its attempt and its four events."""
    folder.mkdir()
    order = Order(role="throughput", folder=folder, missions=64)
    ledger = TheLedger(order)
    ledger.dispatch(order)
    ledger.prepare(order)
    ledger.work(order)
    if size:
        say(f"  filling a ledger with {size:,} finished missions")
        with closing(sqlite3.connect(order.database, isolation_level=None)) as connection:
            fill(connection, size)
    return ledger


def fill(connection: sqlite3.Connection, size: int) -> None:
    """Copy one finished mission, with its attempt and its events, `size` times, a second apart, before all others."""
    (one,) = connection.execute("SELECT mission_id FROM vp_missions WHERE marked_at IS NOT NULL LIMIT 1").fetchone()
    mission_id = "printf('vp-mission-%032x', n)"
    instants = ("created_at", "started_at", "completed_at", "updated_at", "published_at", "marked_at", "due_at")
    moved = {name: f"{name} - 1000000 * ({size} - n + 1)" for name in instants}
    own = {"mission_id": mission_id, "dispatched_seq": "1000 + n", "due_order": "due_order - n"} | moved
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-400000")
    connection.execute("BEGIN IMMEDIATE")
    for table, others in (
        ("vp_missions", own),
        ("vp_attempts", {"mission_id": mission_id}),
        ("vp_events", {"mission_id": mission_id, "seq": "NULL"}),
    ):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(others.get(name, f'"{name}"') for name in columns)
        connection.execute(
            f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT {size}), "
            f"original AS MATERIALIZED (SELECT * FROM {table} WHERE mission_id = ?) "
            f"INSERT INTO {table} SELECT {values} FROM n CROSS JOIN original",
            (one,),
        )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _turn(ledger: TheLedger) -> dict[str, list[float]]:
    """Seconds of each claim (of one mission, in its Step, without the commit), and of reading each page."""
    ledger.dispatch(Order(role="throughput", folder=Path(), missions=EACH))
    claimed = [ledger.ledger.run(_timed(_claim(ledger))) for _ in range(EACH)]
    ledger.worker.claimed = ()
    return {
        "claim": claimed,
        "list": [ledger.ledger.read(_timed(lambda tx: missions.page_missions(tx, limit=50))) for _ in range(EACH)],
        "events": [
            ledger.ledger.read(_timed(lambda tx: events.page_events(tx, after=None, limit=50))) for _ in range(EACH)
        ],
    }


def _claim(ledger: TheLedger) -> Callable[[Transaction], object]:
    moment = ledger.worker.moment()
    return lambda tx: claims.claim(
        tx,
        vp_id=LANE,
        session_id=SEAT.session_id,
        worker_id=SEAT.worker_id,
        limit=1,
        now=moment.now,
        boot_id=moment.boot_id,
        deadline=moment.deadline,
    )


def _timed(step: Callable[[Transaction], object]) -> Callable[[Transaction], float]:
    def run(tx: Transaction) -> float:
        start = time.perf_counter()
        step(tx)
        return time.perf_counter() - start

    return run
