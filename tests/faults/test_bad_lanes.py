"""Lanes that do what no lane should: their worker stays responsive, and what cannot be mended is replaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.conftest import LEASE, ROGUE, add_rogue, new_product
from tests.faults.kin import Kin
from tests.figures import Figures, Rounds
from tests.product import Json, Process, Product, lanes_table
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

QUICK: Json = {"mission_type": "run", "constraints": {"argv": ["sh", "-c", 'echo "# Done" > work_products/summary.md']}}
RESTART = 75
LOG_LIMIT = 64 * 1024 * 1024
SOMEBODY_ELSE, AT_MOST = 61_234, 60
POISON = ("kill", "leave", "crash")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """An API, and the rogue lane; who drains waits a second for it."""
    with new_product(tmp_path_factory.mktemp("rogue") / "product", "rogue") as product:
        config = lanes_table("rogue", lease_seconds=LEASE).replace("[worker]\n", "[worker]\ndrain_seconds = 1\n")
        product.configure(config)
        add_rogue(product)
        product.serve()
        yield product


@pytest.fixture
def worker(serving: Product) -> Iterator[Process]:
    """The lane's, for one test."""
    worker = serving.worker(ROGUE)
    yield worker
    worker.kill()


def others_complete(product: Product, within: float = 30.0) -> bool:
    """Whether another mission is taken meanwhile, and brought to its end."""
    return bool(product.finished(product.dispatch(ROGUE, **QUICK), within=within)["status"] == "completed")


@pytest.fixture
def deaf(serving: Product, worker: Process, tmp_path: Path) -> Iterator[str]:
    """A mission whose lane hears nothing, at work."""
    begun = tmp_path / "begun"
    mission_id = serving.dispatch(ROGUE, str(begun), mission_type="ignore")
    wait_until(begun.exists, within=20, why="it is at work")
    yield mission_id
    begun.unlink(missing_ok=True)


def test_a_lane_that_hears_no_cancel_is_abandoned_and_its_worker_replaced(
    serving: Product, worker: Process, deaf: str, figures: Figures
) -> None:
    serving.cancel(deaf)

    mission = serving.finished(deaf)

    assert (mission["status"], mission["attempt"]) == ("cancelled", 2)
    assert wait_until(lambda: worker.code, within=20, why="the worker ends") == RESTART
    figures("lane that hears no cancel", tried=1, note="cancelled as attempt 2; its worker replaced")


def test_a_lane_that_never_returns_does_not_keep_a_drain_from_its_end(
    serving: Product, worker: Process, deaf: str, figures: Figures
) -> None:
    assert worker.end(within=20) == RESTART

    mission = serving.mission(deaf)
    assert (mission["status"], mission["tries"]) == ("queued", 0), "drained: not counted as a try"
    serving.cancel(deaf)
    figures("lane that never returns, drained", tried=1, note="queued again, not counted as a try")


def test_a_lane_that_floods_its_log_fills_no_disk_and_stops_nobody(
    serving: Product, worker: Process, figures: Figures
) -> None:
    flood = serving.dispatch(ROGUE, mission_type="flood")
    assert others_complete(serving)
    assert serving.finished(flood, within=60)["status"] == "completed"
    assert (serving.workspace(flood) / "run.log").stat().st_size <= LOG_LIMIT + 65_536
    assert worker.code is None
    figures("lane that floods its log", tried=1, note=f"the log stays below {LOG_LIMIT >> 20} MiB")


def test_a_lane_that_leaks_threads_does_not_keep_its_worker_from_working_nor_from_leaving(
    serving: Product, worker: Process, figures: Figures
) -> None:
    for _ in range(3):
        assert serving.finished(serving.dispatch(ROGUE, mission_type="leak"))["status"] == "completed"
    assert others_complete(serving)
    assert len(list(Path(f"/proc/{worker.pid}/task").iterdir())) > 300
    assert worker.end() == 0
    figures("lane that leaks threads", tried=3, note="over 300 threads; the worker works on, and leaves")


def test_a_lane_that_takes_all_memory_fails_alone(serving: Product, worker: Process, figures: Figures) -> None:
    hoard = serving.dispatch(ROGUE, mission_type="hoard")
    assert others_complete(serving)

    mission = serving.finished(hoard)

    assert (mission["status"], mission["failure_mode"]) == ("failed", "lane_error")
    assert "MemoryError" in mission["summary"]
    assert worker.code is None
    figures("out of memory", tried=1, note="failed as lane_error; its worker works on")


