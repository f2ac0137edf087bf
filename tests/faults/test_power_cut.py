"""Power cut: what a whole life wrote is replayed up to a cut, as a disk may have kept it, and the next start repairs it.

See `shim/disk.py` for what a disk may do.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.faults.shim.audit import Findings
from tests.faults.shim.bench import Bench, Ended, bench_in, needs_compiler
from tests.faults.shim.disk import Call, Disk, lay_out, read_log
from tests.figures import Figures, Rounds

pytestmark = [needs_compiler, pytest.mark.timeout(300)]

STATES_OF_A_LIFE = 500
"""In the soak, so many cuts of one recorded life; then another is recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """All that one process did to a home from nothing on, and what it answered, in order."""

    root: Path
    calls: list[Call]

    def disk(self, cut: int) -> Disk:
        return Disk(self.root, self.calls[:cut])

    def answers(self, cut: int) -> list[str]:
        return [call.data.decode() for call in self.calls[:cut] if call.kind == "!"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_in(tmp_path_factory.mktemp("power") / "bench") as made:
        yield made


def recorded(bench: Bench, *, mutant: str = "") -> Life:
    root = bench.empty()
    log = bench.empty("log") / "calls"
    lived = bench.do("whole_life", root, log=str(log), mutant=mutant)
    assert lived.exit == 0, lived.error
    return Life(root=root, calls=read_log(log))


def cut_short(bench: Bench, life: Life, seed: int) -> Findings:
    """What is wrong after a cut and one repair; both the cut and what the disk kept are drawn by `seed`."""
    random = Random(seed)
    cut = random.randint(1, len(life.calls))
    root = bench.empty()
    lay_out(root, life.disk(cut).after_a_cut(random))
    before = Ended(exit=0, said=life.answers(cut), error="", calls=[])
    return bench.repaired(root, before, promised=set(), key=" ".join(sorted(before.acknowledged)))


def test_after_a_power_cut_everything_acknowledged_is_there_and_one_start_repairs_the_rest(
    bench: Bench, rounds: Rounds, figures: Figures
) -> None:
    states = rounds(ci=150, soak=10_000)
    life, lives = recorded(bench), 1
    for seed in range(states):
        if seed and seed % STATES_OF_A_LIFE == 0:
            life, lives = recorded(bench), lives + 1
        found = cut_short(bench, life, seed)
        assert not found, f"seed {seed} of a life of {len(life.calls)} calls: {found}"
    figures("power cut, torn and reordered sectors", tried=states, note=f"of {lives} recorded lives")


@pytest.mark.parametrize(
    "mutant", ["commits_are_not_synced", "folders_are_not_synced", "files_are_not_synced", "marked_before_published"]
)
def test_the_harness_finds_a_planted_fault(bench: Bench, mutant: str) -> None:
    life = recorded(bench, mutant=mutant)
    assert any(cut_short(bench, life, seed) for seed in range(200))


def test_the_log_is_complete_replayed_it_gives_the_very_files(bench: Bench) -> None:
    life = recorded(bench)
    there: dict[str, bytes | None] = {}
    for path in life.root.rglob("*"):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            there[os.path.relpath(path, life.root)] = None if path.is_dir() else path.read_bytes()
    assert life.disk(len(life.calls)).whole() == there
