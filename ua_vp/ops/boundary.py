"""The edge of the API: names each request, refuses unknown hosts, adds what every answer carries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ua_vp.errors import HostRefusedError
from ua_vp.ops.problems import REQUEST_ID, crash_response, problem_response
from ua_vp.ports import Ids

SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_WITHOUT_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?")


class Boundary:
    """ASGI middleware around every route.

    The Host allow-list stops DNS rebinding: a page that points its own name at this address sends that name.
    """

    def __init__(self, app: ASGIApp, *, ids: Ids, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._ids = ids
        self._hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if SANE_ID.fullmatch(given) else self._ids.uuid7()
        scope[REQUEST_ID] = request_id
        if not host_allowed(headers.getlist("host"), self._hosts):
            refusal = HostRefusedError(
                f"host {headers.get('host', '')[:100]!r} is not served here; add it to `[ops] allowed_hosts`"
            )
            await problem_response(refusal, request_id=request_id)(scope, receive, send)
            return

        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                marked = MutableHeaders(scope=message)
                marked["X-Request-Id"] = request_id
                marked.setdefault("X-Content-Type-Options", "nosniff")
                marked.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except Exception as error:
            if started:  # breaking the connection off is all that can be said now
                raise
            await crash_response(error, request_id=request_id)(scope, receive, send)


def host_allowed(hosts: Sequence[str], allowed: frozenset[str]) -> bool:
    """Whether there is exactly one Host header, and it names, with or without a port, an allowed host."""
    if len(hosts) != 1:
        return False
    match = _WITHOUT_PORT.fullmatch(hosts[0])
    return match is not None and match.group(1).lower() in allowed
