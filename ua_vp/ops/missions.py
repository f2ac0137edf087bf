"""Routes of missions: dispatch, list, get, wait, cancel, retry, requeue, fail, attempts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import TypeAlias

from starlette.responses import Response

from ua_vp import errors, wire
from ua_vp.access import Scope
from ua_vp.control import cancel, dispatch, operate, query, views
from ua_vp.control.asking import refuse
from ua_vp.control.parsing import parse_object, validated
from ua_vp.mission import Mission
from ua_vp.ops.files import matches
from ua_vp.ops.holding import hold
from ua_vp.ops.parameters import MissionsQuery, WaitQuery
from ua_vp.ops.routes import Call, Route, answer, headers_of
from ua_vp.wire import LONGEST_WAIT

ROOT = "/api/v1/ops/vp"
Operation: TypeAlias = Callable[..., Mission]
"""Takes who asks, a mission's id and a reason; gives the mission as it is then."""
_WAIT = re.compile(r"wait=(\d{1,9})")


async def dispatch_mission(call: Call) -> Response:
    """Take a mission; with `Prefer: wait=N` the answer is held until it has ended, at most N seconds."""
    taken = await call.off_loop(_dispatch, call)
    mission = taken.mission
    headers = {"Location": f"{ROOT}/missions/{mission.mission_id}"}
    status = 200 if taken.replayed else 202
    if taken.replayed:
        headers["Idempotent-Replayed"] = "true"
    seconds = preferred_wait(headers_of(call.request, "prefer"))
    if seconds is None:
        view = await call.off_loop(query.show, call.asking, mission)
    else:
        headers["Preference-Applied"] = f"wait={seconds}"
        mission, view, timed_out = await hold(call, mission.mission_id, seconds)
        status = status if timed_out else 200
    body = wire.DispatchAnswer(mission=view, replayed=taken.replayed, bridge=views.bridge_view(mission))
    return answer(body, status=status, headers=headers)


def _dispatch(call: Call) -> dispatch.Dispatched:
    return dispatch.dispatch(call.asking, parse_object(call.body), header_key=key_in_header(call))


def key_in_header(call: Call) -> str | None:
    """The idempotency key in the header, which may be given twice only if it is the same."""
    keys = set(headers_of(call.request, "idempotency-key"))
    if len(keys) > 1:
        raise refuse("#/idempotency_key", "the header Idempotency-Key is given twice, and differs")
    return unquoted(keys.pop()) if keys else None


def list_missions(call: Call) -> Response:
    """One page of missions, newest first."""
    asked = call.parameters(MissionsQuery)
    page = query.list_missions(
        call.asking,
        vp_id=asked.vp_id,
        statuses=asked.status,
        source_session_id=asked.source_session_id,
        q=asked.q,
        limit=asked.limit,
        cursor=asked.cursor,
    )
    headers = {}
    if page.next_cursor is not None:
        following = call.request.url.include_query_params(cursor=page.next_cursor)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return answer(page, headers=headers)


