"""The ledger on the seeded world: real SQLite, everything else virtual; same seed, same history."""

from pathlib import Path

from tests.integration.ledger.places import BOOT, LANE, dispatched, new_mission
from ua_vp.ledger import Ledger, claims, events, missions, open_ledger
from ua_vp.ports import Ports, Signal
from ua_vp.testing import World


def work(ports: Ports, path: Path, name: str, ready: Signal, taken: list[tuple[str, int]]) -> None:
    """Claim one at a time until nothing is left."""
    ready.wait()
    ledger = open_ledger(path, ports=ports)
    while True:
        now, boot = ports.clock.now(), ports.clock.boot()
        found = ledger.run(
            lambda tx, now=now, boot=boot: claims.claim(  # type: ignore[misc]
                tx, vp_id=LANE, session_id=name, worker_id=name, limit=1, now=now, boot_id=BOOT, deadline=boot
            )
        )
        if not found:
            break
        taken += [(name, found[0].mission.priority)]
        ports.clock.sleep(ports.ids.fraction() / 10)
    ledger.close()


def history(seed: int, path: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Two processes of three threads each dispatch and claim on one ledger."""
    world = World(seed)
    taken: list[tuple[str, int]] = []

    def main(ports: Ports) -> None:
        ledger = open_ledger(path, ports=ports)
        ready = ports.threads.signal()
        workers = []
        for name in ("a", "b"):
            theirs = world.process(name)
            workers.append(theirs.threads.start(name, lambda p=theirs, n=name: work(p, path, n, ready, taken)))  # type: ignore[misc]
        callers = [
            ports.threads.start(f"caller {number}", lambda n=number: put(ledger, ports, n))  # type: ignore[misc]
            for number in range(6)
        ]
        assert all(caller.join() for caller in callers)
        ready.set()
        assert all(worker.join() for worker in workers)
        seen = ledger.read(lambda tx: events.page_events(tx, after=0, limit=100))
        assert [event.seq for event in seen] == list(range(1, 13))
        ledger.close()

    def put(ledger: Ledger, ports: Ports, number: int) -> None:
        new = new_mission(priority=number, mission_id=f"vp-mission-{number:032x}")
        ledger.run(lambda tx: missions.dispatch(tx, new, now=ports.clock.now()))

    world.run(main)
    return world.history, taken


def test_the_same_seed_gives_the_same_history_of_two_processes_on_one_ledger(tmp_path: Path) -> None:
    several = []
    for seed in range(5):
        first = history(seed, tmp_path / f"{seed}-first.db")
        assert first == history(seed, tmp_path / f"{seed}-second.db")
        several.append(first)
    assert all(sorted(priority for _, priority in taken) == list(range(6)) for _, taken in several)
    assert len({tuple(lines) for lines, _ in several}) == 5


def test_a_process_killed_while_it_waits_for_the_lock_holds_up_nobody(tmp_path: Path) -> None:
    world = World(7)
    path = tmp_path / "vp_state.db"

    def main(ports: Ports) -> None:
        ledger = open_ledger(path, ports=ports)
        other = world.process("other")
        opened = ports.threads.signal()

        def asks() -> None:
            theirs = open_ledger(path, ports=other)
            opened.set()
            dispatched(theirs)

        other.threads.start("asks", asks)
        opened.wait()
        world.kill("other")
        dispatched(ledger)
        found = len(ledger.read(lambda tx: missions.page_missions(tx, limit=9)))
        assert found in {1, 2}
        ledger.close()

    world.run(main)
