"""The world of one seed: workers, the API, people and chaos, then calm, then a look at what is left."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import structlog
from sqlalchemy.dialects import sqlite

from tests.faults.worlds.aftermath import left_behind
from tests.faults.worlds.chaos import Chaos
from tests.faults.worlds.ground import (
    LANES,
    LEDGER,
    TroubledFiles,
    TroubledStore,
    Troubles,
    close_all_below,
    info_of,
    new_ground,
)
from tests.faults.worlds.lane import ENDLESS, Lane
from tests.faults.worlds.people import Api, Person, Request, requests_of
from tests.faults.worlds.promises import BrokenError, Promise
from tests.faults.worlds.witness import Witness
from ua_vp import Availability
from ua_vp.errors import VpError
from ua_vp.ledger import ledger as ledger_module
from ua_vp.ledger import open_ledger, wake
from ua_vp.ledger.sqlite import open_file
from ua_vp.ledger.transaction import Statements
from ua_vp.ports import MICROS, Ports
from ua_vp.testing import SimulationError, World
from ua_vp.testing.simulated import SimulatedIds
from ua_vp.worker import Assignment, Worker, WorkerExit

STATEMENTS = Statements(sqlite.dialect(paramstyle="named"))
"""Compiled once for all worlds, which takes a fifth off each."""
STEPS = 150_000
"""Switches after which a world is cut."""
WITHIN = 120 * MICROS
"""Virtual time after the last fault until all must have ended."""
HEARD_WITHIN = 0.3
"""Seconds until an idle worker has begun a mission: the net under a lost wake-up is a look each 0.25 s."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of a world in which every promise was kept."""

    sha256: str
    """Of its whole history."""
    switches: int
    seconds: float
    """Virtual time."""
    counts: Counter[str]


class WorldError(AssertionError):
    """A promise was broken; the text has the seed, the promise, and the end of the story."""

    def __init__(self, seed: int, broken: BrokenError, history: list[str]) -> None:
        story = [line for line in history if " | " in line][-40:]
        last = [line for line in history if " | " not in line][-10:]
        super().__init__(
            f"seed {seed}: {broken}\n"
            f"again: ./dev run python -m tests.faults.worlds {seed}\n"
            "the end of its story (µs, process | what):\n  " + "\n  ".join(story)
            + "\nits last steps:\n  " + "\n  ".join(last)
        )  # fmt: skip
        self.seed, self.promise = seed, broken.promise


@dataclass
class Seat:
    """A place for a worker: whoever sits in it is followed by the next."""

    name: str
    vp_id: str
    life: int = 0
    worker: Worker | None = None
    closed: bool = False

    @property
    def process(self) -> str:
        """The process that sits there now."""
        return f"{self.name}{self.life}"

    @property
    def is_free(self) -> bool:
        """Whether its worker can reach the ledger, is at work, and has nothing to do."""
        worker = self.worker
        if worker is None or worker._retry_at is not None or worker._ledger._writer._broken is not None:
            return False
        return worker._claiming and worker._has_ticked and worker._hands.busy == 0


def play(seed: int, weather: str | None = None) -> Played:
    """Run the world of `seed`; with `weather` all that goes wrong in it is of that one kind (see `Chaos`).

    Raises:
        WorldError: a promise was broken.
    """
    ground = new_ground()
    run = Play(seed, ground, weather)
    try:
        with run.in_place():
            run.world.run(run.main)
    except SimulationError as error:
        cause = error.__cause__
        broken = cause if isinstance(cause, BrokenError) else BrokenError(Promise.RUNS, str(error))
        raise WorldError(seed, broken, run.world.history) from error
    finally:
        run.witness.close()
        close_all_below(ground)
        shutil.rmtree(ground, ignore_errors=True)
    history = run.world.history
    return Played(
        sha256=hashlib.sha256("\n".join(history).encode()).hexdigest(),
        switches=len(history),
        seconds=run.world.time.monotonic / MICROS - 1_000,
        counts=run.counts(),
    )


