"""From rows to the domain's values and back; the only place that knows how each is stored."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import BindParameter, bindparam, select

from ua_vp.events import EventType, NewEvent
from ua_vp.ledger.tables import STAMPS, attempts, claims, missions
from ua_vp.ledger.transaction import Row, is_among
from ua_vp.mission import (
    Actor,
    Attempt,
    Budget,
    FailureMode,
    InputFile,
    Json,
    JsonObject,
    Mission,
    ReplyMode,
    RequeueReason,
    Status,
    canonical_json,
)

WITH_CLAIM = select(
    missions,
    claims.c.worker_id.label("claim_worker"),
    claims.c.boot.label("claim_boot"),
    claims.c.deadline.label("claim_deadline"),
    attempts.c.worker_id.label("attempt_worker"),
).select_from(
    missions.outerjoin(claims, claims.c.mission_id == missions.c.mission_id).outerjoin(
        attempts,
        (attempts.c.mission_id == missions.c.mission_id) & (attempts.c.attempt == missions.c.attempt),
    )
)
"""A mission with its claim and the worker of its attempt: what `mission_of` reads."""

LOCKED = select(missions).where(missions.c.mission_id == bindparam("mission_id")).with_for_update()
"""One mission, held until the transaction ends: what follows may be decided on it."""

ALL_LOCKED = select(missions).where(is_among(missions.c.mission_id)).with_for_update()
"""The same for many."""


def mission_of(row: Row) -> Mission:
    """A mission from a row of `missions`, with the columns of WITH_CLAIM where they are known."""
    status = Status(row["status"])
    stamps = {stamp: row[stamp] for stamp in STAMPS}
    ended_by = row.get("attempt_worker") if status.terminal else None
    return Mission(
        **{name: row[name] for name in _AS_STORED},
        **stamps,
        status=status,
        constraints=object_of(row["constraints"]),
        budget=Budget(**object_of(row["budget"])),
        inputs=tuple(InputFile(**item) for item in json.loads(row["inputs"])) if row["inputs"] != "[]" else (),
        cancel_requested=bool(row["cancel_requested"]),
        failure_mode=FailureMode(row["failure_mode"]) if row["failure_mode"] else None,
        reply_mode=ReplyMode(row["reply_mode"]),
        requeue_reason=RequeueReason(row["requeue_reason"]) if row["requeue_reason"] else None,
        updated_at=max(at for at in (row["updated_at"], *stamps.values()) if at is not None),
        worker_id=row.get("claim_worker") or ended_by,
        lease_boot=row.get("claim_boot"),
        lease_deadline=row.get("claim_deadline"),
        usage=object_of(row["usage"]),
    )


def object_of(text: str) -> dict[str, Any]:
    """A JSON object as stored; most are empty."""
    return json.loads(text) if text != "{}" else {}


_AS_STORED = tuple(
    """mission_id vp_id mission_type objective priority attempt tries max_tries cancel_reason cancelled_by result_ref
    summary failure_detail source_session_id source_turn_id turn_id retry_of continues group_id created_by not_before
    due_at created_at started_at last_progress_at completed_at""".split()
)


def attempt_of(row: Row) -> Attempt:
    """An attempt's record."""
    return Attempt(
        mission_id=row["mission_id"],
        attempt=row["attempt"],
        worker_id=row["worker_id"],
        claimed_at=row["claimed_at"],
        engaged_at=row["engaged_at"],
        ended_at=row["ended_at"],
        end_reason=row["end_reason"],
        late_outcome=json.loads(row["late_outcome"]) if row["late_outcome"] else None,
        usage=json.loads(row["usage"]),
    )


def event_of(
    row: Row,
    kind: EventType,
    *,
    at: int,
    actor: Actor,
    payload: JsonObject,
    attempt: int | None = None,
    session_id: str | None = None,
) -> NewEvent:
    """An event of the mission in `row`."""
    return NewEvent(
        type=kind,
        at=at,
        actor=actor,
        payload=payload,
        mission_id=row["mission_id"],
        vp_id=row["vp_id"],
        session_id=session_id,
        source_session_id=row["source_session_id"],
        attempt=attempt,
    )


def text_of(value: Json) -> str:
    """JSON as stored."""
    return canonical_json(value).decode()


def new(*names: str) -> dict[str, BindParameter[Any]]:
    """For SET: each column from the parameter `new_<column>`, so that WHERE may name the column itself."""
    return {name: bindparam(f"new_{name}") for name in names}
