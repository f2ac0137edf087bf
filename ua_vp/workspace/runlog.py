"""`run.log`: bytes in chunks from any stream and thread, out come lines with time and stream; and reading it on the way."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ua_vp.errors import NotFoundError, WorkspaceError
from ua_vp.ports import Clock, Files, Lock
from ua_vp.wire.times import to_iso
from ua_vp.workspace.layout import (
    CHUNK,
    RECEIPT,
    RUN_LOG,
    SHARED_FILE,
    Workspace,
    exists,
    explained,
    is_folder,
    own_staging,
    set_mode,
)
from ua_vp.workspace.openat2 import open_beneath
from ua_vp.workspace.receipt import Receipt, read_beneath
from ua_vp.workspace.walk import make_sure, put_in_order, step_aside

Stream: TypeAlias = Literal["stdout", "stderr", "lane", "worker"]
LIMIT = 64 * CHUNK
"""Bytes that a run log may have, if nothing else is said."""
LONGEST_LINE = 16 * 1024
"""Bytes of text after which a line is split; it is also what a crash can lose of a line that has not ended."""
EARLIER_LOG = re.compile(r"supporting/attempts/([0-9]+)\.log")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogChunk:
    """A piece of a log. `total` is its size now; `complete` says that it will grow no more."""

    data: bytes
    next_offset: int
    total: int
    complete: bool


class RunLog:
    """The log of one attempt, written as `2026-01-01T00:00:00.000Z stream text`.

    Chunks of a stream are joined into lines; a line is stamped when it ends. Over-long lines are split, between
    characters where the text is UTF-8. Bytes are kept as they are, control characters too: whoever shows them to a
    terminal makes them harmless. Past `limit_bytes` everything but the worker's own lines is dropped, and the log says
    how much. A disk that is full or faulty never fails a write: what was lost is counted and said, once there is room.
    """

    def __init__(self, path: Path, *, clock: Clock, lock: Lock, limit_bytes: int = LIMIT) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with explained("open the run log", path):
            self._fd: int | None = os.open(path, flags, SHARED_FILE)
            set_mode(self._fd, SHARED_FILE)
        self._path = path
        self._clock = clock
        self._lock = lock
        self._limit = limit_bytes
        self._size = os.fstat(self._fd).st_size
        self._open_lines: dict[Stream, bytes] = {}
        self._lost_bytes = 0
        self._lost_lines = 0
        self._full = False
        self._fault: OSError | None = None

    def write(self, stream: Stream, chunk: bytes) -> None:
        """Take the next bytes of `stream`; from any thread; after `close` they are dropped."""
        with self._lock:
            if self._fd is None:
                return
            *ended, rest = (self._open_lines.get(stream, b"") + chunk).split(b"\n")
            for line in ended:
                self._write_line(stream, line)
            while len(rest) > LONGEST_LINE:
                piece = _whole_characters(rest[:LONGEST_LINE])
                self._write_piece(stream, piece)
                rest = rest[len(piece) :]
            self._open_lines[stream] = rest

    def close(self, last_line: str = "") -> None:
        """Write what has not ended yet, what was lost, and `last_line`; later writes are dropped. Again: nothing.

        If the mission removed or replaced the file meanwhile, it is written anew from the open descriptor. It is
        durable once it is staged.

        Raises:
            DiskFullError: the log cannot be written.
            WorkspaceError: the same, for another reason.
        """
        with self._lock:
            if self._fd is None:
                return
            for stream, rest in self._open_lines.items():
                if rest:
                    self._write_line(stream, rest)
            self._fault = None
            if self._lost_bytes:
                self._write_piece(
                    "worker", f"{self._lost_bytes} bytes in {self._lost_lines} lines of output were dropped".encode()
                )
            if last_line:
                self._write_line("worker", last_line.encode("utf-8", "backslashreplace"))
            fd, self._fd = self._fd, None
            with explained("close the run log", self._path):
                try:
                    self._restore(fd)
                finally:
                    os.close(fd)
                if self._fault:
                    raise self._fault

    def _write_line(self, stream: Stream, line: bytes) -> None:
        while True:
            piece = _whole_characters(line[:LONGEST_LINE]) if len(line) > LONGEST_LINE else line
            self._write_piece(stream, piece)
            line = line[len(piece) :]
            if not line:
                return

    def _write_piece(self, stream: Stream, text: bytes) -> None:
        line = f"{to_iso(self._clock.now())[:-4]}Z {stream} ".encode() + text + b"\n"
        if stream != "worker" and (self._full or self._size + len(line) > self._limit):
            self._lose(text)
            if not self._full:
                self._full = True
                note = f"the log is limited to {self._limit} bytes; output is dropped from here on"
                self._write_piece("worker", note.encode())
        elif not self._append(line):
            self._lose(text)

    def _lose(self, text: bytes) -> None:
        self._lost_bytes += len(text) + 1
        self._lost_lines += 1

    def _append(self, line: bytes) -> bool:
        """Write the whole line, or nothing of it."""
        assert self._fd is not None
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self._fault = error
            os.ftruncate(self._fd, self._size)
            return False
        self._size += len(line)
        return True

    def _restore(self, fd: int) -> None:
        """Write the log anew if its name no longer leads to it, or another name does, too."""
        ours = os.fstat(fd)
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            found = None
        if found and found.st_ino == ours.st_ino and found.st_dev == ours.st_dev and found.st_nlink == 1:
            return
        if found:
            step_aside(self._path)
        with self._path.open("xb") as copy:
            offset = 0
            while data := os.pread(fd, CHUNK, offset):
                copy.write(data)
                offset += len(data)
            set_mode(copy.fileno(), SHARED_FILE)


def read_log(ws: Workspace, attempt: int | None, *, offset: int, limit: int) -> LogChunk:
    """At most `limit` bytes of a log from `offset`: of a running attempt, of a finished one, or of an earlier one.

    None is the newest attempt that has one. Offsets stay good while the log is published.

    Raises:
        NotFoundError: there is no such log (yet, or any more).
        WorkspaceError: something else lies in its place.
    """
    fd, complete = open_log(ws, attempt)
    try:
        # The size is read before the bytes: what comes in between is for the next call.
        total = os.fstat(fd).st_size
        data = os.pread(fd, max(0, min(limit, total - offset)), offset)
    finally:
        os.close(fd)
    return LogChunk(data=data, next_offset=offset + len(data), total=total, complete=complete)


def open_log(ws: Workspace, attempt: int | None) -> tuple[int, bool]:
    """(descriptor, whether it will grow no more) of a log; the descriptor outlives publishing; the caller closes it.

    Raises:
        NotFoundError: there is no such log (yet, or any more).
        WorkspaceError: something else lies in its place.
    """
    # Publishing moves the log, then the receipt: whoever looks in between looks once more.
    for _ in range(2):
        for number, place, complete in _places(ws):
            if attempt not in {None, number}:
                continue
            try:
                return open_beneath(ws.root, place), complete
            except NotFoundError:
                continue
    raise NotFoundError(f"{ws.root} has no log of {'any attempt' if attempt is None else f'attempt {attempt}'}")


def keep_log(ws: Workspace, from_attempt: int, into_attempt: int, *, files: Files) -> bool:
    """Hand over the log of an earlier attempt as `supporting/attempts/<n>.log` of a later one's staging.

    Called before `discover`, once the later attempt's processes are gone. Returns whether there was a log.

    Raises:
        WorkspaceError: it cannot be written.
        DiskFullError: no room.
    """
    data = _staged_log(ws, from_attempt)
    if data is None:
        return False
    supporting = ws.attempt(into_attempt).supporting
    with explained("keep a log in", supporting):
        own_staging(ws, into_attempt)
        put_in_order(supporting.parent)
        folder = supporting / "attempts"
        make_sure(folder)
        target = folder / f"{from_attempt}.log"
        if is_folder(target):
            step_aside(target)
        files.write(target, data, mode=SHARED_FILE)
    return True


def copy_log(ws: Workspace, from_attempt: int, into_attempt: int, *, files: Files) -> bool:
    """Begin `into_attempt`'s `run.log` with a copy of an abandoned attempt's. Returns whether there was a log.

    Raises:
        WorkspaceError: it cannot be written.
        DiskFullError: no room.
    """
    data = _staged_log(ws, from_attempt)
    if data is None:
        return False
    target = ws.attempt(into_attempt).run_log
    with explained("copy a log to", target):
        own_staging(ws, into_attempt)
        files.write(target, data, mode=SHARED_FILE)
    return True


def _places(ws: Workspace) -> Iterator[tuple[int, str, bool]]:
    """(attempt, where its log may lie, whether it will grow no more), the newest first."""
    data = read_beneath(ws, RECEIPT)
    receipt = None if data is None else Receipt.from_bytes(data)
    if receipt:
        yield receipt.attempt, RUN_LOG, True
    for number in reversed(ws.attempt_numbers()):
        staged = exists(ws.attempt(number).receipt)
        yield number, ws.staged(number, RUN_LOG), staged or receipt is not None
        if staged:  # its log may have been moved before its receipt
            yield number, RUN_LOG, True
    for artifact in receipt.artifacts if receipt else ():
        earlier = EARLIER_LOG.fullmatch(artifact.path)
        if earlier:
            yield int(earlier.group(1)), artifact.path, True


def _staged_log(ws: Workspace, attempt: int) -> bytes | None:
    try:
        return read_beneath(ws, ws.staged(attempt, RUN_LOG))
    except WorkspaceError as error:
        return f"the log of attempt {attempt} is lost: {error.detail}\n".encode("utf-8", "backslashreplace")


def _whole_characters(piece: bytes) -> bytes:
    """`piece` without the beginning of a UTF-8 character at its end, if there is one."""
    for back in range(1, min(4, len(piece))):
        byte = piece[-back]
        if byte < 0x80:
            return piece
        if byte >= 0xC0:  # a first byte: does its character end here?
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return piece if back >= wanted else piece[:-back]
    return piece
