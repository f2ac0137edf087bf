"""Making a ledger and bringing its tables up to this release, under one write lock from the first look to the commit."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, select

from ua_vp.errors import ConfigurationError, LedgerGoneError
from ua_vp.ledger import tables
from ua_vp.ledger.engine import Store, driver_of, wait_for_write_lock
from ua_vp.ledger.migrations import REVISIONS
from ua_vp.ledger.transaction import LedgerIdentity, insert_all
from ua_vp.ports import Ports

FOLDER = Path(__file__).parent / "migrations"
VERSION_TABLE = "vp_revision"
MIN_CODE_REVISION = "0001"
"""The oldest code that can read and write what this release writes."""


def bring_up(
    connection: Connection, store: Store, ports: Ports, *, create: bool, busy_seconds: float
) -> LedgerIdentity:
    """Make or migrate the ledger in `store` if it needs it; returns which ledger it is.

    Killed at any line, it leaves the ledger as it was; two at once do it one after the other.

    Raises:
        ConfigurationError: it is no ledger, or needs a newer release.
        LedgerGoneError: it is empty and may not be made.
        LedgerBusyError: another process kept it locked.
    """
    found = _identity(connection)
    if found is not None and _is_up(found):
        return found
    ledger_id, now = ports.ids.uuid7(), ports.clock.now()
    driver = driver_of(connection)
    wait_for_write_lock(lambda: store.begin_migrating(driver), ports, limit=busy_seconds)
    try:
        _migrate(connection, ledger_id=ledger_id, now=now, create=create)
        store.check_migrated(driver)
        store.commit(driver)
    finally:
        if store.in_transaction(driver):
            driver.execute("ROLLBACK")
        store.end_migrating(driver)
    identity = _identity(connection)
    assert identity is not None
    return identity


def _migrate(connection: Connection, *, ledger_id: str, now: int, create: bool) -> None:
    """Inside the transaction: look again, then do what is missing."""
    identity = _identity(connection)
    if identity is None:
        _refuse_strangers(connection, create=create)
    elif _is_up(identity):
        return  # somebody else did it meanwhile
    upgrade(connection, REVISIONS[-1])
    if identity is None:
        connection.execute(
            insert_all(tables.ledger),
            {
                "singleton": 1,
                "ledger_id": ledger_id,
                "epoch": 1,
                "revision": REVISIONS[-1],
                "min_code_revision": MIN_CODE_REVISION,
                "created_at": now,
            },
        )
    else:
        connection.execute(tables.ledger.update().values(revision=REVISIONS[-1], min_code_revision=MIN_CODE_REVISION))


def _is_up(identity: LedgerIdentity) -> bool:
    """At our newest revision, or newer and (as `_identity` saw) still open to us."""
    return identity.revision == REVISIONS[-1] or identity.revision not in REVISIONS


def upgrade(connection: Connection, target: str) -> None:
    """Run Alembic's revisions up to `target` in the transaction that is open."""
    from alembic.config import Config  # here, for 11 MiB that most processes never need
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("version_locations", str(FOLDER))
    config.set_main_option("path_separator", "newline")
    script = ScriptDirectory.from_config(config)
    environment = EnvironmentContext(
        config, script, fn=lambda revision, _: script._upgrade_revs(target, revision), destination_rev=target
    )
    with environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.run_migrations()


def _identity(connection: Connection) -> LedgerIdentity | None:
    """Which ledger this is; None if it has no tables of ours yet.

    Raises:
        ConfigurationError: it needs newer code.
    """
    if not inspect(connection).has_table(tables.ledger.name):
        return None
    row = connection.execute(select(tables.ledger)).mappings().one()
    if row["revision"] not in REVISIONS and row["min_code_revision"] not in REVISIONS:
        raise ConfigurationError(
            f"this ledger is at revision {row['revision']} and takes releases that know revision "
            f"{row['min_code_revision']} or later; this one knows up to {REVISIONS[-1]}: install a newer ua-vp"
        )
    return LedgerIdentity(ledger_id=row["ledger_id"], epoch=row["epoch"], revision=row["revision"])


def _refuse_strangers(connection: Connection, *, create: bool) -> None:
    if inspect(connection).get_table_names():
        raise ConfigurationError("it holds a database, but no ledger of ua-vp; name another path or database")
    if not create:
        raise LedgerGoneError("it is empty, not a ledger; put the ledger back, or start the product to make one")
