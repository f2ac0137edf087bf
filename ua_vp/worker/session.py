"""The worker's session: who it is to the ledger while it lives."""

from __future__ import annotations

from dataclasses import dataclass

from ua_vp.ledger import Ledger, Session, sessions
from ua_vp.ports import Ports
from ua_vp.worker.assignment import Assignment


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """An open session, and the worker's name in claims."""

    session_id: str
    worker_id: str


def take_seat(site: Assignment, ledger: Ledger, ports: Ports) -> Seat:
    """Open a new session, whose lease runs from now."""
    clock = ports.clock
    seat = Seat(session_id=f"vp-session-{ports.ids.uuid7()}", worker_id=f"{site.host}:{site.pid}")
    now = clock.now()
    session = Session(
        session_id=seat.session_id,
        vp_id=site.vp_id,
        worker_id=seat.worker_id,
        pid=site.pid,
        host=site.host,
        build=site.build,
        opened_at=now,
        last_heartbeat_at=now,
        lease_boot=clock.boot_id,
        lease_deadline=clock.boot() + site.lease_micros,
    )
    ledger.run(lambda tx: sessions.open_session(tx, session))
    return seat


def leave_seat(seat: Seat, ledger: Ledger, ports: Ports) -> None:
    """Close the session: what it still holds is free at once."""
    now = ports.clock.now()
    ledger.run(lambda tx: sessions.close_session(tx, seat.session_id, now=now))
