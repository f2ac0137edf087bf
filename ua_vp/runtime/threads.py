"""Real threads, and what they meet on."""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from ua_vp import ports

T = TypeVar("T")

EX_SOFTWARE = 70
"""Exit status of a process in which a thread failed (sysexits.h)."""


def end_process(name: str, error: BaseException) -> None:
    """Write the error of thread `name` to standard error and end the process at once: half a process helps nobody."""
    sys.stderr.write(f"ua-vp: thread {name!r} failed; the process ends\n")
    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(EX_SOFTWARE)


OnFailure = Callable[[str, BaseException], None]


def guarded(name: str, target: Callable[[], None], on_failure: OnFailure) -> Callable[[], None]:
    """`target`, with every exception that leaves it going to `on_failure(name, error)`, on the same thread."""

    def run() -> None:
        try:
            target()
        except BaseException as error:
            on_failure(name, error)

    return run


class RealThreads:
    """`ports.Threads` on `threading`; an exception that leaves a thread goes to `on_failure`."""

    def __init__(self, on_failure: OnFailure = end_process) -> None:
        self._on_failure = on_failure

    def start(self, name: str, target: Callable[[], None]) -> ports.Thread:
        """Run `target` on a new daemon thread; an exception that leaves it goes to `on_failure`."""
        thread = threading.Thread(target=guarded(name, target, self._on_failure), name=name, daemon=True)
        thread.start()
        return RealThread(thread)

    def signal(self) -> ports.Signal:
        """A new flag, not raised."""
        return threading.Event()

    def lock(self) -> ports.Lock:
        """A new lock, free."""
        return threading.Lock()

    def queue(self) -> ports.Queue[T]:
        """A new, empty queue."""
        return RealQueue()


class RealThread:
    """A started thread."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most `timeout` seconds; returns whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


class RealQueue(Generic[T]):
    """`ports.Queue` on `queue.SimpleQueue`."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[T] = queue.SimpleQueue()

    def put(self, item: T) -> None:
        """Append `item`; never blocks."""
        self._items.put(item)

    def get(self, timeout: float | None = None) -> T | None:
        """Take the oldest item, waiting at most `timeout` seconds (None: for ever, 0: not at all); None on time-out."""
        try:
            if timeout is not None and timeout <= 0:
                return self._items.get_nowait()
            return self._items.get(timeout=timeout)
        except queue.Empty:
            return None
