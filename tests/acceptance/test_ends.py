"""How missions end: cancelled at once or while running, and what every end leaves behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.installed import Installation
from tests.family import Family
from tests.product import GENERAL, OPS, TERMINAL, Json, Process, Product, json_files, lanes_table
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


def test_a_queued_mission_is_cancelled_at_once_and_gets_its_folder_from_the_next_reconcile(product: Product) -> None:
    product.serve()
    mission_id = product.shell("echo never > work_products/never.txt")

    answer = product.cancel(mission_id, reason="no longer wanted")

    assert (answer["status"], answer["mission"]["status"]) == ("cancelled", "cancelled")
    mission = product.mission(mission_id)
    assert (mission["cancel_reason"], mission["failure_mode"]) == ("no longer wanted", None)
    assert (mission["attempt"], product.attempts(mission_id)) == (1, [])
    assert (mission["result_ref"], mission["sync_state"], mission["started_at"]) == (None, "not_ready", None)
    again = product.post(f"{OPS}/missions/{mission_id}/cancel", {})
    assert (again.status_code, again.json()["code"]) == (409, "already_terminal")

    product.once()

    mission = product.finished(mission_id)
    assert (mission["status"], mission["sync_state"]) == ("cancelled", "ready")
    receipt, marker = json_files(product.workspace(mission_id), "mission_receipt.json", "sync_ready.json")
    assert (receipt["status"], receipt["cancel_reason"]) == ("cancelled", "no longer wanted")
    assert marker["state"] == "cancelled"
    assert [event["type"] for event in product.terminal_events(mission_id)] == ["vp.mission.cancelled"]
    product.run("artifacts", "verify", mission_id)


def test_a_running_mission_is_cancelled_when_every_process_of_it_is_gone(product: Product, family: Family) -> None:
    product.serve()
    worker = product.worker()
    mission_id = product.command(*family.argv(product.python))
    wait_until(family.is_up, within=20, why="the mission's processes are there")

    answer = product.cancel(mission_id)

    assert answer["status"] == "cancel_requested"
    assert answer["mission"]["cancel_requested"] is True
    again = product.post(f"{OPS}/missions/{mission_id}/cancel", {})
    assert again.status_code in {202, 409}  # it may have ended meanwhile
    wait_until(lambda: product.status(mission_id) in TERMINAL, within=10, why="it ends within grace and a little")
    assert family.members() == [], "what is shown as cancelled has no process left"
    mission = product.finished(mission_id)
    assert (mission["status"], mission["cancel_reason"], mission["sync_state"]) == ("cancelled", "requested", "ready")
    assert [event["type"] for event in product.terminal_events(mission_id)] == ["vp.mission.cancelled"]
    assert [attempt["end_reason"] for attempt in product.attempts(mission_id)] == ["cancelled"]
    assert worker.code is None, "the worker goes on"
    following = product.finished(product.shell("echo next > work_products/next.txt"))
    assert following["status"] == "completed"


@pytest.fixture(scope="module")
def ended(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Product, dict[str, str]]]:
    """One mission for each way to end, in one product that still answers."""
    folder = tmp_path_factory.mktemp("ended") / "product"
    with Product(installation.program, folder, lanes_table("general"), python=installation.python) as product:
        product.serve()
        queued = product.shell("exit 1")
        product.cancel(queued)
        product.worker()
        running = product.shell("echo part > work_products/part.txt; exec sleep 1000")
        wait_until(lambda: product.status(running) == "running", within=20, why="it runs")
        product.cancel(running)
        missions = {
            "cancelled while queued": queued,
            "cancelled while running": running,
            "completed": product.shell("echo done > work_products/done.txt"),
            "failed": product.shell("echo part > work_products/part.txt; exit 7"),
        }
        for mission_id in missions.values():
            product.finished(mission_id)
        yield product, missions


@pytest.mark.parametrize("way", ["completed", "failed", "cancelled while queued", "cancelled while running"])
def test_every_ended_missions_result_is_a_folder_with_receipt_and_marker_and_a_flipped_byte_is_found(
    ended: tuple[Product, dict[str, str]], way: str
) -> None:
    product, missions = ended
    mission_id = missions[way]
    assert product.status(mission_id) == way.split(maxsplit=1)[0]
    workspace = product.workspace(mission_id)
    receipt, marker = json_files(workspace, "mission_receipt.json", "sync_ready.json")
    assert receipt["status"] == marker["state"] == way.split(maxsplit=1)[0]
    product.run("artifacts", "verify", mission_id)

    for path, at in flips(workspace, receipt):
        flip_a_bit(workspace / path, at)
        assert product.run("artifacts", "verify", mission_id, code=None).code == 10, f"{path}, byte {at}"
        flip_a_bit(workspace / path, at)

    product.run("artifacts", "verify", mission_id)


def flips(workspace: Path, receipt: Json) -> Iterator[tuple[str, int]]:
    """Places to flip a bit: in the receipt where it stays JSON and where it does not, in the middle of two artifacts."""
    yield "mission_receipt.json", (workspace / "mission_receipt.json").read_bytes().index(b"vp-mission-")
    yield "mission_receipt.json", 0
    for artifact in [artifact for artifact in receipt["artifacts"] if artifact["bytes"]][:2]:
        yield artifact["path"], artifact["bytes"] // 2


def flip_a_bit(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    mode = file.stat().st_mode
    file.chmod(0o600)
    file.write_bytes(content)
    file.chmod(mode)


def test_missions_run_in_order_of_priority_and_one_that_must_not_begin_yet_waits(product: Product) -> None:
    product.serve()
    usual, sooner = product.shell("echo > work_products/a"), product.shell("echo > work_products/a", priority=0)
    later = product.shell("echo > work_products/a", not_before="2999-01-01T00:00:00Z", priority=-1000)
    assert product.mission(later)["queued_reason"] == "not_before"

    product.worker()
    for mission_id in (usual, sooner):
        product.finished(mission_id)

    started = [event["mission_id"] for event in product.events(vp_id=GENERAL) if event["type"] == "vp.mission.started"]
    assert started == [sooner, usual]
    assert product.status(later) == "queued"


WAIT_FOR_A_LINE = """
    echo half > work_products/half.txt; echo "said so far"; touch "$1/begun"
    read -r line < "$1/line"; echo done > work_products/done.txt
