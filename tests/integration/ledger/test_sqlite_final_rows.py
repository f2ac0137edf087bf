"""What SQLite itself refuses, also to a connection that knows nothing of the product and has no pragma set."""

import sqlite3
from collections.abc import Callable, Iterator

import pytest

from tests.figures import Figures
from tests.integration.ledger.places import START, Place, Worker, dispatched, read
from ua_vp.ledger import Ledger, tables, verify_rows
from ua_vp.ledger.tables import STAMPS
from ua_vp.mission import Ending, Status

Workers = Callable[[str], Worker]
COLUMNS = [column.name for column in tables.missions.columns]
FROZEN = [name for name in COLUMNS if name not in STAMPS]


@pytest.fixture
def ended(ledger: Ledger, worker: Workers) -> str:
    """A mission that has ended, with a key, not yet published; and one that is queued."""
    mission_id = dispatched(ledger, idempotency_key="k").mission_id
    one = worker("s")
    one.finish(one.claim()[0])
    dispatched(ledger, idempotency_key="other")
    return mission_id


@pytest.fixture
def raw(place: Place, ended: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(place.path, isolation_level=None)
    assert connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)
    yield connection
    connection.close()


def whole(raw: sqlite3.Connection, mission_id: str) -> tuple[object, ...]:
    row: tuple[object, ...] = raw.execute(
        "SELECT rowid, * FROM vp_missions WHERE mission_id = ?", (mission_id,)
    ).fetchone()
    return row


def refused(raw: sqlite3.Connection, mission_id: str, sql: str, params: object = ()) -> None:
    """Assert that `sql` is refused and changes nothing."""
    before = whole(raw, mission_id), raw.execute("SELECT count(*) FROM vp_missions").fetchone()
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(sql, params)  # type: ignore[arg-type]
    assert (whole(raw, mission_id), raw.execute("SELECT count(*) FROM vp_missions").fetchone()) == before


@pytest.mark.parametrize("verb", ["UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"])
@pytest.mark.parametrize("column", [*FROZEN, "rowid"])
def test_every_column_of_an_ended_mission_refuses_change(
    raw: sqlite3.Connection, ended: str, column: str, verb: str
) -> None:
    (old,) = raw.execute(f'SELECT "{column}" FROM vp_missions WHERE mission_id = ?', (ended,)).fetchone()
    others = [None, 12345, "other", b"blob"] if old is not None else [12345, "other", b"blob"]
    for value in others:
        if value != old:
            refused(raw, ended, f'{verb} vp_missions SET "{column}" = ? WHERE mission_id = ?', (value, ended))


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_stamp_is_given_once(raw: sqlite3.Connection, ended: str, stamp: str) -> None:
    raw.execute(f"UPDATE vp_missions SET {stamp} = 5 WHERE mission_id = ?", (ended,))
    for value in (None, 4, 6):
        refused(raw, ended, f"UPDATE vp_missions SET {stamp} = ? WHERE mission_id = ?", (value, ended))


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_stamp_comes_after_the_end(raw: sqlite3.Connection, ended: str, stamp: str) -> None:
    (other,) = raw.execute("SELECT mission_id FROM vp_missions WHERE status = 'queued'").fetchone()
    refused(raw, other, f"UPDATE vp_missions SET {stamp} = 5 WHERE mission_id = ?", (other,))


def test_missions_are_never_deleted(raw: sqlite3.Connection, ended: str) -> None:
    refused(raw, ended, "DELETE FROM vp_missions WHERE mission_id = ?", (ended,))
    refused(raw, ended, "DELETE FROM vp_missions")


