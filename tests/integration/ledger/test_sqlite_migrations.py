"""Making a ledger and bringing it up to date: whole or not at all, once, and never against a newer one's will."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.figures import Figures
from tests.integration.ledger import forked_openings
from tests.integration.ledger.places import Place, Worker, cancelled, dispatched, read
from ua_vp.errors import ConfigurationError
from ua_vp.ledger import migrate, missions, tables, verify_rows
from ua_vp.ledger.migrations import REVISIONS
from ua_vp.mission import Status

SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("vp_missions", sa.Column("weight", sa.Integer()))
    op.create_table("vp_notices", sa.Column("notice_id", sa.Text(), primary_key=True))
"""


def schema(path: Path) -> dict[tuple[str, str], str]:
    """Everything a ledger consists of but its rows."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        return {(kind, name): " ".join(sql.split()) for kind, name, sql in found}


def in_a_program(*argv: str, repository: Path) -> Any:
    """What `forked_openings` prints."""
    command = [sys.executable, "-m", forked_openings.__name__, *argv]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_migrations_make_is_what_the_code_reads_and_writes(place: Place, tmp_path: Path) -> None:
    place.open()
    place.close()
    declared = tmp_path / "declared.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{declared}")
    tables.metadata.create_all(engine)
    engine.dispose()
    made = schema(place.path)
    triggers = {key for key in made if key[0] == "trigger"}
    assert len(triggers) == 9
    ours = {key: sql for key, sql in made.items() if key not in triggers and key[1] != migrate.VERSION_TABLE}
    assert ours == schema(declared)


def test_the_list_of_revisions_is_that_of_the_folder() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.FOLDER))
    config.set_main_option("version_locations", str(migrate.FOLDER))
    config.set_main_option("path_separator", "newline")
    found = [revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == REVISIONS


def test_killed_at_any_statement_it_leaves_nothing_or_everything(
    place: Place, tmp_path: Path, repository: Path, figures: Figures
) -> None:
    place.open()
    place.close()
    whole = schema(place.path)
    kills = in_a_program("killed", str(tmp_path), repository=repository)
    assert kills > 45
    for number in range(1, kills + 2):
        path = tmp_path / f"{number * forked_openings.EVERY}.db"
        if path.exists():
            assert schema(path) in ({}, whole)
        again = Place(path)
        assert dispatched(again.open()).status is Status.QUEUED
        again.close()
        assert schema(path) == whole
    figures("migration killed at a statement, SQLite", tried=kills, note="nothing or everything")


def test_many_at_once_make_one_ledger(tmp_path: Path, repository: Path) -> None:
    ids = in_a_program("together", str(tmp_path), "8", repository=repository)
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_opening_again_changes_nothing(place: Place) -> None:
    first = place.open().identity
    place.close()
    before = schema(place.path)
    assert place.open().identity == first
    assert schema(place.path) == before


def newer(path: Path, min_code_revision: str) -> None:
    """Make the ledger look like one that a later release brought up."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE vp_ledger SET revision = '9999', min_code_revision = ?", (min_code_revision,))
        connection.execute(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")


def test_a_newer_ledger_that_still_takes_this_release_is_used_as_it_is(place: Place) -> None:
    place.open()
    place.close()
    newer(place.path, REVISIONS[-1])
    ledger = place.open()
    assert ledger.identity.revision == "9999"
    dispatched(ledger)


def test_a_ledger_that_needs_a_newer_release_is_refused_in_plain_words(place: Place, figures: Figures) -> None:
    place.open()
    place.close()
    newer(place.path, "9998")
    before = schema(place.path)
    with pytest.raises(ConfigurationError, match=r"9998.*install a newer ua-vp"):
        place.open()
    assert schema(place.path) == before
    figures("ledger that needs a newer release", tried=1, note="refused, unchanged")


def test_a_migration_keeps_rows_and_refusals_and_the_release_before_goes_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = place.open()
    one = Worker(ledger, "s").start()
    ended, waiting = dispatched(ledger).mission_id, dispatched(ledger).mission_id
    one.finish(one.claim()[0])
    place.close()
    before = schema(place.path)
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "r0002_second.py").write_text(SECOND)
    monkeypatch.setattr(migrate, "FOLDER", folder)
    monkeypatch.setattr(migrate, "REVISIONS", ("0001", "0002"))
    ledger = place.open()
    assert ledger.identity.revision == "0002"
    assert len(ledger.read(lambda tx: missions.page_missions(tx, limit=9))) == 2
    assert ledger.read(verify_rows) == []
    place.close()
    after = schema(place.path)
    assert {key for key in after if key not in before} == {("table", "vp_notices")}
    assert {key for key in before if before[key] != after[key]} == {("table", "vp_missions")}
    with closing(sqlite3.connect(place.path)) as raw, pytest.raises(sqlite3.IntegrityError):
        raw.execute("UPDATE vp_missions SET summary = 'x' WHERE mission_id = ?", (ended,))
    monkeypatch.undo()
    ledger = place.open()
    assert cancelled(ledger, waiting).ended
    assert dispatched(ledger).status is Status.QUEUED
    assert read(ledger, ended).status is Status.COMPLETED
