"""Taking a mission: the checks in the order that the contract fixes (section 2), then one write.

Bounds (404), body (400), turn (404), replay by key (200, 409), lane known (404), available (503), schema and budget
(400), guardrails (422), write. Token and scope (401, 403) come before, where the face knows its caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ua_vp.access import Caller
from ua_vp.control.asking import Asking, refuse
from ua_vp.control.constraints import check_available, check_budget, check_constraints, no_lane, unavailable
from ua_vp.control.parsing import validated
from ua_vp.errors import IdempotencyConflictError, NotFoundError
from ua_vp.lane import Manifest
from ua_vp.ledger import Dispatched as Written
from ua_vp.ledger import KeyConflict, Transaction, lanes, missions
from ua_vp.mission import Budget, InputFile, Mission, NewMission, ReplyMode, lane_name
from ua_vp.wire import DispatchRequest, from_iso

SERVER_KEYS = "turn:"
"""Keys that begin so are made by the server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispatched:
    """The mission, and whether the key had brought it before."""

    mission: Mission
    replayed: bool


def dispatch(asking: Asking, body: Mapping[str, Any], *, header_key: str | None) -> Dispatched:
    """Take the mission that the JSON object `body` describes; returns after it is durable.

    Raises:
        NotFoundError: lane, source or turn do not exist for this caller.
        ValidationError: the body, or what it asks of the lane, is wrong.
        IdempotencyConflictError: the key was used for another request.
        LaneUnavailableError: lane or type cannot take missions now.
        GuardrailViolationError: a path that missions may not be pointed at.
        LedgerBusyError, LedgerGoneError, DiskFullError: nothing was taken.
        OutcomeUnknownError: it may have been taken; ask again with the same key.
    """
    caller = asking.caller
    _check_bounds(caller, body)
    request = validated(DispatchRequest, body)
    key = one_key(request.idempotency_key, header_key)
    source = _source(caller, request)
    _refuse_not_built(request)
    if request.turn_id is not None:
        raise NotFoundError(f"no turn {request.turn_id!r}")
    new = new_mission(asking, request, key=key, source=source)
    if key is not None and (before := replay(asking, new, key)) is not None:
        return before
    check_lane(asking, new)
    return _write(asking, new)


def _check_bounds(caller: Caller, body: Mapping[str, Any]) -> None:
    """What the body points at must exist for this caller, whatever else is wrong with it."""
    vp_id, source = body.get("vp_id"), body.get("source_session_id")
    if isinstance(vp_id, str) and not caller.sees_lane(vp_id):
        raise no_lane(vp_id, caller.lanes)
    if isinstance(source, str) and not caller.sees_source(source):
        raise NotFoundError(f"no source session {source[:100]!r}")


def one_key(in_body: str | None, in_header: str | None) -> str | None:
    """The idempotency key, wherever it was given; it obeys the field's rules."""
    if in_header is not None:
        # The header obeys the field's rules.
        in_header = validated(
            DispatchRequest, {"vp_id": "-", "objective": "-", "idempotency_key": in_header}
        ).idempotency_key
    if in_body is not None and in_header is not None and in_body != in_header:
        raise refuse("#/idempotency_key", "differs from the header Idempotency-Key; give one of them, or the same")
    key = in_body if in_body is not None else in_header
    if key is not None and key.startswith(SERVER_KEYS):
        raise refuse("#/idempotency_key", f"keys that begin {SERVER_KEYS!r} are the server's; choose another")
    return key


def _source(caller: Caller, request: DispatchRequest) -> str | None:
    """The session that asks: the call's, else the one that the token is bound to."""
    if request.source_session_id is not None or not caller.sources:
        return request.source_session_id
    if len(caller.sources) > 1:
        raise refuse("#/source_session_id", "is needed: this token is bound to several source sessions")
    return caller.sources[0]


def _refuse_not_built(request: DispatchRequest) -> None:
    if request.inputs:
        given = request.inputs[0].input_id
        raise refuse("#/inputs/0/input_id", f"no input {given!r}: this server takes no uploads yet")
    if request.continues is not None:
        raise refuse("#/continues", "this server cannot continue missions yet; leave it out")


