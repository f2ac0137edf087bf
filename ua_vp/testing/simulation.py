"""A seeded, one-at-a-time world: same seed, same history.

Real threads pass one baton, so exactly one of them runs. Every call of a port is a switch point, where the seed decides
who runs next. Time is virtual: a few microseconds pass with each switch, and when all wait it jumps to the earliest
deadline. What the code under test does between two port calls (SQLite, files) is real.

Threads belong to a named process, see `World.process`; `World.kill` ends such a process as SIGKILL would: its threads
stop at the port call they are in and never run again. (What follows from a seed must not hang on the order of a set of
strings, on `id()` or on paths: Python and the machine change them from run to run.)
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from ua_vp import ports
from ua_vp.ports import Ports
from ua_vp.testing.simulated import (
    SimulatedClock,
    SimulatedFiles,
    SimulatedIds,
    SimulatedProcesses,
    SimulatedThreads,
    SimulatedTimers,
    Time,
    micros,
)

LONGEST_STEP = 50
"""The most that passes with a switch, µs."""
UNWIND_SECONDS = 10.0


class SimulationError(Exception):
    """A simulated thread failed (the cause is chained), or the world was misused; the text names the seed."""


class DeadlockError(SimulationError):
    """All threads wait, and no time-out will wake one."""


class _Unwound(BaseException):
    """Takes a thread down when the world ends."""


class World:
    """One repeatable history. `history` lists every switch as `µs process/thread: call`.

    `max_switches` bounds a run that never ends.
    """

    def __init__(self, seed: int, *, max_switches: int = 1_000_000) -> None:
        self.seed = seed
        self.history: list[str] = []
        self._random = random.Random(seed)  # noqa: S311
        self._max_switches = max_switches
        self._threads: list[_Thread] = []
        self._current: _Thread | None = None
        self._started = 0
        self._ending = False
        self._failure: SimulationError | None = None
        self.time = Time()
        self._ids = SimulatedIds(self, random.Random(seed + 1))  # noqa: S311
        self.ports = self.process("main")

    def process(self, name: str) -> Ports:
        """Ports whose threads belong to the process `name`."""
        return Ports(
            clock=SimulatedClock(self),
            ids=self._ids,
            threads=SimulatedThreads(self, name),
            files=SimulatedFiles(self, self._ids),
            processes=SimulatedProcesses(),
        )

    def timers(self, process: str = "main") -> ports.Timers:
        """Timers on virtual time; their thread belongs to `process`."""
        return SimulatedTimers(self, SimulatedThreads(self, process))

    def run(self, main: Callable[[Ports], None]) -> None:
        """Run `main` on the calling thread until it returns; whoever still runs then is ended.

        Raises:
            SimulationError: an exception left `main` or a thread (its cause); more than `max_switches` switches.
            DeadlockError: all wait for ever; lists who waits for what.
        """
        first = _Thread("main", "main")
        first.ident = threading.get_ident()
        self._threads.insert(0, first)
        self._current = first
        try:
            main(self.ports)
        except _Unwound:
            pass
        except BaseException as error:
            self._fail(first, error)
        finally:
            first.done = True
            self._unwind()
        if self._failure is not None:
            raise self._failure

    def kill(self, process: str) -> None:
        """End the process `process` as SIGKILL would; killing one's own never returns."""
        if self._threads and process == self._threads[0].process:
            raise SimulationError(f"seed {self.seed}: process {process!r} runs the world's main and cannot be killed")
        for thread in self._threads:
            thread.killed = thread.killed or thread.process == process
        self.pause(f"kill {process}")

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock, forward or back."""
        self.time.wall += micros(seconds)
        self.time.steps += 1
        self.pause("wall clock set")

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: wall and boot clock go on, the monotonic clock does not."""
        self.time.wall += micros(seconds)
        self.time.boot += micros(seconds)
        self.time.steps += 1
        self.pause("suspend")

    def start_thread(self, process: str, name: str, target: Callable[[], None]) -> Callable[[], bool]:
        """What `threads.start` of `process` calls; gives the question whether the thread has ended."""
        self._started += 1
        thread = _Thread(process, f"{name}#{self._started}")
        self._threads.append(thread)
        threading.Thread(target=self._begin, args=(thread, target), name=thread.name, daemon=True).start()
        return lambda: thread.done or thread.killed

    def pause(self, call: str, ready: Callable[[], bool] | None = None, timeout: float | None = None) -> bool:
        """A switch point: go on once `ready()` or after `timeout` seconds, when it is this thread's turn.

        Returns whether it is ready (no condition: always).
        """
        me = self._current
        if me is None or me.ident != threading.get_ident():
            return self._answer_outsider(call, ready, timeout)
        me.call, me.ready = call, ready
        me.deadline = None if timeout is None else self.time.monotonic + max(0, micros(timeout))
        if not self._ending:
            self._give_baton(me)
        if self._ending or me.killed:
            raise _Unwound
        return ready is None or ready()

    def _answer_outsider(self, call: str, ready: Callable[[], bool] | None, timeout: float | None) -> bool:
        """Before and after a run, calls that need not wait are fine: queues can be made, clocks read."""
        if self._current is not None:
            raise SimulationError(f"seed {self.seed}: {call} on a thread that the world did not start")
        if ready is None or ready():
            return True
        if timeout is None:
            raise SimulationError(f"seed {self.seed}: {call} would wait for ever outside run()")
        return False

    def _give_baton(self, me: _Thread) -> None:
        chosen = self._choose()
        if chosen is not me:
            self._current = chosen
            chosen.baton.release()
            me.baton.acquire()

    def _choose(self) -> _Thread:
        """Who runs next; a world that cannot go on goes back to the main thread, which ends it."""
        time = self.time
        time.monotonic += 1 + int(self._random.random() * LONGEST_STEP)
        while not self._ending:
            able = [thread for thread in self._threads if thread.can_run(time.monotonic)]
            if able:
                chosen = able[int(self._random.random() * len(able))]
                self.history.append(f"{time.monotonic} {chosen.name}: {chosen.call}")
                if len(self.history) <= self._max_switches:
                    return chosen
                self._end(SimulationError(f"seed {self.seed}: no end after {self._max_switches} switches"))
                break
            deadlines = [thread.deadline for thread in self._threads if thread.waits_for_time()]
            if not deadlines:
                self._end(self._deadlock())
                break
            time.monotonic = min(deadline for deadline in deadlines if deadline is not None)
        return self._threads[0]

    def _deadlock(self) -> DeadlockError:
        waiting = [f"{thread.name} waits in {thread.call}" for thread in self._threads if thread.lives()]
        return DeadlockError(f"seed {self.seed}: all wait for ever: {'; '.join(waiting)}")

    def _fail(self, thread: _Thread, error: BaseException) -> None:
        failure = SimulationError(f"seed {self.seed}: {thread.name} failed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        self._end(failure)

    def _end(self, failure: SimulationError) -> None:
        self._failure = self._failure or failure
        self._ending = True

    def _begin(self, thread: _Thread, target: Callable[[], None]) -> None:
        """On the new thread: wait for the baton, run, pass the baton on."""
        thread.baton.acquire()
        thread.ident = threading.get_ident()
        try:
            if not (self._ending or thread.killed):
                target()
        except _Unwound:
            pass
        except BaseException as error:
            if not thread.unwinding:
                self._fail(thread, error)
        thread.done = True
        if thread.unwinding:
            thread.unwound.release()
        else:
            self._threads.remove(thread)
            self._current = self._choose()
            self._current.baton.release()

    def _unwind(self) -> None:
        """Take down one thread after the other; each gets `_Unwound` from the port call it is in."""
        self._ending = True
        for thread in list(self._threads):
            if thread.done:
                continue
            thread.unwinding = True
            self._current = thread
            thread.baton.release()
            if not thread.unwound.acquire(timeout=UNWIND_SECONDS):
                self._end(SimulationError(f"seed {self.seed}: {thread.name} does not end"))
        self._current = None


class _Thread:
    """A thread of the world, also as its starter sees it."""

    def __init__(self, process: str, name: str) -> None:
        self.process, self.name = process, f"{process}/{name}"
        self.call = "start"
        self.ready: Callable[[], bool] | None = None
        self.deadline: int | None = None
        self.ident = 0
        self.done = self.killed = self.unwinding = False
        self.baton, self.unwound = threading.Lock(), threading.Lock()
        self.baton.acquire()
        self.unwound.acquire()

    def lives(self) -> bool:
        return not (self.done or self.killed)

    def waits_for_time(self) -> bool:
        return self.lives() and self.deadline is not None

    def can_run(self, now: int) -> bool:
        if self.done or self.killed:
            return False
        return self.ready is None or self.ready() or (self.deadline is not None and self.deadline <= now)
