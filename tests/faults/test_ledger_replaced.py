"""The ledger's file deleted, or replaced by another, while API and workers run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import httpx2
import pytest

from tests.faults.test_killed_api import BODY
from tests.figures import Figures, Rounds
from tests.product import OPS, Process, Product
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

GONE = 75
CALLERS = 4
REFUSALS = 40


def delete(product: Product) -> None:
    """As somebody who clears up; what lies beside it is left."""
    (product.home / "vp_state.db").unlink()


def delete_all(product: Product) -> None:
    """With what lies beside it."""
    for file in product.home.glob("vp_state.db*"):
        file.unlink()


def replace(product: Product) -> None:
    """As a restore does: another ledger, whole, moved over this one."""
    other = product.home / "restored.db"
    with closing(product.ledger()) as source, closing(sqlite3.connect(other)) as copy:
        source.backup(copy)
    for name in ("vp_state.db-wal", "vp_state.db-shm"):
        (product.home / name).unlink()
    other.replace(product.home / "vp_state.db")


class Callers:
    """Callers who dispatch until the API is gone; what began after the harm was done must be refused."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self.harmed = Event()
        self.acknowledged, self.refused, self.into_the_void = 0, 0, 0

    def call(self) -> None:
        headers = {"Authorization": f"Bearer {self._product.token}"}
        with httpx2.Client(base_url=self._product.url, headers=headers, trust_env=False, timeout=30) as client:
            while self.refused < REFUSALS:
                harmed = self.harmed.is_set()
                try:
                    answer = client.post(f"{OPS}/missions/dispatch", json=BODY)
                except httpx2.TransportError:  # it left
                    return
                if answer.is_success:
                    self.acknowledged += 1
                    self.into_the_void += harmed
                else:
                    assert (answer.status_code, answer.json()["code"]) == (503, "ledger_gone"), answer.text
                    self.refused += 1


@pytest.mark.parametrize("harm", [delete, delete_all, replace])
def test_a_ledger_that_was_deleted_or_replaced_acknowledges_nothing_and_its_processes_leave(
    product: Product, harm: Callable[[Product], None], rounds: Rounds, figures: Figures
) -> None:
    times, into_the_void, acknowledged, refused = rounds(ci=1, soak=100), 0, 0, 0
    for _ in range(times):
        api, worker = product.serve(), product.worker()
        callers = Callers(product)
        with ThreadPoolExecutor(CALLERS) as pool:
            calls = [pool.submit(callers.call) for _ in range(CALLERS)]
            wait_until(lambda: callers.acknowledged > 20, within=30, why="dispatches go through")  # noqa: B023  # it is run here
            harm(product)
            callers.harmed.set()
        for call in calls:
            call.result()
        leave(api, worker)
        into_the_void += callers.into_the_void
        acknowledged, refused = acknowledged + callers.acknowledged, refused + callers.refused
    product.serve()
    product.worker()
    mission_id = product.shell('echo "# Done" > work_products/summary.md', priority=-1000)
    assert product.finished(mission_id)["status"] == "completed", "what was started again works on what is there"
    note = f"{acknowledged} acknowledged before, {refused} refused after; API and worker left with status {GONE}"
    figures(f"ledger in use: {harm.__name__}", tried=times, lost=into_the_void, note=note)


def leave(*processes: Process) -> None:
    """Each leaves by itself, so that whoever looks after it starts it again."""
    for process in processes:
        code = wait_until(lambda process=process: process.code, within=30, why=f"{process.name} leaves")  # type: ignore[misc]
        assert code == GONE, process.name
