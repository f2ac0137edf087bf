"""SIGSTOP of a worker for longer than its lease, then SIGCONT."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.faults.conftest import LEASE
from tests.figures import Figures, Rounds
from tests.product import Json, Process, Product
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

LATE_AND_SECOND = """
    if mkdir "$1" 2>/dev/null; then
        read -r line < "$2"; echo "# late" > work_products/summary.md; touch "$1/written"
    else
        touch "$1/second"; read -r line < "$3"; echo "# second" > work_products/summary.md
    fi
"""
UNTIL_TOLD = 'touch "$1"; read -r line < "$2"; echo "# told" > work_products/summary.md'


def pipe(path: Path) -> Path:
    """A named pipe on which a mission waits for a line."""
    os.mkfifo(path)
    return path


def tell(path: Path) -> None:
    """Send the line; the mission must be waiting for it."""
    wait_until(lambda: is_written(path), within=20, why="the mission waits for a line")


def is_written(path: Path) -> bool:
    try:
        writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads yet
        return False
    with os.fdopen(writer, "w") as line:
        line.write("go\n")
    return True


@pytest.mark.parametrize("other_is", ["at work", "done"])
def test_what_a_worker_brings_after_another_took_over_is_kept_and_never_published(
    product: Product, tmp_path: Path, other_is: str, rounds: Rounds, figures: Figures
) -> None:
    product.serve()
    workers, times = [product.worker(), product.worker()], rounds(ci=1, soak=500)
    for number in range(times):
        once, first, second = (tmp_path / f"{name}-{number}" for name in ("once", "first", "second"))
        mission_id = product.shell(LATE_AND_SECOND, str(once), str(pipe(first)), str(pipe(second)))
        wait_until(once.exists, within=20, why="the first attempt is at work")
        stopped = product.holder(mission_id, workers)
        product.stop(stopped)
        tell(first)
        wait_until((once / "written").exists, within=20, why="the work is done, but its worker does not move")
        wait_until((once / "second").exists, within=20, why="another worker is at it")

        if other_is == "done":
            tell(second)
            assert product.finished(mission_id)["status"] == "completed"
        stopped.send(signal.SIGCONT)
        wait_until(partial(late_outcome, product, mission_id), within=20, why="what came late is kept")
        if other_is == "at work":
            assert (product.status(mission_id), product.mission(mission_id)["attempt"]) == ("running", 2)
            tell(second)

        check_second_won(product, mission_id)
    figures(f"SIGSTOP past the lease, the other worker {other_is}", tried=times, note="no late work was published")


def late_outcome(product: Product, mission_id: str) -> Json | None:
    outcome: Json | None = product.attempts(mission_id)[0]["late_outcome"]
    return outcome


def check_second_won(product: Product, mission_id: str) -> None:
    mission = product.finished(mission_id)
    assert (mission["status"], mission["attempt"], mission["summary"]) == ("completed", 2, "second")
    first, second = product.attempts(mission_id)
    assert first["end_reason"] == "lease_lost"
    assert first["late_outcome"]["status"] in {
        "completed",
        "failed",
    }  # failed, if it heard first that its lease is lost
    assert (second["end_reason"], second["late_outcome"]) == ("completed", None)
    assert len(product.terminal_events(mission_id)) == 1
    assert product.artifact(mission_id, "work_products/summary.md").text == "# second\n"
    assert (product.workspace(mission_id) / "work_products" / "summary.md").read_text() == "# second\n"
    product.run("artifacts", "verify", mission_id)


def test_a_worker_that_slept_past_its_lease_never_fences_its_own_live_mission(
    product: Product, tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    product.serve()
    worker = product.worker()
    begun, line = tmp_path / "begun", pipe(tmp_path / "line")
    mission_id = product.shell(UNTIL_TOLD, str(begun), str(line))
    wait_until(begun.exists, within=20, why="the mission is at work")
    times = rounds(ci=2, soak=500)
    for _ in range(times):
        sleep_past_the_lease(product, worker)
        wait_until(lambda: is_live(product, worker), within=20, why="it renewed its lease")
        assert (product.status(mission_id), product.mission(mission_id)["attempt"]) == ("running", 1)
    tell(line)

    mission = product.finished(mission_id)
    assert (mission["status"], mission["attempt"], mission["tries"]) == ("completed", 1, 0)
    assert len(product.attempts(mission_id)) == len(product.terminal_events(mission_id)) == 1
    assert product.artifact(mission_id, "work_products/summary.md").text == "# told\n"
    figures("SIGSTOP past the lease with no other worker", tried=times, note="no worker fenced its own mission")


def test_work_that_ended_while_its_worker_slept_past_the_lease_counts_if_nobody_took_over(
    product: Product, tmp_path: Path, rounds: Rounds
) -> None:
    product.serve()
    worker = product.worker()
    for number in range(rounds(ci=2, soak=500)):
        begun, line = tmp_path / f"begun-{number}", pipe(tmp_path / f"line-{number}")
        mission_id = product.shell(UNTIL_TOLD, str(begun), str(line))
        wait_until(begun.exists, within=20, why="the mission is at work")
        sleep_past_the_lease(product, worker, meanwhile=line)

        mission = product.finished(mission_id)
        assert (mission["status"], mission["attempt"]) == ("completed", 1)


def sleep_past_the_lease(product: Product, worker: Process, *, meanwhile: Path | None = None) -> None:
    """Stop the worker until its lease has been over for half a lease and more, then let it go on."""
    product.stop(worker)
    if meanwhile is not None:
        tell(meanwhile)
    wait_until(lambda: not is_live(product, worker), within=3 * LEASE, why="its lease runs out")
    over = time.monotonic() + LEASE / 2
    wait_until(lambda: time.monotonic() > over, within=LEASE, why="time goes by")
    worker.send(signal.SIGCONT)


def is_live(product: Product, worker: Process) -> bool:
    return bool(product.session(worker)["effective_status"] == "live")
