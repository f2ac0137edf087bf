"""What a mission's hashes cover."""

from typing import Any

import pytest

from ua_vp.ledger import tables
from ua_vp.ledger.hashes import FINAL_COLUMNS, ROW_COLUMNS, faults, final_hash, row_hash

HASHES = {"row_hash", "row_hash_version", "final_hash", "final_hash_version"}


def ended() -> dict[str, Any]:
    row: dict[str, Any] = {column.name: f"value of {column.name}" for column in tables.missions.columns}
    row |= {"due": False, "cancel_requested": True, "row_hash_version": 1, "final_hash_version": 1}
    row["row_hash"] = row_hash(row)
    row["final_hash"] = final_hash(row)
    return row


def test_together_the_hashes_cover_every_column_but_the_stamps() -> None:
    covered = set(FINAL_COLUMNS[1]) | HASHES
    assert covered == {column.name for column in tables.missions.columns} - set(tables.STAMPS)
    assert set(ROW_COLUMNS[1]) < set(FINAL_COLUMNS[1])


def test_a_sound_row_has_no_fault() -> None:
    assert faults(ended()) == []


@pytest.mark.parametrize("name", FINAL_COLUMNS[1])
def test_a_change_of_any_column_is_a_fault(name: str) -> None:
    row = ended()
    row[name] = (not row[name]) if isinstance(row[name], bool) else "another"
    assert faults(row)


def test_a_truth_value_hashes_the_same_from_either_store() -> None:
    row = ended()
    row |= {"due": 0, "cancel_requested": 1}
    assert faults(row) == []


def test_stamps_leave_the_hash_as_it_is() -> None:
    row = ended()
    row |= dict.fromkeys(tables.STAMPS, 5)
    assert faults(row) == []


def test_a_version_that_nobody_knows_is_a_fault_in_plain_words() -> None:
    row = ended() | {"row_hash_version": 77}
    assert "77" in faults(row)[0].detail


def test_a_mission_that_has_not_ended_is_checked_by_its_row_hash_alone() -> None:
    row = ended() | {"completed_at": None, "final_hash": None, "final_hash_version": None, "summary": None}
    assert faults(row) == []
