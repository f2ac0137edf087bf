"""Where two things meet: what a lane gives, what fails half way, what comes at the same moment."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker.conftest import Bench, deliver
from tests.integration.worker.test_ledger_away import locked
from tests.integration.worker.test_mission import assert_sound, processes_with, void
from tests.integration.worker.test_two_workers_simulated import bench_in
from tests.waiting import wait_until
from ua_vp import Availability, Budget, FailureMode, MissionContext, MissionStoppedError, Outcome, Status
from ua_vp.errors import DiskFullError, WorkspaceError
from ua_vp.ledger import FinishVerdict
from ua_vp.mission import Claim
from ua_vp.ports import MICROS, Files, Ports
from ua_vp.runtime.files import DurableFiles
from ua_vp.testing.simulation import World
from ua_vp.worker import Worker, WorkerExit, conduct
from ua_vp.worker.conduct import Conductor
from ua_vp.worker.finalize import ending_of, ending_without_lane
from ua_vp.worker.messages import Finish, Over
from ua_vp.workspace import layout, verify


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot even say")


def raise_mute(_ctx: MissionContext) -> Outcome:
    raise MuteError


def odd(outcome: Outcome, **fields: Any) -> Outcome:
    """An outcome whose fields no type checker has seen."""
    return replace(outcome, **fields)


STRANGE: dict[str, Callable[[Any], Any]] = {
    "an exception without words": raise_mute,
    "a summary that is none": lambda _ctx: odd(Outcome.failed("x"), summary=ValueError("no text")),
    "a failure mode that is none": lambda _ctx: odd(Outcome.failed("x"), failure_mode="bored"),
    "no primaries": lambda _ctx: odd(Outcome.completed("x"), primary=None),
    "progress that is no JSON": lambda ctx: ctx.progress("at it", where=Path("here")),
    "usage that is no number": lambda ctx: ctx.usage(tokens="many"),
    "usage beyond all bounds": lambda ctx: ctx.usage(tokens=10**5000),
    "usage of what is no text": lambda ctx: ctx.usage(**{"\udce4": 1}),
    "a status of its own": lambda _ctx: odd(Outcome.completed("x"), status="queued"),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_whatever_a_lane_gives_its_mission_fails_and_the_next_one_runs(bench: Bench, strange: str) -> None:
    poison, fine = bench.dispatch("poison"), bench.dispatch("fine")

    def do(ctx: MissionContext) -> Outcome:
        poisoned: Outcome = STRANGE[strange](ctx) if ctx.mission.objective == "poison" else deliver(ctx)
        return poisoned

    for _ in range(2):
        bench.worker(do).once()

    assert bench.mission(poison).status is Status.FAILED
    assert bench.mission(fine).status is Status.COMPLETED
    assert_sound(bench, poison)


def test_bytes_that_are_no_text_reach_the_ledger_as_text(bench: Bench) -> None:
    mission_id = bench.dispatch()

    def do(ctx: MissionContext) -> Outcome:
        ctx.progress("read \udce4.txt")
        return replace(deliver(ctx), summary="wrote \udce4.txt\0")

    bench.worker(do).once()

    assert bench.mission(mission_id).summary == "wrote ?.txt\N{SYMBOL FOR NULL}"
    assert_sound(bench, mission_id)


class FailingFiles(DurableFiles):
    """A disk that fails renames into the final place."""

    def rename(self, source: Path, target: Path) -> None:
        raise WorkspaceError(f"cannot rename {source}: the disk reports a fault")


def on(files: Files, bench: Bench) -> Bench:
    return replace(bench, ports=replace(bench.ports, files=files))


def test_a_publication_cut_short_is_finished_by_the_next_worker(bench: Bench) -> None:
    mission_id = bench.dispatch()
    assert on(FailingFiles(), bench).worker(deliver, lease=0.5).once() is WorkerExit.UNSETTLED
    assert (bench.mission(mission_id).status, bench.mission(mission_id).marked_at) == (Status.COMPLETED, None)

    worker = bench.worker(deliver, lease=0.5)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    wait_until(lambda: bench.mission(mission_id).marked_at, within=10, why="its lease runs out, then it is published")
    worker.drain()
    assert thread.join(10)

    assert_sound(bench, mission_id)
    assert bench.event_types(mission_id) == ["dispatched", "started", "completed", "ready"]


def test_results_that_were_removed_by_hand_are_never_made_up(bench: Bench) -> None:
    mission_id = bench.dispatch()
    on(FailingFiles(), bench).worker(deliver, lease=0.5).once()
    shutil.rmtree(bench.workspace(mission_id).root)

    worker = bench.worker(deliver, lease=0.5)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    until = bench.ports.clock.monotonic() + 3 * MICROS
    wait_until(lambda: bench.ports.clock.monotonic() > until, within=10, why="several reconciles pass")
    worker.drain()
    assert thread.join(10)

    assert bench.mission(mission_id).marked_at is None
    assert not bench.workspace(mission_id).marker.exists()


def test_a_lane_slow_to_return_does_not_fail_its_mission_when_its_worker_stops(bench: Bench) -> None:
    mission_id = bench.dispatch()
    release = bench.ports.threads.signal()

    def do(ctx: MissionContext) -> Outcome:
        if ctx.mission.attempt == 1:
            release.wait(30)
        return deliver(ctx)

    worker = bench.worker(do, drain=0.1, grace=0.1)
    ends: list[WorkerExit] = []
    thread = bench.ports.threads.start("worker", lambda: ends.append(worker.run()))
    wait_until(lambda: bench.mission(mission_id).status is Status.RUNNING, within=10, why="claimed")
    worker.drain()
    assert thread.join(10)
    mission = bench.mission(mission_id)
    assert (ends, mission.status, mission.tries) == ([WorkerExit.RESTART], Status.QUEUED, 0)

    bench.worker(do).once()
    release.set()

    assert bench.mission(mission_id).status is Status.COMPLETED
    assert_sound(bench, mission_id)


def test_waiting_for_a_lane_to_return_costs_no_processor(tmp_path: Path) -> None:
    world = World(3)

    def main(ports: Ports) -> None:
        bench = bench_in(tmp_path / "home", ports)

        def do(ctx: MissionContext) -> Outcome:
            ports.clock.sleep(20)
            return deliver(ctx)

        bench.dispatch()
        worker = Worker(bench.site(do, lease=30.0, grace=30.0), bench.ledger, ports, world.timers())
        thread = ports.threads.start("worker", lambda: void(worker.run()))
        ports.clock.sleep(1)
        before = len(world.history)
        worker.hurry()
        ports.clock.sleep(10)
        turns = [line for line in world.history[before:] if "/worker" in line]
        assert len(turns) < 1_000, "ten seconds of waiting"
        assert thread.join(60)
        bench.ledger.close()

    world.run(main)


def test_what_a_fenced_lane_said_is_kept_as_it_said_it(bench: Bench) -> None:
    mission_id = bench.dispatch()
    taken = bench.ports.threads.signal()

    def slow(ctx: MissionContext) -> Outcome:
        taken.wait(30)
        return replace(deliver(ctx), summary="my own words")

    worker = bench.worker(slow, lease=0.5, grace=20.0)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    wait_until(lambda: bench.mission(mission_id).status is Status.RUNNING, within=10, why="claimed")
    bench.take_away(mission_id)
    wait_until(lambda: bench.mission(mission_id).attempt == 2, within=10, why="somebody else has it")
    taken.set()

    wait_until(lambda: bench.attempts(mission_id)[0].late_outcome, within=10, why="handed in late")
    late = bench.attempts(mission_id)[0].late_outcome or {}
    assert (late["status"], late["summary"]) == ("completed", "my own words")
    worker.hurry()
    assert thread.join(30)


def test_once_heeds_a_drain(bench: Bench) -> None:
    mission_id = bench.dispatch()

    def do(ctx: MissionContext) -> Outcome:
        ctx.cancelled.wait(30)
        return Outcome.failed("stopped")

    worker = bench.worker(do, drain=0.1)
    thread = bench.ports.threads.start("worker", lambda: void(worker.once()))
    wait_until(lambda: bench.mission(mission_id).status is Status.RUNNING, within=10, why="claimed")
    worker.drain()

    assert thread.join(10)
    assert (bench.mission(mission_id).status, bench.mission(mission_id).requeue_reason) == (Status.QUEUED, "drained")


def test_a_lane_that_is_unavailable_at_start_claims_nothing(bench: Bench) -> None:
    mission_id = bench.dispatch()
    away = Availability(available=False, reason="no agent", remedy="install one")

    bench.worker(deliver, availability=lambda: away).once()

    assert bench.mission(mission_id).status is Status.QUEUED


SPENDING: dict[str, tuple[Budget, Callable[[MissionContext], None]]] = {
    "tokens": (Budget(tokens=10), lambda ctx: ctx.usage(tokens=11)),
    "output": (Budget(output_bytes=100), lambda ctx: ctx.log("x" * 101)),
}


@pytest.mark.parametrize("what", SPENDING)
def test_a_counted_limit_is_seen_at_once(bench: Bench, what: str) -> None:
    budget, spend = SPENDING[what]
    mission_id = bench.dispatch(budget=budget)

    def do(ctx: MissionContext) -> Outcome:
        ctx.log("a first sign of life")
        ctx.cancelled.wait(1.5)  # the worker has nothing to hear for a while
        spend(ctx)
        ctx.cancelled.wait(30)
        return deliver(ctx)

    start = bench.ports.clock.monotonic()
    bench.worker(do, lease=60.0).once()

    assert bench.mission(mission_id).failure_mode is FailureMode.BUDGET_EXCEEDED
    assert bench.ports.clock.monotonic() - start < 10 * MICROS


def test_an_idle_worker_starts_a_mission_when_its_time_comes(bench: Bench) -> None:
    worker = bench.worker(deliver, lease=60.0)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    first = bench.dispatch()
    wait_until(lambda: bench.mission(first).marked_at, within=10, why="the worker is up")
    idle = bench.ports.clock.monotonic() + MICROS
    wait_until(lambda: bench.ports.clock.monotonic() > idle, within=10, why="it has heard its own last commit")
    due = bench.ports.clock.now() + 2 * MICROS
    mission_id = bench.dispatch(not_before=due)

    wait_until(lambda: bench.mission(mission_id).marked_at, within=10, why="long before the next tick")
    started = bench.mission(mission_id).started_at
    assert started is not None
    assert started >= due
    worker.drain()
    assert thread.join(10)


def test_nothing_can_be_started_once_the_lane_has_returned(bench: Bench) -> None:
    mission_id = bench.dispatch()
    refused: list[str] = []
    tried = bench.ports.threads.signal()

    def do(ctx: MissionContext) -> Outcome:
        def afterwards() -> None:
            wait_until(lambda: bench.mission(mission_id).marked_at, within=10, why="the mission is over")
            try:
                ctx.run([sys.executable, "-c", "import signal; signal.pause()", mission_id], cwd=bench.root)
            except MissionStoppedError as error:
                refused.append(error.detail)
            tried.set()

        bench.ports.threads.start("left over", afterwards)
        return deliver(ctx)

    bench.worker(do).once()

    assert tried.wait(20)
    assert refused
    assert processes_with(mission_id) == []
    assert verify(bench.workspace(mission_id)) == []


def test_the_receipt_has_the_reason_that_the_ledger_has(bench: Bench) -> None:
    mission_id = bench.dispatch(budget=Budget(seconds=0.2))

    def do(ctx: MissionContext) -> Outcome:
        ctx.cancelled.wait(30)
        bench.cancel(mission_id, "in the operator's words")
        return deliver(ctx)

    bench.worker(do, grace=5.0).once()

    mission = bench.mission(mission_id)
    assert (mission.status, mission.cancel_reason) == (Status.CANCELLED, "in the operator's words")
    assert assert_sound(bench, mission_id)["cancel_reason"] == "in the operator's words"


def test_an_attempt_without_room_for_its_receipt_keeps_its_log(bench: Bench) -> None:
    mission_id = bench.dispatch(max_tries=1)

    class FullOnce(DurableFiles):
        """A disk that is full when the receipt is written for the first time."""

        full = True

        def write(self, path: Path, data: bytes, *, mode: int = 0o640) -> None:
            if self.full and path.name == "mission_receipt.json":
                self.full = False
                raise DiskFullError(f"no room to write {path}")
            super().write(path, data, mode=mode)

    def do(ctx: MissionContext) -> Outcome:
        ctx.log("what the lane had to say")
        return deliver(ctx)

    worker = on(FullOnce(), bench).worker(do, lease=0.5)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    wait_until(lambda: bench.mission(mission_id).marked_at, within=10, why="it ends once there is room")
    worker.drain()
    assert thread.join(10)

    mission = bench.mission(mission_id)
    assert (mission.status, mission.failure_mode) == (Status.FAILED, FailureMode.WORKSPACE_ERROR)
    assert "what the lane had to say" in bench.log(mission_id)
    assert_sound(bench, mission_id)


def test_a_worker_is_drained_even_while_the_ledger_is_locked(bench: Bench) -> None:
    worker = bench.worker(deliver, lease=1.0)
    ends: list[WorkerExit] = []
    thread = bench.ports.threads.start("worker", lambda: ends.append(worker.run()))
    wait_until(bench.sessions, within=10, why="it is up")
    with locked(bench):
        worker.drain()
        assert thread.join(20)
    assert ends == [WorkerExit.DRAINED]


def test_a_worker_that_cannot_hand_over_what_runs_ends_once_its_lease_is_gone(bench: Bench) -> None:
    mission_id = bench.dispatch()

    def do(ctx: MissionContext) -> Outcome:
        ctx.cancelled.wait(30)
        return deliver(ctx)

    worker = bench.worker(do, lease=1.0, grace=0.2)
    ends: list[WorkerExit] = []
    thread = bench.ports.threads.start("worker", lambda: ends.append(worker.run()))
    wait_until(lambda: bench.mission(mission_id).status is Status.RUNNING, within=10, why="claimed")
    with locked(bench):
        worker.hurry()
        assert thread.join(30)
    assert ends == [WorkerExit.UNSETTLED]

    again = bench.worker(deliver, lease=1.0)
    thread = bench.ports.threads.start("worker", lambda: void(again.run()))
    wait_until(lambda: bench.mission(mission_id).marked_at, within=20, why="another worker takes it over")
    assert bench.mission(mission_id).status is Status.COMPLETED
    again.drain()
    assert thread.join(10)


def test_once_reconciles_though_the_ledger_was_locked_at_first(bench: Bench) -> None:
    mission_id = bench.dispatch()
    bench.cancel(mission_id)
    worker = bench.worker(deliver, lease=4.0)
    with locked(bench):
        thread = bench.ports.threads.start("worker", lambda: void(worker.once()))
        until = bench.ports.clock.monotonic() + 6 * MICROS
        wait_until(lambda: bench.ports.clock.monotonic() > until, within=10, why="its first attempts fail")
    assert thread.join(20)

    assert_sound(bench, mission_id)


def test_a_worker_that_slept_in_a_closing_leaves_nothing_in_a_mission_that_another_has_marked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    mission_id = bench.dispatch()
    bench.cancel(mission_id)
    queued = bench.mission(mission_id)
    bench.worker(deliver).once()
    before = verify(bench.workspace(mission_id))
    for place, look in ((layout, "_refuse_published"), (conduct, "read_receipt")):  # it had looked before it slept
        monkeypatch.setattr(place, look, lambda *_: None)
    said: list[object] = []
    conductor = Conductor(bench.site(deliver, host="other"), bench.ports, said.append)
    claim = Claim(mission=queued, attempt=1, session_id="s", worker_id="w", deadline=0, closing=True)

    conductor.close(claim, ending_of(queued))

    assert [(type(one), one.done) for one in said if isinstance(one, Over)] == [(Over, True)]
    assert not bench.workspace(mission_id).attempts.exists()
    assert before == verify(bench.workspace(mission_id)) == []


def test_a_closing_that_was_fenced_off_leaves_nothing_in_a_mission_that_another_has_marked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    mission_id = bench.dispatch()
    running = replace(bench.mission(mission_id), status=Status.RUNNING, attempt=1)
    bench.worker(deliver).once()
    monkeypatch.setattr(layout, "_refuse_published", lambda _ws: None)  # it had looked before it slept

    def post(message: object) -> None:
        if isinstance(message, Finish):
            message.reply.put(FinishVerdict.LEASE_LOST)

    claim = Claim(mission=running, attempt=1, session_id="s", worker_id="w", deadline=0, closing=True)
    Conductor(bench.site(deliver), bench.ports, post).close(claim, ending_without_lane(running))

    assert not bench.workspace(mission_id).attempts.exists()
    assert verify(bench.workspace(mission_id)) == []
