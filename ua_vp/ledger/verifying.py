"""Reading every mission against its hashes: finds flipped bits that the store's own check does not see."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from ua_vp.ledger.hashes import RowFault, faults
from ua_vp.ledger.tables import missions
from ua_vp.ledger.transaction import Transaction

CHUNK = 1000


def verify_rows(tx: Transaction) -> list[RowFault]:
    """The missions whose columns are not what was written; empty if all are sound. Reads the whole table."""
    found: list[RowFault] = []
    last = ""
    while rows := tx.rows(NEXT, last=last, limit=CHUNK):
        for row in rows:
            found += faults(row)
        last = rows[-1]["mission_id"]
    return found


NEXT = (
    select(missions)
    .where(missions.c.mission_id > bindparam("last"))
    .order_by(missions.c.mission_id)
    .limit(bindparam("limit"))
)
