"""One mission through a real worker: every way it can end."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker.conftest import Bench, deliver
from tests.waiting import wait_until
from ua_vp import Budget, FailureMode, MissionContext, Outcome, Status
from ua_vp.events import Event
from ua_vp.ledger import operating
from ua_vp.mission import Actor
from ua_vp.worker import WorkerExit
from ua_vp.workspace import verify


def assert_sound(bench: Bench, mission_id: str) -> dict[str, Any]:
    """Whatever the end was: folder, receipt, marker, and nothing private left."""
    workspace, mission = bench.workspace(mission_id), bench.mission(mission_id)
    assert verify(workspace) == []
    assert mission.result_ref == f"workspace://{workspace.root}"
    assert mission.published_at is not None
    assert mission.marked_at is not None
    assert not workspace.attempts.exists()
    receipt: dict[str, Any] = json.loads((workspace.root / "mission_receipt.json").read_text())
    assert (
        receipt["status"]
        == mission.status.value
        == json.loads((workspace.root / "sync_ready.json").read_text())["state"]
    )
    return receipt


def test_a_mission_completes_and_its_work_product_verifies(bench: Bench) -> None:
    mission_id = bench.dispatch("write a page")

    assert bench.worker(deliver).once() is WorkerExit.DRAINED

    mission = bench.mission(mission_id)
    assert (mission.status, mission.attempt, mission.summary) == (Status.COMPLETED, 1, "done")
    assert bench.event_types(mission_id) == ["dispatched", "started", "completed", "ready"]
    receipt = assert_sound(bench, mission_id)
    assert [artifact["path"] for artifact in receipt["artifacts"]] == ["work_products/summary.md", "run.log"]
    assert receipt["sandbox"]["backend"] == "none"
    assert bench.log(mission_id).splitlines()[-1].endswith("outcome: completed: done")
    [attempt] = bench.attempts(mission_id)
    assert attempt.end_reason == "completed"


def test_a_program_runs_in_a_fresh_folder_with_nothing_inherited(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "x")
    seen: dict[str, Any] = {}

    def do(ctx: MissionContext) -> Outcome:
        program = (
            "import json, os, pathlib; pathlib.Path('work_products/env.json').write_text(json.dumps(dict(os.environ)));"
            "print('from the program'); print(open(os.environ['UA_VP_OBJECTIVE_FILE']).read())"
        )
        seen["finished"] = ctx.run([sys.executable, "-c", program], capture=True)
        return Outcome.completed("ran")

    mission_id = bench.dispatch("the objective, verbatim: ünï\n'quoted'")
    bench.worker(do).once()

    assert bench.mission(mission_id).status is Status.COMPLETED
    environment = json.loads((bench.workspace(mission_id).root / "work_products" / "env.json").read_text())
    assert "SECRET_OF_THE_WORKER" not in environment
    assert environment["UA_VP_MISSION_ID"] == mission_id
    assert {"PATH", "HOME", "TMPDIR", "UA_VP_WORK_PRODUCTS"} <= set(environment)
    assert seen["finished"].code == 0
    assert seen["finished"].stdout.decode() == "from the program\nthe objective, verbatim: ünï\n'quoted'\n"
    assert "stdout from the program" in bench.log(mission_id)


@pytest.mark.parametrize(
    ("raises", "mode"),
    [
        (RuntimeError("broken"), FailureMode.LANE_ERROR),
        (SystemExit(3), FailureMode.LANE_ERROR),
        (KeyboardInterrupt(), FailureMode.LANE_ERROR),
    ],
)
def test_whatever_a_lane_raises_ends_the_mission(bench: Bench, raises: BaseException, mode: FailureMode) -> None:
    def do(_ctx: MissionContext) -> Outcome:
        raise raises

    mission_id = bench.dispatch()
    bench.worker(do).once()

    mission = bench.mission(mission_id)
    assert (mission.status, mission.failure_mode) == (Status.FAILED, mode)
    assert type(raises).__name__ in (mission.failure_detail or "")
    assert_sound(bench, mission_id)


def test_success_with_nothing_to_show_is_missing_work_product(bench: Bench) -> None:
    mission_id = bench.dispatch()
    bench.worker(lambda _ctx: Outcome.completed("all done, trust me")).once()

    mission = bench.mission(mission_id)
    assert (mission.status, mission.failure_mode) == (Status.FAILED, FailureMode.MISSING_WORK_PRODUCT)
    assert "trust me" in (mission.failure_detail or "")
    assert_sound(bench, mission_id)


def test_something_that_is_no_outcome_is_a_lane_error(bench: Bench) -> None:
    mission_id = bench.dispatch()
    bench.worker(lambda _ctx: "fine").once()  # type: ignore[arg-type,return-value]  # the point

    assert bench.mission(mission_id).failure_mode is FailureMode.LANE_ERROR


def test_a_retryable_failure_waits_and_then_fails_for_good(bench: Bench) -> None:
    mission_id = bench.dispatch(max_tries=1)

    def do(_ctx: MissionContext) -> Outcome:
        return Outcome.failed("the provider is away", failure_mode=FailureMode.PROVIDER_UNAVAILABLE, retryable=True)

    again = bench.dispatch(max_tries=2)
    bench.worker(do, info=_with_capacity(bench, 2)).once()

    mission = bench.mission(mission_id)
    assert (mission.status, mission.failure_mode) == (Status.FAILED, FailureMode.PROVIDER_UNAVAILABLE)
    assert_sound(bench, mission_id)
    waiting = bench.mission(again)
    assert (waiting.status, waiting.tries) == (Status.QUEUED, 1)
    assert 3.9 <= (waiting.due_at - bench.ports.clock.now()) / 1e6 + 2 <= 8.1


def test_cancelling_a_running_mission_ends_its_whole_process_tree(bench: Bench) -> None:
    mission_id = bench.dispatch()
    tree = "import signal, subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()'], start_new_session=True); print('up', flush=True); signal.pause()"

    def do(ctx: MissionContext) -> Outcome:
        ctx.run([sys.executable, "-c", tree, mission_id])
        return Outcome.completed("never")

    worker = bench.worker(do)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    log = bench.workspace(mission_id).attempt(1).run_log
    wait_until(lambda: log.exists() and "stdout up" in log.read_text(), within=10, why="the tree is up")

    bench.cancel(mission_id, "changed my mind")

    wait_until(lambda: bench.mission(mission_id).marked_at, within=10, why="it ends cancelled")
    mission = bench.mission(mission_id)
    assert (mission.status, mission.cancel_reason) == (Status.CANCELLED, "changed my mind")
    assert processes_with(mission_id) == []
    assert_sound(bench, mission_id)
    worker.drain()
    assert thread.join(10)


def test_a_mission_cancelled_in_the_queue_gets_folder_receipt_and_marker(bench: Bench) -> None:
    mission_id = bench.dispatch()
    bench.cancel(mission_id)
    assert bench.mission(mission_id).status is Status.CANCELLED

    bench.worker(deliver).once()

    receipt = assert_sound(bench, mission_id)
    assert receipt["artifacts"] == []
    assert bench.mission(mission_id).attempt == 1
    assert bench.attempts(mission_id) == []


@pytest.mark.parametrize(
    ("budget", "mode"),
    [
        (Budget(seconds=0.5), FailureMode.TIMEOUT),
        (Budget(idle_seconds=0.5), FailureMode.NO_PROGRESS),
        (Budget(output_bytes=1000), FailureMode.BUDGET_EXCEEDED),
    ],
)
def test_a_budget_is_enforced(bench: Bench, budget: Budget, mode: FailureMode) -> None:
    flood = "import signal\nfor _ in range(200): print('x' * 99, flush=True)\nsignal.pause()"

    def do(ctx: MissionContext) -> Outcome:
        ctx.run([sys.executable, "-c", flood])
        return Outcome.completed("never")

    mission_id = bench.dispatch(budget=budget)
    bench.worker(do).once()

    mission = bench.mission(mission_id)
    assert (mission.status, mission.failure_mode) == (Status.FAILED, mode)
    assert_sound(bench, mission_id)


def test_a_lane_that_ignores_cancel_is_abandoned_and_the_worker_asks_to_be_replaced(bench: Bench) -> None:
    mission_id = bench.dispatch(budget=Budget(seconds=0.3))
    release = bench.ports.threads.signal()

    def do(ctx: MissionContext) -> Outcome:
        ctx.log("I never look at ctx.cancelled")
        release.wait(30)
        return deliver(ctx)

    assert bench.worker(do).once() is WorkerExit.RESTART

    mission = bench.mission(mission_id)
    assert (mission.status, mission.failure_mode, mission.attempt) == (Status.FAILED, FailureMode.TIMEOUT, 2)
    assert verify(bench.workspace(mission_id)) == []
    assert "I never look" in bench.log(mission_id)
    release.set()


def test_draining_puts_a_mission_back_uncounted_and_keeps_its_log(bench: Bench) -> None:
    mission_id = bench.dispatch()

    def do(ctx: MissionContext) -> Outcome:
        ctx.log("first attempt was here")
        ctx.cancelled.wait()
        return Outcome.failed("stopped")

    worker = bench.worker(do, drain=0.2)
    thread = bench.ports.threads.start("worker", lambda: void(worker.run()))
    wait_until(lambda: bench.mission(mission_id).status is Status.RUNNING, within=10, why="claimed")
    worker.drain()
    assert thread.join(10)
    mission = bench.mission(mission_id)
    assert (mission.status, mission.tries, mission.requeue_reason) == (Status.QUEUED, 0, "drained")

    bench.worker(deliver).once()

    assert_sound(bench, mission_id)
    earlier = bench.workspace(mission_id).root / "supporting" / "attempts" / "1.log"
    assert "first attempt was here" in earlier.read_text()


def test_links_and_pipes_are_not_handed_over_and_the_log_says_so(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")

    def do(ctx: MissionContext) -> Outcome:
        (ctx.work_products / "link").symlink_to(tmp_path / "outside")
        return deliver(ctx)

    mission_id = bench.dispatch()
    bench.worker(do).once()

    receipt = assert_sound(bench, mission_id)
    assert "work_products/link" not in [artifact["path"] for artifact in receipt["artifacts"]]
    assert "work_products/link" in bench.log(mission_id)


def test_observers_see_the_events_in_order_and_progress_is_an_event(bench: Bench) -> None:
    seen: list[Event] = []
    mission_id = bench.dispatch()

    def do(ctx: MissionContext) -> Outcome:
        ctx.progress("half way", percent=50)
        return deliver(ctx)

    bench.worker(do, notify=seen.append).once()

    types = [event.type for event in seen if event.mission_id == mission_id]
    assert types == ["vp.mission.started", "vp.mission.progress", "vp.mission.completed", "vp.mission.ready"]
    progress = next(event for event in seen if event.type == "vp.mission.progress")
    assert progress.payload == {"summary": "half way", "data": {"percent": 50}}


def void(_value: object) -> None:
    """A thread's target gives nothing back."""


def _with_capacity(bench: Bench, capacity: int) -> Any:
    return replace(bench.site(deliver).info, capacity=capacity)


def processes_with(mark: str) -> list[int]:
    """Process ids whose command line holds `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return found


def test_a_mission_that_an_operator_failed_gets_its_receipt_and_its_marker_from_the_next_worker(bench: Bench) -> None:
    def do(_ctx: MissionContext) -> Outcome:
        now, actor = bench.ports.clock.now(), Actor(name="ops", via="test")
        bench.ledger.run(lambda tx: operating.fail(tx, mission_id, reason="it is stuck", actor=actor, now=now))
        return Outcome.completed("done after all")

    mission_id = bench.dispatch()
    bench.worker(do).once()
    bench.worker(deliver).once()

    assert bench.event_types(mission_id) == ["dispatched", "started", "failed", "ready"]
    assert verify(bench.workspace(mission_id)) == []
    receipt = json.loads((bench.workspace(mission_id).root / "mission_receipt.json").read_text())
    assert (receipt["attempt"], receipt["failure_mode"]) == (2, "operator")
    [attempt] = bench.attempts(mission_id)
    assert attempt.late_outcome is not None
    assert attempt.late_outcome["summary"] == "done after all"
