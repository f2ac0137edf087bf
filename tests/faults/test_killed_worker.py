"""SIGKILL of a worker whose mission runs a family of processes that does not want to end."""

import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from tests.family import Family
from tests.faults.conftest import LEASE
from tests.figures import Figures, Rounds
from tests.product import Json, Product, json_files
from tests.waiting import wait_until

TAKEOVER_LEASES = 1.5

pytestmark = pytest.mark.timeout(180)


def test_the_mission_of_a_killed_worker_is_claimed_again_ended_once_and_no_process_is_left(
    product: Product, tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    product.serve()
    workers = [product.worker(), product.worker()]
    times, takeovers, orphans, lost, double = rounds(ci=2, soak=1_000), [], 0, 0, 0
    for number in range(times):
        with Family(tmp_path / f"family-{number}") as family:
            mission_id = product.command(*family.argv(product.python))
            wait_until(family.is_up, within=20, why="the mission's processes are there")

            killed = product.holder(mission_id, workers)
            at = time.time()
            killed.kill()

            mission = product.finished(mission_id, within=20)
            orphans += len(family.members())
        takeovers.append((claimed_at(product.attempts(mission_id)[1]) - at) / LEASE)
        lost += mission["status"] != "completed"
        double += len(product.terminal_events(mission_id)) - 1
        check(product, mission)
        workers.remove(killed)
        workers.append(product.worker())
    note = f"slowest takeover {max(takeovers):.2f} leases"
    figures(
        "SIGKILL of a worker with grandchildren", tried=times, lost=lost, double=double, orphaned=orphans, note=note
    )
    assert max(takeovers) <= TAKEOVER_LEASES, takeovers


def claimed_at(attempt: Json) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(attempt["claimed_at"]).timestamp()


def check(product: Product, mission: Json) -> None:
    mission_id = mission["mission_id"]
    assert (mission["attempt"], mission["tries"], mission["sync_state"]) == (2, 1, "ready")
    first, second = product.attempts(mission_id)
    assert (first["end_reason"], second["end_reason"]) == ("lease_lost", "completed")
    assert first["worker_id"] != second["worker_id"]
    (requeued,) = (e for e in product.events(mission_id=mission_id) if e["type"] == "vp.mission.requeued")
    assert requeued["payload"]["reason"] == "lease_lost"
    receipt, marker = json_files(product.workspace(mission_id), "mission_receipt.json", "sync_ready.json")
    assert (receipt["attempt"], receipt["worker_id"], marker["state"]) == (2, second["worker_id"], "completed")
    assert "supporting/attempts/1.log" in {artifact["path"] for artifact in receipt["artifacts"]}
    product.run("artifacts", "verify", mission_id)


def test_a_mission_whose_workers_are_killed_every_time_fails_when_its_tries_are_used_up(
    product: Product, tmp_path: Path
) -> None:
    product.serve()
    begun = tmp_path / "begun"
    mission_id = product.shell('echo begun >> "$1"; exec sleep 1000', str(begun), max_tries=2)
    for number in (1, 2):
        worker = product.worker()
        wait_until(partial(has_lines, begun, number), within=20, why="the mission is at work again")
        worker.kill()

    product.worker()

    mission = product.finished(mission_id)
    assert (mission["status"], mission["failure_mode"], mission["tries"]) == ("failed", "lease_expired", 2)
    assert [event["type"] for event in product.terminal_events(mission_id)] == ["vp.mission.failed"]
    assert [attempt["end_reason"] for attempt in product.attempts(mission_id)] == ["lease_lost", "lease_lost"]
    product.run("artifacts", "verify", mission_id)


def has_lines(file: Path, number: int) -> bool:
    return file.exists() and len(file.read_text().splitlines()) == number
