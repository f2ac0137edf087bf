"""procrastinate on PostgreSQL: psycopg's asynchronous pool, SLOTS jobs at once, notified by LISTEN."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.schema import SchemaManager

from benchmarks.contender import SLOTS, Order, by_tasks, main

CONNECTIONS = 32


class Peer:
    """A job is fetched, set to done, and kept with its events."""

    def __init__(self, order: Order) -> None:
        logging.disable()
        self._order = order
        self._loop = asyncio.new_event_loop()
        self._on_start: Callable[[], None] = lambda: None
        self._app = App(connector=PsycopgConnector(conninfo=order.dsn, min_size=CONNECTIONS, max_size=CONNECTIONS))
        self._task = self._app.task(queue="missions", name="mission")(self._run)
        if order.role != "worker":
            with psycopg.connect(order.dsn) as connection:
                connection.execute(SchemaManager.get_schema().encode())
        self._loop.run_until_complete(self._app.open_async())

    async def _run(self) -> None:
        self._on_start()

    def dispatch(self, order: Order) -> None:
        self._loop.run_until_complete(by_tasks(order, self._task.defer_async))

    def hand_over(self) -> None:
        self._loop.run_until_complete(self._task.defer_async())

    def prepare(self, order: Order) -> None:
        """Nothing."""

    def work(self, order: Order) -> None:
        self._loop.run_until_complete(self._app.run_worker_async(concurrency=SLOTS, wait=False))

    def serve(self, started: Callable[[], None]) -> None:
        async def work() -> None:
            worker = asyncio.create_task(self._app.run_worker_async(concurrency=SLOTS))
            await asyncio.sleep(1)  # it says nowhere that it listens
            self._on_start = started
            started()
            await worker

        self._loop.run_until_complete(work())

    def close(self) -> None:
        self._loop.run_until_complete(self._app.close_async())


if __name__ == "__main__":
    main(Peer)
