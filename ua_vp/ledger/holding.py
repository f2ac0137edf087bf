"""Claims as rows: who holds which mission until when.

They stand beside the missions, because an ended mission's row refuses every change, while its claim must still be
renewed until the marker is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import bindparam, select

from ua_vp.ledger.rows import mission_of
from ua_vp.ledger.tables import claims, missions
from ua_vp.ledger.transaction import Row, Transaction, insert_all
from ua_vp.mission import Actor, Claim


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who holds a claim, and until when: `deadline` is µs on the boot clock of `boot_id`."""

    session_id: str
    worker_id: str
    boot_id: str
    deadline: int


def hold(tx: Transaction, row: Row, holder: Holder, *, closing: bool = False) -> Claim:
    """Give the mission in `row`, at its current attempt, to `holder`; a running one, whoever held it before."""
    if closing:
        tx.write(DROP_CLAIM, mission_id=row["mission_id"], if_any=True)
    tx.write(
        INSERT,
        mission_id=row["mission_id"],
        vp_id=row["vp_id"],
        attempt=row["attempt"],
        session_id=holder.session_id,
        worker_id=holder.worker_id,
        boot=holder.boot_id,
        deadline=holder.deadline,
        closing=closing,
    )
    joined = {"claim_worker": holder.worker_id, "claim_boot": holder.boot_id, "claim_deadline": holder.deadline}
    return Claim(
        mission=mission_of(row | joined),
        attempt=row["attempt"],
        session_id=holder.session_id,
        worker_id=holder.worker_id,
        deadline=holder.deadline,
        closing=closing,
    )


def held(tx: Transaction, claim: Claim, stamp: Literal["published_at", "blocked_at", "marked_at"]) -> bool:
    """Whether the mission ended with this attempt and has the stamp."""
    row = tx.first(STAMPED, mission_id=claim.mission_id, attempt=claim.attempt)
    return row is not None and row[stamp] is not None


def worker(worker_id: str) -> Actor:
    """A worker as actor of an event."""
    return Actor(name=worker_id, via="worker")


INSERT = insert_all(claims)
DROP_CLAIM = claims.delete().where(claims.c.mission_id == bindparam("mission_id"))
STAMPED = select(missions.c.published_at, missions.c.blocked_at, missions.c.marked_at).where(
    missions.c.mission_id == bindparam("mission_id"), missions.c.attempt == bindparam("attempt")
)