def new_mission(asking: Asking, request: DispatchRequest, *, key: str | None, source: str | None) -> NewMission:
    """What is to be written; it has its id."""
    budget = request.budget
    return NewMission(
        mission_id=f"vp-mission-{asking.ids.uuid7()}",
        vp_id=request.vp_id,
        mission_type=request.mission_type,
        objective=request.objective,
        constraints=request.constraints,
        budget=Budget(
            seconds=budget.seconds,
            idle_seconds=budget.idle_seconds,
            tokens=budget.tokens,
            usd_cents=budget.usd_cents,
            output_bytes=budget.output_bytes,
        ),
        inputs=tuple(InputFile(input_id=given.input_id, path=given.path) for given in request.inputs),
        priority=request.priority,
        max_tries=request.max_tries,
        not_before=from_iso(request.not_before) if request.not_before is not None else None,
        idempotency_key=key,
        source_session_id=source,
        source_turn_id=request.source_turn_id,
        turn_id=request.turn_id,
        reply_mode=ReplyMode(request.reply_mode),
        created_by=asking.caller.actor,
        continues=request.continues,
    )


def replay(asking: Asking, new: NewMission, key: str) -> Dispatched | None:
    """The mission that the key brought before, whatever state its lane is in by now."""
    before = asking.ledger.read(lambda tx: missions.find_by_key(tx, new.vp_id, key))
    if before is None:
        return None
    if before.fingerprint != new.fingerprint() or not asking.caller.sees(before.mission):
        raise conflict(asking.caller, before.mission)
    return Dispatched(mission=before.mission, replayed=True)


def conflict(caller: Caller, mission: Mission | None) -> IdempotencyConflictError:
    """The refusal; it names the mission only to who may see it."""
    text = "this idempotency key was used before in this lane, for another request"
    if mission is None or not caller.sees(mission):
        return IdempotencyConflictError(f"{text}; choose another key")
    return IdempotencyConflictError(
        f"{text}: mission {mission.mission_id}; choose another key, or repeat that request unchanged",
        mission_id=mission.mission_id,
    )


def check_lane(asking: Asking, new: NewMission) -> None:
    """Whether the lane is there and takes such a mission now.

    Raises:
        NotFoundError, LaneUnavailableError, ValidationError, GuardrailViolationError: it does not.
    """
    manifest = asking.ledger.read(lambda tx: _manifest(tx, asking.caller, new.vp_id))
    kind = check_available(manifest, new.mission_type)
    check_budget(manifest.info, new.budget)
    check_constraints(manifest.info, new.mission_type, kind, new.constraints)


def _manifest(tx: Transaction, caller: Caller, vp_id: str) -> Manifest:
    """What the lane publishes. A lane whose plugin never loaded is known by the plugin's name, and unavailable."""
    record = lanes.get_lane(tx, vp_id)
    if record is not None:
        return record.manifest
    for plugin in lanes.list_plugins(tx):
        if not plugin.verdict.ok and plugin.verdict.entry_point == lane_name(vp_id):
            raise unavailable(vp_id, plugin.verdict.detail, plugin.verdict.remedy)
    known = [lane.manifest.info.vp_id for lane in lanes.list_lanes(tx)]
    raise no_lane(vp_id, [known_id for known_id in known if caller.sees_lane(known_id)])


def _write(asking: Asking, new: NewMission) -> Dispatched:
    now = asking.clock.now()

    def step(tx: Transaction) -> Written | KeyConflict:
        return missions.dispatch(tx, new, now=now)

    written = asking.ledger.run(step)
    if isinstance(written, KeyConflict):
        other = written.mission_id
        raise conflict(asking.caller, asking.ledger.read(lambda tx: missions.get_mission(tx, other)))
    if not asking.caller.sees(written.mission):
        raise conflict(asking.caller, None)
    return Dispatched(mission=written.mission, replayed=written.replayed)
