"""The ledger itself refuses to change a mission that has ended, whoever asks and however."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.faults.conftest import new_product
from tests.figures import Figures
from tests.product import GENERAL, Product

pytestmark = pytest.mark.timeout(120)

STAMPS = {"published_at", "blocked_at", "released_at", "marked_at", "mirrored_at", "purged_at"}
REFUSED = (sqlite3.IntegrityError, sqlite3.OperationalError)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, list[str]]]:
    """A ledger that the product wrote, with a mission for each way to end and one in the queue; nobody is at it."""
    with new_product(tmp_path_factory.mktemp("ended") / "product", "general") as product:
        api = product.serve()
        missions = [
            product.shell("echo > work_products/a", idempotency_key="done"),
            product.shell("exit 1", idempotency_key="failed"),
            product.shell("exit 1", idempotency_key="cancelled"),
        ]
        product.cancel(missions[2])
        product.once()
        product.once()
        ends = [product.finished(mission_id)["status"] for mission_id in missions]
        assert ends == ["completed", "failed", "cancelled"]
        product.shell("exit 1", idempotency_key="queued")
        api.end()
        yield product, missions


@pytest.fixture
def ended(written: tuple[Product, list[str]]) -> Iterator[tuple[sqlite3.Connection, list[str]]]:
    """A connection to it, and the missions that have ended."""
    product, missions = written
    with closing(product.ledger()) as connection:
        yield connection, missions


def columns(connection: sqlite3.Connection) -> list[str]:
    return [row[1] for row in connection.execute("PRAGMA table_info(vp_missions)")]


def row(connection: sqlite3.Connection, mission_id: str) -> tuple[object, ...]:
    found: tuple[object, ...] = connection.execute(
        "SELECT * FROM vp_missions WHERE mission_id = ?", [mission_id]
    ).fetchone()
    return found


def is_refused(connection: sqlite3.Connection, statement: str, *values: object) -> bool:
    connection.execute("SAVEPOINT attempt")
    try:
        connection.execute(statement, values)
    except REFUSED:
        return True
    else:
        return False
    finally:
        connection.execute("ROLLBACK TO attempt")
        connection.execute("RELEASE attempt")


def test_every_column_of_an_ended_mission_is_fixed(
    ended: tuple[sqlite3.Connection, list[str]], figures: Figures
) -> None:
    connection, missions = ended
    tried, accepted, width = 0, [], len(columns(connection))
    for mission_id in missions:
        was = dict(zip(columns(connection), row(connection, mission_id), strict=True))
        for column, value in was.items():
            for other in others(value):
                for verb in ("UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"):
                    if column in STAMPS and value is None and other is not None:
                        continue  # a stamp is set once: its own test
                    tried += 1
                    statement = f"{verb} vp_missions SET {column} = ? WHERE mission_id = ?"
                    if not is_refused(connection, statement, other, mission_id):
                        accepted.append((column, value, other, verb))
    assert accepted == []
    figures("changes to ended rows", tried=tried, note=f"{len(missions)} rows x {width} columns, none accepted")


def others(value: object) -> list[object]:
    """Values that differ from `value`: another one of its kind, none, and one of another kind."""
    kinds: list[object] = [None, "changed", 4711, 1.5]
    return [other for other in kinds if other != value] + ([value + 1] if isinstance(value, int) else [])


def test_stamps_are_set_once_and_never_again(ended: tuple[sqlite3.Connection, list[str]]) -> None:
    connection, missions = ended
    for mission_id in missions:
        was = dict(zip(columns(connection), row(connection, mission_id), strict=True))
        assert was["published_at"] is not None
        assert was["marked_at"] is not None
        for stamp in ("mirrored_at", "purged_at"):
            assert was[stamp] is None
            set_it = f"UPDATE vp_missions SET {stamp} = ? WHERE mission_id = ?"
            assert connection.execute(set_it, [5_000_000, mission_id]).rowcount == 1
            assert is_refused(connection, set_it, 6_000_000, mission_id)
            assert is_refused(connection, set_it, None, mission_id)


def test_an_ended_mission_is_neither_deleted_nor_replaced(ended: tuple[sqlite3.Connection, list[str]]) -> None:
    connection, missions = ended
    names = columns(connection)
    queued = connection.execute("SELECT mission_id FROM vp_missions WHERE idempotency_key = 'queued'").fetchone()[0]
    marks = ", ".join("?" for _ in names)
    for foreign_keys in (0, 1):
        connection.execute(f"PRAGMA foreign_keys = {foreign_keys}")
        for mission_id in missions:
            before = row(connection, mission_id)
            values = dict(zip(names, before, strict=True))
            assert is_refused(connection, "DELETE FROM vp_missions WHERE mission_id = ?", mission_id)
            replace = f"REPLACE INTO vp_missions ({', '.join(names)}) VALUES ({marks})"
            assert is_refused(connection, replace, *before)
            assert is_refused(connection, replace, *{**values, "objective": "another"}.values())
            upsert = f"INSERT INTO vp_missions ({', '.join(names)}) VALUES ({marks}) ON CONFLICT DO UPDATE SET objective = 'x'"
            assert is_refused(connection, upsert, *before)
            by_key = {**dict(zip(names, row(connection, queued), strict=True)), "mission_id": "vp-mission-" + "f" * 32}
            by_key["idempotency_key"] = values["idempotency_key"]
            assert is_refused(connection, replace, *by_key.values()), "replaced through the key"
            steal = "UPDATE OR REPLACE vp_missions SET idempotency_key = ? WHERE mission_id = ?"
            assert is_refused(connection, steal, values["idempotency_key"], queued), "replaced through the key"
            assert row(connection, mission_id) == before
    assert is_refused(connection, "DELETE FROM vp_missions")
    assert is_refused(connection, "DELETE FROM vp_missions WHERE vp_id = ?", GENERAL)
