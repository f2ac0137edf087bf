"""Statements of every tick and every call are served by an index, however many missions have ended."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy.dialects import sqlite as dialect

from tests.integration.ledger.places import Place
from ua_vp.ledger import (
    claims,
    events,
    finishing,
    holding,
    metrics,
    missions,
    operating,
    reconciling,
    rows,
    sessions,
    tokens,
    transaction,
)
from ua_vp.ledger.transaction import Statement

HOT: dict[str, tuple[Statement, str | None]] = {
    "claim: first due": (claims.FIRST_DUE, "vp_missions_due"),
    "claim: any due": (claims.ANY_DUE, "vp_missions_due"),
    "claim: move in": (claims.MOVE_IN, "vp_missions_waiting"),
    "claim: any to move": (claims.ANY_TO_MOVE, "vp_missions_waiting"),
    "claim: next due": (claims.NEXT_DUE, "vp_missions_waiting"),
    "claim: start": (claims.START, None),
    "renew: claims": (claims.EXTEND_CLAIMS, "vp_claims_of_session"),
    "renew: held": (claims.HELD_BY, "vp_claims_of_session"),
    "progress": (claims.PROGRESS, None),
    "finish: end attempt": (finishing.END_ATTEMPT, None),
    "finish: late outcome": (finishing.LATE, None),
    "requeue": (finishing.PUT_BACK, None),
    "mark": (claims.MARK, None),
    "drop claim": (holding.DROP_CLAIM, None),
    "reconcile: own": (reconciling.RENEW_OWN, "vp_claims_of_session"),
    "reconcile: others": (reconciling.HELD_BY_OTHERS, "vp_claims_of_lane"),
    "reconcile: unheld": (reconciling.UNHELD, "vp_missions_open"),
    "reconcile: unmarked": (reconciling.UNMARKED, "vp_missions_unmarked"),
    "reconcile: lost sessions": (sessions.UNREPORTED, "vp_sessions_of_lane"),
    "dispatch: by key": (missions.BY_KEY, "vp_missions_by_key"),
    "retry: retries": (operating.RETRIES, "vp_missions_retries"),
    "dispatch: newest": (transaction.NEWEST, "vp_missions_newest"),
    "get": (missions.BY_ID, None),
    "get, locked": (rows.LOCKED, None),
    "attempts": (missions.ATTEMPTS, None),
    "events of a mission": (events.COUNT, "vp_events_of_mission"),
    "metrics: depth": (metrics.OPEN_OF_LANE, "vp_missions_open"),
    "metrics: durations": (metrics.SPANS_OF_LANE, "vp_missions_finished"),
    "token": (tokens.BY_SECRET, "vp_tokens_by_secret"),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    place = Place(tmp_path_factory.mktemp("plans") / "vp_state.db")
    place.open()
    with closing(sqlite3.connect(place.path)) as connection:
        yield connection
    place.close()


@pytest.mark.parametrize("name", HOT)
def test_no_statement_of_the_hot_path_scans_a_table(raw: sqlite3.Connection, name: str) -> None:
    statement, index = HOT[name]
    compiled = statement.compile(dialect=dialect.dialect(paramstyle="named"))
    params = {bind: value if value is not None else 1 for bind, value in compiled.params.items()}
    plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {compiled}", params)]
    scans = [step for step in plan if step.startswith("SCAN vp_") and "USING COVERING INDEX" not in step]
    assert not scans, plan
    if index is not None:
        assert any(index in step for step in plan), plan


def test_the_first_due_mission_is_found_without_sorting(raw: sqlite3.Connection) -> None:
    compiled = claims.FIRST_DUE.compile(dialect=dialect.dialect(paramstyle="named"))
    plan = [
        row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {compiled}", {**compiled.params, "vp_id": "x", "limit": 1})
    ]
    assert plan == ["SEARCH vp_missions USING INDEX vp_missions_due (vp_id=?)"]
