"""What the product needs from the machine, as protocols: time, randomness, threads, queues, timers, processes, files, bells.

Below the composition root nobody reads a clock, starts a thread or a process, or renames a file on its own account:
it is handed these. `ua_vp.runtime` provides the real ones, `ua_vp.testing` a seeded, one-at-a-time set on which a
whole history is repeatable. No port may be called inside a ledger transaction.

Durations are seconds (float). Instants are integer microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

T = TypeVar("T")

MICROS = 1_000_000
"""Microseconds in a second."""


class Clock(Protocol):
    """Three ways to read the time; each call is cheap and never goes through the network."""

    @property
    def boot_id(self) -> str:
        """Names the boot (and time namespace) under which `boot()` may be compared."""
        ...

    def now(self) -> int:
        """Wall clock, µs since the epoch, UTC: for people, never compared across machines."""
        ...

    def boot(self) -> int:
        """µs since boot, running on through suspend (CLOCK_BOOTTIME): leases are deadlines on this clock."""
        ...

    def monotonic(self) -> int:
        """µs of a clock that never steps and may stop in suspend: for intervals within one process."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        ...


class Ids(Protocol):
    """Where randomness comes from."""

    def uuid7(self) -> str:
        """A UUIDv7 as 32 hex digits (RFC 9562): growing with time, random behind it."""
        ...

    def token(self) -> str:
        """A secret of at least 256 bits, URL-safe."""
        ...

    def fraction(self) -> float:
        """Uniform in [0, 1): jitter."""
        ...


class Signal(Protocol):
    """A one-way flag that threads can wait on (`threading.Event` is one)."""

    def set(self) -> None:
        """Raise the flag; it stays raised."""
        ...

    def is_set(self) -> bool:
        """Whether the flag is raised."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until raised, at most `timeout` seconds; returns whether it is."""
        ...


class Lock(Protocol):
    """Mutual exclusion between threads, used as a context manager."""

    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Queue(Protocol[T]):
    """An unbounded queue between threads, first in, first out."""

    def put(self, item: T) -> None:
        """Append `item`; never blocks."""
        ...

    def get(self, timeout: float | None = None) -> T | None:
        """Take the oldest item, waiting at most `timeout` seconds (None: for ever, 0: not at all); None on time-out."""
        ...


class Thread(Protocol):
    """A thread that was started."""

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most `timeout` seconds; returns whether it has ended."""
        ...


class Threads(Protocol):
    """Starts threads and makes what they meet on."""

    def start(self, name: str, target: Callable[[], None]) -> Thread:
        """Run `target` on a new daemon thread; an exception that leaves it is logged and ends the process."""
        ...

    def signal(self) -> Signal:
        """A new flag, not raised."""
        ...

    def lock(self) -> Lock:
        """A new lock, free."""
        ...

    def queue(self) -> Queue[T]:
        """A new, empty queue."""
        ...


class Timers(Protocol):
    """Calls back on threads of its own; callbacks must only post to a queue."""

    def every(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call every `seconds`, the first time after `seconds`; a name used before is replaced."""
        ...

    def at(self, name: str, wall: int, call: Callable[[], None]) -> None:
        """Call once, as soon as the wall clock (µs) reaches `wall`; a name used before is replaced."""
        ...

    def cancel(self, name: str) -> None:
        """Forget the timer; unknown names are ignored."""
        ...

    def close(self) -> None:
        """Stop; callbacks under way may still end."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A program to run: no shell, an environment that is exactly what is given."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    stdin: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exit:
    """How a process ended: `code` is the exit status, or minus the number of the signal that ended it."""

    code: int
    stragglers: int = 0
    """Descendants that were still alive at its end and were killed."""


class Child(Protocol):
    """A process tree under a launcher; it is empty when `wait` returns."""

    @property
    def pid(self) -> int:
        """The launcher's process id."""
        ...

    def read(self, timeout: float | None = None) -> tuple[str, bytes] | None:
        """The next chunk of output as ('stdout' or 'stderr', bytes); ('', b'') at the end of all output; None on time-out."""
        ...

    def terminate(self) -> None:
        """SIGTERM to every process of the tree."""
        ...

    def kill(self) -> None:
        """SIGKILL to every process of the tree, descendants that left their group or session included."""
        ...

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Wait until every process of the tree is gone; None on time-out.

        Raises:
            WorkspaceError: the launcher itself was killed, so nobody can vouch that the tree is empty.
        """
        ...


class Processes(Protocol):
    """Starts process trees that end with us."""

    def launch(self, command: Command) -> Child:
        """Start `command` under a launcher (child subreaper) that ends every descendant when this process dies.

        Raises:
            OSError: the program cannot be started (not found, not executable), named in the error.
        """
        ...


class Files(Protocol):
    """Durable steps on files; each returns when it would survive a power cut."""

    def write(self, path: Path, data: bytes, *, mode: int = 0o640) -> None:
        """Put `data` at `path` whole or not at all: unique temporary name beside it, fsync, rename, fsync the folder."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Rename and fsync both folders; a source that is gone while the target is there counts as done."""
        ...

    def make_folder(self, path: Path, *, mode: int = 0o750) -> None:
        """Make `path` and its missing parents, durable; an existing folder is fine."""
        ...

    def sync(self, path: Path) -> None:
        """fsync a file or a folder."""
        ...

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and all below it without following links; missing is fine; read-only folders are opened up."""
        ...


class Bell(Protocol):
    """What one listener waits on; used by one thread."""

    def wait(self, timeout: float) -> bool:
        """Wait until it is rung, at most `timeout` seconds; returns whether it was.

        What was rung since it was hung counts, and several rings may be one. A ring may be lost: look now and then.
        """
        ...

    def close(self) -> None:
        """Take it down."""
        ...


class Bells(Protocol):
    """Wake-ups between the processes of one machine, over a folder that they share."""

    def hang(self, folder: Path) -> Bell:
        """A new bell in `folder`, which is made if it is missing; where none can be hung, one that never rings."""
        ...

    def ring(self, folder: Path) -> None:
        """Ring every bell that hangs in `folder`; never waits for anybody and never fails."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """Everything the machine gives, in one value."""

    clock: Clock
    ids: Ids
    threads: Threads
    files: Files
    processes: Processes
    bells: Bells
