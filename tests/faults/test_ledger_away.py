"""The ledger locked, or moved away, for less than a lease and for longer, while real workers run real processes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import LEASE
from tests.faults.kin import Kin
from tests.figures import Figures, Rounds
from tests.product import GENERAL, OPS, Process, Product
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

GONE = 75
UNTIL_TOLD = 'touch "$1"; while [ ! -e "$2" ]; do sleep 0.05; done; echo "# Told" > work_products/summary.md'


@contextmanager
def locked(product: Product) -> Iterator[None]:
    """Somebody else keeps the write lock: a backup tool, a stuck process."""
    with closing(product.ledger()) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def moved_away(product: Product) -> Iterator[None]:
    """The file is not where it was, as when its mount is gone, and comes back as it was."""
    away = product.home / "away.db"
    (product.home / "vp_state.db").rename(away)
    yield
    away.rename(product.home / "vp_state.db")


WAYS = {"locked": locked, "moved away": moved_away}
Way = Callable[[Product], AbstractContextManager[None]]


@pytest.fixture(params=WAYS)
def away(request: pytest.FixtureRequest) -> Way:
    """How the ledger is out of reach."""
    return WAYS[request.param]


class Mission:
    """A mission that runs until it is told to end."""

    def __init__(self, product: Product, folder: Path, vp_id: str = GENERAL, mission_type: str = "command") -> None:
        self._begun, self._told = folder / f"begun-{os.urandom(4).hex()}", folder / f"told-{os.urandom(4).hex()}"
        argv = ["sh", "-euc", UNTIL_TOLD, "sh", str(self._begun), str(self._told)]
        self.mission_id = product.dispatch(vp_id, mission_type=mission_type, constraints={"argv": argv})
        wait_until(self._begun.exists, within=20, why="the mission is at work")

    def tell(self) -> None:
        self._told.touch()


def test_away_for_less_than_a_lease_nothing_is_stopped_and_the_mission_completes(
    product: Product, tmp_path: Path, away: Way, rounds: Rounds, figures: Figures, request: pytest.FixtureRequest
) -> None:
    times, lost = rounds(ci=2, soak=500), 0
    product.serve()
    worker = product.worker()
    for _ in range(times):
        mission = Mission(product, tmp_path)
        with away(product):
            threading.Event().wait(LEASE / 2)
        assert product.post(f"{OPS}/missions/dispatch", BODY).status_code == 202
        mission.tell()
        ended = product.finished(mission.mission_id)
        lost += (ended["status"], ended["attempt"], ended["tries"]) != ("completed", 1, 0)
    assert worker.code is None
    way = request.node.callspec.params["away"]
    figures(f"ledger {way} for half a lease", tried=times, lost=lost, note="the mission went on")


BODY = {
    "vp_id": GENERAL,
    "objective": "Wait",
    "mission_type": "command",
    "constraints": {"argv": ["true"]},
    "not_before": "2999-01-01T00:00:00Z",
}


def test_away_for_longer_the_worker_ends_what_it_runs_by_its_deadline_and_it_runs_again(
    product: Product,
    kin: Kin,
    tmp_path: Path,
    away: Way,
    rounds: Rounds,
    figures: Figures,
    request: pytest.FixtureRequest,
) -> None:
    times, slowest, lost, double, refused = rounds(ci=1, soak=200), 0.0, 0, 0, 0
    product.serve()
    for _ in range(times):
        worker = product.worker()
        mission = Mission(product, tmp_path)
        with away(product):
            slowest = max(slowest, seconds_until_stopped(kin))
            answer = product.post(f"{OPS}/missions/dispatch", BODY)
            assert answer.json()["code"] in {"ledger_busy", "ledger_gone"}, answer.text
            refused += 1
        worker = again(product, worker)
        mission.tell()
        ended = product.finished(mission.mission_id)
        lost += ended["status"] != "completed"
        double += ended["attempt"] - 2 + len(product.terminal_events(mission.mission_id)) - 1
        assert worker.end() == 0
    assert product.rows("SELECT count(*) FROM vp_missions")[0] == (times,), f"{refused} refused dispatches were taken"
    assert slowest <= 2 * LEASE, slowest
    way = request.node.callspec.params["away"]
    note = f"the worker's processes were ended {slowest / LEASE:.2f} leases after, at the latest"
    figures(f"ledger {way} for longer than a lease", tried=times, lost=lost, double=double, note=note)


def seconds_until_stopped(kin: Kin) -> float:
    """How long until no process of a mission is left."""
    since = time.monotonic()
    wait_until(lambda: not [left for left in kin.living("child") if "sleep" in left.command], within=10, why="ended")
    return time.monotonic() - since


def again(product: Product, worker: Process) -> Process:
    """The worker, or the one that a supervisor starts after it left because its ledger was gone."""
    wait_until(
        lambda: worker.code is not None or product.session(worker)["effective_status"] == "live", within=20, why="x"
    )
    if worker.code is None:
        return worker
    assert worker.code == GONE
    return product.worker()
