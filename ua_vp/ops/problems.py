"""Errors as the API says them: RFC 9457 problem details, for every error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ua_vp import errors
from ua_vp.errors import VpError
from ua_vp.wire import Problem, ProblemError

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[str, int] = {
    "validation_error": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "idempotency_conflict": 409,
    "already_terminal": 409,
    "invalid_state": 409,
    "route_mismatch": 409,
    "turn_closed": 409,
    "retry_limit": 409,
    "cursor_expired": 410,
    "precondition_failed": 412,
    "too_large": 413,
    "unsupported_media_type": 415,
    "host_refused": 421,
    "guardrail_violation": 422,
    "rate_limited": 429,
    "internal_error": 500,
    "ledger_busy": 503,
    "ledger_gone": 503,
    "lane_unavailable": 503,
    "disk_full": 507,
}
"""The HTTP status of each code (contract, section 5); what is not here is an `internal_error`."""

RETRY_AFTER: Mapping[str, int] = {"ledger_busy": 1, "ledger_gone": 5, "lane_unavailable": 30, "rate_limited": 10}
"""Seconds after which asking again makes sense."""

INTERNAL = "internal_error"
REQUEST_ID = "ua_vp.request_id"
"""Where the request's id stands in the ASGI scope."""


def problem_response(
    error: VpError,
    *,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """The answer that says `error`, with members of its own in `more`."""
    code = error.code if error.code in STATUS else INTERNAL
    status = STATUS[code]
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=error.detail,
        retryable=error.retryable,
        request_id=request_id,
        errors=[ProblemError(pointer=fault.pointer, detail=fault.detail) for fault in error.faults],
        mission_id=error.mission_id,
    )
    return Response(
        json.dumps(problem.model_dump(exclude_none=True) | dict(more or {})),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "X-Request-Id": request_id, **_headers(code), **(headers or {})},
    )


async def on_refusal(request: Request, error: Exception) -> Response:
    """Answer an error that the product raised on purpose."""
    assert isinstance(error, VpError)
    if error.code not in STATUS or STATUS[error.code] >= 500:
        _log(request).warning("request_refused", code=error.code, detail=error.detail)
    return problem_response(error, request_id=request_id_of(request))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router itself refuses: unknown paths."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    refusal: VpError
    if error.status_code == HTTPStatus.NOT_FOUND:
        refusal = errors.NotFoundError(f"no such path: {path!r}; /openapi.json lists them")
    else:
        refusal = errors.ValidationError(error.detail)
    return problem_response(refusal, request_id=request_id_of(request), headers=error.headers)


def wrong_method(request: Request, allowed: Sequence[str]) -> Response:
    """The answer to a method that is not for this path."""
    names = ", ".join(sorted(allowed))
    refusal = errors.MethodNotAllowedError(
        f"{request.method} is not for {request.scope['path'][:200]!r}; it takes {names}"
    )
    return problem_response(refusal, request_id=request_id_of(request), headers={"Allow": names})


def crash_response(error: Exception, *, request_id: str) -> Response:
    """The answer to what nobody expected; the log gets the trace, the caller the id to find it by."""
    structlog.get_logger("ua_vp.ops").error("request_failed", request_id=request_id, exc_info=error)
    return problem_response(
        VpError(f"something went wrong here; the server's log says more under request id {request_id}"),
        request_id=request_id,
    )


def request_id_of(request: Request) -> str:
    """The id that the boundary gave this request."""
    return str(request.scope.get(REQUEST_ID, ""))


def _headers(code: str) -> dict[str, str]:
    headers = {"WWW-Authenticate": 'Bearer realm="ua-vp"'} if code == "unauthorized" else {}
    if code in RETRY_AFTER:
        headers["Retry-After"] = str(RETRY_AFTER[code])
    return headers


def _log(request: Request) -> Any:
    return structlog.get_logger("ua_vp.ops").bind(
        request_id=request_id_of(request), method=request.method, path=request.scope["path"][:200]
    )
