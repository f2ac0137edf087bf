"""Routes of what missions handed over: the list, the bytes, the log."""

from __future__ import annotations

import os

from starlette.responses import Response

from ua_vp import errors, wire
from ua_vp.access import Scope
from ua_vp.control import results
from ua_vp.ops.files import TEXT, OpenFileResponse, as_attachment, matches, shown_as
from ua_vp.ops.missions import ROOT
from ua_vp.ops.parameters import ArtifactsQuery, LogQuery
from ua_vp.ops.routes import Call, Route, answer


def list_artifacts(call: Call) -> Response:
    """One page of artifacts in order of rank."""
    asked = call.parameters(ArtifactsQuery)
    return answer(
        results.list_artifacts(
            call.asking, call.mission_id, category=asked.category, limit=asked.limit, cursor=asked.cursor
        )
    )


def read_artifact(call: Call) -> Response:
    """The bytes of a handed-over file, as an attachment."""
    found = results.open_artifact(call.asking, call.mission_id, call.request.path_params["path"])
    etag = f'"{found.sha256}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": as_attachment(found.path),
    }
    if matches(call.request.headers.get("if-none-match"), etag):
        os.close(found.fd)
        return Response(status_code=304, headers=headers)
    return OpenFileResponse(
        found.fd,
        size=found.bytes,
        media_type=shown_as(found.media_type),
        headers=headers,
        wanted=call.request.headers.get("range"),
    )


def read_log(call: Call) -> Response:
    """The log of an attempt from `offset` to its end as it is now; a running attempt's log grows."""
    asked = call.parameters(LogQuery)
    log = results.open_log(call.asking, call.mission_id, asked.attempt)
    headers = {
        "Content-Disposition": as_attachment(f"run-{log.attempt}.log"),
        "X-Log-Attempt": str(log.attempt),
        "X-Log-Next-Offset": str(max(log.bytes, asked.offset)),
        "X-Log-Complete": "true" if log.complete else "false",
    }
    wanted = call.request.headers.get("range")
    return OpenFileResponse(log.fd, size=log.bytes, media_type=TEXT, headers=headers, wanted=wanted, start=asked.offset)


ROUTES = (
    Route(
        method="GET",
        path=f"{ROOT}/missions/{{mission_id}}/artifacts",
        summary="What a mission handed over, ranked, with hashes",
        endpoint=list_artifacts,
        scope=Scope.ARTIFACTS_READ,
        query=ArtifactsQuery,
        answer=wire.ArtifactPage,
        codes=(errors.NotFoundError,),
    ),
    Route(
        method="GET",
        path=f"{ROOT}/missions/{{mission_id}}/artifacts/{{path:path}}",
        summary="The bytes of a handed-over file",
        endpoint=read_artifact,
        scope=Scope.ARTIFACTS_READ,
        media_types=("*/*",),
        also={206: "The range asked for", 304: "Not changed"},
        headers={"Range": "one range of bytes", "If-None-Match": "the file's SHA-256, in quotes"},
        codes=(errors.NotFoundError,),
    ),
    Route(
        method="GET",
        path=f"{ROOT}/missions/{{mission_id}}/log",
        summary="The log of an attempt, running ones included",
        endpoint=read_log,
        scope=Scope.ARTIFACTS_READ,
        query=LogQuery,
        media_types=("*/*",),
        also={206: "The range asked for"},
        headers={"Range": "one range of bytes; instead of `offset`"},
        codes=(errors.NotFoundError,),
    ),
)
