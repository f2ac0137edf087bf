"""honker on SQLite, claiming and acknowledging in batches; it sets `synchronous=NORMAL` itself and leaves no choice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import honker

from benchmarks.contender import SLOTS, Order, by_threads, main


class Peer:
    """Not durable at each commit: a power cut takes what it had acknowledged."""

    def __init__(self, order: Order) -> None:
        self._database = honker.open(str(order.database))
        self._queue = self._database.queue("missions")

    def dispatch(self, order: Order) -> None:
        by_threads(order, self.hand_over)

    def hand_over(self) -> None:
        self._queue.enqueue({"objective": "Write a summary"})

    def prepare(self, order: Order) -> None:
        """Nothing."""

    def work(self, order: Order) -> None:
        left = order.missions
        while left:
            jobs = self._queue.claim_batch("worker", SLOTS)
            left -= self._queue.ack_batch([job.id for job in jobs], "worker")

    def serve(self, started: Callable[[], None]) -> None:
        async def work() -> None:
            jobs = self._queue.claim("worker")
            started()
            async for job in jobs:
                started()
                job.ack()

        asyncio.run(work())

    def close(self) -> None:
        self._database.close()


if __name__ == "__main__":
    main(Peer)