"""


@pytest.fixture
def meeting(tmp_path: Path) -> Path:
    """Where test and mission meet: the mission makes `begun` and waits for a line from the pipe `line`."""
    folder = tmp_path / "meeting"
    folder.mkdir()
    os.mkfifo(folder / "line")
    return folder


def tell(meeting: Path) -> None:
    (meeting / "line").write_text("go on\n", encoding="utf-8")


def test_what_an_attempt_writes_is_invisible_until_its_end_but_for_its_log(product: Product, meeting: Path) -> None:
    product.serve()
    product.worker()
    mission_id = product.shell(WAIT_FOR_A_LINE, str(meeting))
    wait_until((meeting / "begun").exists, within=20, why="the mission is at work")

    assert product.mission(mission_id)["status"] == "running"
    assert product.mission(mission_id)["result_ref"] is None
    assert product.answer(f"/missions/{mission_id}/artifacts")["artifacts"] == []
    assert product.artifact(mission_id, "work_products/half.txt").status_code == 404
    wait_until(lambda: "said so far" in product.log(mission_id), within=10, why="its log can be followed")
    assert product.post(f"{OPS}/missions/{mission_id}/cancel", {"reasn": "x"}).status_code == 400

    tell(meeting)
    assert product.finished(mission_id)["status"] == "completed"
    assert product.artifact(mission_id, "work_products/half.txt").text == "half\n"


def test_a_worker_that_is_told_to_stop_takes_nothing_new_and_lets_its_mission_end(
    product: Product, meeting: Path
) -> None:
    product.serve()
    worker = product.worker()
    mission_id = product.shell(WAIT_FOR_A_LINE, str(meeting))
    wait_until((meeting / "begun").exists, within=20, why="the mission is at work")

    worker.send(signal.SIGTERM)
    waiting = product.shell("echo > work_products/a")
    tell(meeting)

    assert product.finished(mission_id)["status"] == "completed"
    wait_until(lambda: worker.code is not None, within=20, why="the worker ends after its mission")
    assert worker.code == 0
    assert (product.status(waiting), product.mission(waiting)["queued_reason"]) == ("queued", "no_live_worker")


def test_a_worker_that_is_told_twice_puts_its_mission_back_and_that_is_no_try(product: Product, meeting: Path) -> None:
    product.serve()
    worker = product.worker()
    mission_id = product.shell(WAIT_FOR_A_LINE, str(meeting))
    wait_until((meeting / "begun").exists, within=20, why="the mission is at work")

    worker.send(signal.SIGTERM)
    wait_until(lambda: told_again(worker), within=20, why="the worker ends at once")

    mission = product.mission(mission_id)
    assert (mission["status"], mission["attempt"], mission["tries"]) == ("queued", 1, 0)
    (requeued,) = (e for e in product.events(mission_id=mission_id) if e["type"] == "vp.mission.requeued")
    assert requeued["payload"]["reason"] == "drained"
    assert product.attempts(mission_id)[0]["end_reason"] == "drained"


def told_again(worker: Process) -> bool:
    """Whether it has ended; it is told once more if not."""
    if worker.code is None:
        worker.send(signal.SIGTERM)
    return worker.code is not None
