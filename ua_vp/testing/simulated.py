"""The ports of a simulated world: each call is one switch point, then one step that nobody interrupts."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from ua_vp import ports
from ua_vp.ports import MICROS, Command
from ua_vp.runtime.clock import format_uuid7
from ua_vp.runtime.files import DurableFiles

T = TypeVar("T")

EPOCH = 1_767_225_600 * MICROS  # 2026-01-01T00:00:00Z
BOOTED = 1_000 * MICROS


class Time:
    """The clocks of a world, µs: `wall` and `boot` are offsets to `monotonic`; `steps` counts jumps of one of them."""

    def __init__(self) -> None:
        self.monotonic, self.boot, self.wall, self.steps = BOOTED, 0, EPOCH, 0


class Turns(Protocol):
    """What the ports need of their world."""

    time: Time

    def pause(self, call: str, ready: Callable[[], bool] | None = None, timeout: float | None = None) -> bool:
        """A switch point: go on once `ready()` or after `timeout`; returns whether it is ready."""
        ...

    def start_thread(self, process: str, name: str, target: Callable[[], None]) -> Callable[[], bool]:
        """Start a thread; gives the question whether it has ended."""
        ...


class SimulatedClock:
    """`ports.Clock` on virtual time."""

    boot_id = "simulated"

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def now(self) -> int:
        """Wall clock, µs."""
        self._turns.pause("clock.now")
        return self._turns.time.monotonic + self._turns.time.wall

    def boot(self) -> int:
        """Boot clock, µs."""
        self._turns.pause("clock.boot")
        return self._turns.time.monotonic + self._turns.time.boot

    def monotonic(self) -> int:
        """Monotonic clock, µs."""
        self._turns.pause("clock.monotonic")
        return self._turns.time.monotonic

    def sleep(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass."""
        self._turns.pause("clock.sleep", ready=_never, timeout=seconds)


