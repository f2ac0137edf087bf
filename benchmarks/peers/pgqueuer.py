"""pgqueuer on PostgreSQL: asyncpg's pool, batches of 2 * SLOTS, notified by LISTEN."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.contender import SLOTS, Order, by_tasks, main

CONNECTIONS = 32


class Peer:
    """A job is picked, and moved to the log when it has ended, both in batches."""

    def __init__(self, order: Order) -> None:
        logging.disable()
        self._on_start: Callable[[], None] = lambda: None
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._open(order))

    async def _open(self, order: Order) -> None:
        self._pool = await asyncpg.create_pool(order.dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
        self._queries = Queries(AsyncpgPoolDriver(self._pool))
        if order.role != "worker":
            await self._queries.install()
        self._worker = PgQueuer.from_asyncpg_pool(self._pool)

        @self._worker.entrypoint("mission")
        async def run(_job: Job) -> None:
            self._on_start()

    async def _enqueue(self) -> None:
        await self._queries.enqueue("mission", b"Write a summary")

    def dispatch(self, order: Order) -> None:
        self._loop.run_until_complete(by_tasks(order, self._enqueue))

    def hand_over(self) -> None:
        self._loop.run_until_complete(self._enqueue())

    def prepare(self, order: Order) -> None:
        """Nothing."""

    def work(self, order: Order) -> None:
        self._loop.run_until_complete(self._worker.run(batch_size=2 * SLOTS, mode=QueueExecutionMode.drain))

    def serve(self, started: Callable[[], None]) -> None:
        async def work() -> None:
            worker = asyncio.create_task(self._worker.run(batch_size=SLOTS))
            await asyncio.sleep(1)  # it says nowhere that it listens
            self._on_start = started
            started()
            await worker

        self._loop.run_until_complete(work())

    def close(self) -> None:
        """The pool ends with the process."""


if __name__ == "__main__":
    main(Peer)
