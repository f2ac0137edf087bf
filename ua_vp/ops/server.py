"""uvicorn around the API."""

from __future__ import annotations

import socket

import uvicorn
from starlette.applications import Starlette

GRACE = 5
"""Seconds that answers under way have when the server stops."""


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, and tells held answers and streams to end as soon as it begins to stop.

    uvicorn raises the signal that stopped it again at its end: the caller has a handler of its own in place.
    """

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE, server_header=False)
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn when it begins to stop."""
        self._app.state.feed.close()
        await super().shutdown(sockets=sockets)