@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT"])
@pytest.mark.parametrize("meets", ["mission_id", "rowid", "key"])
def test_an_ended_mission_cannot_be_replaced_by_any_of_its_keys(
    raw: sqlite3.Connection, ended: str, verb: str, meets: str
) -> None:
    cursor = raw.execute("SELECT rowid, * FROM vp_missions WHERE mission_id = ?", (ended,))
    names = [description[0] for description in cursor.description]
    row = dict(zip(names, cursor.fetchone(), strict=True))
    if meets != "mission_id":
        row["mission_id"] = "vp-mission-new"
    if meets != "key":
        row["idempotency_key"] = "new"
    if meets != "rowid":
        del row["rowid"]
    listed = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join("?" * len(row))
    refused(raw, ended, f"{verb} INTO vp_missions ({listed}) VALUES ({marks})", tuple(row.values()))


def test_an_upsert_finds_no_way_around(raw: sqlite3.Connection, ended: str) -> None:
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    refused(
        raw,
        ended,
        f"INSERT INTO vp_missions ({columns}) SELECT {columns} FROM vp_missions WHERE mission_id = ? "
        "ON CONFLICT (mission_id) DO UPDATE SET summary = 'forged'",
        (ended,),
    )


@pytest.mark.parametrize("meets", ["mission_id = :ended", "rowid = :rowid", "idempotency_key = 'k'"])
def test_another_mission_cannot_take_the_place_of_an_ended_one(raw: sqlite3.Connection, ended: str, meets: str) -> None:
    (rowid,) = raw.execute("SELECT rowid FROM vp_missions WHERE mission_id = ?", (ended,)).fetchone()
    sql = f"UPDATE OR REPLACE vp_missions SET {meets} WHERE status = 'queued'"
    refused(raw, ended, sql, {"ended": ended, "rowid": rowid})


@pytest.mark.parametrize(
    "change", ["status = 'completed', completed_at = 1, final_hash = 'x'", "objective = 'another'", "priority = 0"]
)
def test_a_queued_mission_keeps_to_its_way_and_to_what_was_dispatched(
    raw: sqlite3.Connection, ended: str, change: str
) -> None:
    (queued,) = raw.execute("SELECT mission_id FROM vp_missions WHERE status = 'queued'").fetchone()
    refused(raw, queued, f"UPDATE vp_missions SET {change} WHERE mission_id = ?", (queued,))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE vp_events SET payload = '{}'",
        "UPDATE OR REPLACE vp_events SET seq = seq + 1",
        "DELETE FROM vp_events",
        "REPLACE INTO vp_events SELECT * FROM vp_events LIMIT 1",
    ],
)
def test_events_only_grow(raw: sqlite3.Connection, ended: str, sql: str) -> None:
    before = raw.execute("SELECT * FROM vp_events").fetchall()
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(sql)
    assert raw.execute("SELECT * FROM vp_events").fetchall() == before


def test_an_ended_mission_takes_every_stamp_and_keeps_its_hash(
    raw: sqlite3.Connection, ended: str, ledger: Ledger
) -> None:
    for number, stamp in enumerate(STAMPS):
        raw.execute(f"UPDATE vp_missions SET {stamp} = ? WHERE mission_id = ?", (START + number, ended))
    assert read(ledger, ended).updated_at == START + len(STAMPS) - 1
    assert ledger.read(verify_rows) == []


@pytest.mark.parametrize("covered", ["row_hash", "final_hash"])
def test_a_flipped_bit_is_found(place: Place, worker: Workers, covered: str, figures: Figures) -> None:
    word = "needle-in-the-objective" if covered == "row_hash" else "needle-in-the-summary"
    ledger = place.opened[0]
    mission_id = dispatched(ledger, objective="needle-in-the-objective").mission_id
    one = worker("s")
    (claim,) = one.claim()
    one.finish(claim, Ending(status=Status.COMPLETED, summary="needle-in-the-summary"))
    assert ledger.read(verify_rows) == []
    place.close()
    content = place.path.read_bytes()
    assert word.encode() in content
    place.path.write_bytes(content.replace(word.encode(), b"m" + word.encode()[1:]))
    found = place.open().read(verify_rows)
    assert covered in {fault.hash_name for fault in found}
    assert {fault.mission_id for fault in found} == {mission_id}
    figures("flipped bit in the ledger's file", tried=1, note=f"found by {covered}")
