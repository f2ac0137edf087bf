"""Workers on PostgreSQL: the main line as on SQLite, and what only a server can do to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ledger.places import Place
from tests.integration.worker.conftest import VP_ID, Bench, announce, deliver
from tests.integration.worker.test_mission import (
    processes_with,
    test_a_mission_cancelled_in_the_queue_gets_folder_receipt_and_marker,
    test_a_mission_completes_and_its_work_product_verifies,
    test_a_retryable_failure_waits_and_then_fails_for_good,
    test_cancelling_a_running_mission_ends_its_whole_process_tree,
    test_draining_puts_a_mission_back_uncounted_and_keeps_its_log,
    test_observers_see_the_events_in_order_and_progress_is_an_event,
    void,
)
from tests.integration.worker.test_seams import (
    test_a_publication_cut_short_is_finished_by_the_next_worker,
    test_an_idle_worker_starts_a_mission_when_its_time_comes,
    test_what_a_fenced_lane_said_is_kept_as_it_said_it,
)
from tests.postgres import Cluster
from tests.waiting import wait_until
from ua_vp import MissionContext, Outcome, Status
from ua_vp.ledger import claims
from ua_vp.ports import MICROS, Signal
from ua_vp.runtime import real_ports

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(120)]
HOUR = 3600 * MICROS

__all__ = [
    "test_a_mission_cancelled_in_the_queue_gets_folder_receipt_and_marker",
    "test_a_mission_completes_and_its_work_product_verifies",
    "test_a_publication_cut_short_is_finished_by_the_next_worker",
    "test_a_retryable_failure_waits_and_then_fails_for_good",
    "test_an_idle_worker_starts_a_mission_when_its_time_comes",
    "test_cancelling_a_running_mission_ends_its_whole_process_tree",
    "test_draining_puts_a_mission_back_uncounted_and_keeps_its_log",
    "test_observers_see_the_events_in_order_and_progress_is_an_event",
    "test_what_a_fenced_lane_said_is_kept_as_it_said_it",
]


@pytest.fixture
def place(tmp_path: Path, cluster: Cluster) -> Iterator[Place]:
    place = Place(tmp_path / "none", url=cluster.create())
    yield place
    place.close()


@pytest.fixture
def bench(place: Place, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(root=tmp_path / "AGENT_RUN_WORKSPACES", ledger=place.open(), ports=real_ports(os.environ))
    announce(made)
    yield made
    for timers in made.timers:
        timers.close()


def passed(bench: Bench, seconds: float) -> None:
    until = bench.ports.clock.monotonic() + int(seconds * MICROS)
    wait_until(lambda: bench.ports.clock.monotonic() > until, within=seconds + 30, why="time passes")


def when_told(go_on: Signal) -> object:
    def do(ctx: MissionContext) -> Outcome:
        go_on.wait(60)
        return deliver(ctx)

    return do


def settled_once(bench: Bench, mission_id: str, *, attempt: int) -> None:
    wait_until(lambda: bench.mission(mission_id).marked_at, within=60, why="the mission ends well")
    mission = bench.mission(mission_id)
    assert (mission.status, mission.attempt, mission.tries) == (Status.COMPLETED, attempt, attempt - 1)
    assert bench.event_types(mission_id).count("completed") == 1


@pytest.mark.parametrize("away", ["locked", "restarted"])
def test_a_ledger_away_for_less_than_a_lease_stops_nothing(
    bench: Bench, place: Place, cluster: Cluster, away: str
) -> None:
    mission_id, go_on = bench.dispatch(), bench.ports.threads.signal()
    worker = bench.worker(when_told(go_on), lease=30.0 if away == "restarted" else 4.0)  # type: ignore[arg-type]
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    wait_until(lambda: bench.mission(mission_id).status is Status.RUNNING, within=20, why="claimed")
    if away == "locked":
        with place.locked():
            passed(bench, 2.0)
    else:
        cluster.kill()
        go_on.set()
        passed(bench, 1.0)
        cluster.start()
    go_on.set()
    settled_once(bench, mission_id, attempt=1)
    worker.drain()
    assert thread.join(30)


def test_a_ledger_away_for_longer_has_the_worker_stop_its_children_and_go_on_later(
    bench: Bench, cluster: Cluster
) -> None:
    mission_id = bench.dispatch()

    def do(ctx: MissionContext) -> Outcome:
        if ctx.mission.attempt == 1:
            ctx.run([sys.executable, "-c", "import signal; signal.pause()", mission_id])
        return deliver(ctx)

    worker = bench.worker(do, lease=1.0)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    wait_until(lambda: processes_with(mission_id), within=20, why="its process is up")
    cluster.stop()
    try:
        wait_until(lambda: not processes_with(mission_id), within=20, why="its process is stopped")
    finally:
        cluster.start()
    settled_once(bench, mission_id, attempt=2)
    worker.drain()
    assert thread.join(30)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_servers_clock_takes_no_mission_from_a_worker_that_lives(
    bench: Bench, place: Place, step: int
) -> None:
    mission_id, go_on, lease = bench.dispatch(), bench.ports.threads.signal(), 4.0
    workers = [bench.worker(when_told(go_on), lease=lease) for _ in range(2)]  # type: ignore[arg-type]
    threads = [bench.ports.threads.start("worker", lambda w=worker: void(w.run())) for worker in workers]  # type: ignore[misc]
    wait_until(lambda: bench.mission(mission_id).status is Status.RUNNING, within=20, why="claimed")
    place.shift_clock(step)
    passed(bench, 1.6 * lease)
    go_on.set()
    settled_once(bench, mission_id, attempt=1)
    assert all(session.lost_at is None for session in bench.sessions())
    for worker in workers:
        worker.drain()
    assert all(thread.join(30) for thread in threads)


def test_what_a_dead_worker_ran_is_taken_over_soon_after_its_lease(bench: Bench) -> None:
    mission_id, lease = bench.dispatch(), 2.0
    leases, now = bench.ledger.lease_time(), bench.ports.clock.now()
    claimed = bench.ledger.run(
        lambda tx: claims.claim(
            tx,
            vp_id=VP_ID,
            session_id="gone",
            worker_id="gone",
            limit=1,
            now=now,
            boot_id=leases.boot_id,
            deadline=leases.now + int(lease * MICROS),
        )
    )
    assert len(claimed) == 1
    began = bench.ports.clock.monotonic()
    worker = bench.worker(deliver, lease=lease)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    settled_once(bench, mission_id, attempt=2)
    took = (bench.ports.clock.monotonic() - began) / MICROS / lease
    print(f"figure: takeover on PostgreSQL, from claim to the mark of the next attempt: {took:.2f} leases")
    assert 1.0 <= took < 4
    worker.drain()
    assert thread.join(30)
