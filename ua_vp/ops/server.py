"""uvicorn around the API."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from types import FrameType

import structlog
import uvicorn
from starlette.applications import Starlette

from ua_vp.errors import LedgerGoneError
from ua_vp.ledger import Ledger

GRACE = 5
"""Seconds that answers under way have when the server stops."""
TICK = 1.0
"""Seconds between two looks of an idle server; its `Date` header is as exact as that."""

AWAY_TICK = 0.1
"""The same while the ledger is away: each look at which it is back counts."""


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, and tells held answers and streams to end as soon as it begins to stop.

    uvicorn raises the signal that stopped it again at its end: the caller has a handler of its own in place.

    It stops by itself, and is `gone`, when the ledger has been away, or another one, for more than `patience` seconds:
    whoever starts it again opens the one that is there then.
    """

    def __init__(self, app: Starlette, ledger: Ledger, *, patience: float) -> None:
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE, server_header=False)
        )
        self.gone = False
        self._app = app
        self._ledger = ledger
        self._patience = patience
        self._away_since: float | None = None
        """Seconds on the loop's clock; None while the ledger is there."""
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        """Look once a second, or as soon as a signal came: uvicorn's own ten looks are most of what an idle API costs."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(counter=0):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK if self._away_since is None else AWAY_TICK):
                    await self._told.wait()

    async def on_tick(self, counter: int) -> bool:
        """One look; whether to stop."""
        try:
            self._ledger.check()
            self._away_since = None
        except LedgerGoneError as error:
            now = asyncio.get_running_loop().time()
            self._away_since = self._away_since or now
            self.gone = now - self._away_since > self._patience
            if self.gone:
                structlog.get_logger("ua_vp.ops").error("api_ends", code=error.code, detail=error.detail)
        return await super().on_tick(counter) or self.gone

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn's signal handler."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn when it begins to stop."""
        self._app.state.feed.close()
        await super().shutdown(sockets=sockets)