class SimulatedIds:
    """`ports.Ids` from a seed."""

    def __init__(self, turns: Turns, source: random.Random) -> None:
        self._turns, self._random, self._last = turns, source, 0

    def uuid7(self) -> str:
        """A UUIDv7 of virtual time, greater than the one before."""
        self._turns.pause("ids.uuid7")
        wall = self._turns.time.monotonic + self._turns.time.wall
        self._last = max(wall * 4096 // 1000, self._last + 1)
        return format_uuid7(self._last, self._random.getrandbits(62))

    def token(self) -> str:
        """256 bits as 64 hex digits."""
        self._turns.pause("ids.token")
        return self.unique(256)

    def fraction(self) -> float:
        """Uniform in [0, 1)."""
        self._turns.pause("ids.fraction")
        return self._random.random()

    def unique(self, bits: int = 64) -> str:
        """Random hex digits, without a switch."""
        return f"{self._random.getrandbits(bits):0{bits // 4}x}"


class SimulatedThreads:
    """`ports.Threads` of one process of the world."""

    def __init__(self, turns: Turns, process: str) -> None:
        self._turns, self._process = turns, process

    def start(self, name: str, target: Callable[[], None]) -> ports.Thread:
        """Start a thread; an exception that leaves it ends the world."""
        self._turns.pause("threads.start")
        return SimulatedThread(self._turns, name, self._turns.start_thread(self._process, name, target))

    def signal(self) -> ports.Signal:
        """A new flag, not raised."""
        return SimulatedSignal(self._turns)

    def lock(self) -> ports.Lock:
        """A new lock, free; like the real one it waits for ever when its holder takes it again."""
        return SimulatedLock(self._turns)

    def queue(self) -> ports.Queue[T]:
        """A new, empty queue."""
        return SimulatedQueue(self._turns)


class SimulatedThread:
    """`ports.Thread`; a killed thread has ended."""

    def __init__(self, turns: Turns, name: str, ended: Callable[[], bool]) -> None:
        self._turns, self._call, self._ended = turns, f"join {name}", ended

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end, at most `timeout` seconds; returns whether it has ended."""
        return self._turns.pause(self._call, self._ended, timeout)


class SimulatedSignal:
    """`ports.Signal`."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self.raised = turns, False

    def set(self) -> None:
        """Raise the flag."""
        self._turns.pause("signal.set")
        self.raised = True

    def is_set(self) -> bool:
        """Whether the flag is raised."""
        self._turns.pause("signal.is_set")
        return self.raised

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until raised, at most `timeout` seconds; returns whether it is."""
        return self._turns.pause("signal.wait", lambda: self.raised, timeout)


class SimulatedLock:
    """`ports.Lock`."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._held = turns, False

    def __enter__(self) -> object:
        self._turns.pause("lock", lambda: not self._held)
        self._held = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._held = False
        self._turns.pause("unlock")


class SimulatedQueue(Generic[T]):
    """`ports.Queue`."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._items: deque[T] = deque()

    def put(self, item: T) -> None:
        """Append `item`."""
        self._turns.pause("queue.put")
        self._items.append(item)

    def get(self, timeout: float | None = None) -> T | None:
        """Take the oldest item, waiting at most `timeout` seconds; None on time-out."""
        return self._items.popleft() if self._turns.pause("queue.get", self._filled, timeout) else None

    def _filled(self) -> bool:
        return bool(self._items)


@dataclass(slots=True)
class _Job:
    call: Callable[[], None]
    due: int
    wall: bool
    """Whether `due` is on the wall clock; otherwise on the monotonic one."""
    period: int | None = None


class SimulatedTimers:
    """`ports.Timers` on virtual time; callbacks run on one thread, in the order in which they are due."""

    def __init__(self, turns: Turns, threads: ports.Threads) -> None:
        self._turns, self._threads = turns, threads
        self._jobs: dict[str, _Job] = {}
        self._started = self._changed = self._closed = False
        self._steps = 0

    def every(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call every `seconds`, the first time after `seconds`; a name used before is replaced."""
        self._turns.pause("timers.every")
        period = max(1, micros(seconds))
        self._put(name, _Job(call, self._turns.time.monotonic + period, wall=False, period=period))

    def at(self, name: str, wall: int, call: Callable[[], None]) -> None:
        """Call once, as soon as the wall clock (µs) reaches `wall`; a name used before is replaced."""
        self._turns.pause("timers.at")
        self._put(name, _Job(call, wall, wall=True))

    def cancel(self, name: str) -> None:
        """Forget the timer; unknown names are ignored."""
        self._turns.pause("timers.cancel")
        self._jobs.pop(name, None)

    def close(self) -> None:
        """Stop; a callback under way may still end."""
        self._turns.pause("timers.close")
        self._closed = True

    def _put(self, name: str, job: _Job) -> None:
        self._jobs[name] = job
        self._changed = True
        if not self._started:
            self._started = True
            self._threads.start("timers", self._run)

    def _run(self) -> None:
        while not self._closed:
            self._changed, self._steps = False, self._turns.time.steps
            earliest = min((self._left(job) for job in self._jobs.values()), default=None)
            timeout = None if earliest is None else earliest / MICROS
            if not self._turns.pause("timers", self._stirred, timeout):
                self._fire_next()

    def _stirred(self) -> bool:
        return self._closed or self._changed or self._steps != self._turns.time.steps

    def _left(self, job: _Job) -> int:
        time = self._turns.time
        return job.due - time.monotonic - (time.wall if job.wall else 0)

    def _fire_next(self) -> None:
        due = [(self._left(job), name) for name, job in self._jobs.items() if self._left(job) <= 0]
        if not due:
            return
        _, name = min(due)
        job = self._jobs[name]
        if job.period is None:
            del self._jobs[name]
        else:
            job.due = max(job.due, self._turns.time.monotonic - job.period + 1) + job.period
        job.call()


class SimulatedFiles(DurableFiles):
    """Real files; each call and each fsync is a switch point, and nothing is forced to the disk."""

    def __init__(self, turns: Turns, ids: SimulatedIds) -> None:
        super().__init__(unique=ids.unique)
        self._turns = turns

    def write(self, path: Path, data: bytes, *, mode: int = 0o640) -> None:
        """Put `data` at `path` whole or not at all."""
        self._turns.pause("files.write")
        super().write(path, data, mode=mode)

    def rename(self, source: Path, target: Path) -> None:
        """Rename; a source that is gone while the target is there counts as done."""
        self._turns.pause("files.rename")
        super().rename(source, target)

    def make_folder(self, path: Path, *, mode: int = 0o750) -> None:
        """Make `path` and its missing parents."""
        self._turns.pause("files.make_folder")
        super().make_folder(path, mode=mode)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and all below it."""
        self._turns.pause("files.remove_tree")
        super().remove_tree(path)

    def _fsync(self, descriptor: int) -> None:
        self._turns.pause("files.fsync")


class SimulatedProcesses:
    """There are none: a simulated world has fake lanes."""

    def launch(self, command: Command) -> ports.Child:
        """Raise: real processes do not follow from a seed.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{command.argv[0]}: a simulated world starts no processes; use a lane without them")


class SimulatedBell:
    """`ports.Bell`."""

    def __init__(self, turns: Turns, process: str, folder: Path, hung: list[SimulatedBell]) -> None:
        self._turns, self._hung, self._rung = turns, hung, False
        self.process, self.folder = process, folder
        hung.append(self)

    def ring(self) -> None:
        """What `SimulatedBells.ring` does to each, without a switch."""
        self._rung = True

    def wait(self, timeout: float) -> bool:
        """Wait until rung, at most `timeout` seconds; returns whether it was."""
        rung = self._turns.pause("bell.wait", lambda: self._rung, timeout)
        self._rung = False
        return rung

    def close(self) -> None:
        """Take it down."""
        self._turns.pause("bell.close")
        self._hung.remove(self)


class SimulatedBells:
    """`ports.Bells` of one process of the world; `hung` is what hangs in all of it."""

    def __init__(self, turns: Turns, process: str, hung: list[SimulatedBell]) -> None:
        self._turns, self._process, self._hung = turns, process, hung

    def hang(self, folder: Path) -> ports.Bell:
        """A new bell, which is gone when its process is killed."""
        self._turns.pause("bells.hang")
        return SimulatedBell(self._turns, self._process, folder, self._hung)

    def ring(self, folder: Path) -> None:
        """Ring every bell in `folder`."""
        self._turns.pause("bells.ring")
        for bell in self._hung:
            if bell.folder == folder:
                bell.ring()


def micros(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * MICROS)


def _never() -> bool:
    return False
