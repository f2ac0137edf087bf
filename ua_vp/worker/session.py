"""The worker's session: who it is to the ledger while it lives."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from ua_vp.errors import VpError
from ua_vp.ledger import Holder, Ledger, Session, sessions
from ua_vp.ports import Ports
from ua_vp.worker.assignment import Assignment, Moment

log = structlog.get_logger("ua_vp.worker")


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """An open session, and the worker's name in claims."""

    session_id: str
    worker_id: str

    def holder(self, moment: Moment) -> Holder:
        """Who holds a claim that is taken at this moment."""
        return Holder(
            session_id=self.session_id, worker_id=self.worker_id, boot_id=moment.boot_id, deadline=moment.deadline
        )


def take_seat(site: Assignment, ledger: Ledger, ports: Ports) -> Seat:
    """Open a new session, whose lease runs from now."""
    seat = Seat(session_id=f"vp-session-{ports.ids.uuid7()}", worker_id=f"{site.host}:{site.pid}")
    moment = site.moment(ports.clock).on(ledger.lease_time())
    session = Session(
        session_id=seat.session_id,
        vp_id=site.vp_id,
        worker_id=seat.worker_id,
        pid=site.pid,
        host=site.host,
        build=site.build,
        opened_at=moment.now,
        last_heartbeat_at=moment.now,
        lease_boot=moment.boot_id,
        lease_deadline=moment.deadline,
    )
    ledger.run(lambda tx: sessions.open_session(tx, session))
    return seat


def leave_seat(seat: Seat, ledger: Ledger, ports: Ports) -> None:
    """Close the session. What it still holds is taken over once its lease has run out, as is a session left open."""
    now = ports.clock.now()
    try:
        ledger.run(lambda tx: sessions.close_session(tx, seat.session_id, now=now))
    except VpError as error:
        log.warning("session_not_closed", session_id=seat.session_id, error=str(error))
