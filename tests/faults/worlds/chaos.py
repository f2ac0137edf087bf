"""What goes wrong in a world, and when: drawn from its seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ua_vp.ports import Ports

if TYPE_CHECKING:
    from tests.faults.worlds.play import Play

CALLS = ("", "", "files.", "files.rename", "queue.put", "signal.set", "queue.get", "clock.")
"""Where a process is waited for: anywhere, or at a kind of step that is rarer than the looks at clocks."""
HOUR = 3600.0


class Chaos:
    """A thread of the world's main process; `rage` returns when the last fault was begun."""

    def __init__(self, play: Play, ports: Ports, chance: random.Random) -> None:
        self._play = play
        self._ports = ports
        self._chance = chance
        self.calm = False

    def rage(self) -> None:
        every = [
            self._kill_worker, self._kill_worker, self._stop_worker, self._stop_workers, self._kill_api, self._set_clock,
            self._sleep_machine, self._lock_ledger, self._fail_commit, self._fail_files, self._drain,
        ]  # fmt: skip
        acts = self._chance.sample(every, self._chance.randint(1, 5))  # few kinds in a world, so that each has its day
        if self._play.weather is not None:
            acts = [getattr(self, f"_{self._play.weather}")]
        for _ in range(self._chance.randint(4, 12)):
            self._ports.clock.sleep(self._chance.uniform(0, 1.8))
            self._chance.choice(acts)()
        self._ports.clock.sleep(self._chance.uniform(0, 2.0))
        self.calm = True

    def _worker(self) -> str:
        return self._chance.choice(self._play.seats).process

    def _ambush(self, process: str, act: str) -> None:
        call = self._chance.choice(CALLS)
        count = int(2 ** self._chance.uniform(0, 6 if call else 8))
        self._play.world.tell(f"chaos: {act} {process} at its {count}th {call or 'step'}")
        self._play.world.ambush(process, "kill" if act == "kill" else "stop", call=call, count=count)

    def _kill_worker(self) -> None:
        self._ambush(self._worker(), "kill")

    def _kill_api(self) -> None:
        self._ambush(self._play.api_process, "kill")

    def _stop_worker(self) -> None:
        """Until some time after its lease, or before."""
        self._stop(self._worker(), self._chance.uniform(0.3, 2.5) * self._play.lease)

    def _stop_workers(self) -> None:
        """All of them at once, past their leases: nobody is there to take over, and each finds its own claims expired."""
        seconds = self._chance.uniform(1.1, 2.5) * self._play.lease
        for seat in self._play.seats:
            self._stop(seat.process, seconds)

    def _stop(self, process: str, seconds: float) -> None:
        play = self._play
        self._ambush(process, "stop")

        def later() -> None:
            while not (self.calm or play.world.is_stopped(process)):
                self._ports.clock.sleep(0.2)
            self._ports.clock.sleep(seconds)
            play.resume(process)

        self._ports.threads.start("waker", later)

    def _set_clock(self) -> None:
        seconds = self._chance.choice((-HOUR, HOUR, self._chance.uniform(-10, 10)))
        self._play.set_clock(seconds)

    def _sleep_machine(self) -> None:
        seconds = self._chance.uniform(0.2, 3) * self._play.lease
        self._play.world.tell(f"chaos: the machine sleeps for {seconds:.1f} s")
        self._play.world.suspend(seconds)

    def _lock_ledger(self) -> None:
        seconds = self._chance.uniform(0.2, 4) * self._play.lease
        processes = [self._worker()] if self._chance.random() < 0.6 else self._play.processes
        self._play.world.tell(f"chaos: the ledger is locked for {seconds:.1f} s to {', '.join(processes)}")
        cut = self._chance.random() < 0.4
        for process in processes:
            if cut:
                self._play.troubles.cut.add(process)
            self._play.troubles.away[process] = self._play.world.time.monotonic + int(seconds * 1e6)

    def _fail_commit(self) -> None:
        process, kind = self._chance.choice(self._play.processes), self._chance.choice(("done", "undone", "full"))
        self._play.troubles.commits[process] = kind

    def _fail_files(self) -> None:
        self._play.troubles.files[self._worker()] = self._chance.choice((0.05, 0.3, 1.0))

    def _drain(self) -> None:
        seat = self._chance.choice(self._play.seats)
        if seat.worker is not None:
            hurry = self._chance.random() < 0.6
            self._play.world.tell(f"chaos: {'hurry' if hurry else 'drain'} {seat.process}")
            seat.worker.hurry() if hurry else seat.worker.drain()
