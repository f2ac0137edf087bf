"""Ending a mission before its time: at once while it is queued, else by its worker."""

from __future__ import annotations

from dataclasses import dataclass

from ua_vp.control.asking import Asking
from ua_vp.control.query import find_mission
from ua_vp.errors import AlreadyTerminalError, NotFoundError
from ua_vp.ledger import missions
from ua_vp.mission import Mission


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelled:
    """The mission as it is after the call, and whether it has ended by it."""

    mission: Mission
    ended: bool


def cancel(asking: Asking, mission_id: str, *, reason: str) -> Cancelled:
    """Cancel the mission; returns after that is durable. Asked again while it runs, it changes nothing.

    Raises:
        NotFoundError: no such mission within the caller's bounds.
        AlreadyTerminalError: it has ended already.
        LedgerBusyError, LedgerGoneError, DiskFullError, OutcomeUnknownError: as of the ledger.
    """
    find_mission(asking, mission_id)
    now, actor = asking.clock.now(), asking.caller.actor
    outcome = asking.ledger.run(lambda tx: missions.request_cancel(tx, mission_id, reason=reason, actor=actor, now=now))
    if outcome is None:
        raise NotFoundError(f"no mission {mission_id!r}")
    if outcome.already_terminal:
        raise AlreadyTerminalError(
            f"mission {mission_id} has ended already ({outcome.mission.status}); ended missions never change",
            mission_id=mission_id,
        )
    return Cancelled(mission=outcome.mission, ended=outcome.ended)
