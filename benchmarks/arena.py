"""Where contenders meet: rounds in turn, so that whatever else the machine does hits all of them, and the best counts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.contender import Order
from benchmarks.environment import PEERS_PYTHON, PYTHON, RIVER, ROOT, clean_environment
from tests.postgres import Cluster

ROUND_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One of those who are measured; `pace` is how many missions it has time for where the product does 1."""

    name: str
    argv: tuple[str, ...]
    pace: float = 1.0
    synchronous: str = "FULL"
    """SQLite's; with NORMAL a power cut takes commits that were acknowledged."""


def _ours(name: str, module: str) -> Contender:
    return Contender(name=name, argv=(str(PYTHON), "-m", f"benchmarks.{module}"))


def lax(contender: Contender) -> Contender:
    """The same with NORMAL."""
    return replace(contender, name=f"{contender.name} (NORMAL)", synchronous="NORMAL")


def _peer(name: str, pace: float) -> Contender:
    return Contender(name=name, argv=(str(PEERS_PYTHON), "-m", f"benchmarks.peers.{name}"), pace=pace)


OURS = _ours("ua-vp", "ledger")
SQLITE_FLOOR = _ours("floor", "floors.sqlite")
POSTGRESQL_FLOOR = _ours("floor", "floors.postgresql")
RIVER_PEER = Contender(name="river", argv=(str(RIVER),), pace=0.4)
SQLITE_PEERS = (lax(_peer("honker", 1.0)), _peer("huey", 0.5), _peer("dbos", 0.1), RIVER_PEER)
POSTGRESQL_PEERS = (_peer("procrastinate", 0.2), _peer("pgqueuer", 0.4), _peer("dbos", 0.1), RIVER_PEER)


@dataclass
class Best:
    """The best rounds of one contender: missions a second, CPU seconds a mission."""

    rate: float = 0.0
    dispatch_rate: float = 0.0
    work_rate: float = 0.0
    cpu: float = float("inf")
    rounds: int = 0


@dataclass(kw_only=True)
class Arena:
    """A folder to work in, and a PostgreSQL if there is one."""

    folder: Path
    cluster: Cluster | None = None
    failed: list[str] = field(default_factory=list)
    """Contenders that could not take part, and why."""

    def present(self, contender: Contender) -> bool:
        """Whether its program is there."""
        return Path(contender.argv[0]).exists()

    def race(self, contenders: Sequence[Contender], *, rounds: int, missions: int, **order: Any) -> dict[str, Best]:
        """Throughput: each in turn, `rounds` times over."""
        best = {contender.name: Best() for contender in contenders if self.present(contender)}
        for _ in range(rounds):
            for contender in contenders:
                if contender.name in best:
                    count = max(1, round(missions * contender.pace / 64)) * 64
                    self._round(contender, best, missions=count, **order)
        return {name: it for name, it in best.items() if it.rounds}

    def _round(self, contender: Contender, best: dict[str, Best], **order: Any) -> None:
        with self.order(role="throughput", synchronous=contender.synchronous, **order) as asked:
            answer = self.ask(contender, asked)
        if answer is None:
            return
        mine = best[contender.name]
        mine.rate = max(mine.rate, asked.missions / (answer["dispatch"] + answer["work"]))
        mine.dispatch_rate = max(mine.dispatch_rate, asked.missions / answer["dispatch"])
        mine.work_rate = max(mine.work_rate, asked.missions / answer["work"])
        mine.cpu = min(mine.cpu, answer["cpu"] / asked.missions)
        mine.rounds += 1

    def latencies(self, contender: Contender, *, postgresql: bool, missions: int) -> list[float]:
        """Milliseconds from hand-over to start, with both processes at rest before each; empty if it failed."""
        with self.order(role="latency", postgresql=postgresql, missions=missions) as asked:
            worker = None
            measuring = self._start(contender, asked)
            try:
                assert measuring.stdout is not None
                if measuring.stdout.readline() == "listening\n":
                    worker = self._start(contender, replace(asked, role="worker"))
                answer = measuring.communicate(timeout=ROUND_SECONDS)[0]
                return list(json.loads(answer))
            except (subprocess.SubprocessError, ValueError):
                self.failed.append(f"{contender.name}: no start was seen")
                return []
            finally:
                for process in (worker, measuring):
                    if process is not None:
                        process.kill()
                        process.wait()

    def memory_of_worker(self, contender: Contender) -> float:
        """PSS in MiB of its worker at rest, on PostgreSQL."""
        with self.order(role="latency", postgresql=True, missions=1) as asked:
            self.ask(contender, replace(asked, role="throughput", missions=1))
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
                ear.bind(asked.tell)
                ear.settimeout(60)
                worker = self._start(contender, replace(asked, role="worker"))
                try:
                    ear.recv(32)
                    return pss(worker.pid)
                finally:
                    worker.kill()
                    worker.wait()

    def _start(self, contender: Contender, order: Order) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*contender.argv, order.text()],
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @contextmanager
    def order(self, *, postgresql: bool = False, **order: Any) -> Iterator[Order]:
        """An order with a folder or a database of its own."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            where: dict[str, Any] = {"folder": Path(folder), "tell": str(Path(folder, "tell"))}
            if postgresql:
                assert self.cluster is not None
                where |= {"dsn": self.cluster.dsn(self.cluster.create().rpartition("/")[2])}
                where |= {"server": self.cluster.pid}
            yield Order(**order, **where)

    def ask(self, contender: Contender, order: Order) -> Any:
        """Its answer; None, noted, if it failed."""
        command = [*contender.argv, order.text()]
        with tempfile.TemporaryFile("w+") as errors:
            try:
                done = subprocess.run(
                    command,
                    cwd=ROOT,
                    env=clean_environment(),
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    timeout=ROUND_SECONDS,
                    check=True,
                )
                return json.loads(done.stdout)
            except (subprocess.SubprocessError, ValueError) as error:
                errors.seek(0)
                said = errors.read().strip().splitlines()[-1:] or [str(error)]
                self.failed.append(f"{contender.name}: {said[0][:200]}")
                return None


def settle() -> None:
    """Let the disk come to rest between two parts."""
    os.sync()


def say(text: str) -> None:
    """Tell whoever waits."""
    with suppress(BrokenPipeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def pss(pid: int) -> float:
    """Memory of a process in MiB, what is shared counted by its share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"the kernel says nothing of the memory of {pid}")
