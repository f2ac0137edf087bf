"""SIGSTOP of a worker for longer than its lease, then SIGCONT."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import LEASE
from tests.product import Process, Product
from tests.waiting import wait_until

ROUNDS = 5
LATE_ROUNDS = 3

pytestmark = pytest.mark.timeout(180)

ONCE_LATE = """
    if mkdir "$1" 2>/dev/null; then read -r line < "$2"; echo "# late" > work_products/summary.md; touch "$1/written"
    else echo "# second" > work_products/summary.md; fi
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


@pytest.mark.parametrize("number", range(LATE_ROUNDS))
def test_what_a_worker_brings_after_another_took_over_and_ended_the_mission_is_refused(
    product: Product, tmp_path: Path, number: int
) -> None:
    product.serve()
    stopped = product.worker()
    once, line = tmp_path / "once", pipe(tmp_path / "line")
    mission_id = product.shell(ONCE_LATE, str(once), str(line))
    wait_until(once.exists, within=20, why="the first attempt is at work")
    stopped.send(signal.SIGSTOP)
    tell(line)
    wait_until((once / "written").exists, within=20, why="the work is done, but its worker does not move")

    other = product.worker()
    mission = product.finished(mission_id)
    assert (mission["status"], mission["attempt"]) == ("completed", 2)
    stopped.send(signal.SIGCONT)

    wait_until(lambda: product.attempts(mission_id)[0]["late_outcome"], within=20, why="what came late is kept")
    first, second = product.attempts(mission_id)
    assert (first["end_reason"], second["end_reason"], second["late_outcome"]) == ("lease_lost", "completed", None)
    assert len(product.terminal_events(mission_id)) == 1
    assert product.mission(mission_id)["attempt"] == 2
    assert product.artifact(mission_id, "work_products/summary.md").text == "# second\n"
    assert (product.workspace(mission_id) / "work_products" / "summary.md").read_text() == "# second\n"
    product.run("artifacts", "verify", mission_id)
    other.end()
    following = product.finished(product.shell("echo > work_products/a"))
    assert following["status"] == "completed", "the worker that came too late works on"
    if number == LATE_ROUNDS - 1:
        print(
            f"figure: SIGSTOP past the lease, another worker ended the mission: {LATE_ROUNDS} rounds, published late 0"
        )


def test_a_worker_that_slept_past_its_lease_never_fences_its_own_live_mission(product: Product, tmp_path: Path) -> None:
    product.serve()
    worker = product.worker()
    begun, line = tmp_path / "begun", pipe(tmp_path / "line")
    mission_id = product.shell(UNTIL_TOLD, str(begun), str(line))
    wait_until(begun.exists, within=20, why="the mission is at work")
    for _ in range(ROUNDS):
        sleep_past_the_lease(product, worker)
        wait_until(lambda: is_live(product, worker), within=20, why="it renewed its lease")
        assert (product.status(mission_id), product.mission(mission_id)["attempt"]) == ("running", 1)
    tell(line)

    mission = product.finished(mission_id)
    assert (mission["status"], mission["attempt"], mission["tries"]) == ("completed", 1, 0)
    assert len(product.attempts(mission_id)) == len(product.terminal_events(mission_id)) == 1
    assert product.artifact(mission_id, "work_products/summary.md").text == "# told\n"
    print(f"figure: SIGSTOP past the lease with no other worker: {ROUNDS} rounds, own mission fenced 0")


def test_work_that_ended_while_its_worker_slept_past_the_lease_counts_if_nobody_took_over(
    product: Product, tmp_path: Path
) -> None:
    product.serve()
    worker = product.worker()
    for number in range(ROUNDS):
        begun, line = tmp_path / f"begun-{number}", pipe(tmp_path / f"line-{number}")
        mission_id = product.shell(UNTIL_TOLD, str(begun), str(line))
        wait_until(begun.exists, within=20, why="the mission is at work")
        sleep_past_the_lease(product, worker, meanwhile=line)

        mission = product.finished(mission_id)
        assert (mission["status"], mission["attempt"]) == ("completed", 1)


def sleep_past_the_lease(product: Product, worker: Process, *, meanwhile: Path | None = None) -> None:
    """Stop the worker until its lease has been over for half a lease and more, then let it go on."""
    worker.send(signal.SIGSTOP)
    if meanwhile is not None:
        tell(meanwhile)
    wait_until(lambda: not is_live(product, worker), within=3 * LEASE, why="its lease runs out")
    over = time.monotonic() + LEASE / 2
    wait_until(lambda: time.monotonic() > over, within=LEASE, why="time goes by")
    worker.send(signal.SIGCONT)


def is_live(product: Product, worker: Process) -> bool:
    return bool(product.session(worker)["effective_status"] == "live")
