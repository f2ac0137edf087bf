"""A lane that does what the objective's first word says, well or badly; its own chances follow from seed and attempt."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.worlds.witness import Witness
from ua_vp import Availability, Budget, LaneInfo, MissionContext, Outcome, Status
from ua_vp.ports import Ports
from ua_vp.testing import World

BUDGETS = {
    "stone": Budget(seconds=1.5),
    "mute": Budget(idle_seconds=1.0),
    "noisy": Budget(output_bytes=2_000),
    "dear": Budget(tokens=100),
}
"""What some kinds must not be without: nothing else would end them."""


@dataclass
class Lane:
    """`ua_vp.lane.Lane` in one simulated process; `witness` hears of each run."""

    info: LaneInfo
    world: World
    ports: Ports
    witness: Witness
    lease: float

    def availability(self) -> Availability:
        return Availability()

    def run(self, ctx: MissionContext) -> Outcome:
        process, mission = self.world.running, ctx.mission
        begun = self.witness.lane_begins(process, mission, ctx.cancelled)
        kind = mission.objective.split()[0]
        chance = random.Random(f"{self.world.seed} {mission.objective} {mission.attempt}")
        if kind == "mixed":
            kind = chance.choice(sorted(KINDS))
        self.world.tell(f"lane: {mission.objective}, attempt {mission.attempt}: {kind}")
        try:
            return {**KINDS, **ENDLESS}[kind](self, ctx, chance)
        finally:
            self.witness.lane_ends(begun)
            self.world.tell(f"lane: {mission.objective}, attempt {mission.attempt}: over")


def quick(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    (ctx.work_products / "summary.md").write_text(f"{ctx.mission.mission_id} {ctx.mission.attempt}\n")
    (ctx.supporting / "notes.txt").write_text("as it went\n")
    return Outcome(status=Status.COMPLETED, summary="done", primary=["summary.md"])


def slow(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    ctx.cancelled.wait(chance.uniform(0.1, 1.5 * lane.lease))
    return quick(lane, ctx, chance)


def chatty(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    for step in range(chance.randint(2, 5)):
        ctx.progress(f"step {step}", step=step)
        ctx.cancelled.wait(chance.uniform(0.1, 1.2))
    return quick(lane, ctx, chance)


def fails(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    ctx.cancelled.wait(chance.uniform(0, 0.5))
    return Outcome.failed("it cannot be done")


def flaky(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    return Outcome.failed("not this time", retryable=True)


def raises(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    if chance.random() < 0.5:
        raise SystemExit(3)
    raise ValueError("the lane is broken")


def empty(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    return Outcome.completed("done, it says")


def hangs(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    ctx.cancelled.wait()
    return Outcome.failed("stopped")


def late(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    """It hears that it should stop, takes its time over it, and then says that it is done."""
    ctx.cancelled.wait(chance.uniform(0.1, 2 * lane.lease))
    lane.ports.clock.sleep(chance.uniform(0, 2.0))
    return quick(lane, ctx, chance)


def deaf(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    lane.ports.clock.sleep(chance.uniform(0.2, 2 * lane.lease))
    return quick(lane, ctx, chance)


def stone(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    """It ignores its cancellation for longer than anybody waits."""
    lane.ports.clock.sleep(1_000)
    return quick(lane, ctx, chance)


def poison(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    """It takes its worker down."""
    lane.world.kill(lane.world.running)
    return Outcome.failed("never said")


def noisy(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    for _ in range(40):
        ctx.log("x" * 100)
    return slow(lane, ctx, chance)


def dear(lane: Lane, ctx: MissionContext, chance: random.Random) -> Outcome:
    ctx.usage(tokens=chance.choice((50, 150)))
    return slow(lane, ctx, chance)


KINDS: dict[str, Callable[[Lane, MissionContext, random.Random], Outcome]] = {
    "quick": quick, "slow": slow, "chatty": chatty, "fails": fails, "flaky": flaky, "raises": raises, "empty": empty,
    "late": late, "deaf": deaf, "poison": poison, "noisy": noisy, "dear": dear,
}  # fmt: skip
"""What ends by itself; `hangs` has to be cancelled, `stone` and `mute` need a budget."""
ENDLESS: dict[str, Callable[[Lane, MissionContext, random.Random], Outcome]] = {
    "hangs": hangs,
    "stone": stone,
    "mute": hangs,
}
