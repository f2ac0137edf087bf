"""EIO and ENOSPC at each durable system call, once or from then on: a clear error, nothing lost, nothing twice.

An error that says "nothing was recorded" is held to that; an unknown outcome is resolved by the key. In CI a sample of
the calls, drawn by the seed of the run; in the soak each of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.shim.audit import Findings
from tests.faults.shim.bench import BY_NAME, OPERATIONS, Bench, Ended, Operation, bench_in, build, needs_compiler
from tests.figures import Figures, Rounds
from tests.product import Product

pytestmark = [needs_compiler, pytest.mark.timeout(300)]

KINDS = {"w": "write", "s": "fsync", "o": "open", "r": "open to read", "n": "rename, link, unlink, mkdir"}
REFUSED = 75
"""Exit status of a process that leaves with one of the product's own errors."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_in(tmp_path_factory.mktemp("errors") / "bench") as made:
        yield made


def calls_of(bench: Bench, operation: Operation, kinds: str) -> int:
    """How many there are when nothing fails."""
    ended = bench.do(operation.deed, bench.home(operation), key=operation.key, kinds=kinds)
    assert ended.exit == 0, ended.error
    return len(ended.calls)


def fail(
    bench: Bench, operation: Operation, kinds: str, at: int, error: str, *, lasting: bool, mutant: str = ""
) -> Findings:
    """What is wrong after the `at`-th call failed (all from it on, if `lasting`) and the next start repaired."""
    root = bench.home(operation)
    shim = {"kinds": kinds, "at": at, "action": error} | ({"from": 1} if lasting else {})
    ended = bench.do(operation.deed, root, key=operation.key, mutant=mutant, lease=1.0, limit=6, **shim)  # type: ignore[arg-type]  # settings
    found = bench.repaired(root, ended, promised=operation.promised, key=operation.key)
    if not is_clear(ended, waits=lasting and error == "ENOSPC"):
        found.lost.append(f"no clear end: {ended.exit}: {ended.error[-3000:]}")
    return found


def is_clear(ended: Ended, *, waits: bool) -> bool:
    """Done all the same, or left with an error of the product; a worker may wait for a full disk to be cleared."""
    if ended.hung:
        return waits and "disk_full" in ended.error
    return ended.exit == 0 or (ended.exit == REFUSED and "refused " in ended.error)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_at_any_call_loses_nothing(
    bench: Bench, rounds: Rounds, figures: Figures, error: str, lasting: bool
) -> None:
    tried, pairs = 0, [(operation, kinds) for operation in OPERATIONS for kinds in KINDS]
    for operation, kinds in random.sample(pairs, rounds(ci=12, soak=len(pairs))):
        total = calls_of(bench, operation, kinds)
        for at in random.sample(range(1, total + 1), min(total, rounds(ci=1, soak=total))):
            found = fail(bench, operation, kinds, at, error, lasting=lasting)
            assert not found, f"{operation.name}: {error} at {KINDS[kinds]} {at} of {total}, {lasting=}: {found}"
            tried += 1
    note = "every call" if rounds.soak else "drawn by the run's seed"
    figures(f"{error} at the n-th call, {'and all after it' if lasting else 'once'}", tried=tried, note=note)


@pytest.mark.parametrize(("error", "exit_code"), [("EIO", 2), ("ENOSPC", 9)])
def test_an_api_that_cannot_write_its_home_says_so_and_leaves(
    product: Product, tmp_path: Path, error: str, exit_code: int
) -> None:
    shim = build(tmp_path)
    product.environ = {"LD_PRELOAD": str(shim), "SHIM_ROOTS": str(product.home), "SHIM_ACTION": error}
    product.environ |= {"SHIM_KINDS": "m", "SHIM_AT": "1", "SHIM_FROM": "1"}  # the first is that of its token's folder
    ended = product.run("serve", code=exit_code)
    assert str(product.home) in ended.err
    assert "Traceback" not in ended.said


def test_the_harness_finds_a_commit_whose_error_is_passed_over(bench: Bench) -> None:
    dispatch = BY_NAME["dispatch"]
    total = calls_of(bench, dispatch, "w")
    mutant = "failed_commits_are_passed_over"
    assert any(fail(bench, dispatch, "w", at, "EIO", lasting=True, mutant=mutant) for at in range(total, 0, -1))
