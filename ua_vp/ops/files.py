"""Sending an open file, or a range of it, such that no browser ever runs it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

CHUNK = 256 * 1024
HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Accept-Ranges": "bytes",
}
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"

_TEXT_TYPES = re.compile(r"text/.*|application/(json|xml|toml|yaml|x-yaml|javascript|x-sh|x-ndjson)|.*\+(json|xml)")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class OpenFileResponse(Response):
    """Sends the bytes `start` to `end` of an open file and closes it, whatever happens.

    The file is read in the thread pool, in chunks; a file that got shorter meanwhile breaks the connection off, so
    that nobody takes a part for the whole.
    """

    def __init__(
        self, fd: int, *, size: int, media_type: str, headers: Mapping[str, str], wanted: str | None, start: int = 0
    ) -> None:
        self._fd = fd
        span = parse_range(wanted, size)
        self._start, self._end = span or (min(start, size), size)
        more = {"Content-Length": str(self._end - self._start)}
        if span is not None:
            more["Content-Range"] = f"bytes {self._start}-{self._end - 1}/{size}"
        super().__init__(
            None, status_code=206 if span else 200, media_type=media_type, headers={**HARMLESS, **headers, **more}
        )

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_bytes(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            os.close(self._fd)

    async def _send_bytes(self, send: Send) -> None:
        place = self._start
        while place < self._end:
            chunk = await run_in_threadpool(os.pread, self._fd, min(CHUNK, self._end - place), place)
            if not chunk:
                raise OSError(f"the file ended at byte {place}, {self._end} were announced")
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            place += len(chunk)


def parse_range(wanted: str | None, size: int) -> tuple[int, int] | None:
    """(start, end) of a single byte range (RFC 9110, section 14); None: give all, also where nothing lies in the range."""
    match = _RANGE.fullmatch(wanted or "")
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None


def shown_as(media_type: str) -> str:
    """The type that a file is sent with: plain text or plain bytes, nothing that a browser could run."""
    return TEXT if _TEXT_TYPES.fullmatch(media_type) else BYTES


def as_attachment(path: str) -> str:
    """`Content-Disposition` for a file, its name as in RFC 6266."""
    name = path.rsplit("/", 1)[-1]
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name) or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has this version (weak comparison, RFC 9110, section 13.1.2)."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags
