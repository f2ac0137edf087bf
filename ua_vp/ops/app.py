"""The ops API put together: routes, boundary, errors, and what runs beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from ua_vp.access import LastUse, ensure_first_token
from ua_vp.control.feed import Feed
from ua_vp.errors import VpError
from ua_vp.ops import artifacts, events, health, lanes, missions, openapi, problems, tokens
from ua_vp.ops.boundary import Boundary
from ua_vp.ops.parts import OpsParts, Running
from ua_vp.ops.routes import Route, path_routes

__all__ = ["ROUTES", "OpsParts", "create_app"]

ROUTES: tuple[Route, ...] = (
    *missions.ROUTES,
    *artifacts.ROUTES,
    *events.ROUTES,
    *lanes.ROUTES,
    *tokens.ROUTES,
    *health.ROUTES,
)
"""Every route of the API."""

LAST_USE_SECONDS = 5.0
"""How often the use of tokens is looked at; each is written at most once a minute."""


def create_app(parts: OpsParts) -> Starlette:
    """The API over `parts.ledger`, which the caller closes after the server has stopped.

    At start-up the server's own token is made if there is none. `app.state.feed.close()`, on the event loop, ends held
    answers and streams at once; call it when the server begins to stop.
    """
    running = Running(
        parts=parts,
        feed=Feed(parts.ledger),
        last_use=LastUse(parts.ports.threads.lock()),
        document=openapi.document(ROUTES, version=parts.version),
    )
    app = Starlette(
        routes=path_routes(ROUTES, running),
        middleware=[Middleware(Boundary, ids=parts.ports.ids, allowed_hosts=parts.settings.ops.allowed_hosts)],
        exception_handlers={
            VpError: problems.on_refusal,
            HTTPException: problems.on_http_error,
        },
        lifespan=lambda _app: _lifespan(running),
    )
    app.router.redirect_slashes = False
    app.state.feed = running.feed
    return app


@asynccontextmanager
async def _lifespan(running: Running) -> AsyncIterator[None]:
    parts = running.parts
    await run_in_threadpool(ensure_first_token, parts.settings.token_path, ledger=parts.ledger, ports=parts.ports)
    running.feed.start()
    noting = asyncio.create_task(_write_last_use(running))
    try:
        yield
    finally:
        noting.cancel()
        await asyncio.gather(noting, return_exceptions=True)
        running.feed.close()


async def _write_last_use(running: Running) -> None:
    while True:
        await asyncio.sleep(LAST_USE_SECONDS)
        try:
            await run_in_threadpool(running.last_use.write, running.parts.ledger)
        except VpError as error:  # it is noted still, and tried again
            structlog.get_logger("ua_vp.ops").warning("last_use_not_written", code=error.code, detail=error.detail)
