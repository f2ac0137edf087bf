"""What a Step works with: one transaction, its statements, and the way to write an event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Dialect,
    Insert,
    Select,
    Text,
    Update,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.schema import Table

from ua_vp.events import NewEvent
from ua_vp.ledger import tables
from ua_vp.ledger.bulk import array_of, in_bulk
from ua_vp.ledger.engine import Driver, driver_of, in_one_go
from ua_vp.mission import canonical_json

T = TypeVar("T")
AMONG = 32
"""So many ids a statement asks for."""
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
    order: tuple[str, ...] | None
    """The parameters' names in the order in which the driver takes them; None if it takes them by name."""
    reads_events: bool
    """Whether it looks at events, or at how many there are."""
    bulk: Prepared | None = None
    """For a change, where the store takes arrays: the same for many rows, each parameter a list."""

    def bind(self, params: Mapping[str, Any]) -> Any:
        """The values of `params`, and of the constants, as the driver takes them."""
        if self.constants:
            params = {**self.constants, **params}
        return params if self.order is None else [params[name] for name in self.order]

    def run_each(self, cursor: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each of `rows`; the cursor counts what they changed."""
        if self.bulk is None or len(rows) == 1:
            cursor.executemany(self.sql, [self.bind(row) for row in rows])
        else:
            lists = {name: array_of([row[name] for row in rows]) for name in rows[0]}
            cursor.execute(self.bulk.sql, self.bulk.bind(lists))


class Statements:
    """Compiles each statement once; one per ledger, shared by its connections."""

    def __init__(self, dialect: Dialect, *, arrays: bool = False) -> None:
        self._dialect = dialect
        self._arrays = arrays
        self._prepared: dict[Statement, Prepared] = {}

    def prepare(self, statement: Statement) -> Prepared:
        """The compiled form; two threads that meet compile twice, to the same end."""
        found = self._prepared.get(statement)
        if found is None:
            found = self._compile(statement)
            if self._arrays and not isinstance(statement, Select):
                found = replace(found, bulk=self._compile(in_bulk(statement, self._dialect)))
            self._prepared[statement] = found
        return found

    def _compile(self, statement: Statement) -> Prepared:
        compiled = statement.compile(dialect=self._dialect)
        constants = {name: compiled.params[name] for bind, name in compiled.bind_names.items() if not bind.required}
        names = tuple(str(name) for name in statement.exported_columns.keys())  # noqa: SIM118
        order = tuple(compiled.positiontup) if compiled.positiontup is not None else None
        sql = str(compiled)
        reads_events = any(table.name in sql for table in (tables.events, tables.tallies))
        return Prepared(sql=sql, constants=constants, names=names, order=order, reads_events=reads_events)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A statement to be run for each of many rows; `sure`: each time it changes exactly one."""

    statement: Statement
    sure: bool
    rows: list[Mapping[str, Any]]


class Waiting:
    """Changes to missions that wait to be sent: like ones together, those of one mission in the order they came."""

    def __init__(self) -> None:
        self._changes: dict[Statement, Change] = {}
        self._places: dict[Statement, int] = {}
        self._reached: dict[str, int] = {}

    def add(self, statement: Statement, params: Mapping[str, Any], *, sure: bool) -> bool:
        """Take one in; False if it would overtake another of its mission: all that waits must go before."""
        place = self._places.setdefault(statement, len(self._places))
        if self._reached.get(params["mission_id"], -1) >= place:
            return False
        self._reached[params["mission_id"]] = place
        if statement not in self._changes:
            self._changes[statement] = Change(statement=statement, sure=sure, rows=[])
        self._changes[statement].rows.append(params)
        return True

    def take(self) -> list[Change]:
        """Everything, in the order in which it is to be done; nothing waits any more."""
        taken = list(self._changes.values())
        for kept in (self._changes, self._places, self._reached):
            kept.clear()
        return taken


class Transaction:
    """An open transaction: a snapshot to read, or the write lock held. Valid until its Step returns.

    What `write` and `append` are given is kept back, so that many missions' changes go to the store as one; nobody sees
    the difference, for it is sent before anything is asked, and before the commit. A change that the store refuses is
    refused there, and the batch with it.
    """

    def __init__(self, connection: Connection, statements: Statements, identity: LedgerIdentity) -> None:
        self._connection = connection
        self._driver: Driver = driver_of(connection)
        self._statements = statements
        self._identity = identity
        self._waiting = Waiting()
        self._events: list[Mapping[str, Any]] = []
        self._newest_seq: int | None = None
        self.newest_dispatch = 0
        """The instant of the newest dispatch, µs; known behind the first `append`, and kept up by who dispatches."""

    @property
    def identity(self) -> LedgerIdentity:
        """Which ledger this is."""
        return self._identity

    def run(self, statement: Statement, **params: Any) -> int:
        """Run a statement that was built once; returns how many rows it changed."""
        return int(self._execute(statement, params).rowcount)

    def write(self, statement: Statement, *, if_any: bool = False, **params: Any) -> None:
        """Have a statement change exactly one row (or, `if_any`, none) of the mission `mission_id`, perhaps not at once."""
        if not self._waiting.add(statement, params, sure=not if_any):
            self._send(self._waiting.take())
            self._waiting.add(statement, params, sure=not if_any)

    def rows(self, statement: Statement, **params: Any) -> list[Row]:
        """The rows of a statement that was built once."""
        names = self._statements.prepare(statement).names
        return [dict(zip(names, row, strict=True)) for row in self._execute(statement, params).fetchall()]

    def among(self, statement: Statement, ids: Sequence[str]) -> list[Row]:
        """The rows of a statement with `is_among`, for any number of ids."""
        rows = []
        for start in range(0, len(ids), AMONG):
            some = ids[start : start + AMONG]
            rows += self.rows(statement, **{f"id_{n}": some[min(n, len(some) - 1)] for n in range(AMONG)})
        return rows

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
        self.send()
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def append(self, event: NewEvent) -> int:
        """Write an event with the change it reports; returns its `seq`, given out under the write lock."""
        if self._newest_seq is None:
            self._newest_seq, self.newest_dispatch = self._newest()
        self._newest_seq += 1
        self._events.append(
            {
                "seq": self._newest_seq,
                "epoch": self._identity.epoch,
                "type": event.type.value,
                "at": event.at,
                "actor_name": event.actor.name,
                "actor_via": event.actor.via,
                "payload": canonical_json(event.payload).decode(),
                "mission_id": event.mission_id,
                "vp_id": event.vp_id,
                "session_id": event.session_id,
                "source_session_id": event.source_session_id,
                "attempt": event.attempt,
            }
        )
        return self._newest_seq

    def send(self) -> None:
        """Give the store what was kept back; called once more behind the last Step."""
        self._send(self._waiting.take() + self._told())

    def _told(self) -> list[Change]:
        """The events that wait, and what they add to the tallies."""
        events, self._events = self._events, []
        told = Counter((event["vp_id"] or "", event["type"]) for event in events)
        tallies: list[Mapping[str, Any]] = [{"lane": lane, "kind": kind, "more": n} for (lane, kind), n in told.items()]
        return [
            Change(statement=INSERT_EVENT, sure=True, rows=events),
            Change(statement=BEGIN_TALLY, sure=False, rows=tallies),
            Change(statement=COUNT_EVENTS, sure=True, rows=tallies),
        ]

    def _send(self, changes: list[Change]) -> None:
        changes = [change for change in changes if change.rows]
        if not changes:
            return
        with in_one_go(self._driver):
            cursors = [self._run_each(change) for change in changes]
        for change, cursor in zip(changes, cursors, strict=True):
            if change.sure and cursor.rowcount != len(change.rows):  # no assert: the fence must hold under -O too
                raise AssertionError("a row that was read in this transaction is not there any more")

    def _run_each(self, change: Change) -> Any:
        prepared = self._statements.prepare(change.statement)
        cursor = self._driver.cursor()
        prepared.run_each(cursor, change.rows)
        return cursor

    def _newest(self) -> tuple[int, int]:
        """The `seq` of the newest event and the instant of the newest dispatch: what waits to be sent has neither yet."""
        seq, dispatched = self._driver.execute(self._statements.prepare(NEWEST).sql).fetchone()
        return seq or 0, dispatched or 0

    def _execute(self, statement: Statement, params: Mapping[str, Any]) -> Any:
        prepared = self._statements.prepare(statement)
        self._send(self._waiting.take() + (self._told() if prepared.reads_events else []))
        return self._driver.execute(prepared.sql, prepared.bind(params))


Step: TypeAlias = Callable[[Transaction], T]
"""A use case: depends on its transaction alone, can be run again, refuses by value."""


def is_among(column: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a column is one of the ids that `Transaction.among` asks for; so many at a time, some more than once."""
    return column.in_([bindparam(f"id_{n}") for n in range(AMONG)])


def insert_all(table: Table, *, but: Collection[str] = ()) -> Insert:
    """Insert one row, every column given by name, `but` those that begin empty or that the store fills."""
    return insert(table).values({name: bindparam(name) for name in table.columns.keys() if name not in but})  # noqa: SIM118  # a column collection iterates over columns


NEWEST = select(
    select(func.max(tables.events.c.seq)).scalar_subquery(),
    select(func.max(tables.missions.c.created_at)).scalar_subquery(),
)
INSERT_EVENT = insert_all(tables.events)
_tally = (tables.tallies.c.vp_id == bindparam("lane")) & (tables.tallies.c.type == bindparam("kind"))
BEGIN_TALLY = insert(tables.tallies).from_select(
    ["vp_id", "type", "total"],
    select(cast(bindparam("lane"), Text), cast(bindparam("kind"), Text), literal_column("0")).where(
        ~select(tables.tallies.c.total).where(_tally).exists()
    ),
)
COUNT_EVENTS = tables.tallies.update().where(_tally).values(total=tables.tallies.c.total + bindparam("more"))
