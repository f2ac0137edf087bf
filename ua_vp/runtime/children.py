"""A command under its launcher, as the process that started it sees it: pipes, reports, orders."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from ua_vp import sandbox
from ua_vp.errors import WorkspaceError
from ua_vp.ports import Command, Exit

CHUNK = 65_536
LAUNCHER = Path(sandbox.__file__).with_name("launcher.py")
NEVER_STARTED = "the launcher ended before it started anything"


class Child:
    """`ports.Child`: one command under its launcher.

    `read` belongs to one thread at a time; all else may be called from any.
    """

    def __init__(self, launcher: subprocess.Popen[bytes], command: Command, pipes: Pipes) -> None:
        self._launcher, self._command = launcher, command
        self._status, self._control, self._birth = pipes.status, pipes.control, pipes.birth
        self._open = {pipes.stdout: "stdout", pipes.stderr: "stderr"}
        self._lock = threading.Lock()
        self._report = _Report()
        self._close = weakref.finalize(self, close_all, pipes.ours)

    @property
    def pid(self) -> int:
        """The launcher's process id."""
        return self._launcher.pid

    @property
    def main_pid(self) -> int:
        """The command's own process id."""
        return self._report.started

    def await_start(self) -> None:
        """Wait until the command runs.

        Raises:
            OSError: it cannot; what the launcher wrote is in the text if it is the launcher that failed.
        """
        while not self._report.born:
            _poll([self._birth], None)
            self._report.take_birth(os.read(self._birth, CHUNK))
        if self._report.started and not self._report.failed:
            return
        said = b"" if self._report.failed else self._last_words()
        self._launcher.wait()
        self._close()
        raise _start_error(self._command, self._report, said)

    def read(self, timeout: float | None = None) -> tuple[str, bytes] | None:
        """The next chunk (at most 64 KiB) as ('stdout' or 'stderr', bytes); ('', b'') at the end; None on time-out.

        Once the tree is empty, what is in the pipes is given and then the end, even if somebody outside holds them.
        """
        deadline = _deadline(timeout)
        while self._open:
            over = self._report.over
            ready = _poll([*self._open] if over else [*self._open, self._status], 0 if over else _left(deadline))
            for descriptor in ready:
                if descriptor in self._open and (chunk := self._take(descriptor)) is not None:
                    return chunk
            if over and not ready:
                self._open.clear()
            elif self._status in ready:
                self._hear(0)
            elif not ready:
                return None
        return "", b""

    def terminate(self) -> None:
        """SIGTERM to every process of the tree; stopped ones are continued so that it reaches them."""
        self._order(b"term\n")

    def kill(self) -> None:
        """SIGKILL to every process of the tree."""
        self._order(b"kill\n")

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Wait until every process of the tree is gone; None on time-out.

        Raises:
            WorkspaceError: the launcher was killed, so nobody can vouch for the tree.
        """
        deadline = _deadline(timeout)
        while not self._report.over:
            if not self._hear(_left(deadline)):
                return None
        self._launcher.send_signal(signal.SIGCONT)  # the command may have stopped it
        cleared = self._launcher.wait() == 0
        if not self._report.empty:
            _kill_group(self._report.started)
            left = "and what it had started with it" if cleared else "processes of it may still run"
            raise WorkspaceError(f"{self._command.argv[0]}: its launcher (process {self.pid}) was killed; {left}")
        return Exit(code=self._report.code, stragglers=self._report.stragglers)

    def _order(self, order: bytes) -> None:
        with self._lock:
            if self._report.over:
                return
            try:
                os.write(self._control, order)
                self._launcher.send_signal(signal.SIGCONT)  # the command may have stopped it
            except (BrokenPipeError, BlockingIOError):
                return

    def _hear(self, timeout: float | None) -> bool:
        """Take in what the launcher reports; False when it reports nothing in time."""
        if not _poll([self._status], timeout):
            return False
        with self._lock:
            try:
                while not self._report.over:
                    self._report.take(os.read(self._status, CHUNK))
            except BlockingIOError:
                pass
        return True

    def _take(self, descriptor: int) -> tuple[str, bytes] | None:
        try:
            chunk = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return None
        name = self._open.pop(descriptor)
        if not chunk:
            return None
        self._open[descriptor] = name  # at the end: both streams get their turn
        return name, chunk

    def _last_words(self) -> bytes:
        said = b""
        while (chunk := self.read()) is not None and chunk[1]:
            said += chunk[1]
        return said[-2000:]


class Pipes:
    """What lies between us and a launcher that is to start `command`: our ends and its ends.

    Raises:
        ValueError: not a command that can be started.
        OSError: no more descriptors.
    """

    def __init__(self, command: Command) -> None:
        self._theirs: list[int] = []
        self.ours: list[int] = []
        request, stdin = _memory_file(_request(command)), _memory_file(command.stdin)
        self._theirs += [request, stdin]
        self.stdout, stdout = self._pipe(ours_reads=True)
        self.stderr, stderr = self._pipe(ours_reads=True)
        self.status, status = self._pipe(ours_reads=True)
        self.birth, birth = self._pipe(ours_reads=True)
        self.control, control = self._pipe(ours_reads=False)
        self._standard = (stdin, stdout, stderr)
        self._passed = (control, status, birth, request)

    def start_launcher(self) -> subprocess.Popen[bytes]:
        """Start it, on the thread whose end it is to be told of; its ends are closed here whatever happens."""
        stdin, stdout, stderr = self._standard
        argv = launcher_argv("run", *map(str, self._passed), str(os.getpid()))
        try:
            return subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=self._passed,
                env={}, cwd="/", start_new_session=True,
            )  # fmt: skip
        finally:
            close_all(self._theirs)

    def _pipe(self, *, ours_reads: bool) -> tuple[int, int]:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        ours, theirs = (reading, writing) if ours_reads else (writing, reading)
        os.set_blocking(ours, False)
        self.ours.append(ours)
        self._theirs.append(theirs)
        return ours, theirs


class _Report:
    """What was said so far: `born` once the command runs or has failed to, `over` once the launcher is gone."""

    def __init__(self) -> None:
        self.started = self.failed = self.code = self.stragglers = 0
        self.step = ""
        self.empty = self.over = self.born = False
        self._rest = b""

    def take_birth(self, data: bytes) -> None:
        self.born = not data
        self._take(data)

    def take(self, data: bytes) -> None:
        self.over = not data
        self._take(data)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self.started = said.get("started", self.started)
            self.failed = said.get("failed", self.failed)
            self.step = said.get("step", self.step)
            self.code = said.get("ended", self.code)
            self.stragglers = said.get("stragglers", self.stragglers)
            self.empty = said.get("empty", self.empty)


def launcher_argv(*arguments: str) -> list[str]:
    """How `sandbox/launcher.py` is started, in one of its two roles."""
    return [sys.executable, "-I", "-S", os.fspath(LAUNCHER), *arguments]


def _request(command: Command) -> bytes:
    """The command as `sandbox.launcher.read_request` takes it.

    Raises:
        ValueError: no argv, a NUL in a string, a variable whose name is empty or has `=` in it.
    """
    pairs = [f"{name}={value}" for name, value in command.env.items()]
    parts = [os.fspath(command.cwd), str(len(command.argv)), *command.argv, *pairs]
    wrong = not command.argv or any("\0" in part for part in parts)
    if wrong or any(not name or "=" in name for name in command.env):
        raise ValueError(f"not a command that can be started: {command.argv!r}")
    return b"".join(os.fsencode(part) + b"\0" for part in parts)


def _memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("ua-vp", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _start_error(command: Command, report: _Report, said: bytes) -> OSError:
    if not report.failed:
        return OSError(errno.ECHILD, f"{command.argv[0]}: {NEVER_STARTED}: {said.decode(errors='replace')}")
    subject = command.argv[0] if report.step == "exec" else os.fspath(command.cwd)
    text = "not found" if report.failed == errno.ENOENT else os.strerror(report.failed)
    return OSError(report.failed, f"{subject}: {text}")


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def close_all(descriptors: list[int]) -> None:
    """Close each and forget it."""
    while descriptors:
        os.close(descriptors.pop())


def _poll(descriptors: Sequence[int], timeout: float | None) -> list[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(None if timeout is None else timeout * 1000)]


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
