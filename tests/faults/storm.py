"""A storm: callers keep the product at work while its processes are killed at random, and are started again."""

from __future__ import annotations

import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import httpx2

from tests.faults.conftest import ROGUE
from tests.faults.kin import Kin, Relative
from tests.product import GENERAL, OPS, Process, Product
from tests.waiting import wait_until

CALLERS = 4
WORKERS = (GENERAL, GENERAL, ROGUE, ROGUE)
WEIGHTS = {"worker": 4, "child": 3, "launcher": 3, "api": 2}
REFUSED = 9
"""How a worker ends whose lane's probes were killed, twice."""
LONGEST_PAUSE = 1.2
"""Seconds between two kills, at most."""
LONGEST_SEARCH = 2.0
BRISK = 8.0
"""Seconds that it takes to start all on a machine with nothing else to do."""
PATIENCE = 600.0

QUICK = 'echo "# Done" > work_products/summary.md'
STUBBORN = """
    trap "" TERM INT HUP
    (setsid sh -c 'trap "" TERM HUP; sleep 1000 & sleep 1000' < /dev/null > /dev/null 2>&1 &)
    sh -c 'trap "" TERM; sleep 1000 & sleep 1000' &
    sleep "$1"
    echo "# Done" > work_products/summary.md
"""
"""A daemon in a session of its own, children and grandchildren that do not hear SIGTERM; all outlive their parent."""

Send = Callable[[httpx2.Client], httpx2.Response]


@dataclass(frozen=True, kw_only=True, slots=True)
class Blow:
    """One kill of the plan: after how many seconds, whom."""

    pause: float
    kind: str
    which: float
    """From 0 to 1, among those of its kind."""


def seed_of(variable: str, *, below: int = 1_000_000) -> int:
    """The seed that the variable holds, or a new one; printed, so that a failure says how to repeat its plan."""
    seed = int(os.environ.get(variable) or secrets.randbelow(below))
    print(f"{variable}={seed}")
    return seed


def plan(seed: int, kills: int) -> list[Blow]:
    """The same for the same seed."""
    dice = random.Random(seed)
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    return [
        Blow(pause=dice.uniform(0, LONGEST_PAUSE), kind=dice.choices(kinds, weights)[0], which=dice.random())
        for _ in range(kills)
    ]


