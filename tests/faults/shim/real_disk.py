"""A real ext4 or xfs is shut down in the middle of a life, mounted again, and repaired by one start.

Not collected by itself, for it needs root, loop devices and `mkfs`: `pytest tests/faults/shim/real_disk.py --soak`. It is
what the model in `disk.py` is held against: here the kernel decides what is still there. The kernel is kinder: with an
fsync of any file both make names safe, too, so that a missing fsync of a folder shows in the model alone.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.shim.audit import Findings
from tests.faults.shim.bench import Bench, bench_in
from tests.figures import Figures, Rounds

pytestmark = pytest.mark.timeout(300)

SMALLEST = {"ext4": 64 << 20, "xfs": 320 << 20}
"""Bytes of a file system; the file that holds it has holes."""
CALLS = 1_100
"""About as many durable calls has a whole life."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path / "bench") as made:
        yield made


@contextmanager
def mounted(image: Path, root: Path) -> Iterator[None]:
    root.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, root], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", root], check=True)


def cut(bench: Bench, folder: Path, kind: str, at: int, *, mutant: str = "") -> Findings:
    """What is wrong after the file system was shut down before call `at` of a life, and one repair."""
    image, root = folder / "image", folder / "root"
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(SMALLEST[kind])
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    with mounted(image, root):
        lived = bench.do("whole_life", root, at=at, action="cut", mutant=mutant)
        assert lived.killed or lived.exit == 0, lived.error
    with mounted(image, root):
        return bench.repaired(root, lived, promised=set(), key=" ".join(sorted(lived.acknowledged)))


@pytest.mark.parametrize("kind", SMALLEST)
def test_after_a_real_shut_down_everything_acknowledged_is_there_and_one_start_repairs_the_rest(
    bench: Bench, tmp_path: Path, rounds: Rounds, figures: Figures, kind: str
) -> None:
    cuts = rounds(ci=20, soak=1_000)
    for number in range(cuts):
        at = random.randint(1, CALLS)
        found = cut(bench, tmp_path, kind, at)
        assert not found, f"round {number}, before call {at}: {found}"
    figures(f"power cut: a real {kind} shut down without flushing its journal", tried=cuts)


@pytest.mark.parametrize("mutant", ["commits_are_not_synced", "files_are_not_synced"])
@pytest.mark.parametrize("kind", SMALLEST)
def test_a_real_shut_down_finds_a_planted_fault(bench: Bench, tmp_path: Path, kind: str, mutant: str) -> None:
    assert any(cut(bench, tmp_path, kind, random.randint(1, CALLS), mutant=mutant) for _ in range(100))
