"""Real processes: commands under a launcher, and the services that `ua-vp up` looks after."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from ua_vp import ports
from ua_vp.ports import Command
from ua_vp.runtime.children import Child, Pipes, close_all, launcher_argv

Start = Callable[[], "subprocess.Popen[bytes]"]


class RealProcesses:
    """`ports.Processes`; every process is started by one thread that lives as long as we do.

    The kernel's "signal me when my parent dies" follows the thread that started the process, not the process.
    """

    def __init__(self, threads: ports.Threads) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._orders: ports.Queue[_Order] | None = None

    def launch(self, command: Command) -> Child:
        """Start `command` under a launcher and wait until it runs.

        Raises:
            OSError: the program cannot be started; `strerror` names it (`ruff: not found`).
        """
        pipes = Pipes(command)
        try:
            launcher = self._start(pipes.start_launcher)
        except (OSError, ValueError, subprocess.SubprocessError):
            close_all(pipes.ours)
            raise
        child = Child(launcher, command, pipes)
        child.await_start()
        return child

    def start_service(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        output: IO[bytes] | int | None = None,
        errors: IO[bytes] | int | None = None,
        end_with_us: signal.Signals = signal.SIGTERM,
    ) -> ServiceProcess:
        """Start a long-lived process in a session of its own; it gets `end_with_us` when this process dies.

        `output` and `errors` are files it writes to (None: ours); standard input is empty.

        Raises:
            OSError: no process can be started; a program that is not there ends with status 1 instead.
        """

        def start() -> subprocess.Popen[bytes]:
            tied = launcher_argv("tie", str(int(end_with_us)), str(os.getpid()), *argv)
            return subprocess.Popen(
                tied, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
            )

        return ServiceProcess(self._start(start))

    def _start(self, start: Start) -> subprocess.Popen[bytes]:
        order = _Order(start)
        self._starter().put(order)
        order.done.wait()
        if order.error is not None:
            raise order.error
        assert order.process is not None
        return order.process

    def _starter(self) -> ports.Queue[_Order]:
        with self._lock:
            if self._orders is None:
                self._orders = self._threads.queue()
                self._threads.start("process-starter", self._start_ordered)
            return self._orders

    def _start_ordered(self) -> None:
        assert self._orders is not None
        while True:
            order = self._orders.get()
            if order is not None:
                order.carry_out()


class _Order:
    """A process to start, and what came of it."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self.done = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.error: Exception | None = None

    def carry_out(self) -> None:
        try:
            self.process = self._start()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.error = error
        self.done.set()


class ServiceProcess:
    """A long-lived process of ours in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status (minus the signal that ended it), None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """SIGTERM, if it still runs."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end, at most `timeout` seconds; its exit status, None on time-out."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
