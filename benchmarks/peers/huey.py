"""huey on SQLite: WAL and `fsync` on, results off, one worker thread (more only wait for each other's lock)."""

from __future__ import annotations

import threading
from collections.abc import Callable

from huey import SqliteHuey
from huey.consumer import Consumer

from benchmarks.contender import Countdown, Order, by_threads, main


class Peer:
    """Takes a task off the queue before it runs: a worker that dies loses it. It tells the caller nothing else."""

    def __init__(self, order: Order) -> None:
        self._huey = SqliteHuey(filename=str(order.database), fsync=order.synchronous == "FULL", results=False)
        self._on_start: Callable[[], None] = lambda: None
        self._task = self._huey.task()(self._run)

    def _run(self) -> None:
        self._on_start()

    def dispatch(self, order: Order) -> None:
        by_threads(order, self.hand_over)

    def hand_over(self) -> None:
        self._task()

    def prepare(self, order: Order) -> None:
        self._countdown = Countdown(order.missions)
        self._on_start = self._countdown.count
        self._worker = self._consumer()

    def work(self, order: Order) -> None:
        self._worker.start()
        self._countdown.over.wait()
        self._worker.stop(graceful=True)

    def serve(self, started: Callable[[], None]) -> None:
        self._on_start = started
        self._consumer().start()
        started()
        threading.Event().wait()

    def _consumer(self) -> Consumer:
        """Polls ten times a second, its recommended least, without backing off."""
        return Consumer(self._huey, workers=1, periodic=False, initial_delay=0.1, backoff=1.0, max_delay=0.1)

    def close(self) -> None:
        self._huey.storage.close()


if __name__ == "__main__":
    main(Peer)
