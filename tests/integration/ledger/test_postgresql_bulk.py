"""Changes of many rows as one statement: arrays say what was meant, and an index finds each row."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from tests.integration.ledger.places import Place
from tests.integration.ledger.test_sqlite_plans import HOT
from ua_vp.ledger import endings, finishing, transaction
from ua_vp.ledger.bulk import array_of, in_bulk
from ua_vp.ledger.postgres import SESSION
from ua_vp.ledger.transaction import Statement

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
CHANGES = {name: statement for name, (statement, _) in HOT.items() if not isinstance(statement, Select)} | {
    "end": endings.END,
    "take over": finishing.TAKE,
    "usage": finishing.ATTEMPT_USAGE,
    "tally": transaction.COUNT_EVENTS,
}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    values=st.tuples(
        st.lists(texts | st.sampled_from(["NULL", "", "{}", '"', "\\", '\\"', " a, b "]) | st.none()),
        st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()),
        st.lists(st.booleans() | st.none()),
    )
)
def test_an_array_gives_back_what_it_was_made_of(place: Place, values: tuple[list[object], ...]) -> None:
    with place.raw() as server:
        row = server.execute(
            "SELECT %s::text[], %s::bigint[], %s::boolean[]",
            [array_of(column) for column in values],  # type: ignore[arg-type]  # each of one kind
        ).fetchone()
    assert row == values


@pytest.mark.parametrize("name", CHANGES)
def test_a_plan_made_while_the_ledger_was_empty_reads_no_table_later(place: Place, name: str) -> None:
    """PostgreSQL keeps plans; one that reads a whole table is cheap only as long as that is empty."""
    place.open()
    with place.raw() as server:
        server.prepare_threshold = None
        server.execute(SESSION)
        server.execute("SET plan_cache_mode = force_generic_plan")
        sql, parameters = numbered(in_bulk(CHANGES[name], DIALECT))
        server.execute(f"PREPARE kept AS {sql}")
        plan = server.execute(f"EXPLAIN EXECUTE kept({', '.join(['NULL'] * parameters)})").fetchall()
    steps = "\n".join(step for (step,) in plan)
    assert "Index" in steps
    assert "Seq Scan" not in steps


DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # untyped upstream


def numbered(statement: Statement) -> tuple[str, int]:
    """As PREPARE takes it, and how many parameters it has."""
    sql, names = str(statement.compile(dialect=DIALECT)), statement.compile(dialect=DIALECT).params
    for number, name in enumerate(names, 1):
        sql = sql.replace(f"%({name})s", f"${number}")
    return sql, len(names)