def get_mission(call: Call) -> Response:
    """A mission with its newest events and first artifacts; 304 if the caller has it already."""
    detail = query.get_detail(call.asking, call.mission_id)
    etag = etag_of(detail)
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if matches(call.request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return answer(detail, headers=headers)


async def wait_mission(call: Call) -> Response:
    """The mission once it has ended, or as it is when the time is up."""
    seconds = call.parameters(WaitQuery).timeout_seconds
    mission, view, timed_out = await hold(call, call.mission_id, seconds)
    return answer(wire.WaitAnswer(mission=view, timed_out=timed_out, bridge=views.bridge_view(mission)))


def cancel_mission(call: Call) -> Response:
    """Cancel: at once if it is queued, else its worker stops it."""
    query.find_mission(call.asking, call.mission_id)
    request = validated(wire.CancelRequest, parse_object(call.body))
    done = cancel.cancel(call.asking, call.mission_id, reason=request.reason)
    view = query.show(call.asking, done.mission)
    return answer(wire.CancelAnswer(mission=view, status="cancelled" if done.ended else "cancel_requested"), status=202)


def retry_mission(call: Call) -> Response:
    """Do an ended mission again, as a new one."""
    taken = operate.retry(call.asking, call.mission_id, parse_object(call.body), header_key=key_in_header(call))
    headers = {"Location": f"{ROOT}/missions/{taken.mission.mission_id}"}
    if taken.replayed:
        headers["Idempotent-Replayed"] = "true"
    body = wire.MissionAnswer(mission=query.show(call.asking, taken.mission))
    return answer(body, status=200 if taken.replayed else 202, headers=headers)


def requeue_mission(call: Call) -> Response:
    """Take a running mission from its worker and put it back into the queue."""
    return _operated(call, operate.requeue)


def fail_mission(call: Call) -> Response:
    """End a running mission as failed."""
    return _operated(call, operate.fail)


def _operated(call: Call, operation: Operation) -> Response:
    query.find_mission(call.asking, call.mission_id)
    reason = validated(wire.ReasonRequest, parse_object(call.body)).reason
    mission = operation(call.asking, call.mission_id, reason=reason)
    return answer(wire.MissionAnswer(mission=query.show(call.asking, mission)), status=202)


def list_attempts(call: Call) -> Response:
    """The record of every attempt."""
    return answer(query.list_attempts(call.asking, call.mission_id))


def etag_of(detail: wire.MissionDetail) -> str:
    """A weak tag over all that changes by itself only in the ledger; what grows with the clock alone is left out."""
    still = detail.model_copy(
        update={"mission": detail.mission.model_copy(update={"duration_seconds": None, "lease_expires_at": None})}
    )
    return f'W/"{hashlib.sha256(still.model_dump_json(by_alias=True).encode()).hexdigest()[:32]}"'


def preferred_wait(prefer: list[str]) -> int | None:
    """The seconds in `Prefer: wait=N` (RFC 7240), at most LONGEST_WAIT; None without a usable one."""
    for header in prefer:
        for preference in header.split(","):
            match = _WAIT.fullmatch(preference.strip().lower().replace(" ", ""))
            if match and int(match.group(1)) > 0:
                return min(int(match.group(1)), LONGEST_WAIT)
    return None


def unquoted(key: str) -> str:
    """The key in the header: a bare word, or a string in quotes as the draft of that header has it."""
    return key[1:-1] if len(key) > 2 and key[0] == key[-1] == '"' else key


_READ = Scope.MISSIONS_READ
_FIND = (errors.NotFoundError,)
_OPERATE = (*_FIND, errors.InvalidStateError, errors.DiskFullError)

ROUTES = (
    Route(
        method="POST",
        path=f"{ROOT}/missions/dispatch",
        summary="Hand a mission to a lane",
        endpoint=dispatch_mission,
        scope=Scope.MISSIONS_DISPATCH,
        request=wire.DispatchRequest,
        answer=wire.DispatchAnswer,
        status=202,
        also={
            200: "The key had brought this mission before (`Idempotent-Replayed: true`), or it ended within `Prefer: wait`"
        },
        headers={
            "Idempotency-Key": "same key and same request: the same mission, once",
            "Prefer": "`wait=N`: hold the answer up to N seconds (at most 50) until the mission has ended",
        },
        codes=(
            errors.NotFoundError,
            errors.IdempotencyConflictError,
            errors.LaneUnavailableError,
            errors.GuardrailViolationError,
            errors.DiskFullError,
        ),
    ),
    Route(
        method="GET",
        path=f"{ROOT}/missions",
        summary="List missions, newest first",
        endpoint=list_missions,
        scope=_READ,
        query=MissionsQuery,
        answer=wire.MissionPage,
        codes=_FIND,
    ),
    Route(
        method="GET",
        path=f"{ROOT}/missions/{{mission_id}}",
        summary="A mission with its newest events and first artifacts",
        endpoint=get_mission,
        scope=_READ,
        answer=wire.MissionDetail,
        also={304: "Not changed since the ETag in `If-None-Match`"},
        headers={"If-None-Match": "an ETag that this gave before"},
        codes=_FIND,
    ),
    Route(
        method="GET",
        path=f"{ROOT}/missions/{{mission_id}}/wait",
        summary="Wait until a mission has ended",
        endpoint=wait_mission,
        scope=_READ,
        query=WaitQuery,
        answer=wire.WaitAnswer,
        codes=_FIND,
    ),
    Route(
        method="POST",
        path=f"{ROOT}/missions/{{mission_id}}/cancel",
        summary="Cancel a mission",
        endpoint=cancel_mission,
        scope=Scope.MISSIONS_CONTROL,
        request=wire.CancelRequest,
        body_needed=False,
        answer=wire.CancelAnswer,
        status=202,
        codes=(*_FIND, errors.AlreadyTerminalError, errors.DiskFullError),
    ),
    Route(
        method="POST",
        path=f"{ROOT}/missions/{{mission_id}}/retry",
        summary="Do an ended mission again, as a new one",
        endpoint=retry_mission,
        scope=Scope.MISSIONS_CONTROL,
        request=wire.RetryRequest,
        body_needed=False,
        answer=wire.MissionAnswer,
        status=202,
        also={200: "The key had brought this mission before (`Idempotent-Replayed: true`)"},
        headers={"Idempotency-Key": "same key and same request: the same mission, once"},
        codes=(
            *_FIND,
            errors.IdempotencyConflictError,
            errors.InvalidStateError,
            errors.RetryLimitError,
            errors.LaneUnavailableError,
            errors.GuardrailViolationError,
            errors.DiskFullError,
        ),
    ),
    Route(
        method="POST",
        path=f"{ROOT}/missions/{{mission_id}}/requeue",
        summary="Take a running mission from its worker and queue it again",
        endpoint=requeue_mission,
        scope=Scope.MISSIONS_CONTROL,
        request=wire.ReasonRequest,
        answer=wire.MissionAnswer,
        status=202,
        codes=_OPERATE,
    ),
    Route(
        method="POST",
        path=f"{ROOT}/missions/{{mission_id}}/fail",
        summary="End a running mission as failed",
        endpoint=fail_mission,
        scope=Scope.MISSIONS_CONTROL,
        request=wire.ReasonRequest,
        answer=wire.MissionAnswer,
        status=202,
        codes=_OPERATE,
    ),
    Route(
        method="GET",
        path=f"{ROOT}/missions/{{mission_id}}/attempts",
        summary="The attempts of a mission",
        endpoint=list_attempts,
        scope=_READ,
        answer=wire.AttemptsAnswer,
        codes=_FIND,
    ),
)
