"""Whole worlds that follow from a seed: the real control, ledger, workers and workspaces, and everything that goes wrong."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.faults.storm import seed_of
from tests.faults.worlds.mutants import MUTANTS, seeds_until_found
from tests.faults.worlds.play import Played, WorldError, play
from tests.faults.worlds.promises import Promise
from tests.figures import Figures, Rounds

pytestmark = pytest.mark.timeout(600)

PROCESSES = os.cpu_count() or 1
BLOCK = 500
"""So many worlds are counted together. CI always plays the same, a soak others."""
PLAYED_TWICE = 4
LIMIT = 100
"""Worlds in which a planted fault must be found."""


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Processes of their own: each has other hashes of strings, and another memory."""
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def searches(pool: ProcessPoolExecutor) -> dict[str, Future[int | None]]:
    """The search for each planted fault, all begun at once."""
    return {name: pool.submit(seeds_until_found, name, LIMIT) for name in MUTANTS}


def outcome(seed: int) -> Played | tuple[Promise, str]:
    """What came of a world, as one process can tell another."""
    try:
        return play(seed)
    except WorldError as error:
        return error.promise, str(error)


def test_every_world_keeps_its_promises(pool: ProcessPoolExecutor, rounds: Rounds, figures: Figures) -> None:
    count, first = rounds(ci=60, soak=20_000), seed_of("UA_VP_WORLDS_SEED", below=10**9) if rounds.soak else 0
    for start in range(first, first + count, BLOCK):  # counted on the way: a soak that is cut short is not for nothing
        play_all(pool, range(start, min(start + BLOCK, first + count)), figures)


def play_all(pool: ProcessPoolExecutor, seeds: range, figures: Figures) -> None:
    costs, seen, stories = Counter[str](), Counter[str](), list[str]()
    for played in pool.map(outcome, seeds, chunksize=4):
        if isinstance(played, Played):
            seen += played.counts
        else:
            promise, story = played
            costs[promise.cost] += 1
            stories.append(story)
    print("\n\n".join(stories[:3]))
    figures(
        "worlds from a seed: kills, stops, sleeps, clock steps, failing ledger and disk",
        tried=len(seeds),
        lost=costs["lost"],
        double=costs["double"],
        orphaned=costs["orphaned"],
        note=f"seeds {seeds[0]} to {seeds[-1]}, " + ", ".join(f"{seen[name]} {name}" for name in sorted(seen)),
    )


def test_a_seed_gives_the_same_world_in_every_process(pool: ProcessPoolExecutor) -> None:
    seeds = range(PLAYED_TWICE)
    again = [pool.submit(play, seed) for seed in seeds]
    histories = [play(seed).sha256 for seed in seeds]
    assert histories == [future.result().sha256 for future in again]
    assert len(set(histories)) == PLAYED_TWICE, "other seeds give other worlds"


@pytest.mark.parametrize("name", MUTANTS)
def test_worlds_find_a_planted_fault(searches: dict[str, Future[int | None]], name: str) -> None:
    found = searches[name].result()
    print(f"figure: planted fault {name} ({MUTANTS[name].what}): found in world {found}")
    assert found is not None, f"{LIMIT} worlds do not find that {MUTANTS[name].what}"
