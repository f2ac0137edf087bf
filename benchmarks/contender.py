"""What all contenders have in common: one order as JSON on the command line, one answer as JSON on standard output.

`python -m benchmarks.<contender> ORDER`. Needs the standard library alone: peers run in an environment of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SLOTS = 64
"""How many missions a worker may have in hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What one round is to do; `role` is `throughput` or `worker` (then: until killed, reporting each start)."""

    role: str
    folder: Path
    """Empty, and the contender's own."""
    missions: int = 0
    dispatchers: int = 1
    """How many hand over missions at once, each waiting until its last one is durable."""
    synchronous: str = "FULL"
    """SQLite's; PostgreSQL's contenders are always fully durable."""
    dsn: str = ""
    """The contender's own empty database, for psycopg."""
    server: int = 0
    """Process id of the database server, whose CPU time counts too."""
    tell: str = ""
    """Where a worker sends a datagram at its own start and at each mission's: `time.monotonic_ns()`."""

    @property
    def database(self) -> Path:
        """Where a contender on SQLite keeps its file."""
        return self.folder / "queue.db"

    def text(self) -> str:
        """For the command line."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__} | {"folder": str(self.folder)})


class Contender(Protocol):
    """A queue of missions with nothing to do."""

    def dispatch(self, order: Order) -> None:
        """Hand over `order.missions` by `order.dispatchers` at once, each durable before its next."""
        ...

    def prepare(self, order: Order) -> None:
        """Whatever a worker does before its first claim; not measured."""
        ...

    def work(self, order: Order) -> None:
        """Claim, end and settle all of them, SLOTS at a time."""
        ...

    def serve(self, started: Callable[[], None]) -> None:
        """Work until killed; call `started` once when ready and then at the start of each mission."""
        ...

    def hand_over(self) -> None:
        """One durable mission, waking the worker that idles in another process."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def main(open_contender: Callable[[Order], Contender]) -> None:
    """Do what the command line orders."""
    given = json.loads(sys.argv[1])
    order = Order(**given | {"folder": Path(given["folder"])})
    contender = open_contender(order)
    if order.role == "worker":
        contender.serve(teller(order.tell))
    elif order.role == "latency":
        sys.stdout.write(json.dumps(latencies(contender, order)) + "\n")
    else:
        sys.stdout.write(json.dumps(throughput(contender, order)) + "\n")
    sys.stdout.flush()
    contender.close()


def throughput(contender: Contender, order: Order) -> dict[str, float]:
    """Seconds of both halves, and CPU seconds of everybody concerned."""
    spent = {"cpu": 0.0}
    for half in ("dispatch", "prepare", "work"):
        cpu, start = cpu_seconds(order.server), time.perf_counter()
        getattr(contender, half)(order)
        spent[half] = time.perf_counter() - start
        if half != "prepare":
            spent["cpu"] += cpu_seconds(order.server) - cpu
    return spent


def latencies(contender: Contender, order: Order) -> list[float]:
    """Milliseconds from just before each hand-over to its start in the worker that `order.tell` hears of.

    Between two missions everybody idles for a while that is never the same, so that no poll keeps step with it.
    """
    found = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(order.tell)
        ear.settimeout(60)
        sys.stdout.write("listening\n")  # whoever measures starts the worker now
        sys.stdout.flush()
        ear.recv(32)  # the worker is ready
        for number in range(order.missions):
            time.sleep(0.11 + 0.0373 * (number % 7))  # idling is what is measured
            start = time.monotonic_ns()
            contender.hand_over()
            found.append((int(ear.recv(32)) - start) / 1e6)
    return found


def teller(address: str) -> Callable[[], None]:
    """Sends now to whoever measures."""
    mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def tell() -> None:
        mouth.sendto(str(time.monotonic_ns()).encode(), address)

    return tell


class Countdown:
    """Raises `over` at the last of so many calls of `count`, from any thread."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._gate = threading.Lock()
        self.over = threading.Event()

    def count(self) -> None:
        with self._gate:
            self._left -= 1
            if not self._left:
                self.over.set()


def by_threads(order: Order, hand_over: Callable[[], object]) -> None:
    """All missions of the order, by as many threads as it has dispatchers."""

    def some(count: int) -> None:
        for _ in range(count):
            hand_over()

    each = order.missions // order.dispatchers
    threads = [threading.Thread(target=some, args=(each,)) for _ in range(order.dispatchers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def by_tasks(order: Order, hand_over: Callable[[], Awaitable[object]]) -> None:
    """All missions of the order, by as many tasks as it has dispatchers."""

    async def some(count: int) -> None:
        for _ in range(count):
            await hand_over()

    await asyncio.gather(*(some(order.missions // order.dispatchers) for _ in range(order.dispatchers)))


def cpu_seconds(server: int = 0) -> float:
    """User and system time of this process, its ended children, and the processes of a database server."""
    spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return spent + sum(map(cpu_of, family(server) if server else ()))


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def cpu_of(pid: int) -> float:
    """User and system time of a process and of its children that have ended; 0 if it has ended itself."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
