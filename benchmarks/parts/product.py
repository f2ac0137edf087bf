"""The product as it is run: API and worker as processes, missions of the echo lane with folders, receipts and markers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.arena import POSTGRESQL_PEERS, Arena, pss, say
from benchmarks.contender import cpu_of, family
from benchmarks.environment import PYTHON, ROOT, clean_environment
from benchmarks.figures import Figures
from benchmarks.parts.size import fill
from tests.product import ECHO, Process, Product
from tests.waiting import wait_until

CONFIG = '[worker]\n\n[lanes.echo]\nsandbox = "none"\n'
CALLERS = 8
PATIENCE = 600.0
"""Seconds that a thousand missions may take."""
FILLED = 100_000
BARE = "import cyclopts; app = cyclopts.App(name='bare', version='1'); app.default(lambda: None); app()"


def measure(arena: Arena, figures: Figures, *, quick: bool) -> None:
    """Throughput, memory and idle CPU of API and worker; start of the command line."""
    _command_line(figures, rounds=5 if quick else 15)
    with running(arena.folder / "product") as (product, api, worker):
        _memory(figures, "at_rest", api, worker)
        _idle(figures, api, worker, seconds=5.0 if quick else 60.0)
        _throughput(figures, product, worker, missions=100 if quick else 1000)
        if not quick:
            with closing(product.ledger()) as connection:
                fill(connection, FILLED)
            _throughput(figures, product, worker, missions=1000)
            _memory(figures, "after", api, worker)
    if not quick:
        _peer_memory(arena, figures)


@contextmanager
def running(folder: Path) -> Iterator[tuple[Product, Process, Process]]:
    """API and worker of the echo lane, which is put in as a third party's."""
    packages = folder / "packages"
    shutil.copytree(ROOT / "plugins/lanes/echo/ua_vp_echo", packages / "ua_vp_echo")
    info = packages / "ua_vp_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ua-vp-echo\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ua_vp]\necho = ua_vp_echo\n", encoding="utf-8")
    with Product(PYTHON.with_name("ua-vp"), folder / "run", CONFIG, python=sys.executable) as product:
        product.environ["PYTHONPATH"] = str(packages)
        api = product.serve()
        yield product, api, product.worker("echo")


def _throughput(figures: Figures, product: Product, worker: Process, *, missions: int) -> None:
    """From the first dispatch over HTTP to the last marker; CPU of the worker and its children alone."""
    before = _marked(product)
    cpu, start = _cpu(worker), time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        for _ in callers.map(lambda _: product.dispatch(ECHO), range(missions)):
            pass
    all_marked = before + missions
    wait_until(lambda: _marked(product) == all_marked, within=PATIENCE, why="every mission has its marker")
    rate = missions / (time.perf_counter() - start)
    figures.put("product/rate", max(rate, figures.get("product/rate") or 0.0))
    figures.put("product/worker_cpu", (_cpu(worker) - cpu) / missions * 1e6)


def _marked(product: Product) -> int:
    return int(product.rows("SELECT count(*) FROM vp_missions WHERE marked_at IS NOT NULL")[0][0])


def _idle(figures: Figures, api: Process, worker: Process, *, seconds: float) -> None:
    """Per cent of a core, of a process and its children, while nothing happens."""
    time.sleep(2)  # until the end of what came before has died away
    before = {"api": _cpu(api), "worker": _cpu(worker)}
    time.sleep(seconds)  # idling is what is measured
    for name, process in (("api", api), ("worker", worker)):
        figures.put(f"idle/{name}", (_cpu(process) - before[name]) / seconds * 100)


def _memory(figures: Figures, when: str, api: Process, worker: Process) -> None:
    for name, process in (("api", api), ("worker", worker)):
        figures.put(f"memory/{name}/{when}", pss(process.pid))
    figures.put("memory/worker", max(pss(worker.pid), figures.get("memory/worker") or 0.0))


def _peer_memory(arena: Arena, figures: Figures) -> None:
    """procrastinate's worker at rest."""
    peer = POSTGRESQL_PEERS[0]
    if arena.cluster is None or not arena.present(peer):
        figures.notes.append("memory of procrastinate's worker: no PostgreSQL, or no peers")
        return
    say("  memory of procrastinate's worker")
    figures.put("memory/procrastinate", arena.memory_of_worker(peer))


def _command_line(figures: Figures, *, rounds: int) -> None:
    """Best start in ms, of ours and of an application that does nothing."""
    program = str(PYTHON.with_name("ua-vp"))
    commands = {
        "help": [program, "--help"],
        "version": [program, "version"],
        "bare": [str(PYTHON), "-c", BARE, "--help"],
    }
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
            took = (time.perf_counter() - start) * 1e3
            figures.put(f"command/{name}", min(took, figures.get(f"command/{name}") or took))


def _cpu(process: Process) -> float:
    return sum(map(cpu_of, family(process.pid)))
