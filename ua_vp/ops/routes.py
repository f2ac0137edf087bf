"""A route as one declared record, and how a request runs through it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as PathRoute
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from ua_vp.access import Caller, Scope, authenticate
from ua_vp.control.asking import Asking
from ua_vp.errors import NotAcceptableError, TooLargeError, UnsupportedMediaTypeError, VpError
from ua_vp.ops.parameters import Q, Query, parse_query
from ua_vp.ops.parts import Running
from ua_vp.ops.problems import wrong_method
from ua_vp.wire import LONGEST_BODY

P = ParamSpec("P")
T = TypeVar("T")

JSON = "application/json"
STREAM = "text/event-stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request on its way through a route: authenticated, its query checked, its body read."""

    running: Running
    request: Request
    caller: Caller | None
    query: Query
    body: bytes

    @property
    def asking(self) -> Asking:
        """The caller at the ledger; only in routes that need a scope."""
        assert self.caller is not None, "a route without scope has no caller"
        parts = self.running.parts
        return Asking(ledger=parts.ledger, clock=parts.ports.clock, ids=parts.ports.ids, caller=self.caller)

    @property
    def mission_id(self) -> str:
        """The mission that the path names."""
        return str(self.request.path_params["mission_id"])

    def parameters(self, model: type[Q]) -> Q:
        """The checked query parameters, as the model that the route declares."""
        assert isinstance(self.query, model)
        return self.query

    async def off_loop(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what may wait for the ledger on a thread of the pool."""
        return await run_in_threadpool(function, *args, **kwargs)


Endpoint = Callable[[Call], Response] | Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One route: from this record come routing, scope, Allow headers and the OpenAPI document."""

    method: str
    path: str
    summary: str
    endpoint: Endpoint
    """`def`: runs in the pool, may wait for the ledger. `async def`: must not."""
    scope: Scope | None
    """None: needs no token."""
    answer: type[BaseModel] | None = None
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict)
    """Further statuses of success, and what they mean."""
    request: type[BaseModel] | None = None
    body_needed: bool = True
    query: type[Query] = Query
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that mean something here."""
    media_types: tuple[str, ...] = (JSON,)
    codes: Sequence[type[VpError]] = ()
    """Errors of its own, besides those that every route may answer."""


def path_routes(routes: Sequence[Route], running: Running) -> list[PathRoute]:
    """Starlette's routes, one per path, in the order of their first record; GET answers HEAD too."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, {})[route.method] = route
    return [PathRoute(path, PathEndpoint(methods, running), name=path) for path, methods in by_path.items()]


class PathEndpoint:
    """What answers on one path, by method. It takes every method, so that no other path's pattern gets this one's."""

    def __init__(self, methods: Mapping[str, Route], running: Running) -> None:
        self._methods = dict(methods)
        if "GET" in methods:
            self._methods["HEAD"] = methods["GET"]
        self._running = running

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive, send)
        route = self._methods.get(request.method)
        response = await _serve(route, request, self._running) if route else wrong_method(request, list(self._methods))
        await response(scope, receive, send)


async def _serve(route: Route, request: Request, running: Running) -> Response:
    """Token, scope, Accept, query, body; then the endpoint."""
    caller = None
    if route.scope is not None:
        caller = await run_in_threadpool(authenticated, request, running)
        caller.require(route.scope)
    _check_accept(request.headers.get("accept"), route.media_types)
    query = parse_query(route.query, request.query_params.multi_items())
    body = await _read_body(route, request) if route.request is not None else b""
    call = Call(running=running, request=request, caller=caller, query=query, body=body)
    if inspect.iscoroutinefunction(route.endpoint):
        return cast(Response, await route.endpoint(call))
    return await run_in_threadpool(cast(Callable[[Call], Response], route.endpoint), call)


def authenticated(request: Request, running: Running) -> Caller:
    """Who holds the request's token; notes that it was used.

    Raises:
        UnauthorizedError: nobody.
    """
    parts = running.parts
    now = parts.ports.clock.now()
    given = request.headers.getlist("authorization")
    caller = authenticate(
        given[0] if len(given) == 1 else None,
        ledger=parts.ledger,
        now=now,
        via=_via(request.headers.get("user-agent", "")),
    )
    running.last_use.note(caller.token_id, now)
    return caller


def _via(user_agent: str) -> str:
    """The face that the caller says it is; for reading, nothing is decided by it."""
    for face in ("cli", "mcp", "dashboard"):
        if user_agent.startswith(f"ua-vp-{face}/"):
            return face
    return "api"


def _check_accept(accept: str | None, given: Sequence[str]) -> None:
    if not accept:
        return
    wanted = []
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not any(parameter in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for parameter in parameters):
            wanted.append(kind)
    for media_type in given:
        if {media_type, media_type.split("/")[0] + "/*", "*/*", "*"} & set(wanted) or media_type == "*/*":
            return
    raise NotAcceptableError(f"this gives {' or '.join(given)}; Accept asks for {accept[:100]!r}")


async def _read_body(route: Route, request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > LONGEST_BODY:
        raise _too_large()
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LONGEST_BODY:
            raise _too_large()
        chunks.append(chunk)
    body = b"".join(chunks)
    if not body and not route.body_needed:
        return b"{}"
    kind = request.headers.get("content-type", "")
    media_type, _, parameters = kind.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != JSON or charset not in {"", "charset=utf-8"}:
        raise UnsupportedMediaTypeError(
            f"the body must be {JSON} in UTF-8, not {kind[:100] or 'without a Content-Type'}"
        )
    return body


def _too_large() -> TooLargeError:
    return TooLargeError(f"the body is larger than {LONGEST_BODY} bytes; put large things into files")


def answer(model: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The answer as JSON."""
    return Response(
        model.model_dump_json(by_alias=True), status_code=status, media_type=JSON, headers=dict(headers or {})
    )


def headers_of(request: Request, name: str) -> list[str]:
    """Every value of a header, its bytes read as UTF-8 where they are."""
    found: list[Any] = request.headers.getlist(name)
    values = []
    for value in found:
        try:
            values.append(value.encode("latin-1").decode("utf-8"))
        except UnicodeError:
            values.append(value)
    return values
