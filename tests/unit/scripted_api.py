"""A tiny real HTTP server on loopback that answers as a test says; it keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ua_vp.client import Client
from ua_vp.runtime.clock import RealClock
from ua_vp.wire import ArtifactView

MISSION_ID = "vp-mission-" + "a" * 32
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        parsed: Json = json.loads(self.body)
        return parsed


@dataclass(frozen=True, kw_only=True)
class Said:
    """One answer; `cut` breaks the connection off behind it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


DROPPED = Said(status=0)
"""The connection is closed without a word."""
Answer = Callable[[Asked], Said]


def as_json(value: Any, status: int = 200, **headers: str) -> Said:
    return Said(status=status, body=json.dumps(value).encode(), headers={"Content-Type": "application/json"} | headers)


def problem(code: str, status: int = 409, detail: str = "no", **more: Any) -> Said:
    body = {"title": "x", "status": status, "code": code, "detail": detail, **more}
    return Said(status=status, body=json.dumps(body).encode(), headers={"Content-Type": "application/problem+json"})


class Scripted:
    """The running server."""

    def __init__(self, url: str, asked: list[Asked]) -> None:
        self.url = url
        self.asked = asked

    def client(self) -> Client:
        return Client(self.url, "secret", clock=RealClock(boot_id=""))

    def paths(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.asked]


def handler(answer: Answer, asked: list[Asked]) -> type[BaseHTTPRequestHandler]:
    """Answers each request as `answer` says, and notes it."""

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.close_connection = True
            super().handle_one_request()

        def respond(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            one = Asked(method=self.command, path=parts.path, query=query, headers=dict(self.headers), body=body)
            asked.append(one)
            said = answer(one)
            if said.status:
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                if not said.cut:
                    self.send_header("Content-Length", str(len(said.body)))
                else:
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(said.body), said.body) if said.cut else said.body)

        do_GET = do_POST = respond  # noqa: N815  # the base class calls them so

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
            return

    return Handler


@contextmanager
def scripted(answer: Answer) -> Iterator[Scripted]:
    """Serve `answer` while the block runs."""
    asked: list[Asked] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(answer, asked))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield Scripted(f"http://127.0.0.1:{server.server_address[1]}", asked)
    finally:
        server.shutdown()
        server.server_close()


def mission(status: str = "queued", **changes: Any) -> Json:
    """A mission as the API gives it."""
    made: Json = {
        "mission_id": MISSION_ID,
        "vp_id": "vp.general.primary",
        "status": status,
        "mission_type": "check-docs",
        "objective": "Look at the docs",
        "priority": 100,
        "attempt": 0 if status == "queued" else 1,
        "tries": 0,
        "max_tries": 3,
        "cancel_requested": False,
        "reply_mode": "async",
        "created_by": "ops",
        "created_at": "2026-01-01T00:00:00.000000Z",
        "updated_at": "2026-01-01T00:00:00.000000Z",
        "sync_state": "not_ready",
        "actions": ["cancel"],
    }
    return made | changes


def detail(given: Json, **changes: Any) -> Json:
    ended = given["status"] in {"completed", "failed", "cancelled"}
    made: Json = {"mission": given, "terminal": ended, "events": [], "events_total": 0}
    return made | {"artifacts": [], "artifacts_total": 0} | changes


def event(seq: int, **changes: Any) -> Json:
    made: Json = {
        "seq": seq,
        "event_id": f"e{seq}",
        "type": "vp.mission.progress",
        "mission_id": MISSION_ID,
        "actor": {"name": "w", "via": "worker"},
        "at": "2026-01-01T00:00:00.000000Z",
    }
    return made | changes


def lane(name: str = "general", display_name: str = "General", **changes: Any) -> Json:
    kind = {"description": "Check the docs", "schema": {}, "available": True, "remedy": None}
    made: Json = {
        "vp_id": f"vp.{name}.primary",
        "display_name": display_name,
        "aliases": [f"{name} vp"],
        "available": True,
        "capacity": 1,
        "depth": {"queued": 0, "running": 0},
        "plugin": {"distribution": f"ua-vp-{name}", "version": "1"},
        "mission_types": {"check-docs": kind},
    }
    return made | changes


def artifact(path: str, content: bytes, category: str = "primary") -> ArtifactView:
    import hashlib

    return ArtifactView(path=path, category=category, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
