"""Whether the rows of the real ledger are those of the reference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from sqlalchemy import BindParameter, bindparam, select

from tests.faults.model.reading import ENDS
from tests.faults.model.state import ENDED, QUEUED, RUNNING, State
from tests.faults.model.steps import Row
from ua_vp.ledger import Transaction
from ua_vp.ledger.hashes import faults
from ua_vp.ledger.tables import STAMPS, attempts, claims, events, missions, sessions, tallies

WRITTEN_AS_JSON = frozenset({"usage", "late_outcome", "payload"})


class DifferenceError(AssertionError):
    """The real ledger and the reference do not agree."""


def differ(what: str, expected: object, found: object) -> None:
    """Raise if they do."""
    if expected != found:
        raise DifferenceError(f"{what}\n  expected {_short(expected, found)}\n  found    {_short(found, expected)}")


def about(state: State, mission: str) -> Row:
    """Everything that the reference knows of one mission, as it is now."""
    return {
        "mission": dict(state.missions[mission]),
        "claim": dict(state.claims.get(mission, {})),
        "attempts": {n: dict(record) for (of, n), record in state.attempts.items() if of == mission},
    }


def check_mission(tx: Transaction, mission: str, known: Row) -> None:
    """Compare one mission with its claim and its attempts."""
    asked = {"mission_id": mission}
    _compare(mission, known, tx.first(ONE, **asked), tx.first(CLAIM, **asked), tx.rows(ATTEMPTS, **asked))


def check_missions(tx: Transaction, lanes: Iterable[str], known: Mapping[str, Row]) -> dict[str, Row]:
    """The same for many missions of these lanes; gives the rows of all."""
    one, two = lanes
    rows = {row["mission_id"]: row for row in tx.rows(MISSIONS, one=one, two=two)}
    held = {row["mission_id"]: row for row in tx.rows(CLAIMS, one=one, two=two)}
    records: dict[str, list[Row]] = {}
    for row in tx.rows(RECORDS, one=one, two=two):
        records.setdefault(row["mission_id"], []).append(row)
    for mission, it in known.items():
        _compare(mission, it, rows.get(mission), held.get(mission), records.get(mission, []))
    return rows


def read_events(tx: Transaction, lanes: Iterable[str], behind: int) -> tuple[list[int], list[Row]]:
    """The events of these lanes behind a `seq`: their numbers, and what they say."""
    one, two = lanes
    rows = tx.rows(EVENTS, one=one, two=two, behind=behind)
    told = [{**_like(EVENT, row), "actor": (row["actor_name"], row["actor_via"])} for row in rows]
    return [row["seq"] for row in rows], told


def check_all(tx: Transaction, state: State, seqs: list[int], final: dict[str, Row]) -> None:
    """Compare everything there is of a run, and what must hold of any ledger; `final` keeps rows that ended."""
    one, two = state.lanes
    rows = check_missions(tx, state.lanes, {mission: about(state, mission) for mission in state.missions})
    differ("missions", state.missions.keys(), rows.keys())
    for mission, row in rows.items():
        differ(f"hashes of {mission}", [], faults(row))
        if row["completed_at"] is not None:
            kept = {name: value for name, value in row.items() if name not in STAMPS}
            differ(f"{mission} since its end", final.setdefault(mission, kept), kept)
    found, told = read_events(tx, state.lanes, 0)
    differ("the numbers of all events", seqs, found)
    differ("all events", state.events, told)
    stored = {row["session_id"]: row for row in tx.rows(SESSIONS, one=one, two=two)}
    differ("sessions", state.sessions, {key: _like(state.sessions.get(key, {}), row) for key, row in stored.items()})
    counted: dict[tuple[str, str], int] = {}
    for event in told:
        counted[event["vp_id"], event["type"]] = counted.get((event["vp_id"], event["type"]), 0) + 1
    tallied = {(row["vp_id"], row["type"]): row["total"] for row in tx.rows(TALLIES, one=one, two=two)}
    differ("tallies", counted, tallied)
    check_log(rows, found, told)


def check_log(rows: Mapping[str, Row], seqs: list[int], told: list[Row]) -> None:
    """The log alone tells the state of each mission; each end is told once; `seq` grows and names the dispatch."""
    assert all(a < b for a, b in pairwise(seqs)), "a seq that does not grow"
    replayed: dict[str, str] = {}
    for seq, event in zip(seqs, told, strict=True):
        mission, kind = event["mission_id"], event["type"].removeprefix("vp.mission.")
        if kind == "dispatched":
            differ(f"place of {mission}", seq, rows[mission]["dispatched_seq"])
        if event["type"] in ENDS and replayed[mission] in ENDED:
            raise DifferenceError(f"{mission} ended twice: {replayed[mission]}, then {kind}")
        becomes = {"dispatched": QUEUED, "started": RUNNING, "requeued": QUEUED, **{end: end for end in ENDED}}
        if kind in becomes:
            replayed[mission] = becomes[kind]
    differ("what the log tells", {mission: row["status"] for mission, row in rows.items()}, replayed)


def _compare(mission: str, known: Row, row: Row | None, claim: Row | None, records: Iterable[Row]) -> None:
    differ(f"mission {mission}", known["mission"], _like(known["mission"], row))
    differ(f"claim of {mission}", known["claim"], _like(known["claim"], claim))
    stored = {record["attempt"]: record for record in records}
    for number in known["attempts"].keys() | stored.keys():
        expected = known["attempts"].get(number, {})
        differ(f"attempt {number} of {mission}", expected, _like(expected, stored.get(number)))


def _like(known: Mapping[str, Any], row: Row | None) -> Row:
    """The columns of a row that the reference keeps, as it keeps them."""
    if row is None:
        return {}
    if not known:
        return row
    return {
        name: json.loads(row[name]) if name in WRITTEN_AS_JSON and row[name] is not None else row[name]
        for name in known
        if name in row
    }


def _short(value: object, other: object) -> str:
    """Only what differs, where both are mappings."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return str({key: it for key, it in value.items() if key not in other or other[key] != it})
    return str(value)


EVENT = dict.fromkeys(("type", "at", "payload", "mission_id", "vp_id", "session_id", "source_session_id", "attempt"))
_lanes: tuple[BindParameter[str], ...] = (bindparam("one"), bindparam("two"))
ONE = select(missions).where(missions.c.mission_id == bindparam("mission_id"))
CLAIM = select(claims).where(claims.c.mission_id == bindparam("mission_id"))
ATTEMPTS = select(attempts).where(attempts.c.mission_id == bindparam("mission_id"))
EVENTS = select(events).where(events.c.vp_id.in_(_lanes), events.c.seq > bindparam("behind")).order_by(events.c.seq)
MISSIONS = select(missions).where(missions.c.vp_id.in_(_lanes))
RECORDS = (
    select(attempts).join(missions, missions.c.mission_id == attempts.c.mission_id).where(missions.c.vp_id.in_(_lanes))
)
CLAIMS = select(claims).where(claims.c.vp_id.in_(_lanes))
SESSIONS = select(sessions).where(sessions.c.vp_id.in_(_lanes))
TALLIES = select(tallies).where(tallies.c.vp_id.in_(_lanes))
