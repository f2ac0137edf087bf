"""Random SIGKILLs of everything that runs, under load: nothing lost, nothing twice, nothing left."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.audit import Reader, check_reader, look_through
from tests.faults.kin import Kin
from tests.faults.storm import Callers, Storm, plan, seed_of
from tests.figures import Figures, Rounds
from tests.product import Product
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def test_a_storm_of_kills_loses_nothing_doubles_nothing_and_leaves_no_process(
    rogue: Product, kin: Kin, rounds: Rounds, figures: Figures
) -> None:
    kills = rounds(ci=14, soak=10_000)
    seed = seed_of("UA_VP_STORM_SEED")
    storm, reader = Storm(rogue, kin), Reader(rogue)
    storm.begin()
    callers = Callers(product=rogue, seed=seed)
    with reader.reading():
        with callers.at_work():
            storm.rage(plan(seed, kills))
            newest = storm.settle(callers)
        wait_until(lambda: reader.wait_for(newest), within=30, why="the reader has every event")
        storm.end()

    found = look_through(rogue, callers.acknowledged)
    check_reader(rogue, reader, found)
    found.double += callers.changed
    found.orphaned += [f"process {left.pid}: {left.command}" for left in kin.living()]
    print(found)
    missed = [name for name, plant in PLANTS.items() if not is_found(rogue, kin, callers.acknowledged, plant)]
    assert missed == [], "faults that were planted and not found"
    figures("random SIGKILLs under load", tried=kills, note=storm.said(callers, reader.breaks), **found.counts())


Plant = Callable[[Product], object]


def is_found(product: Product, kin: Kin, acknowledged: Mapping[str, str], plant: Plant) -> bool:
    """Whether the look that finds nothing after a storm finds one fault more once it is planted."""

    def faults() -> int:
        return sum(look_through(product, acknowledged).counts().values()) + len(kin.living())

    before = faults()
    plant(product)
    return faults() > before


def change(statement: str) -> Plant:
    """As no product would: behind the back of the ledger's own guards."""

    def plant(product: Product) -> None:
        with closing(product.ledger()) as connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
            connection.execute(statement)

    return plant


def folder(product: Product, number: int) -> Path:
    """Of a mission that has ended; another one for each plant."""
    return sorted(product.home.glob("AGENT_RUN_WORKSPACES/*/vp-mission-*"))[number]


SOME = "(SELECT mission_id FROM vp_missions LIMIT 1)"
PLANTS: Mapping[str, Plant] = {
    "a marker is missing": lambda product: (folder(product, 0) / "sync_ready.json").unlink(),
    "an artifact was changed": lambda product: (folder(product, 1) / "run.log").write_text("", "utf-8"),
    "a temporary file is left": lambda product: (product.home / ".vp_state.db.tmp").touch(),
    "an attempt's folder is left": lambda product: (folder(product, 2) / ".attempts" / "9").mkdir(parents=True),
    "a process is left": lambda product: subprocess.Popen(["setsid", "--fork", "sleep", "1000"]).wait(),
    "an event is missing": change("DELETE FROM vp_events WHERE seq = 3"),
    "an end is told twice": change(
        "UPDATE vp_events SET type = 'vp.mission.completed' WHERE type = 'vp.mission.started' AND seq ="
        " (SELECT max(seq) FROM vp_events WHERE type = 'vp.mission.started')"
    ),
    "a mission is lost": change("UPDATE vp_missions SET idempotency_key = 'another' WHERE mission_id = " + SOME),
    "an attempt is open": change("UPDATE vp_attempts SET ended_at = NULL WHERE mission_id = " + SOME),
}
