"""Routes of lanes, worker sessions and figures."""

from __future__ import annotations

from starlette.responses import Response

from ua_vp import errors, wire
from ua_vp.access import Scope
from ua_vp.control import lanes, query
from ua_vp.ops import prometheus
from ua_vp.ops.missions import ROOT
from ua_vp.ops.parameters import MetricsQuery
from ua_vp.ops.routes import Call, Route, answer


def list_lanes(call: Call) -> Response:
    """Every lane and every installed plugin, degraded ones included."""
    return answer(lanes.list_lanes(call.asking))


def pause_lane(call: Call) -> Response:
    """Workers claim nothing new; what they run goes on."""
    return _steered(call, paused=True)


def resume_lane(call: Call) -> Response:
    """Workers claim again."""
    return _steered(call, paused=False, draining=False)


def drain_lane(call: Call) -> Response:
    """Workers claim nothing new, until somebody resumes the lane: the way to its end, where a pause is a break."""
    return _steered(call, draining=True)


def _steered(call: Call, *, paused: bool | None = None, draining: bool | None = None) -> Response:
    vp_id = call.request.path_params["vp_id"]
    return answer(wire.LaneAnswer(lane=lanes.steer(call.asking, vp_id, paused=paused, draining=draining)))


def list_sessions(call: Call) -> Response:
    """Worker sessions."""
    return answer(query.list_sessions(call.asking))


def metrics(call: Call) -> Response:
    """Figures of one lane, or of all."""
    return answer(query.metrics(call.asking, call.parameters(MetricsQuery).vp_id))


def metrics_text(call: Call) -> Response:
    """Figures in Prometheus' text format."""
    text = prometheus.exposition(query.figures(call.asking), build=call.running.parts.build)
    return Response(text, media_type=prometheus.MEDIA_TYPE)


ROUTES = (
    Route(
        method="GET",
        path=f"{ROOT}/lanes",
        summary="Lanes, what they take, and how they are",
        endpoint=list_lanes,
        scope=Scope.MISSIONS_READ,
        answer=wire.LanesAnswer,
    ),
    *(
        Route(
            method="POST",
            path=f"{ROOT}/lanes/{{vp_id}}/{verb}",
            summary=summary,
            endpoint=endpoint,
            scope=Scope.LANES_CONTROL,
            answer=wire.LaneAnswer,
            codes=(errors.NotFoundError, errors.DiskFullError),
        )
        for verb, endpoint, summary in (
            ("pause", pause_lane, "Have a lane's workers claim nothing for a while"),
            ("resume", resume_lane, "Have a lane's workers claim again"),
            ("drain", drain_lane, "Have a lane's workers claim nothing more"),
        )
    ),
    Route(
        method="GET",
        path=f"{ROOT}/sessions",
        summary="Worker sessions",
        endpoint=list_sessions,
        scope=Scope.MISSIONS_READ,
        answer=wire.SessionsAnswer,
    ),
    Route(
        method="GET",
        path="/api/v1/ops/metrics/vp",
        summary="Figures of one lane, or of all",
        endpoint=metrics,
        scope=Scope.MISSIONS_READ,
        query=MetricsQuery,
        answer=wire.MetricsView,
        codes=(errors.NotFoundError,),
    ),
    Route(
        method="GET",
        path="/metrics",
        summary="Figures in Prometheus' text format",
        endpoint=metrics_text,
        scope=Scope.MISSIONS_READ,
        media_types=("*/*",),
    ),
)
