"""The terminal commit: status, result, final hash and terminal event in one; every way to end a mission comes here."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam

from ua_vp.events import ARTIFACTS_IN_EVENT, TERMINAL_EVENT
from ua_vp.ledger.hashes import FINAL_HASH_VERSION, final_hash
from ua_vp.ledger.lanes import result_ref_in
from ua_vp.ledger.rows import event_of, new, text_of
from ua_vp.ledger.tables import missions
from ua_vp.ledger.transaction import Row, Transaction
from ua_vp.mission import Actor, Ending, Json, Status

QUEUE, RUN = Status.QUEUED, Status.RUNNING


def end(
    tx: Transaction,
    row: Row,
    ending: Ending,
    *,
    since: Status,
    attempt: int,
    at: int,
    actor: Actor,
    session_id: str | None,
    result_ref: str | None,
    receipt_path: str | None,
    sync_marker_path: str | None,
) -> None:
    """End the mission in `row` (every column, as it would be but for its end) as `attempt`; it was in state `since`."""
    ended = _ended(row, ending, attempt=attempt, at=at, by=actor, result_ref=result_ref)
    tx.write(
        END,
        mission_id=row["mission_id"],
        since_attempt=row["attempt"],
        since_status=since.value,
        **{f"new_{name}": ended[name] for name in FINAL},
    )
    tx.append(
        event_of(
            row,
            TERMINAL_EVENT[ending.status],
            at=at,
            actor=actor,
            payload=_payload(ended, ending, receipt_path, sync_marker_path),
            attempt=attempt,
            session_id=session_id,
        )
    )


def end_unclaimed(tx: Transaction, row: Row, ending: Ending, *, since: Status, at: int, actor: Actor) -> None:
    """`end` as the next attempt, which has no record; folder, receipt and marker come from its lane's reconcile."""
    result_ref = result_ref_in(tx, row["vp_id"], row["mission_id"])
    folder = result_ref.removeprefix("workspace://") if result_ref else None
    end(
        tx,
        row,
        ending,
        since=since,
        attempt=row["attempt"] + 1,
        at=at,
        actor=actor,
        session_id=None,
        result_ref=result_ref,
        receipt_path=f"{folder}/mission_receipt.json" if folder else None,
        sync_marker_path=f"{folder}/sync_ready.json" if folder else None,
    )


def _ended(row: Row, ending: Ending, *, attempt: int, at: int, by: Actor, result_ref: str | None) -> Row:
    """The row as it is for ever, with its hash."""
    cancelled = ending.status is Status.CANCELLED
    ended = row | {
        "status": ending.status.value,
        "due": False,
        "attempt": attempt,
        "cancel_reason": (row["cancel_reason"] or ending.cancel_reason or "requested") if cancelled else None,
        "cancelled_by": (row["cancelled_by"] or by.name) if cancelled else None,
        "requeue_reason": None,
        "awaiting": None,
        "result_ref": result_ref,
        "summary": ending.summary,
        "failure_mode": ending.failure_mode.value if ending.failure_mode else None,
        "failure_detail": ending.failure_detail,
        "usage": text_of(ending.usage) if ending.usage else row["usage"],
        "completed_at": at,
        "updated_at": at,
    }
    return ended | {"final_hash": final_hash(ended), "final_hash_version": FINAL_HASH_VERSION}


def _payload(ended: Row, ending: Ending, receipt_path: str | None, sync_marker_path: str | None) -> dict[str, Json]:
    listed: list[dict[str, Json]] = [
        {"path": item.path, "category": item.category.value, "bytes": item.bytes, "sha256": item.sha256}
        for item in ending.artifacts[:ARTIFACTS_IN_EVENT]
    ]
    cancel: dict[str, Any] = {"cancel_reason": ended["cancel_reason"]} if ending.status is Status.CANCELLED else {}
    return {
        "status": ended["status"],
        "summary": ended["summary"],
        "result_ref": ended["result_ref"],
        "failure_mode": ended["failure_mode"],
        **cancel,
        "artifacts": listed,
        "artifacts_total": len(ending.artifacts),
        "receipt_path": receipt_path,
        "sync_marker_path": sync_marker_path,
    }


FINAL = tuple(
    """status due attempt cancel_requested cancel_reason cancelled_by requeue_reason awaiting result_ref summary
    failure_mode failure_detail usage completed_at updated_at final_hash final_hash_version""".split()
)
END = (
    missions.update()
    .where(
        missions.c.mission_id == bindparam("mission_id"),
        missions.c.attempt == bindparam("since_attempt"),
        missions.c.status == bindparam("since_status"),
    )
    .values(**new(*FINAL))
)
