"""What PostgreSQL itself refuses, also to its administrator with a shell, and in a replica's session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.integration.ledger.places import START, Place, Worker, cancelled, dispatched, read
from ua_vp.ledger import Ledger, tables, verify_rows
from ua_vp.ledger.tables import STAMPS
from ua_vp.mission import Ending, FailureMode, Status

Workers = Callable[[str], Worker]
Raw: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
COLUMNS = [column.name for column in tables.missions.columns]
FAILED = Ending(status=Status.FAILED, summary="no", failure_mode=FailureMode.TIMEOUT)
ROLES = ("origin", "replica")


@pytest.fixture
def ended(ledger: Ledger, worker: Workers) -> list[str]:
    """A mission for each way to end, with a key, not yet published; and one that is queued."""
    ids = [dispatched(ledger, idempotency_key=f"k{number}").mission_id for number in range(3)]
    one = worker("s")
    done, failed = one.claim(2)
    one.finish(done)
    one.finish(failed, FAILED)
    cancelled(ledger, ids[2])
    dispatched(ledger, idempotency_key="other")
    return ids


@pytest.fixture(params=ROLES)
def raw(request: pytest.FixtureRequest, place: Place, ended: list[str]) -> Iterator[Raw]:
    with place.raw() as connection:
        connection.execute(SQL("SET session_replication_role = {}").format(Identifier(request.param)))
        yield connection


def whole(raw: Raw) -> list[tuple[Any, ...]]:
    return raw.execute("SELECT * FROM vp_missions ORDER BY mission_id").fetchall()


def is_refused(raw: Raw, statement: SQL | Any, *values: object) -> bool:
    """Whether it is refused; what was let through is undone."""
    with raw.transaction(force_rollback=True):
        try:
            with raw.transaction():
                return raw.execute(statement, values).rowcount == 0
        except psycopg.Error:
            return True


def test_every_column_of_an_ended_mission_is_fixed(raw: Raw, ended: list[str]) -> None:
    before, tried, accepted = whole(raw), 0, []
    for mission_id in ended:
        row = dict(zip(COLUMNS, _row(raw, mission_id), strict=True))
        for column, value in row.items():
            for other in others(value):
                if column in STAMPS and value is None:
                    continue  # a stamp is set once: its own test
                tried += 1
                change = SQL("UPDATE vp_missions SET {} = %s WHERE mission_id = %s").format(Identifier(column))
                if not is_refused(raw, change, other, mission_id):
                    accepted.append((column, value, other))
    assert accepted == []
    assert whole(raw) == before
    print(f"figure: ended rows on PostgreSQL: {len(ended)} rows x {len(COLUMNS)} columns, {tried} changes, accepted 0")


def _row(raw: Raw, mission_id: str) -> tuple[Any, ...]:
    found = raw.execute("SELECT * FROM vp_missions WHERE mission_id = %s", (mission_id,)).fetchone()
    assert found is not None
    return found


def others(value: object) -> list[object]:
    """Values that differ from `value`, and would fit the column."""
    if isinstance(value, bool):
        return [None, not value]
    if isinstance(value, int):
        return [None, value + 1, 4711]
    return [other for other in (None, "changed", 4711) if other != value]


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_stamp_is_given_once_and_after_the_end(raw: Raw, ended: list[str], stamp: str, ledger: Ledger) -> None:
    set_it = SQL("UPDATE vp_missions SET {} = %s WHERE mission_id = %s").format(Identifier(stamp))
    assert raw.execute(set_it, (START, ended[0])).rowcount == 1
    for value in (None, START - 1, START + 1):
        assert is_refused(raw, set_it, value, ended[0])
    (queued,) = raw.execute("SELECT mission_id FROM vp_missions WHERE status = 'queued'").fetchone() or ("",)
    assert is_refused(raw, set_it, START, queued)
    assert getattr(read(ledger, ended[0]), stamp) == START
    assert ledger.read(verify_rows) == []


def test_an_ended_mission_is_neither_deleted_nor_replaced_nor_truncated(raw: Raw, ended: list[str]) -> None:
    before = whole(raw)
    names = SQL(", ").join(map(Identifier, COLUMNS))
    again = SQL("INSERT INTO vp_missions ({0}) SELECT {0} FROM vp_missions WHERE mission_id = %s").format(names)
    forged = SQL("DO UPDATE SET summary = 'forged'")
    assert is_refused(raw, SQL("DELETE FROM vp_missions"))
    for mission_id in ended:
        assert is_refused(raw, SQL("DELETE FROM vp_missions WHERE mission_id = %s"), mission_id)
        assert is_refused(raw, again, mission_id)
        for target in (
            SQL(" ON CONFLICT (mission_id) "),
            SQL(" ON CONFLICT (vp_id, idempotency_key) WHERE idempotency_key IS NOT NULL "),
        ):
            assert is_refused(raw, again + target + forged, mission_id)
        steal = SQL(
            "UPDATE vp_missions SET idempotency_key = (SELECT idempotency_key FROM vp_missions WHERE mission_id = %s)"
            " WHERE status = 'queued'"
        )
        assert is_refused(raw, steal, mission_id)
        merge = SQL(
            "MERGE INTO vp_missions m USING (SELECT %s AS id) s ON m.mission_id = s.id"
            " WHEN MATCHED THEN UPDATE SET summary = 'x'"
        )
        assert is_refused(raw, merge, mission_id)
    for statement in (
        "TRUNCATE vp_missions CASCADE",
        "TRUNCATE vp_missions, vp_attempts, vp_claims",
        "TRUNCATE vp_events",
    ):
        with pytest.raises(psycopg.Error, match="are kept"):
            raw.execute(statement.encode())
    assert whole(raw) == before


@pytest.mark.parametrize(
    "change", ["status = 'completed', completed_at = 1, final_hash = 'x'", "objective = 'another'", "priority = 0"]
)
def test_a_queued_mission_keeps_to_its_way_and_to_what_was_dispatched(raw: Raw, change: str) -> None:
    assert is_refused(raw, SQL("UPDATE vp_missions SET " + change + " WHERE status = 'queued'"))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE vp_events SET payload = '{}'",
        "UPDATE vp_events SET seq = DEFAULT",
        "DELETE FROM vp_events",
        "INSERT INTO vp_events SELECT * FROM vp_events LIMIT 1",
        "INSERT INTO vp_events OVERRIDING SYSTEM VALUE SELECT * FROM vp_events LIMIT 1",
    ],
)
def test_events_only_grow(raw: Raw, sql: str) -> None:
    before = raw.execute("SELECT * FROM vp_events ORDER BY seq").fetchall()
    with pytest.raises(psycopg.Error):
        raw.execute(sql.encode())
    assert raw.execute("SELECT * FROM vp_events ORDER BY seq").fetchall() == before
