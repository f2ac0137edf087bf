"""Reading events; they are written by `Transaction.append`, in the transaction of the change they report."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import bindparam, func, select

from ua_vp.events import Event
from ua_vp.ledger.tables import events
from ua_vp.ledger.transaction import Row, Transaction
from ua_vp.mission import Actor


def page_events(
    tx: Transaction,
    *,
    after: int | None,
    mission_id: str | None = None,
    vp_id: str | None = None,
    source_session_id: str | None = None,
    types: Sequence[str] = (),
    limit: int,
    lanes: Sequence[str] | None = None,
) -> list[Event]:
    """At most `limit` events in growing `seq`: those behind `after`, or (None) the newest.

    Everything given narrows it; `lanes` are the only ones the caller may see.
    """
    query = select(events).limit(limit)
    asked = {"mission_id": mission_id, "vp_id": vp_id, "source_session_id": source_session_id}
    for name, value in asked.items():
        if value is not None:
            query = query.where(events.c[name] == value)
    if types:
        query = query.where(events.c.type.in_(types))
    if lanes is not None:
        query = query.where(events.c.vp_id.in_(lanes))
    if after is not None:
        rows = tx.search(query.where(events.c.seq > after).order_by(events.c.seq))
    else:
        rows = tx.search(query.order_by(events.c.seq.desc()))[::-1]
    return [_event_of(row, tx.identity.ledger_id) for row in rows]


def newest_seq(tx: Transaction) -> int:
    """The `seq` of the newest event; 0 without any."""
    return int(tx.value(NEWEST) or 0)


def count_events(tx: Transaction, mission_id: str) -> int:
    """How many events a mission has."""
    return int(tx.value(COUNT, mission_id=mission_id))


def _event_of(row: Row, ledger_id: str) -> Event:
    return Event(
        seq=row["seq"],
        event_id=f"vp-event-{ledger_id}-{row['epoch']}-{row['seq']}",
        type=row["type"],
        at=row["at"],
        actor=Actor(name=row["actor_name"], via=row["actor_via"]),
        payload=json.loads(row["payload"]),
        mission_id=row["mission_id"],
        vp_id=row["vp_id"],
        session_id=row["session_id"],
        source_session_id=row["source_session_id"],
        attempt=row["attempt"],
    )


NEWEST = select(func.max(events.c.seq))
COUNT = select(func.count()).where(events.c.mission_id == bindparam("mission_id"))
