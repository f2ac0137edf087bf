"""What operators do with missions: do an ended one again, take a running one from its worker, end it.

Each is refused with `invalid_state` unless it is among the mission's `actions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ua_vp.control.asking import Asking
from ua_vp.control.dispatch import Dispatched, check_lane, conflict, new_mission, one_key, replay
from ua_vp.control.parsing import validated
from ua_vp.control.query import find_mission
from ua_vp.errors import InvalidStateError, NotFoundError, RetryLimitError
from ua_vp.ledger import KeyConflict, missions, operating
from ua_vp.mission import Action, Mission, NewMission
from ua_vp.wire import DispatchRequest, RetryChanges, RetryRequest, to_iso


def retry(asking: Asking, mission_id: str, body: Mapping[str, Any], *, header_key: str | None) -> Dispatched:
    """Do an ended mission again, as a new mission with `retry_of`; returns after it is durable.

    What the body does not change is as it was. With a key it is done once, however often it is asked for.

    Raises:
        NotFoundError: no such mission within the caller's bounds, or its lane is gone.
        ValidationError: the changes are wrong, or the lane takes no such mission any more.
        IdempotencyConflictError: the key was used for another request.
        InvalidStateError: it has not ended yet.
        RetryLimitError: it was done again too often.
        LaneUnavailableError, GuardrailViolationError: as of a dispatch.
        LedgerBusyError, LedgerGoneError, DiskFullError, OutcomeUnknownError: as of the ledger.
    """
    first = find_mission(asking, mission_id)
    request = _again(first, validated(RetryRequest, body).changes)
    key = one_key(None, header_key)
    new = replace(
        new_mission(asking, request, key=key, source=first.source_session_id),
        retry_of=first.mission_id,
        inputs=first.inputs,
        continues=first.continues,
    )
    if key is not None and (before := replay(asking, new, key)) is not None:
        if before.mission.retry_of != first.mission_id:
            raise conflict(asking.caller, before.mission)
        return before
    if Action.RETRY not in first.actions:
        raise _invalid(first, Action.RETRY)
    check_lane(asking, new)
    return _write(asking, new, first)


def requeue(asking: Asking, mission_id: str, *, reason: str) -> Mission:
    """Take a running mission from its worker and put it back into the queue; the attempt does not count as a try.

    If its cancel was asked for, it ends as cancelled instead.

    Raises:
        NotFoundError: no such mission within the caller's bounds.
        InvalidStateError: it does not run.
        LedgerBusyError, LedgerGoneError, DiskFullError, OutcomeUnknownError: as of the ledger.
    """
    find_mission(asking, mission_id)
    now, actor = asking.clock.now(), asking.caller.actor
    done = asking.ledger.run(lambda tx: operating.requeue(tx, mission_id, reason=reason, actor=actor, now=now))
    return _done(done, mission_id, Action.REQUEUE)


def fail(asking: Asking, mission_id: str, *, reason: str) -> Mission:
    """End a running mission as failed, with failure mode `operator`; its worker stops it, what that brings is late.

    If its cancel was asked for, it ends as cancelled instead.

    Raises:
        NotFoundError: no such mission within the caller's bounds.
        InvalidStateError: it does not run.
        LedgerBusyError, LedgerGoneError, DiskFullError, OutcomeUnknownError: as of the ledger.
    """
    find_mission(asking, mission_id)
    now, actor = asking.clock.now(), asking.caller.actor
    done = asking.ledger.run(lambda tx: operating.fail(tx, mission_id, reason=reason, actor=actor, now=now))
    return _done(done, mission_id, Action.FAIL)


def _again(first: Mission, changes: RetryChanges) -> DispatchRequest:
    """The request that the mission came from, changed; checked anew, for rules and lanes may have changed, too."""
    before = {
        "vp_id": first.vp_id,
        "objective": first.objective,
        "mission_type": first.mission_type,
        "constraints": dict(first.constraints),
        "budget": first.budget.to_json(),
        "priority": first.priority,
        "max_tries": first.max_tries,
        "not_before": None if first.not_before is None else to_iso(first.not_before),
        "source_turn_id": first.source_turn_id,
        "reply_mode": first.reply_mode.value,
    }
    return validated(DispatchRequest, before | changes.model_dump(exclude_none=True))


def _write(asking: Asking, new: NewMission, first: Mission) -> Dispatched:
    now = asking.clock.now()
    written = asking.ledger.run(lambda tx: operating.retry(tx, new, now=now))
    if isinstance(written, KeyConflict):
        other = written.mission_id
        raise conflict(asking.caller, asking.ledger.read(lambda tx: missions.get_mission(tx, other)))
    if isinstance(written, operating.RetryLimit):
        raise RetryLimitError(
            f"mission {first.mission_id}, with those that it repeats, was repeated {written.limit} times; "
            "dispatch a new mission, once you know why it does not succeed",
            mission_id=first.mission_id,
        )
    if isinstance(written, operating.InvalidState) or written is None:  # ended missions stay as they are
        raise _invalid(first, Action.RETRY)
    return Dispatched(mission=written.mission, replayed=written.replayed)


def _done(outcome: Mission | operating.InvalidState | None, mission_id: str, action: Action) -> Mission:
    if outcome is None:
        raise NotFoundError(f"no mission {mission_id!r}")
    if isinstance(outcome, operating.InvalidState):
        raise _invalid(outcome.mission, action)
    return outcome


def _invalid(mission: Mission, action: Action) -> InvalidStateError:
    possible = " or ".join(one.value for one in mission.actions)
    return InvalidStateError(
        f"mission {mission.mission_id} is {mission.status}: {action.value} is not possible now; {possible} is",
        mission_id=mission.mission_id,
    )