class Play:
    """Everything in one world."""

    def __init__(self, seed: int, ground: Path, weather: str | None = None) -> None:
        chance = random.Random(seed)
        self.chance = chance
        self.lease = chance.choice((1.5, 3.0, 4.5))
        self.capacity = chance.choice((1, 1, 2))
        self.world = World(seed, max_switches=STEPS, stay=chance.choice((0.0, 0.5, 0.8, 0.95)))
        self.ground = ground
        self.weather = weather
        self.troubles = Troubles(self.world, random.Random(seed + 1), bells=chance.choice((0.0, 0.3)))
        self.witness = Witness(self.world, ground / LEDGER, ground / "workspaces", lease=self.lease)
        self.lanes = LANES[: chance.choice((1, 1, 1, 2))]
        names = ("a", "b", "c")[: max(chance.choice((2, 2, 3)), len(self.lanes) + 1)]
        self.seats = [Seat(name, self.lanes[number % len(self.lanes)]) for number, name in enumerate(names)]
        self.api = Api(self.world, self.witness)
        self.api_life = 0
        self.api_closed = False
        self.known: dict[tuple[str, str], str] = {}
        self.acknowledged: dict[str, Request] = {}
        self.cancelled: set[str] = set()
        self.acts: Counter[str] = Counter()
        self._behind = 0.0

    @property
    def api_process(self) -> str:
        return f"api{self.api_life}"

    @property
    def processes(self) -> list[str]:
        """Those that run now."""
        return [self.api_process, *(seat.process for seat in self.seats)]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the troubled store under every ledger; nothing of the log reaches the terminal."""

        def troubled(*args: Any, **kwargs: Any) -> TroubledStore:
            store = open_file(*args, **kwargs)
            stores.append(TroubledStore(store, self.world.running, self.troubles, self.witness.committed))
            return stores[-1]

        def tell(_: object, level: str, event: Any) -> str:
            self.world.tell(f"log: {event['event']} {event.get('attempt', '')} {event.get('code', '')}".rstrip())
            raise structlog.DropEvent

        before, stores = structlog.get_config(), list[TroubledStore]()
        structlog.configure(processors=[tell])
        try:
            with (
                mock.patch.object(ledger_module, "open_file", troubled),
                mock.patch.object(ledger_module, "Statements", return_value=STATEMENTS),
                mock.patch.object(wake, "INTERVAL", 0.25),
            ):
                yield
        finally:
            structlog.configure(**before)
            for store in stores:
                store.end()

    def main(self, ports: Ports) -> None:
        """The world's main thread."""
        for seat in self.seats:
            ports.threads.start(f"keeper {seat.name}", partial(self._keep_worker, seat, ports))
        ports.threads.start("keeper api", lambda: self._keep_api(ports))
        people = self._people(ports)
        for person in people:
            ports.threads.start(person.name, person.live)
        chaos = Chaos(self, ports, random.Random(self.world.seed + 2))
        ports.threads.start("chaos", chaos.rage)
        while not chaos.calm:
            ports.clock.sleep(0.5)
        self._calm()
        self._wait(ports, lambda: all(person.done for person in people), "people are not answered")
        self._end_the_endless(people[0])
        self._wait(ports, self._settled, "missions are not at their marker")
        self._wait(ports, self._at_rest, "workers are not at rest, or lost sessions not reported")
        self._listen(ports, people[0])
        self._close(ports)
        for promise, detail in left_behind(self):
            self.witness.blame(promise, detail)

    def ports_of(self, process: str) -> Ports:
        """The ports of a process, its files troubled."""
        ports = self.world.process(process)
        assert isinstance(ports.ids, SimulatedIds)
        return replace(ports, files=TroubledFiles(self.world, process, self.troubles, self.witness.moved, ports.ids))

    def resume(self, process: str) -> None:
        """Let a stopped process go on."""
        self.witness.awake_since[process] = self.world.time.monotonic
        self.world.resume(process)

    def set_clock(self, seconds: float) -> None:
        """Step the wall clock."""
        self._behind = max(0.0, self._behind - seconds)
        self.world.tell(f"the wall clock goes {seconds:+.1f} s")
        self.world.step_wall(seconds)

    def counts(self) -> Counter[str]:
        """What the world was through."""
        return Counter(
            missions=len(self.witness.lives),
            commits=self.witness.commits,
            takeovers=self.witness.takeovers,
            markers=self.witness.published,
            lives=sum(seat.life for seat in self.seats) + self.api_life,
        )

    def _people(self, ports: Ports) -> list[Person]:
        requests = requests_of(self.chance, self.lanes, self.chance.randint(3, 7))
        return [
            Person(
                name,
                self.api,
                ports,
                random.Random(f"{self.world.seed} {name}"),
                requests[number::2],
                self.known,
                self.acknowledged,
                self.cancelled,
            )
            for number, name in enumerate(("ann", "bob"))
        ]

    def _keep_worker(self, seat: Seat, ports: Ports) -> None:
        """Start a worker, wait for its end, start the next: what `up` and systemd do."""
        while not seat.closed:
            seat.life += 1
            process = seat.process
            self.ports_of(process).threads.start("loop", lambda: self._work(seat)).join()
            seat.worker = None
            self._bury(process)
            ports.clock.sleep(0.3)

    def _work(self, seat: Seat) -> None:
        ports = self.ports_of(seat.process)
        lane = Lane(info_of(seat.vp_id, self.capacity), self.world, ports, self.witness, self.lease)
        site = Assignment(
            lane=lane, info=lane.info, availability=Availability, workspaces=self.ground / "workspaces" / seat.vp_id,
            host=seat.process, pid=1, build="world", executor="ua-vp-world", executor_version="1",
            lease=self.lease, grace=0.3, drain=1.5,
        )  # fmt: skip
        try:
            ledger = open_ledger(self.ground / LEDGER, ports=ports, create=False)
            seat.worker = Worker(site, ledger, ports, self.world.timers(seat.process))
            ended = seat.worker.run()
            self.world.tell(f"{seat.process} ends: {ended.name}")
            if ended is WorkerExit.DRAINED:
                ledger.close()
        except VpError as error:
            self.world.tell(f"{seat.process} ends: {error.code}")

    def _keep_api(self, ports: Ports) -> None:
        while not self.api_closed:
            self.api_life += 1
            self.ports_of(self.api_process).threads.start("serve", self._serve).join()
            self.api.ports = self.api.ledger = None
            self._bury(self.api_process)
            ports.clock.sleep(0.3)

    def _serve(self) -> None:
        """Until the ledger is gone: then `up` starts the next."""
        ports = self.ports_of(self.api_process)
        try:
            ledger = open_ledger(self.ground / LEDGER, ports=ports, create=False)
            self.api.ports, self.api.ledger, self.api.gone = ports, ledger, False
            while not (self.api_closed or self.api.gone):
                ports.clock.sleep(0.5)
            ledger.close()
        except VpError as error:
            self.world.tell(f"{self.api_process} ends: {error.code}")

    def _bury(self, process: str) -> None:
        """Whatever threads it has left end with it."""
        self.witness.gone(process)
        self.world.kill(process)

    def _calm(self) -> None:
        """All faults are over: clocks are right, nobody is stopped, disks work."""
        self.world.tell("calm")
        self.troubles.clear()
        self.world.disarm()
        for process in self.processes:
            self.resume(process)
        self.set_clock(self._behind)

    def _wait(self, ports: Ports, done: Any, otherwise: str) -> None:
        give_up = ports.clock.monotonic() + WITHIN
        while not done():
            if ports.clock.monotonic() > give_up:
                open_ends = [life.name for life in self.witness.lives.values() if not life.ready]
                self.witness.blame(Promise.LIVE, f"{otherwise} {WITHIN // MICROS} s after the last fault: {open_ends}")
            ports.clock.sleep(0.25)

    def _settled(self) -> bool:
        return all(life.ready for life in self.witness.lives.values())

    def _at_rest(self) -> bool:
        """Whether every seat has a worker that is free, and theirs are all sessions that count as open."""
        open_sessions = self.witness.rows("vp_sessions WHERE closed_at IS NULL AND lost_at IS NULL")
        with_session = sorted(row["host"] for row in open_sessions)
        return with_session == sorted(seat.process for seat in self.seats) and all(seat.is_free for seat in self.seats)

    def _end_the_endless(self, person: Person) -> None:
        for mission_id, request in list(self.acknowledged.items()):
            if request.objective.split()[0] in ENDLESS:
                person.cancel(mission_id)
        for mission_id, life in list(self.witness.lives.items()):
            if mission_id not in self.acknowledged and life.name.split()[0] in ENDLESS:
                self.acknowledged[mission_id] = Request(key=None, vp_id="", objective=life.name)
                person.cancel(mission_id)

    def _listen(self, ports: Ports, person: Person) -> None:
        """With idle workers a mission begins at once, and not only at the next tick."""
        for number in range(3):
            name = f"quick heard-{number}"
            person.ask(Request(key=name, vp_id=self.lanes[0], objective=name))
            asked = ports.clock.monotonic()
            ports.clock.sleep(HEARD_WITHIN)
            life = next(life for life in self.witness.lives.values() if life.name == name)
            if life.status == "queued":
                late = (ports.clock.monotonic() - asked) / MICROS
                self.witness.blame(Promise.HEARD, f"not begun {late:.2f} s after its dispatch")
            self._wait(ports, self._settled, "the last mission is not at its marker")

    def _close(self, ports: Ports) -> None:
        for seat in self.seats:
            seat.closed = True
            if seat.worker is not None:
                seat.worker.drain()
        self.api_closed = True
        self._wait(ports, lambda: not any(seat.worker for seat in self.seats), "workers do not drain")
        self._wait(ports, lambda: self.api.ledger is None, "the API does not end")