@dataclass(kw_only=True)
class Callers:
    """Callers who dispatch, wait, cancel, and ask again with their key until they are answered."""

    product: Product
    seed: int
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Mission by key."""
    changed: list[str] = field(default_factory=list)
    """Keys that were answered with another mission the second time."""
    stop: threading.Event = field(default_factory=threading.Event)
    calls: list[Future[None]] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """They call while the block runs; each brings its last mission to its end, then leaves.

        Whoever may still be dead by then must be started again inside the block (`Storm.settle`): they wait for all.
        """
        with ThreadPoolExecutor(CALLERS) as pool:
            self.calls += [pool.submit(self._call, number) for number in range(CALLERS)]
            try:
                yield
            finally:
                self.stop.set()
        for call in self.calls:
            call.result()

    def are_gone(self) -> bool:
        """Whether each has left."""
        return all(call.done() for call in self.calls)

    def _call(self, number: int) -> None:
        dice = random.Random(f"{self.seed}-{number}")
        headers = {"Authorization": f"Bearer {self.product.token}"}
        with httpx2.Client(base_url=self.product.url, headers=headers, trust_env=False, timeout=20) as client:
            for turn in count():
                if self.stop.is_set():
                    return
                self._mission(client, dice, f"caller-{number}-{turn}")

    def _mission(self, client: httpx2.Client, dice: random.Random, key: str) -> None:
        body = {"objective": "Weather it", "idempotency_key": key, "priority": dice.randrange(200), **work(dice)}
        mission_id = self._dispatch(client, key, body)
        if dice.random() < 0.3 and self._dispatch(client, key, body) != mission_id:
            self.changed.append(key)
        if dice.random() < 0.2:
            self.stop.wait(dice.random())
            cancelled = insist(client, lambda client: client.post(f"{OPS}/missions/{mission_id}/cancel", json={}))
            assert cancelled.status_code in {202, 409}, cancelled.text
        if dice.random() < 0.7:  # else the next one comes beside it
            wait_until(lambda: ended(client, mission_id), within=PATIENCE, why=f"{mission_id} ends")

    def _dispatch(self, client: httpx2.Client, key: str, body: dict[str, object]) -> str:
        answer = insist(client, lambda client: client.post(f"{OPS}/missions/dispatch", json=body))
        assert answer.status_code in {200, 202}, answer.text
        mission_id: str = answer.json()["mission"]["mission_id"]
        self.acknowledged.setdefault(key, mission_id)
        return mission_id


def work(dice: random.Random) -> dict[str, object]:
    """What a mission is to do: something quick, or with a family that does not want to end."""
    lane, kind = dice.choice(((GENERAL, "command"), (ROGUE, "run")))
    script = dice.choice((QUICK, STUBBORN))
    argv = ["sh", "-euc", script, "sh", f"{dice.uniform(0.1, 1.5):.2f}"]
    return {"vp_id": lane, "mission_type": kind, "constraints": {"argv": argv}}


def insist(client: httpx2.Client, send: Send) -> httpx2.Response:
    """Ask until there is an answer that is one."""

    def answered() -> httpx2.Response | None:
        with suppress(httpx2.TransportError):
            answer = send(client)
            return None if answer.status_code == 503 else answer
        return None

    answer = wait_until(answered, within=PATIENCE, why="the API answers")
    assert answer is not None
    return answer


def ended(client: httpx2.Client, mission_id: str) -> bool:
    """Whether it is over, files and all."""
    answer = insist(client, lambda client: client.get(f"{OPS}/missions/{mission_id}/wait?timeout_seconds=1"))
    assert answer.status_code == 200, answer.text
    return not answer.json()["timed_out"]


class Storm:
    """The product with its workers, and whoever kills them; `rage` and `settle` are called from one thread."""

    def __init__(self, product: Product, kin: Kin) -> None:
        self._product, self._kin = product, kin
        self.killed: dict[str, int] = dict.fromkeys(WEIGHTS, 0)
        self._crew: dict[str, Process] = {}
        self._pace = 1.0

    @property
    def workers(self) -> list[Process]:
        """Those that were started last."""
        return [process for post, process in self._crew.items() if post != "serve"]

    def begin(self) -> None:
        """Start all, and wait until all are there; how long that takes here sets the pace of the storm."""
        begun = time.monotonic()
        self._crew["serve"] = self._product.serve()
        self.tend()
        wait_until(self._all_live, within=120, why="every worker is live")
        self._pace = max(1.0, (time.monotonic() - begun) / BRISK)

    def tend(self) -> None:
        """Start again whoever is dead."""
        posts = {"serve": ("serve",)} | {f"{lane} {n}": ("worker", lane) for n, lane in enumerate(WORKERS)}
        for post, arguments in posts.items():
            code = self._crew[post].code if post in self._crew else -signal.SIGKILL
            if code is not None:
                assert code in {-signal.SIGKILL, REFUSED}, f"{post} ended by itself: exit {code}"
                self._crew[post] = self._product.start(*arguments)

    def rage(self, blows: list[Blow]) -> None:
        """Carry out the plan."""
        calm = threading.Event()
        for blow in blows:
            calm.wait(blow.pause * self._pace)
            if blow.kind == "api":  # it must have answered since its last death, else nobody gets anywhere
                wait_until(self._answers, within=PATIENCE, why="the API is back")
            among = self._victims(blow.kind)
            victim = among[int(blow.which * len(among))]
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
            self.killed[victim.kind] += 1
            self.tend()

    def _victims(self, kind: str) -> list[Relative]:
        """Those of the kind once there is one; after a while, all there are."""
        soon = time.monotonic() + LONGEST_SEARCH
        living = self._kin.living
        return wait_until(lambda: living(kind if time.monotonic() < soon else None), within=60, why="somebody lives")

    def settle(self, callers: Callers) -> int:
        """Let the callers leave, and wait until nothing is under way any more; gives the last event's `seq`."""
        callers.stop.set()
        wait_until(lambda: self._answers() and callers.are_gone(), within=PATIENCE, why="each caller has its answers")
        wait_until(self._over, within=PATIENCE, why="every mission ends, and every worker is live")
        (newest,) = self._product.rows("SELECT max(seq) FROM vp_events")[0]
        return int(newest)

    def end(self) -> None:
        """End all in good order."""
        for process in self._crew.values():
            assert process.end() == 0

    def said(self, callers: Callers, readers: int) -> str:
        """What was done, for people."""
        victims = ", ".join(f"{kind} {number}" for kind, number in self.killed.items())
        return f"{victims}; {len(callers.acknowledged)} missions; a reader of events resumed {readers} times"

    def _over(self) -> bool:
        self.tend()
        (open_ones,) = self._product.rows("SELECT count(*) FROM vp_missions WHERE marked_at IS NULL")[0]
        return bool(open_ones == 0) and self._all_live()

    def _answers(self) -> bool:
        self.tend()
        return self._product.is_ready(self._crew["serve"])

    def _all_live(self) -> bool:
        sessions = self._product.answer("/sessions")["sessions"]
        live = {session["pid"] for session in sessions if session["effective_status"] == "live"}
        return {process.pid for process in self._crew.values()} - {self._crew["serve"].pid} <= live