def test_a_lane_that_holds_the_interpreter_lock_loses_its_lease_and_the_other_worker_goes_on(
    serving: Product, worker: Process, rounds: Rounds, figures: Figures
) -> None:
    times, lost, double = rounds(ci=1, soak=100), 0, 0
    second = serving.worker(ROGUE)
    for _ in range(times):
        hog = serving.dispatch(ROGUE, f"{3 * LEASE}", mission_type="hog", max_tries=1)
        mission = serving.finished(hog)
        lost += (mission["status"], mission["failure_mode"]) != ("failed", "lease_expired")
        lost += not others_complete(serving)
        double += len(serving.terminal_events(hog)) - 1
        wait_until(lambda: serving.attempts(hog)[0]["late_outcome"], within=20, why="what came late is kept")  # noqa: B023  # it is run here
    assert (worker.code, second.end()) == (None, 0), "who held the lock goes on, too"
    note = "taken over by the other worker, what it said too late is kept"
    figures("lane holds the interpreter lock for 3 leases", tried=times, lost=lost, double=double, note=note)


def test_a_poison_mission_fails_when_its_tries_are_used_up_and_the_lane_goes_on(
    serving: Product, rounds: Rounds, figures: Figures
) -> None:
    times, lost, double = rounds(ci=1, soak=100), 0, 0
    worker = supervised(serving)
    for _ in range(times):
        poison = [serving.dispatch(ROGUE, mission_type=way, max_tries=1, priority=1) for way in POISON]
        others = [serving.dispatch(ROGUE, **QUICK) for _ in range(5)]
        missions = [*poison, *others]
        wait_until(lambda: worker().pid and all_ended(serving, missions), within=90, why="all end")  # noqa: B023  # it is run here
        ends = [serving.mission(mission_id) for mission_id in poison]
        lost += sum((end["status"], end["failure_mode"]) != ("failed", "lease_expired") for end in ends)
        lost += sum(serving.status(mission_id) != "completed" for mission_id in others)
        double += sum(len(serving.terminal_events(mission_id)) - 1 for mission_id in missions)
    worker().kill()
    note = "each took its worker along and failed as lease_expired; the five others of each round completed"
    figures("poison missions", tried=times * len(POISON), lost=lost, double=double, note=note)


def supervised(product: Product) -> Callable[[], Process]:
    """A worker that is there again whenever it is looked at: what systemd or `up` does."""
    crew: list[Process] = []

    def worker() -> Process:
        if not crew or crew[-1].code is not None:
            crew.append(product.start("worker", ROGUE))
        return crew[-1]

    return worker


def all_ended(product: Product, missions: Sequence[str]) -> bool:
    marks = ", ".join("?" for _ in missions)
    marked = f"SELECT count(*) FROM vp_missions WHERE marked_at IS NOT NULL AND mission_id IN ({marks})"
    return product.rows(marked, *missions) == [(len(missions),)]


BOMB: Sequence[str] = (
    *("prlimit", f"--nproc={AT_MOST}", "setpriv", f"--reuid={SOMEBODY_ELSE}", "--clear-groups"),
    *("perl", "-e", "while (1) { fork; select undef, undef, undef, 0.02 }", "bomb"),
)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else whose processes alone are counted")
def test_a_fork_bomb_is_ended_to_the_last_process(serving: Product, worker: Process, figures: Figures) -> None:
    with Kin(serving) as kin:
        mission_id = serving.dispatch(ROGUE, mission_type="run", constraints={"argv": BOMB})
        wait_until(lambda: len(bombs(kin)) > AT_MOST // 2, within=20, why="it has forked")
        assert others_complete(serving)
        serving.cancel(mission_id)

        assert serving.finished(mission_id)["status"] == "cancelled"

        assert bombs(kin) == []
        assert worker.code is None
    figures("fork bomb", tried=1, orphaned=len(bombs(kin)), note=f"{AT_MOST} processes at most")


def bombs(kin: Kin) -> list[int]:
    return [relative.pid for relative in kin.living("child") if "bomb" in relative.command]
