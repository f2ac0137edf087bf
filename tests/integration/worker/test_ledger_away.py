"""The ledger locked by somebody else while a mission runs: shorter than a lease, and longer."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.worker.conftest import Bench, deliver
from tests.integration.worker.test_mission import processes_with, void
from tests.waiting import wait_until
from ua_vp import MissionContext, Outcome, Status
from ua_vp.ports import MICROS

LEASE = 1.0


@contextmanager
def locked(bench: Bench) -> Iterator[None]:
    """Keep the write lock, as a backup tool or a stuck process would."""
    connection = sqlite3.connect(bench.root.parent / "vp_state.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_away_for_less_than_a_lease_nothing_is_stopped(bench: Bench) -> None:
    mission_id = bench.dispatch()
    go_on = bench.ports.threads.signal()

    def do(ctx: MissionContext) -> Outcome:
        go_on.wait(30)
        return deliver(ctx)

    worker = bench.worker(do, lease=LEASE)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    wait_until(lambda: bench.mission(mission_id).status is Status.RUNNING, within=10, why="claimed")
    until = bench.ports.clock.monotonic() + int(0.5 * LEASE * MICROS)
    with locked(bench):
        wait_until(lambda: bench.ports.clock.monotonic() > until, within=10, why="half a lease passes")
    go_on.set()

    wait_until(lambda: bench.mission(mission_id).marked_at, within=20, why="the mission ends well")
    mission = bench.mission(mission_id)
    assert (mission.status, mission.attempt, mission.tries) == (Status.COMPLETED, 1, 0)
    worker.drain()
    assert thread.join(10)


def test_away_for_longer_the_worker_stops_its_own_children_and_tries_again(bench: Bench) -> None:
    mission_id = bench.dispatch()

    def do(ctx: MissionContext) -> Outcome:
        if ctx.mission.attempt == 1:
            ctx.run([sys.executable, "-c", "import signal; signal.pause()", mission_id])
        return deliver(ctx)

    worker = bench.worker(do, lease=LEASE)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    wait_until(lambda: processes_with(mission_id), within=10, why="its process is up")
    with locked(bench):
        wait_until(lambda: not processes_with(mission_id), within=10 * LEASE, why="its process is stopped")
        assert bench.mission(mission_id).status is Status.RUNNING

    wait_until(lambda: bench.mission(mission_id).marked_at, within=30, why="it runs again and ends well")
    mission = bench.mission(mission_id)
    assert (mission.status, mission.attempt, mission.tries) == (Status.COMPLETED, 2, 1)
    assert bench.event_types(mission_id).count("completed") == 1
    worker.drain()
    assert thread.join(10)
