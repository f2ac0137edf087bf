"""Hearing of a commit: by a bell at once, by a look at the store a little later if the ring is lost."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from tests.integration.ledger.places import Place, cut_all_others, dispatched
from tests.waiting import wait_until
from ua_vp.ledger import missions, open_ledger, wake
from ua_vp.ledger.wake import INTERVAL
from ua_vp.ports import Ports
from ua_vp.testing import World

NEVER = 3600.0


def test_a_commit_rings_whoever_watches_whichever_ledger_object_made_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "INTERVAL", NEVER)  # nobody looks without a ring
    mine, theirs = place.open(), place.open()
    called = threading.Event()
    watch = mine.watch(called.set)
    for writer in (theirs, mine, theirs):
        called.clear()
        dispatched(writer)
        wait_until(called.is_set, within=10, why="a commit rings")
    monkeypatch.undo()
    dispatched(theirs)  # so that the watch looks up and sees that it is closed
    watch.close()


def test_a_lost_ring_is_made_good_by_a_look(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = place.open(), place.open()
    monkeypatch.setattr(type(theirs._store), "announce", lambda _: None)
    called = threading.Event()
    watch = mine.watch(called.set)
    for _ in range(3):
        called.clear()
        dispatched(theirs)
        wait_until(called.is_set, within=10, why="the change counter is looked at now and then")
    watch.close()


def test_a_ledger_that_goes_and_comes_back_calls_each_time_and_is_watched_on(place: Place) -> None:
    ledger = place.open()
    called = threading.Event()
    watch = ledger.watch(called.set)
    for change in (take_away, bring_back, lambda _: dispatched(ledger)):
        change(place)
        wait_until(called.is_set, within=10, why="who watches is to look")
        called.clear()
        assert not called.wait(3 * INTERVAL), "once"
    watch.close()


def take_away(place: Place) -> None:
    """As a mount that is gone, or a backup that was put back elsewhere."""
    if place.url is None:
        place.path.rename(place.path.with_name("elsewhere"))
    else:
        with place.raw() as server:
            server.execute("UPDATE vp_ledger SET epoch = epoch + 1")
        cut_all_others(place)


def bring_back(place: Place) -> None:
    if place.url is None:
        place.path.with_name("elsewhere").rename(place.path)
    else:
        with place.raw() as server:
            server.execute("UPDATE vp_ledger SET epoch = epoch - 1")


def test_a_ring_without_a_commit_calls_nobody(place: Place) -> None:
    mine, theirs = place.open(), place.open()
    called = threading.Event()
    watch = mine.watch(called.set)
    for _ in range(20):
        theirs._store.announce()
    assert not called.wait(3 * INTERVAL)
    dispatched(theirs)
    wait_until(called.is_set, within=10, why="a commit does")
    watch.close()


def history(seed: int, path: Path) -> tuple[list[str], list[int]]:
    """One process watches while another writes and is killed somewhere: before, in or after a commit, or its ring.

    Gives the history, and for each of the watcher's calls how many missions it saw.
    """
    world = World(seed)
    seen: list[int] = []

    def main(ports: Ports) -> None:
        ledger, doomed = open_ledger(path, ports=ports), world.process("doomed")

        def look() -> int:
            return len(ledger.read(lambda tx: missions.page_missions(tx, limit=1000)))

        watch = ledger.watch(lambda: seen.append(look()))
        doomed.threads.start("writer", lambda: write_for_ever(path, doomed))
        ports.clock.sleep(0.02 + ports.ids.fraction() / 100)
        world.kill("doomed")
        ports.clock.sleep(2 * INTERVAL)
        assert look() == (seen or [0])[-1], "the last commit was heard of, rung or not"
        watch.close()
        ledger.close()

    world.run(main)
    return world.history, seen


def write_for_ever(path: Path, ports: Ports) -> None:
    ledger = open_ledger(path, ports=ports)
    ledger.watch(lambda: None)  # a bell that is left hanging
    numbers = itertools.count(1)
    while True:
        dispatched(ledger, mission_id=f"vp-mission-{next(numbers):032x}")


def test_every_commit_of_a_process_that_is_killed_somewhere_is_heard_of(tmp_path: Path) -> None:
    runs = [history(seed, tmp_path / f"{seed}.db") for seed in range(12)]
    rings = sum(line.endswith(": bells.ring") for lines, _ in runs for line in lines)
    assert rings > 12, "most seeds come as far as a ring"
    assert any(seen and seen[-1] > 1 for _, seen in runs)
    assert runs[7] == history(7, tmp_path / "again.db"), "same seed, same history"
