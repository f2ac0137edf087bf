"""Worker sessions: one per worker process, written by workers alone; whether one lives is worked out when read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlalchemy import bindparam, select

from ua_vp.events import EventType, NewEvent
from ua_vp.ledger.leases import Judge
from ua_vp.ledger.tables import sessions
from ua_vp.ledger.transaction import Row, Transaction, insert_all
from ua_vp.mission import Actor, JsonObject

SessionState: TypeAlias = Literal["live", "stale", "closed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A worker process as the ledger knows it; `lease_deadline` is µs on the clock that `lease_boot` names."""

    session_id: str
    vp_id: str
    worker_id: str
    pid: int
    host: str
    build: str
    opened_at: int
    last_heartbeat_at: int
    lease_boot: str
    lease_deadline: int
    closed_at: int | None = None
    lost_at: int | None = None


def session_state(session: Session, boot_id: str, boot_now: int) -> SessionState:
    """Whether the worker is there: the one function that says so, by its lease."""
    if session.closed_at is not None:
        return "closed"
    live = session.lease_boot == boot_id and session.lease_deadline >= boot_now
    return "live" if live else "stale"


def open_session(tx: Transaction, session: Session) -> None:
    """Record a worker that starts; writes `opened`."""
    tx.run(INSERT, **{name: getattr(session, name) for name in _COLUMNS})
    payload: JsonObject = {
        "worker_id": session.worker_id,
        "host": session.host,
        "pid": session.pid,
        "build": session.build,
    }
    _report(tx, EventType.SESSION_OPENED, session, now=session.opened_at, payload=payload)


def close_session(tx: Transaction, session_id: str, now: int) -> None:
    """Record that a worker ended in good order; writes `closed`. Unknown or closed ones are left alone."""
    row = tx.first(BY_ID, session_id=session_id)
    if row is not None and row["closed_at"] is None:
        tx.run(CLOSE, session_id=session_id, new_closed_at=now)
        _report(tx, EventType.SESSION_CLOSED, session_of(row), now=now, payload={})


def list_sessions(tx: Transaction, vp_id: str | None = None) -> list[Session]:
    """The sessions of a lane, or of all, newest first."""
    rows = tx.rows(ALL) if vp_id is None else tx.rows(OF_LANE, vp_id=vp_id)
    return [session_of(row) for row in rows]


def extend(tx: Transaction, session_id: str, *, now: int, boot_id: str, deadline: int) -> bool:
    """Move a session's lease on; False if it is unknown or closed. One that was reported lost is open again."""
    row = tx.first(BY_ID, session_id=session_id)
    if row is None or row["closed_at"] is not None:
        return False
    tx.run(
        EXTEND,
        session_id=session_id,
        new_last_heartbeat_at=now,
        new_lease_boot=boot_id,
        new_lease_deadline=deadline,
    )
    if row["lost_at"] is not None:
        _report(tx, EventType.SESSION_OPENED, session_of(row), now=now, payload={"after": "lost"})
    return True


def report_lost(tx: Transaction, *, vp_id: str, but: str, by: str, now: int, judge: Judge) -> list[str]:
    """Write `lost`, once, for each session of the lane (not `but`) whose lease is over, as seen by worker `by`.

    Returns their ids, the one that was opened first before.
    """
    others = [session_of(row) for row in tx.rows(UNREPORTED, vp_id=vp_id, but=but)]
    lost = [it for it in others if judge(it.session_id, it.lease_boot, it.lease_deadline)]
    for session in lost:
        tx.run(LOSE, session_id=session.session_id, new_lost_at=now)
        payload = {"worker_id": session.worker_id}
        _report(tx, EventType.SESSION_LOST, session, now=now, payload=payload, by=by)
    return [session.session_id for session in lost]


def session_of(row: Row) -> Session:
    """A session from its row."""
    return Session(**{name: row[name] for name in _COLUMNS})


def _report(
    tx: Transaction, kind: EventType, session: Session, *, now: int, payload: JsonObject, by: str | None = None
) -> None:
    tx.append(
        NewEvent(
            type=kind,
            at=now,
            actor=Actor(name=by or session.worker_id, via="worker"),
            payload=payload,
            vp_id=session.vp_id,
            session_id=session.session_id,
        )
    )


_COLUMNS = tuple(column.name for column in sessions.columns)
_this = sessions.c.session_id == bindparam("session_id")
INSERT = insert_all(sessions)
BY_ID = select(sessions).where(_this).with_for_update()
ALL = select(sessions).order_by(sessions.c.opened_at.desc(), sessions.c.session_id.desc())
OF_LANE = ALL.where(sessions.c.vp_id == bindparam("vp_id"))
CLOSE = sessions.update().where(_this).values(closed_at=bindparam("new_closed_at"))
LOSE = sessions.update().where(_this).values(lost_at=bindparam("new_lost_at"))
EXTEND = (
    sessions.update()
    .where(_this)
    .values(
        last_heartbeat_at=bindparam("new_last_heartbeat_at"),
        lease_boot=bindparam("new_lease_boot"),
        lease_deadline=bindparam("new_lease_deadline"),
        lost_at=None,
    )
)
UNREPORTED = (
    select(sessions)
    .where(
        sessions.c.vp_id == bindparam("vp_id"),
        sessions.c.session_id != bindparam("but"),
        sessions.c.closed_at.is_(None),
        sessions.c.lost_at.is_(None),
    )
    .order_by(sessions.c.opened_at)
)
