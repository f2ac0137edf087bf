"""Hashes over a mission's columns: flipped bits that the store's own check does not see are found by reading.

`row_hash` covers what dispatch wrote, `final_hash` every column but the stamps at the terminal commit. Each is stored
with the version of its column list, so that later columns leave old hashes good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ua_vp.mission import canonical_sha256

ROW_HASH_VERSION = 1
FINAL_HASH_VERSION = 1

ROW_COLUMNS: Mapping[int, tuple[str, ...]] = {
    1: (
        *("mission_id", "vp_id", "mission_type", "objective", "constraints", "budget", "inputs", "priority"),
        *("max_tries", "not_before", "idempotency_key", "fingerprint", "source_session_id", "source_turn_id"),
        *("turn_id", "reply_mode", "retry_of", "continues", "group_id", "concurrency_key", "after"),
        *("created_by", "created_via", "created_at", "due_order", "dispatched_seq"),
    )
}
FINAL_COLUMNS: Mapping[int, tuple[str, ...]] = {
    1: (
        *ROW_COLUMNS[1],
        *("row_hash", "row_hash_version", "status", "due", "due_at", "attempt", "tries", "cancel_requested"),
        *("cancel_reason", "cancelled_by", "requeue_reason", "awaiting", "result_ref", "summary", "failure_mode"),
        *("failure_detail", "usage", "started_at", "last_progress_at", "completed_at", "updated_at"),
    )
}
TRUTH_VALUES = frozenset({"due", "cancel_requested"})
"""Columns that one store gives as a truth value and the other as 0 or 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFault:
    """A mission whose columns are not what was written: `hash_name` is `row_hash` or `final_hash`."""

    mission_id: str
    hash_name: str
    detail: str


def row_hash(row: Mapping[str, Any], version: int = ROW_HASH_VERSION) -> str:
    """Over what dispatch wrote."""
    return _hash(row, ROW_COLUMNS[version])


def final_hash(row: Mapping[str, Any], version: int = FINAL_HASH_VERSION) -> str:
    """Over everything but the stamps, as the terminal commit writes it."""
    return _hash(row, FINAL_COLUMNS[version])


def faults(row: Mapping[str, Any]) -> list[RowFault]:
    """What is wrong with one stored mission; empty if nothing is."""
    found = []
    checks = [("row_hash", ROW_COLUMNS)]
    if row["completed_at"] is not None or row["final_hash"] is not None:
        checks.append(("final_hash", FINAL_COLUMNS))
    for name, lists in checks:
        columns = lists.get(row[f"{name}_version"])
        if columns is None:
            detail = f"{name} has version {row[f'{name}_version']!r}, which this release does not know"
        elif _hash(row, columns) != row[name]:
            detail = f"{name} does not match the columns it covers; restore the ledger from a backup"
        else:
            continue
        found.append(RowFault(mission_id=str(row["mission_id"]), hash_name=name, detail=detail))
    return found


def _hash(row: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    return canonical_sha256({name: bool(row[name]) if name in TRUTH_VALUES else row[name] for name in columns})
