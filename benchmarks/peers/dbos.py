"""dbos on PostgreSQL, or on SQLite in WAL mode, which it does not set itself; its queue is polled ten times a second."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient

from benchmarks.contender import SLOTS, Countdown, Order, by_threads, main

POLL = 0.1
QUEUE = "missions"


class Peer:
    """A workflow without steps: written when enqueued, when taken, and when it has ended."""

    def __init__(self, order: Order) -> None:
        self._url = order.dsn.replace("postgresql://", "postgresql+psycopg://") or f"sqlite:///{order.database}"
        if not order.dsn:
            use_wal(order)
        self._on_start: Callable[[], None] = lambda: None
        if order.role != "worker":
            self._launch(listen=False)
            self._client = DBOSClient(system_database_url=self._url, system_database_pool_size=SLOTS)

    def _launch(self, *, listen: bool) -> None:
        DBOS(
            config={
                "name": "bench",
                "system_database_url": self._url,
                "sys_db_pool_size": SLOTS,
                "log_level": "ERROR",
                "application_version": "bench",
                "executor_id": "worker",
            }
        )

        @DBOS.workflow(name="mission")
        def run() -> None:
            self._on_start()

        DBOS.listen_queues([QUEUE] if listen else [])
        DBOS.launch()
        DBOS.register_queue(QUEUE, worker_concurrency=4 * SLOTS, polling_interval_sec=POLL)

    def dispatch(self, order: Order) -> None:
        by_threads(order, self.hand_over)

    def hand_over(self) -> None:
        self._client.enqueue({"workflow_name": "mission", "queue_name": QUEUE, "app_version": "bench"})

    def prepare(self, order: Order) -> None:
        DBOS.destroy()
        self._countdown = Countdown(order.missions)
        self._on_start = self._countdown.count
        self._launch(listen=True)

    def work(self, order: Order) -> None:
        self._countdown.over.wait()
        DBOS.destroy(workflow_completion_timeout_sec=60)

    def serve(self, started: Callable[[], None]) -> None:
        self._on_start = started
        self._launch(listen=True)
        started()
        threading.Event().wait()

    def close(self) -> None:
        self._client.destroy()
        DBOS.destroy()


def use_wal(order: Order) -> None:
    """Make the file one with a write-ahead log, and every later connection of this process as durable as asked."""
    with closing(sqlite3.connect(order.database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")

    def set_durability(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA synchronous={order.synchronous}")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", set_durability)


if __name__ == "__main__":
    main(Peer)
