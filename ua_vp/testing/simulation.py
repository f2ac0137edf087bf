"""A seeded, one-at-a-time world: same seed, same history.

Real threads pass one baton, so exactly one of them runs. Every call of a port is a switch point, where the seed decides
who runs next. Time is virtual: a few microseconds pass with each switch, and when all wait it jumps to the earliest
deadline. What the code under test does between two port calls (SQLite, files) is real.

Threads belong to a named process, see `World.process`; `World.kill` ends such a process as SIGKILL would: its threads
stop at the port call they are in and never run again. `World.stop` and `World.resume` are SIGSTOP and SIGCONT, and
`World.ambush` kills or stops a process in the midst of its work. (What follows from a seed must not hang on the order of a set of
strings, on `id()` or on paths: Python and the machine change them from run to run.)
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ua_vp import ports
from ua_vp.ports import Ports
from ua_vp.testing.simulated import (
    SimulatedBell,
    SimulatedBells,
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
NEVER = 2**63
"""An instant that does not come, µs."""


class SimulationError(Exception):
    """A simulated thread failed (the cause is chained), or the world was misused; the text names the seed."""


class DeadlockError(SimulationError):
    """All threads wait, and no time-out will wake one."""


class _Unwound(BaseException):
    """Takes a thread down when the world ends."""


class World:
    """One repeatable history. `history` lists every switch as `µs process/thread: call`, and what was told.

    `max_switches` bounds a run that never ends. `stay` is the chance that a thread which can go on does, without a
    look at the others: near 1 a world is faster, and each process gets further before another has its turn.
    """

    def __init__(self, seed: int, *, max_switches: int = 1_000_000, stay: float = 0.0) -> None:
        self.seed = seed
        self.history: list[str] = []
        self._random = random.Random(seed)  # noqa: S311
        self._max_switches = max_switches
        self._stay = stay
        self._switches = 0
        self._threads: list[_Thread] = []
        self._killed: list[_Thread] = []
        self._dead: set[str] = set()
        self._ambushes: list[_Ambush] = []
        self._current: _Thread | None = None
        self._started = 0
        self._ending = False
        self._failure: SimulationError | None = None
        self.time = Time()
        self._ids = SimulatedIds(self, random.Random(seed + 1))  # noqa: S311
        self._hung: list[SimulatedBell] = []
        self.ports = self.process("main")

    def process(self, name: str) -> Ports:
        """Ports whose threads belong to the process `name`."""
        return Ports(
            clock=SimulatedClock(self),
            ids=self._ids,
            threads=SimulatedThreads(self, name),
            files=SimulatedFiles(self, self._ids),
            processes=SimulatedProcesses(),
            bells=SimulatedBells(self, name, self._hung),
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

    @property
    def running(self) -> str:
        """The process whose thread runs now; `main` outside a run."""
        return self._current.process if self._current else "main"

    def tell(self, text: str) -> None:
        """Add a line to the history, without a switch."""
        if not self._ending:
            self.history.append(f"{self.time.monotonic} {self.running} | {text}")

    def fail(self, error: Exception) -> None:
        """End the world as failed with the cause `error`: no thread gets past the port call that it makes next."""
        failure = SimulationError(f"seed {self.seed}: {error}")
        failure.__cause__ = error
        self._end(failure)

    def kill(self, process: str) -> None:
        """End the process `process` as SIGKILL would; killing one's own never returns. Its name is not used again."""
        self._take_down(process)
        self.pause(f"kill {process}")

    def stop(self, process: str) -> None:
        """Hold the threads of `process` where they are, as SIGSTOP would; time goes on without them."""
        self._hold(process, stopped=True)
        self.pause(f"stop {process}")

    def resume(self, process: str) -> None:
        """Let a stopped process go on, as SIGCONT would; one that runs, or was killed, is left alone."""
        self._hold(process, stopped=False)
        self.pause(f"resume {process}")

    def is_stopped(self, process: str) -> bool:
        """Whether `process` is stopped now."""
        return any(thread.stopped for thread in self._threads if thread.process == process)

    def ambush(self, process: str, act: Literal["kill", "stop"], *, call: str = "", count: int = 1) -> None:
        """Kill or stop `process` in the midst of its work: just before its `count`-th step whose call begins so."""
        self._ambushes.append(_Ambush(process, act, call, count))

    def disarm(self) -> None:
        """Call every ambush off."""
        self._ambushes.clear()

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
        """What `threads.start` of `process` calls; gives the question whether the thread has ended.

        A process that was killed meanwhile starts none.
        """
        if process in self._dead:
            return lambda: True
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
        me.deadline = NEVER if timeout is None else self.time.monotonic + max(0, micros(timeout))
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
        chosen = self._choose(me)
        if chosen is not me:
            self._current = chosen
            chosen.baton.release()
            me.baton.acquire()

    def _choose(self, me: _Thread) -> _Thread:
        """Who runs next; a world that cannot go on goes back to the main thread, which ends it."""
        time = self.time
        time.monotonic += 1 + int(self._random.random() * LONGEST_STEP)
        while not self._ending:
            chosen = self._draw(me)
            if chosen is None:
                self._pass_time()
            elif not (self._ambushes and self._falls(chosen)):
                self.history.append(f"{time.monotonic} {chosen.name}: {chosen.call}")
                self._switches += 1
                if self._switches <= self._max_switches:
                    return chosen
                self._end(SimulationError(f"seed {self.seed}: no end after {self._max_switches} switches"))
        return self._threads[0]

    def _draw(self, me: _Thread) -> _Thread | None:
        """One of those that can go on; None if all wait."""
        now = self.time.monotonic
        if self._stay and self._random.random() < self._stay and me.can_run(now):
            return me
        able = [thread for thread in self._threads if thread.can_run(now)]
        return able[int(self._random.random() * len(able))] if able else None

    def _pass_time(self) -> None:
        """Go to the earliest deadline; without one, this is the end."""
        earliest = min((thread.deadline for thread in self._threads if not thread.stopped), default=NEVER)
        if earliest < NEVER:
            self.time.monotonic = earliest
        else:
            self._end(self._deadlock())

    def _falls(self, chosen: _Thread) -> bool:
        """Whether the step that `chosen` was to take is one that somebody waited for."""
        for ambush in tuple(self._ambushes):
            if ambush.is_due(chosen):
                self._ambushes.remove(ambush)
                self.tell(f"{ambush.act} {chosen.name} before {chosen.call}")
                if ambush.act == "kill":
                    self._take_down(ambush.process)
                else:
                    self._hold(ambush.process, stopped=True)
        return chosen.killed or chosen.stopped

    def _take_down(self, process: str) -> None:
        if self._threads and process == self._threads[0].process:
            raise SimulationError(f"seed {self.seed}: process {process!r} runs the world's main and cannot be killed")
        self._dead.add(process)
        for thread in self._threads:
            thread.killed = thread.process == process
        self._killed += [thread for thread in self._threads if thread.killed]
        self._threads = [thread for thread in self._threads if not thread.killed]
        self._hung[:] = [bell for bell in self._hung if bell.process != process]

    def _hold(self, process: str, *, stopped: bool) -> None:
        for thread in self._threads:
            if thread.process == process:
                thread.stopped = stopped

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
            if not thread.killed:  # it may have killed its own process as the world ended
                self._threads.remove(thread)
            self._current = self._choose(thread)
            self._current.baton.release()

    def _unwind(self) -> None:
        """Take down one thread after the other; each gets `_Unwound` from the port call it is in."""
        self._ending = True
        for thread in [*self._threads, *self._killed]:
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
        self.deadline = NEVER
        self.ident = 0
        self.done = self.killed = self.stopped = self.unwinding = False
        self.baton, self.unwound = threading.Lock(), threading.Lock()
        self.baton.acquire()
        self.unwound.acquire()

    def lives(self) -> bool:
        return not (self.done or self.killed)

    def can_run(self, now: int) -> bool:
        if self.done or self.stopped or self.killed:
            return False
        return self.ready is None or self.deadline <= now or self.ready()


@dataclass(slots=True)
class _Ambush:
    """Who waits for a step of a process."""

    process: str
    act: Literal["kill", "stop"]
    call: str
    left: int

    def is_due(self, chosen: _Thread) -> bool:
        """Whether `chosen` is to take that step now."""
        if chosen.process == self.process and chosen.call.startswith(self.call):
            self.left -= 1
        return self.left == 0
