"""What a Step works with: one transaction, its statements, and the way to write an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update, bindparam, insert
from sqlalchemy.schema import Table

from ua_vp.events import NewEvent
from ua_vp.ledger import tables
from ua_vp.ledger.engine import Driver, driver_of
from ua_vp.mission import canonical_json

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]
"""One row as the store gives it, by column name; mapped to the domain's values before it leaves `ledger`."""
Statement: TypeAlias = "Select[Any] | Insert | Update | Delete"


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerIdentity:
    """Which ledger this is: `epoch` grows when a backup is put back, so that a `seq` given twice can be told apart."""

    ledger_id: str
    epoch: int
    revision: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A statement compiled for the store at hand."""

    sql: str
    constants: Mapping[str, Any]
    names: tuple[str, ...]


class Statements:
    """Compiles each statement once; one per ledger, shared by its connections."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._prepared: dict[Statement, Prepared] = {}

    def prepare(self, statement: Statement) -> Prepared:
        """The compiled form; two threads that meet compile twice, to the same end."""
        found = self._prepared.get(statement)
        if found is None:
            compiled = statement.compile(dialect=self._dialect)
            constants = {name: compiled.params[name] for bind, name in compiled.bind_names.items() if not bind.required}
            names = tuple(str(name) for name in statement.exported_columns.keys())  # noqa: SIM118
            found = Prepared(sql=str(compiled), constants=constants, names=names)
            self._prepared[statement] = found
        return found


class Transaction:
    """An open transaction: a snapshot to read, or the write lock held. Valid until its Step returns."""

    def __init__(self, connection: Connection, statements: Statements, identity: LedgerIdentity) -> None:
        self._connection = connection
        self._driver: Driver = driver_of(connection)
        self._statements = statements
        self._identity = identity

    @property
    def identity(self) -> LedgerIdentity:
        """Which ledger this is."""
        return self._identity

    def run(self, statement: Statement, **params: Any) -> int:
        """Run a statement that was built once; returns how many rows it changed."""
        return int(self._execute(statement, params).rowcount)

    def rows(self, statement: Statement, **params: Any) -> list[Row]:
        """The rows of a statement that was built once."""
        names = self._statements.prepare(statement).names
        return [dict(zip(names, row, strict=True)) for row in self._execute(statement, params).fetchall()]

    def first(self, statement: Statement, **params: Any) -> Row | None:
        """The first row, or None."""
        prepared = self._statements.prepare(statement)
        row = self._execute(statement, params).fetchone()
        return None if row is None else dict(zip(prepared.names, row, strict=True))

    def value(self, statement: Statement, **params: Any) -> Any:
        """The first column of the first row, or None."""
        row = self._execute(statement, params).fetchone()
        return None if row is None else row[0]

    def search(self, statement: Select[Any]) -> list[Row]:
        """The rows of a query whose shape depends on what was asked."""
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def append(self, event: NewEvent) -> int:
        """Write an event with the change it reports; returns its `seq`."""
        seq = self.value(
            INSERT_EVENT,
            epoch=self._identity.epoch,
            type=event.type.value,
            at=event.at,
            actor_name=event.actor.name,
            actor_via=event.actor.via,
            payload=canonical_json(event.payload).decode(),
            mission_id=event.mission_id,
            vp_id=event.vp_id,
            session_id=event.session_id,
            source_session_id=event.source_session_id,
            attempt=event.attempt,
        )
        lane = event.vp_id or ""
        if not self.run(COUNT_EVENT, lane=lane, kind=event.type.value):
            self.run(INSERT_TALLY, vp_id=lane, type=event.type.value, total=1)
        return int(seq)

    def _execute(self, statement: Statement, params: Mapping[str, Any]) -> Any:
        prepared = self._statements.prepare(statement)
        return self._driver.execute(prepared.sql, {**prepared.constants, **params} if prepared.constants else params)


Step: TypeAlias = Callable[[Transaction], T]
"""A use case: depends on its transaction alone, can be run again, refuses by value."""


def insert_all(table: Table, *, but: str | None = None) -> Insert:
    """Insert one row, every column given by name."""
    return insert(table).values({name: bindparam(name) for name in table.columns.keys() if name != but})  # noqa: SIM118  # a column collection iterates over columns


INSERT_EVENT = insert_all(tables.events, but="seq").returning(tables.events.c.seq)
INSERT_TALLY = insert_all(tables.tallies)
COUNT_EVENT = (
    tables.tallies.update()
    .where(tables.tallies.c.vp_id == bindparam("lane"), tables.tallies.c.type == bindparam("kind"))
    .values(total=tables.tallies.c.total + 1)
)
