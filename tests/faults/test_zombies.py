"""Workers stopped past their lease at random moments, under load, and let go on: what they still bring is late."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter

import pytest

from tests.faults.audit import look_through
from tests.faults.conftest import LEASE
from tests.faults.kin import Kin
from tests.faults.storm import Callers, Storm, seed_of
from tests.figures import Figures, Rounds
from tests.product import Json, Process, Product
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

MOMENTS = {"whenever": 2, "staged": 2, "published": 1}
RECEIPTS = {"staged": ".attempts/*/staging/mission_receipt.json", "published": "mission_receipt.json"}
LONGEST_LOOK = 3.0


def test_workers_stopped_past_their_lease_bring_nothing_twice(
    rogue: Product, kin: Kin, rounds: Rounds, figures: Figures
) -> None:
    stops, seed = rounds(ci=4, soak=1_000), seed_of("UA_VP_ZOMBIE_SEED")
    storm, dice, caught = Storm(rogue, kin), random.Random(seed), Counter[str]()
    storm.begin()
    callers = Callers(product=rogue, seed=seed)
    with callers.at_work():
        for _ in range(stops):
            (moment,) = dice.choices(list(MOMENTS), list(MOMENTS.values()))
            caught[doze(rogue, dice.choice(storm.workers), moment, dice)] += 1
        storm.settle(callers)
    storm.end()

    found = look_through(rogue, callers.acknowledged)
    found.double += callers.changed
    found.orphaned += [f"process {left.pid}: {left.command}" for left in kin.living()]
    print(found)
    late = rogue.rows("SELECT count(*) FROM vp_attempts WHERE late_outcome IS NOT NULL")[0][0]
    moments = ", ".join(f"{moment} {number}" for moment, number in caught.items())
    note = f"stopped {moments}; {len(callers.acknowledged)} missions, {late} outcomes came too late, none published"
    figures("SIGSTOP of a worker past its lease, under load", tried=stops, note=note, **found.counts())


def doze(product: Product, worker: Process, moment: str, dice: random.Random) -> str:
    """Stop the worker at such a moment, if one comes, for one and a bit to two leases; gives the moment it was."""
    over = time.monotonic() + (dice.random() if moment == "whenever" else LONGEST_LOOK)
    while time.monotonic() < over and not (moment in RECEIPTS and is_unmarked(product, RECEIPTS[moment])):
        continue
    came = time.monotonic() < over
    product.stop(worker)
    threading.Event().wait(LEASE * dice.uniform(1.2, 2))
    worker.send(signal.SIGCONT)
    return moment if came else "whenever"


def is_unmarked(product: Product, receipt: str) -> bool:
    """Whether a mission has this receipt and no marker yet: its worker is between two steps of finalize."""
    folders = product.home.glob(f"AGENT_RUN_WORKSPACES/*/*/{receipt}")
    return any(not (path.parents[receipt.count("/")] / "sync_ready.json").exists() for path in folders)


def test_a_worker_stopped_in_a_transaction_keeps_all_out_until_it_goes_on_or_dies(
    product: Product, figures: Figures, rounds: Rounds
) -> None:
    """Nobody can take a lock of SQLite's away from a process that lives; what waits is refused, and told so."""
    times, lost = rounds(ci=1, soak=50), 0
    product.serve()
    for number in range(times):
        worker = product.worker()
        stop_in_a_transaction(product, worker, f"round-{number}")
        answer = product.post("/api/v1/ops/vp/missions/dispatch", {**BODY, "idempotency_key": f"kept-out-{number}"})
        assert (answer.status_code, answer.json()["code"]) == (503, "ledger_busy")
        worker.kill()
        mission_id = product.dispatch(**BODY)
        product.worker()
        lost += product.finished(mission_id)["status"] != "completed"
    there = product.rows("SELECT count(*) FROM vp_missions WHERE idempotency_key LIKE 'kept-out-%'")
    assert there == [(0,)], "a dispatch that was refused was taken"
    figures("SIGSTOP of a worker in a transaction", tried=times, lost=lost, note="busy until it was killed")


BODY: Json = {
    "vp_id": "vp.general.primary",
    "objective": "Wait",
    "mission_type": "command",
    "constraints": {"argv": ["sh", "-c", 'echo "# Done" > work_products/summary.md']},
}


def stop_in_a_transaction(product: Product, worker: Process, name: str) -> None:
    """Stop it again and again while it works, until it holds the write lock."""

    def holds_the_lock() -> bool:
        product.dispatch(**BODY)
        for _ in range(200):
            worker.send(signal.SIGSTOP)
            if product.is_locked():
                return True
            worker.send(signal.SIGCONT)
        return False

    wait_until(holds_the_lock, within=60, why=f"{name}: it is stopped while it writes")
