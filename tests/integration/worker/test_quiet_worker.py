"""A worker writes when there is something to write, not because it heard its own writing."""

from __future__ import annotations

from pathlib import Path

from tests.integration.worker.conftest import deliver
from tests.integration.worker.test_two_workers_simulated import bench_in
from ua_vp import MissionContext, Outcome
from ua_vp.ports import Ports
from ua_vp.testing.simulation import World
from ua_vp.worker import Worker

LEASE = 30.0
MINUTE = 60.0


def test_a_minute_of_a_silent_mission_costs_only_renewals_and_looks_around(tmp_path: Path) -> None:
    world, commits = World(1), []

    def main(ports: Ports) -> None:
        bench = bench_in(tmp_path / "home", ports)

        def do(ctx: MissionContext) -> Outcome:
            before = bench.ledger.batches
            ctx.cancelled.wait(MINUTE)
            commits.append(bench.ledger.batches - before)
            return deliver(ctx)

        mission_id = bench.dispatch()
        Worker(bench.site(do, lease=LEASE), bench.ledger, ports, world.timers()).once()
        assert bench.mission(mission_id).marked_at
        bench.ledger.close()

    world.run(main)

    print(f"figure: commits in a minute of a silent mission, lease {LEASE:g} s: {commits[0]}")
    assert commits[0] <= MINUTE / (LEASE / 3) + MINUTE / (LEASE / 4) + 3, "renewals and looks for lost workers, no more"
