"""Two workers of one lane, the real control, ledger, worker and workspace code, on the seeded scheduler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.worker.conftest import Bench, announce, deliver
from ua_vp import MissionContext, Outcome, Status
from ua_vp.ledger import open_ledger
from ua_vp.ports import MICROS, Ports
from ua_vp.testing.simulation import World
from ua_vp.worker import Worker
from ua_vp.workspace import verify

MISSIONS = 4
SEEDS = 8
WITHIN = 120 * MICROS
"""Virtual time until everything must be done."""


def unhurried(ctx: MissionContext) -> Outcome:
    """A lane that takes its (virtual) time, so that the other worker gets a mission, too."""
    ctx.cancelled.wait(0.5)
    return deliver(ctx)


def two_workers(
    folder: Path, seed: int, do: Callable[[MissionContext], Outcome] = unhurried
) -> tuple[list[str], list[str]]:
    """Dispatch some missions to two workers; returns the world's history and the workers that ended each mission."""
    world, ended_by = World(seed), []

    def main(ports: Ports) -> None:
        bench = bench_in(folder, ports)
        workers = [worker_in(world, bench, name, do) for name in ("a", "b")]
        missions = [bench.dispatch(f"mission {number}") for number in range(MISSIONS)]
        give_up = ports.clock.now() + WITHIN
        while not all(bench.mission(mission_id).marked_at for mission_id in missions):
            assert ports.clock.now() < give_up, [str(bench.mission(mission_id).status) for mission_id in missions]
            ports.clock.sleep(0.5)
        for mission_id in missions:
            assert bench.mission(mission_id).status is Status.COMPLETED
            assert bench.event_types(mission_id).count("completed") == 1
            assert verify(bench.workspace(mission_id)) == []
            ended_by.append(bench.attempts(mission_id)[-1].worker_id)
        for worker, thread in workers:
            worker.drain()
            assert thread()
        bench.ledger.close()

    world.run(main)
    return world.history, ended_by


def bench_in(folder: Path, ports: Ports) -> Bench:
    folder.mkdir()
    bench = Bench(
        root=folder / "AGENT_RUN_WORKSPACES", ledger=open_ledger(folder / "vp_state.db", ports=ports), ports=ports
    )
    announce(bench)
    return bench


def worker_in(
    world: World, bench: Bench, name: str, do: Callable[[MissionContext], Outcome]
) -> tuple[Worker, Callable[[], bool]]:
    """A worker whose threads, ledger and timers belong to the simulated process `name`."""
    ports = world.process(name)
    ledger = open_ledger(bench.root.parent / "vp_state.db", ports=ports)
    worker = Worker(bench.site(do, host=name), ledger, ports, world.timers(name))

    def work() -> None:
        worker.run()
        ledger.close()

    thread = ports.threads.start("loop", work)
    return worker, lambda: thread.join(60)


@pytest.mark.timeout(120)
def test_the_same_seed_gives_the_same_history(tmp_path: Path) -> None:
    histories, shares = set(), set()
    for seed in range(SEEDS):
        history, ended_by = two_workers(tmp_path / f"{seed}-first", seed)
        again, _ = two_workers(tmp_path / f"{seed}-again", seed)
        assert history == again, f"seed {seed}: the histories part at switch {first_difference(history, again)}"
        histories.add(tuple(history))
        shares.add(tuple(worker_id.split(":")[0] for worker_id in ended_by))
    print(
        f"figure: simulation: 2 workers, {SEEDS} seeds run twice: {SEEDS} histories repeated, {len(histories)} different"
    )
    assert len(histories) == SEEDS, "other seeds give other histories"
    assert all(set(share) == {"a", "b"} for share in shares), "both workers get missions"


def first_difference(one: list[str], other: list[str]) -> str:
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return f"{number}: {left!r} or {right!r}"
    return f"{min(len(one), len(other))}: one ends"
