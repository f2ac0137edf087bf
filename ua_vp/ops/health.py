"""Routes that need no token: version, liveness, readiness, the OpenAPI document."""

from __future__ import annotations

import json

from starlette.responses import Response

from ua_vp import errors, wire
from ua_vp.errors import VpError
from ua_vp.lane import API_VERSION
from ua_vp.ledger import Transaction, lanes
from ua_vp.ops.parts import OpsParts
from ua_vp.ops.problems import problem_response, request_id_of
from ua_vp.ops.routes import JSON, Call, Route, answer


def version(call: Call) -> Response:
    """Which code serves which ledger."""
    parts = call.running.parts
    identity = parts.ledger.identity
    return answer(
        wire.VersionView(
            version=parts.version,
            build=parts.build,
            ledger_id=identity.ledger_id,
            ledger_epoch=identity.epoch,
            schema_revision=identity.revision,
            lane_api_version=API_VERSION,
        )
    )


async def livez(_call: Call) -> Response:
    """The process answers; waits for nothing."""
    return answer(wire.LivezAnswer(status="ok"))


def readyz(call: Call) -> Response:
    """Whether missions can be taken; 503 with the reasons if not."""
    refusal = not_ready(call.running.parts)
    if refusal is None:
        return answer(wire.ReadyzAnswer(ready=True))
    reasons = [fault.detail for fault in refusal.faults] or [refusal.detail]
    return problem_response(refusal, request_id=request_id_of(call.request), more={"ready": False, "reasons": reasons})


def not_ready(parts: OpsParts) -> VpError | None:
    """Why missions cannot be taken: the ledger is away, or an installed plugin has no verdict yet."""
    try:
        judged = parts.ledger.read(_judged)
    except VpError as error:
        return error
    missing = sorted(set(parts.plugins) - judged)
    if parts.judged is not None and not parts.judged.is_set():
        missing = sorted(parts.plugins)  # verdicts of an earlier start do not count
    if not missing:
        return None
    reasons = [f"plugin {name!r} was not probed yet" for name in missing]
    return errors.LaneUnavailableError(
        "; ".join(reasons), faults=[errors.FieldFault(pointer="#", detail=reason) for reason in reasons]
    )


def _judged(tx: Transaction) -> set[str]:
    return {plugin.verdict.entry_point for plugin in lanes.list_plugins(tx)}


def openapi(call: Call) -> Response:
    """The API described for programs."""
    return Response(json.dumps(call.running.document), media_type=JSON)


ROUTES = (
    Route(
        method="GET",
        path="/api/v1/version",
        summary="Which code serves which ledger",
        endpoint=version,
        scope=None,
        answer=wire.VersionView,
    ),
    Route(
        method="GET",
        path="/livez",
        summary="Whether the process answers",
        endpoint=livez,
        scope=None,
        answer=wire.LivezAnswer,
    ),
    Route(
        method="GET",
        path="/readyz",
        summary="Whether missions can be taken; if not, why",
        endpoint=readyz,
        scope=None,
        answer=wire.ReadyzAnswer,
        codes=(errors.LaneUnavailableError,),
    ),
    Route(method="GET", path="/openapi.json", summary="This document", endpoint=openapi, scope=None),
)
