"""The wall clock set by an hour, both ways, while missions run, wait for their time, and wait for their next try."""

from __future__ import annotations

import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.conftest import LEASE, ROGUE
from tests.faults.test_ledger_away import Mission
from tests.figures import Figures, Rounds
from tests.product import Json, Process, Product
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        shutil.which("cc") is None, reason="needs a C compiler: only a preloaded function can set a clock"
    ),
]

HOUR = timedelta(hours=1)
QUICK: Json = {"mission_type": "run", "constraints": {"argv": ["sh", "-c", 'echo "# Done" > work_products/summary.md']}}


class Clock:
    """The wall clock of all the product's processes; other clocks go on as they do."""

    def __init__(self, folder: Path) -> None:
        self.library, self.file = folder / "clock_shift.so", folder / "shift"
        source = Path(__file__).with_name("clock_shift.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self.library, source], check=True)
        self.shift = timedelta()
        self.set(timedelta())

    def set(self, shift: timedelta) -> None:
        """Step to `shift` from the real time, for all at once."""
        self.shift = shift
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("=q", shift // timedelta(microseconds=1)))

    def now(self) -> datetime:
        """What the product reads."""
        return datetime.now(UTC) + self.shift


@pytest.fixture
def clock(rogue: Product, tmp_path: Path) -> Clock:
    """In the hands of the test, for whatever is started from now on."""
    clock = Clock(tmp_path)
    rogue.environ |= {"LD_PRELOAD": str(clock.library), "CLOCK_SHIFT_FILE": str(clock.file)}
    return clock


def test_no_lease_is_lost_and_no_timer_stuck_when_the_clock_is_set(
    rogue: Product, clock: Clock, tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    steps, lost = rounds(ci=2, soak=500), 0
    rogue.serve()
    workers = [rogue.worker(ROGUE), rogue.worker(ROGUE)]
    for number in range(steps):
        ahead = number % 2 == 0
        running = Mission(rogue, tmp_path, ROGUE, "run")
        due = rogue.dispatch(ROGUE, **QUICK, not_before=(clock.now() + HOUR / 2).isoformat())
        back_off = rogue.dispatch(ROGUE, mission_type="again")
        wait_until(lambda: rogue.mission(back_off)["tries"] == 1, within=20, why="it waits for its next try")  # noqa: B023  # it is run here
        sessions = [rogue.session(worker)["session_id"] for worker in workers]

        clock.set(clock.shift + (HOUR if ahead else -HOUR))

        wait_until(lambda: renewed(rogue, workers, clock), within=20, why="the leases are renewed after the step")
        lost += [rogue.session(worker)["session_id"] for worker in workers] != sessions
        lost += rogue.mission(running.mission_id)["attempt"] != 1
        if ahead:
            lost += sum(rogue.finished(mission_id)["status"] != "completed" for mission_id in (back_off, due))
        else:
            lost += rogue.mission(due)["queued_reason"] != "not_before"
            rogue.cancel(due)
            rogue.cancel(back_off)
            replace_holder(rogue, running, workers)
        running.tell()
        lost += rogue.finished(running.mission_id)["status"] != "completed"
    note = "leases kept; what was due by the new time ran, what was not did not; a worker killed after it was missed in time"
    figures("wall clock set by an hour", tried=steps, lost=lost, note=note)


def replace_holder(product: Product, running: Mission, workers: list[Process]) -> None:
    """Kill the mission's worker: the other one's timers must notice, whatever the clock says."""
    holder = product.holder(running.mission_id, workers)
    holder.kill()
    wait_until(lambda: product.mission(running.mission_id)["attempt"] == 2, within=20, why="the other takes over")
    workers[workers.index(holder)] = product.worker(ROGUE)


def renewed(product: Product, workers: list[Process], clock: Clock) -> bool:
    """Whether their last heartbeats are by the new clock."""
    beats = [product.session(worker)["last_heartbeat_at"] for worker in workers]
    return all(abs(datetime.fromisoformat(at) - clock.now()) < timedelta(seconds=10 * LEASE) for at in beats)


def test_the_clock_that_the_product_reads_is_the_tests(rogue: Product, clock: Clock) -> None:
    """Else the tests above would show nothing."""
    clock.set(-HOUR)
    script = "import time; print(time.time(), time.monotonic() > 0)"
    done = subprocess.run(
        [rogue.python, "-c", script], env=rogue.environment(), capture_output=True, text=True, check=True
    )
    seen = datetime.fromtimestamp(float(done.stdout.split()[0]), UTC)
    assert abs(seen - clock.now()) < timedelta(minutes=1)
