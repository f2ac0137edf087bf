"""Processes that write to one ledger and empty its log; some of them are killed in the middle of that."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from time import perf_counter

from tests.integration.ledger.places import dispatched
from ua_vp.errors import LedgerBusyError
from ua_vp.ledger import Transaction, missions, open_ledger
from ua_vp.ledger.checkpoint import Checkpointer
from ua_vp.ledger.sqlite import SqliteStore
from ua_vp.runtime import real_ports

LOG_BYTES = 256 * 1024
"""So short a log that a checkpoint is due every few commits."""
KILLED = -signal.SIGALRM
"""Exit code of a process that was ended in a checkpoint; nothing handles the signal, so it is as sudden as SIGKILL."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])

Fault = Callable[[Checkpointer], None]
"""Breaks a checkpointer on purpose, to see whether the harness finds it."""


class Tally(ctypes.Structure):
    """What a process has done; it outlives the process, which alone counts."""

    _fields_ = (("acknowledged", ctypes.c_int64), ("checkpoints", ctypes.c_int64), ("refused", ctypes.c_int64))
    acknowledged: int
    checkpoints: int
    refused: int


class Member:
    """One writing process, seen from the test. With a `seed` it is killed at some moment in one of its checkpoints."""

    def __init__(self, path: Path, *, seed: int | None = None, fault: Fault | None = None) -> None:
        self.tally: Tally = CONTEXT.RawValue(Tally)
        self._stop = CONTEXT.Event()
        arguments = (path, self.tally, self._stop, seed, fault)
        self._process = CONTEXT.Process(target=_write, args=arguments, daemon=True)
        self._process.start()

    def end(self, within: float = 30.0) -> int | None:
        """Let it finish what it does; gives its exit code."""
        self._stop.set()
        return self.died(within)

    def died(self, within: float = 30.0) -> int | None:
        """Wait for its end; gives its exit code, None if it still runs."""
        self._process.join(within)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


class CountedCheckpointer(Checkpointer):
    """Counts, and ends its process somewhere in a checkpoint if it is to."""

    def __init__(self, path: Path, store: SqliteStore, tally: Tally, doom: random.Random | None) -> None:
        super().__init__(path, store._connect, log_bytes=LOG_BYTES)
        self._tally = tally
        self._doom = doom
        self._longest = 0.0

    def _checkpoint(self, size: int, patience: int) -> None:
        if self._doom is not None and self._longest:
            signal.setitimer(signal.ITIMER_REAL, self._doom.uniform(1e-6, self._longest))
        began = perf_counter()
        super()._checkpoint(size, patience)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._longest = max(self._longest, perf_counter() - began)
        self._tally.checkpoints += 1


def _write(path: Path, tally: Tally, stop: Event, seed: int | None, fault: Fault | None) -> None:
    ledger = open_ledger(path, ports=real_ports(os.environ))
    store = ledger._store
    assert isinstance(store, SqliteStore)
    doom = None if seed is None else random.Random(seed)
    store._checkpointer = CountedCheckpointer(path, store, tally, doom)
    if fault is not None:
        fault(store._checkpointer)
    while not stop.is_set():
        try:
            dispatched(ledger)
            tally.acknowledged += 1
        except LedgerBusyError:
            tally.refused += 1
    ledger.close()


def acknowledged(members: Sequence[Member]) -> int:
    return sum(member.tally.acknowledged for member in members)


def checkpoints(members: Sequence[Member]) -> int:
    return sum(member.tally.checkpoints for member in members)


def read_for_ever(path: Path, seconds: float, begun: Event) -> None:
    """Read in snapshots that each last `seconds`, one after the other; begun once the first is."""
    ledger = open_ledger(path, ports=real_ports(os.environ))

    def look(tx: Transaction) -> None:
        missions.page_missions(tx, limit=1)
        begun.set()
        threading.Event().wait(seconds)

    while True:
        ledger.read(look)
