"""No room left on the ledger's file system, or on that of the workspaces: said clearly, and nothing lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.test_ledger_away import Mission
from tests.figures import Figures, Rounds
from tests.product import GENERAL, OPS, Json, Product

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system"),
]

DONE = 'echo "# Done" > work_products/summary.md'
DISPATCH = ("dispatch", "general", "Do it", "--type", "command", "--constraints", '{"argv": ["true"]}', "--json")
FILL = 'dd if=/dev/zero of=work_products/zeros bs=64k 2>/dev/null || { echo "no room"; exit 3; }'


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own, so small, at `folder`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Not a byte of room there while the block runs."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    yield
    filler.unlink()


def test_a_full_disk_under_the_ledger_is_said_and_what_was_acknowledged_is_there(
    product: Product, tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    times, lost, double, refused = rounds(ci=1, soak=50), 0, 0, 0
    config = (product.home / "ua-vp.toml").read_text(encoding="utf-8")
    with mounted(product.home, 24):
        product.configure(config)
        api = product.serve()
        worker = product.worker()
        acknowledged: dict[str, str] = {}
        for number in range(times):
            running = Mission(product, tmp_path)
            with full(product.home):
                refused += dispatch_until_refused(product, f"round-{number}", acknowledged)
                said = product.run(*DISPATCH, code=9)
                assert "disk_full" in said.said, said
            running.tell()
            missions = [running.mission_id, *acknowledged.values(), product.shell(DONE)]
            ends = [product.finished(mission_id, within=60) for mission_id in missions]
            lost += sum(end["status"] != "completed" for end in ends)
            double += sum(len(product.terminal_events(mission_id)) - 1 for mission_id in missions)
        there = dict(
            product.rows("SELECT idempotency_key, mission_id FROM vp_missions WHERE idempotency_key IS NOT NULL")
        )
        assert there.items() >= acknowledged.items()
        assert product.rows("PRAGMA integrity_check") == [("ok",)]
        assert worker.end() == 0
        assert api.end() == 0
    note = f"{refused} dispatches refused as disk_full; the running mission and all acknowledged ones completed"
    figures("ledger's disk full", tried=times, lost=lost, double=double, note=note)


def dispatch_until_refused(product: Product, prefix: str, acknowledged: dict[str, str]) -> int:
    """Dispatch, each with a key, until three were refused in a row; those are asked for again later by nobody."""
    refused = 0
    for number in range(2_000):
        key = f"{prefix}-{number}"
        body: Json = {"vp_id": GENERAL, "objective": "Do it", "mission_type": "command", "idempotency_key": key}
        answer = product.post(f"{OPS}/missions/dispatch", {**body, "constraints": {"argv": ["sh", "-c", DONE]}})
        if answer.is_success:
            acknowledged[key] = answer.json()["mission"]["mission_id"]
            refused = 0
        else:
            assert (answer.status_code, answer.json()["code"]) == (507, "disk_full"), answer.text
            refused += 1
        if refused == 3:
            return refused
    raise AssertionError("the disk is not full")


def test_a_mission_that_fills_the_workspaces_disk_fails_alone(
    product: Product, figures: Figures, rounds: Rounds
) -> None:
    times, lost, double = rounds(ci=1, soak=50), 0, 0
    workspaces = product.home / "AGENT_RUN_WORKSPACES"
    with mounted(workspaces, 8):
        product.serve()
        worker = product.worker()
        for _ in range(times):
            greedy = product.shell(FILL, max_tries=1)
            other = product.shell(DONE)
            ends = [product.finished(mission_id, within=60) for mission_id in (greedy, other)]
            lost += [end["status"] for end in ends] != ["failed", "completed"]
            double += sum(len(product.terminal_events(mission_id)) - 1 for mission_id in (greedy, other))
        assert worker.end() == 0
    figures("a mission fills the workspaces' disk", tried=times, lost=lost, double=double, note="it failed alone")
