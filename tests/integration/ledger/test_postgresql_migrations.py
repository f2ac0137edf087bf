"""Making a ledger on PostgreSQL: whole or not at all, once, and never against a newer one's will."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy

from tests.figures import Figures
from tests.integration.ledger.places import Place, Worker, cancelled, dispatched, read
from tests.integration.ledger.test_sqlite_migrations import SECOND
from tests.postgres import Cluster
from ua_vp.errors import ConfigurationError, VpError
from ua_vp.ledger import migrate, missions, tables, verify_rows
from ua_vp.mission import Status

COLUMNS = """
SELECT table_name || '.' || column_name, data_type, is_nullable, column_default, is_identity, identity_generation
FROM information_schema.columns WHERE table_schema = 'public'"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
CONSTRAINTS = """
SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace"""
TRIGGERS = "SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal"


def found(place: Place, query: str) -> dict[str, tuple[Any, ...]]:
    with place.raw() as server:
        rows = server.execute(query.encode()).fetchall()
    return {row[0]: row for row in rows if not row[0].startswith(migrate.VERSION_TABLE)}


def schema(place: Place) -> dict[str, tuple[Any, ...]]:
    """Everything a ledger consists of but its rows."""
    return found(place, COLUMNS) | found(place, INDEXES) | found(place, CONSTRAINTS) | found(place, TRIGGERS)


def test_what_migrations_make_is_what_the_code_reads_and_writes(place: Place, cluster: Cluster) -> None:
    place.open()
    declared = Place(place.path, url=cluster.create())
    assert declared.url is not None
    engine = sqlalchemy.create_engine(declared.url)
    tables.metadata.create_all(engine)
    engine.dispose()
    for query in (COLUMNS, INDEXES, CONSTRAINTS):
        assert found(place, query) == found(declared, query)
    triggers = found(place, TRIGGERS)
    assert len(triggers) == 9
    assert {row[1] for row in triggers.values()} == {"A"}, "in a replica's session too"


def test_many_at_once_make_one_ledger(place: Place) -> None:
    opened = []

    def open_one() -> None:
        opened.append(place.open(busy_seconds=30).identity)

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8
    assert len({identity.ledger_id for identity in opened}) == 1


def test_killed_at_any_statement_it_leaves_nothing_or_everything(place: Place, figures: Figures) -> None:
    place.open()
    place.close()
    everything, kills = schema(place), 0
    for number in range(0, 1000, 6):
        with place.raw() as server:
            server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        if not killed_at(place, number):
            break
        kills += 1
        assert schema(place) in ({}, everything)
        assert dispatched(place.open()).status is Status.QUEUED
        place.close()
        assert schema(place) == everything
    assert kills > 5
    figures("migration killed at a statement, PostgreSQL", tried=kills, note="at every sixth; nothing or everything")


def killed_at(place: Place, number: int) -> bool:
    """Open it with the server's process killed before the migration's statement `number`; False if it has fewer."""
    left = number

    def kill(connection: Any, *_: object) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            with place.raw() as server:
                server.execute(
                    "SELECT pg_terminate_backend(%s, 5000)", (connection.connection.dbapi_connection.info.backend_pid,)
                )

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", kill)
    try:
        place.open(busy_seconds=0.1)
    except (VpError, psycopg.Error, sqlalchemy.exc.DBAPIError):
        return True
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", kill)
        place.close()
    return left < 0


def test_opening_again_changes_nothing(place: Place) -> None:
    first = place.open().identity
    place.close()
    before = schema(place)
    assert place.open().identity == first
    assert schema(place) == before


@pytest.mark.parametrize(("least", "taken"), [("0001", True), ("9999", False)])
def test_a_newer_ledger_is_used_only_if_it_takes_this_release(place: Place, least: str, taken: bool) -> None:
    place.open()
    place.close()
    with place.raw() as server:
        server.execute("UPDATE vp_ledger SET revision = '9999', min_code_revision = %s", (least,))
    if taken:
        assert dispatched(place.open()).status is Status.QUEUED
    else:
        with pytest.raises(ConfigurationError, match="install a newer ua-vp"):
            place.open()


def test_a_migration_keeps_rows_and_refusals_and_the_release_before_goes_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = place.open()
    one = Worker(old, "s").start()
    ended, waiting = dispatched(old).mission_id, dispatched(old).mission_id
    one.finish(one.claim()[0])
    before = schema(place)
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "r0002_second.py").write_text(SECOND)
    monkeypatch.setattr(migrate, "FOLDER", folder)
    monkeypatch.setattr(migrate, "REVISIONS", ("0001", "0002"))
    new = place.open()
    assert new.identity.revision == "0002"
    assert len(new.read(lambda tx: missions.page_missions(tx, limit=9))) == 2
    assert new.read(verify_rows) == []
    after = schema(place)
    assert all(after[name] == was for name, was in before.items())
    with place.raw() as server, pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        server.execute("UPDATE vp_missions SET summary = 'x' WHERE mission_id = %s", (ended,))
    assert cancelled(old, waiting).ended, "a process of the release before goes on beside it"
    assert dispatched(old).status is Status.QUEUED
    assert read(old, ended).status is Status.COMPLETED
