"""SIGKILL before every durable system call: whoever starts next repairs everything with one reconcile.

In CI every few calls, from an offset that changes with the seed of the run; in the soak each of them.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx2
import pytest

from tests.faults.conftest import new_product
from tests.faults.shim.audit import Findings
from tests.faults.shim.bench import BY_NAME, OPERATIONS, Bench, Operation, bench_in, build, needs_compiler
from tests.figures import Figures, Rounds
from tests.product import GENERAL, OPS, Process, Product
from tests.waiting import wait_until

pytestmark = [needs_compiler, pytest.mark.timeout(300)]

MISSION = BY_NAME["mission"]
EVERY = 17
"""In CI so many calls are passed over, less one, between two kills."""
KEY = {"Idempotency-Key": "key"}
MISSION_BODY = {
    "vp_id": GENERAL, "mission_type": "command", "objective": "Write",
    "constraints": {"argv": ["sh", "-c", "echo done > work_products/summary.md"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_in(tmp_path_factory.mktemp("crash") / "bench") as made:
        yield made


def spread(rounds: Rounds, every: int) -> Iterator[int]:
    """The calls before which to kill: every single one in the soak."""
    step = 1 if rounds.soak else every
    return count(random.randrange(step) + 1, step)


def kill(bench: Bench, operation: Operation, at: int, *, mutant: str = "", **shim: str) -> Findings | None:
    """What is wrong after a kill before call `at` and one repair; None if it was over before."""
    root = bench.home(operation)
    shim = {"action": "kill", **shim}
    ended = bench.do(operation.deed, root, key=operation.key, at=at, mutant=mutant, **shim)  # type: ignore[arg-type]  # settings of the shim
    if not ended.killed:
        assert ended.exit == 0, ended.error
        return None
    found = bench.repaired(root, ended, promised=operation.promised, key=operation.key, mutant=mutant)
    assert not found or mutant, f"{operation.name}, {shim} before call {ended.last}: {found}"
    return found


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_kill_before_any_durable_call_is_repaired_by_the_next_start(
    bench: Bench, rounds: Rounds, figures: Figures, operation: Operation
) -> None:
    kills, at = 0, 0
    for at in spread(rounds, EVERY):
        if kill(bench, operation, at) is None:
            break
        kills += 1
    note = "every one of them" if rounds.soak else f"every {EVERY}th up to call {at}"
    figures(f"SIGKILL before a durable call: {operation.name}", tried=kills, note=note)


def test_a_kill_while_the_ledgers_file_is_made_leaves_nothing_beside_it(bench: Bench) -> None:
    assert all(kill(bench, BY_NAME["create"], at) is not None for at in range(1, 6))


def test_a_kill_half_way_through_any_write_is_repaired_by_the_next_start(
    bench: Bench, rounds: Rounds, figures: Figures
) -> None:
    kills = 0
    for operation in OPERATIONS:
        for at in spread(rounds, 5 * EVERY):
            if kill(bench, operation, at, action="tear", kinds="w") is None:
                break
            kills += 1
    figures("SIGKILL half way through a write", tried=kills, note="of every operation")


def test_a_second_kill_during_the_repair_is_repaired_too(bench: Bench, rounds: Rounds, figures: Figures) -> None:
    kills = 0
    for first in spread(rounds, 90) if not rounds.soak else count(1, 5):
        root = bench.home(MISSION)
        dead = bench.do(MISSION.deed, root, key=MISSION.key, at=first, action="kill")
        if not dead.killed:
            break
        left = bench.copy(root, "left")
        for second in spread(rounds, 60) if not rounds.soak else count(random.randrange(10) + 1, 10):
            root = bench.copy(left)
            again = bench.do("repair", root, key=MISSION.key, at=second, action="kill")
            if not again.killed:
                break
            found = bench.repaired(root, again, promised=MISSION.promised, key=MISSION.key)
            assert not found, f"kills before {dead.last}, then before {again.last}: {found}"
            kills += 1
    figures("SIGKILL before a durable call, and again during the repair", tried=kills)


@pytest.mark.parametrize(
    ("mutant", "operation", "where"),
    [
        ("answered_before_committed", "dispatch", "vp_state.db-wal"),
        ("marked_before_published", "mission", "staging/supporting"),
        ("ended_ones_are_passed_over", "mission", "staging/supporting"),
    ],
)
def test_the_harness_finds_a_planted_fault(bench: Bench, mutant: str, operation: str, where: str) -> None:
    done = BY_NAME[operation]
    calls = bench.do(done.deed, bench.home(done), key=done.key, mutant=mutant).calls
    suspects = [number for number, call in enumerate(calls, 1) if call.endswith(where)]
    assert any(kill(bench, done, at, mutant=mutant) for at in reversed(suspects))


def test_the_shim_sees_every_call_of_several_processes_that_count_in_one_file(bench: Bench, tmp_path: Path) -> None:
    root, counter = bench.home(MISSION), tmp_path / "count"
    one = bench.do(MISSION.deed, root, key=MISSION.key, count=str(counter))
    two = bench.do("repair", root, key=MISSION.key, count=str(counter))
    assert int.from_bytes(counter.read_bytes(), "little") == len(one.calls) + len(two.calls)


def test_the_real_api_and_worker_are_killed_before_a_durable_call_too(
    tmp_path: Path, rounds: Rounds, figures: Figures
) -> None:
    (tmp_path / "shim").mkdir()
    preload, kills = {"LD_PRELOAD": str(build(tmp_path / "shim")), "SHIM_ACTION": "kill"}, 0
    for number in range(tries := rounds(ci=1, soak=200)):
        with new_product(tmp_path / f"home-{number}", "general") as product:
            armed = preload | {"SHIM_ROOTS": str(product.home)}
            product.environ = armed | {"SHIM_AT": str(random.randint(1, 240))}
            api = product.start("serve")
            answered = ask(product, api)
            api.put_away()
            kills += api.code == -signal.SIGKILL
            product.environ = {}
            (product.home / ".ops.json.of-one-killed-while-it-wrote.tmp").touch()
            product.serve()
            again = product.post(f"{OPS}/missions/dispatch", MISSION_BODY, **KEY)
            assert again.status_code == (200 if answered else again.status_code), again.text
            product.environ = armed | {"SHIM_AT": str(random.randint(1, 280))}
            kills += product.run("worker", GENERAL, "--once", code=None).code == -signal.SIGKILL
            product.environ = {"UA_VP_BOOT_ID": "the next one: what the dead one held is dead at once"}
            product.run("worker", GENERAL, "--once")
            check(product, again.json()["mission"]["mission_id"])
    figures("SIGKILL before a durable call: real API, real worker", tried=kills, note=f"{tries} rounds")


def check(product: Product, mission_id: str) -> None:
    """One mission, ended once, whole, and nothing beside it."""
    assert product.finished(mission_id)["status"] == "completed"
    assert len(product.missions()) == len(product.terminal_events(mission_id)) == 1
    product.run("artifacts", "verify", mission_id)
    assert not list(product.home.glob("**/.*")), "temporary files are left"


def ask(product: Product, api: Process) -> bool:
    """Whether the API took the mission before it died."""

    def is_up() -> bool:
        return api.code is not None or product.is_ready(api)

    wait_until(is_up, within=40, why="the API is ready, or dead")
    try:
        return api.code is None and product.post(f"{OPS}/missions/dispatch", MISSION_BODY, **KEY).is_success
    except httpx2.TransportError:
        return False
