"""The whole life of missions, walked on the ledger and on a model of it side by side (`tests/faults/model`)."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.faults.model.checking import DifferenceError
from tests.faults.model.mutants import MUTANTS, Plant, begin_without_lock
from tests.faults.model.walking import Walk
from tests.figures import Figures, Rounds
from ua_vp.ledger import Ledger, open_ledger, verify_rows
from ua_vp.runtime import real_ports

pytestmark = pytest.mark.timeout(600)

Numbers: TypeAlias = Sequence[tuple[int, ...]]
"""What a walk is made of, three numbers a step; see `choosing`."""
BOUNDS = (2**16, 2**20, 2**20)
LENGTHS = (80, 220)
"""So many steps are one walk."""
NUMBERS = st.lists(
    st.tuples(*(st.integers(0, bound - 1) for bound in BOUNDS)), min_size=LENGTHS[0], max_size=LENGTHS[1]
)
STORES = {"sqlite": ("SQLite", 50_000), "postgresql": ("PostgreSQL", 20_000)}
"""What each is called, and how many transitions of it CI has the time for."""
WITHIN = 20_000
"""A planted fault must be found in so many transitions."""


class Walks:
    """Walk after walk on one ledger, each on lanes of its own."""

    def __init__(self, ledgers: Sequence[Ledger], threads: Executor, *, closely: bool) -> None:
        self.steps = self.races = self.runs = 0
        self._ledgers = ledgers
        self._threads = threads
        self._closely = closely
        self._failed: Numbers = []

    def one(self, numbers: Numbers) -> None:
        """One walk."""
        self._failed = numbers
        walk = Walk(self._ledgers, self._threads, self.runs, closely=self._closely)
        self.runs += 1
        try:
            walk(numbers)
        finally:
            self.steps += walk.steps
            self.races += walk.races

    def wander(self, steps: int) -> None:
        """At least so many more transitions, any as likely as its weight.

        Raises:
            DifferenceError: with the walk that failed.
        """
        until = self.steps + steps
        while self.steps < until:
            self.one([tuple(map(random.randrange, BOUNDS)) for _ in range(random.randrange(*LENGTHS))])

    def explore(self, steps: int) -> None:
        """The same as hypothesis wants it: extremes, and the same again and again."""
        many = settings(
            max_examples=math.ceil(steps / LENGTHS[0]),
            phases=[Phase.generate],  # hypothesis' own way to shrink took minutes; see `shorten`
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        many(given(NUMBERS)(self.one))()

    def take(self, steps: int) -> None:
        """At least so many transitions, nine out of ten of them wandering.

        Raises:
            DifferenceError: with a story in as few steps as still fail, and its numbers for `one`.
        """
        try:
            self.explore(steps // 10)
            self.wander(max(0, steps - self.steps))
        except DifferenceError:
            few = shorten(self._failed, self._fails)
            try:
                self.one(few)
            except DifferenceError as told:
                raise DifferenceError(f"{told}\nfrom {few}") from told
            raise

    def _fails(self, numbers: Numbers) -> bool:
        try:
            self.one(numbers)
        except DifferenceError:
            return True
        return False


def shorten(numbers: Numbers, fails: Callable[[Numbers], bool]) -> Numbers:
    """What is left when everything is taken out without which it still fails (as ddmin, Zeller 2002, by halves)."""
    size = len(numbers) // 2
    while size:
        at, before = 0, len(numbers)
        while at < len(numbers):
            rest = [*numbers[:at], *numbers[at + size :]]
            if fails(rest):
                numbers = rest
            else:
                at += size
        size = size if size == 1 and len(numbers) < before else size // 2
    return numbers


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def ledgers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Ledger]]:
    """Two doors to one store, each with a writer of its own, as two processes have them."""
    store = tmp_path / "vp_state.db" if request.param == "sqlite" else request.getfixturevalue("cluster").create()
    doors = [open_ledger(store, ports=real_ports(os.environ)) for _ in range(2)]
    yield doors
    for door in doors:
        door.close()


@pytest.fixture
def walks(ledgers: list[Ledger], request: pytest.FixtureRequest) -> Iterator[Walks]:
    """A look behind each step is cheap on SQLite alone."""
    with ThreadPoolExecutor(4) as threads:
        yield Walks(ledgers, threads, closely=request.node.callspec.params["ledgers"] == "sqlite")


def test_the_ledger_does_what_its_model_does(
    walks: Walks, ledgers: list[Ledger], rounds: Rounds, figures: Figures, request: pytest.FixtureRequest
) -> None:
    store, ci = STORES[request.node.callspec.params["ledgers"]]
    walks.take(rounds(ci=ci, soak=1_000_000))
    assert ledgers[0].read(verify_rows) == []
    figures(
        f"model of the lifecycle, {store}",
        tried=walks.steps,
        note=f"transitions in {walks.runs} walks, {walks.races} races of 2 or 3 steps between two writers",
    )


@pytest.mark.parametrize("ledgers", ["sqlite"], indirect=True)
@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_the_model_finds_a_planted_fault(walks: Walks, monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    plant(monkeypatch)
    with pytest.raises(DifferenceError):
        walks.wander(WITHIN)
    print(f"{plant.__name__}: found after {walks.steps} transitions")


@pytest.mark.postgresql
@pytest.mark.parametrize("ledgers", ["postgresql"], indirect=True)
def test_the_races_find_writers_that_do_not_wait_for_each_other(walks: Walks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ua_vp.ledger.postgres.PostgresStore.begin_writing", begin_without_lock)
    with pytest.raises(DifferenceError):
        walks.wander(WITHIN)
    print(f"found after {walks.races} races")


@pytest.mark.parametrize("ledgers", ["sqlite"], indirect=True)
def test_what_the_model_finds_is_told_in_few_steps(walks: Walks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ua_vp.ledger.claims.takes_missions", lambda _tx, _lane: True)
    with pytest.raises(DifferenceError) as found:
        walks.take(WITHIN)
    told = str(found.value)
    story = [line for line in told.splitlines() if line.startswith("  ") and line.split()[0].isdigit()]
    assert len(story) <= 8, told
    assert any("steer" in line for line in story), told
