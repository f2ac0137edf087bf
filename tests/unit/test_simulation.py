"""The seeded world: same seed, same history."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest

from ua_vp.ports import MICROS, Ports, Queue
from ua_vp.testing import DeadlockError, SimulationError, World
from ua_vp.testing.simulated import EPOCH


def sharing(ports: Ports) -> None:
    """Three workers share a queue, a lock and the clock."""
    todo: Queue[int] = ports.threads.queue()
    done: Queue[int] = ports.threads.queue()
    stop, lock = ports.threads.signal(), ports.threads.lock()

    def work() -> None:
        while not stop.is_set():
            item = todo.get(timeout=0.5)
            if item is not None:
                with lock:
                    ports.clock.sleep(0.01 * ports.ids.fraction())
                done.put(item)

    workers = [ports.threads.start(f"worker {number}", work) for number in range(3)]
    for number in range(10):
        todo.put(number)
    assert {done.get() for _ in range(10)} == set(range(10))
    stop.set()
    assert all(worker.join() for worker in workers)


def history(seed: int) -> tuple[str, ...]:
    world = World(seed)
    world.run(sharing)
    return tuple(world.history)


def test_the_same_seed_gives_the_same_history_and_another_seed_another() -> None:
    histories = [history(seed) for seed in range(100)]
    assert histories == [history(seed) for seed in range(100)]
    assert len(set(histories)) == 100


def test_an_hour_of_waiting_takes_no_time_and_moves_all_clocks_alike() -> None:
    def wait(ports: Ports) -> None:
        before = ports.clock.now(), ports.clock.boot(), ports.clock.monotonic()
        assert not ports.threads.signal().wait(3600)
        after = ports.clock.now(), ports.clock.boot(), ports.clock.monotonic()
        for now, then in zip(after, before, strict=True):
            assert 3600 * MICROS <= now - then < 3601 * MICROS

    World(1).run(wait)


def test_wall_clock_and_suspend_can_be_moved_by_hand() -> None:
    world = World(1)

    def move(ports: Ports) -> None:
        boot, monotonic = ports.clock.boot(), ports.clock.monotonic()
        world.step_wall(-3600)
        assert ports.clock.now() < EPOCH
        world.suspend(600)
        assert ports.clock.boot() - boot >= 600 * MICROS
        assert ports.clock.monotonic() - monotonic < MICROS

    world.run(move)


def test_timers_fire_in_order_on_virtual_time_and_follow_a_step_of_the_wall_clock() -> None:
    world = World(3)
    fired: list[str] = []

    def use(ports: Ports) -> None:
        timers = world.timers()
        timers.every("tick", 10, lambda: fired.append("tick"))
        timers.at("noon", ports.clock.now() + 3605 * MICROS, lambda: fired.append("noon"))
        timers.at("never", ports.clock.now() + 15 * MICROS, lambda: fired.append("never"))
        timers.cancel("never")
        ports.clock.sleep(25)
        world.step_wall(3600)
        ports.clock.sleep(10)
        timers.close()
        ports.clock.sleep(100)

    world.run(use)
    assert fired == ["tick", "tick", "noon", "tick"]


def test_an_instant_is_met_at_once_when_the_wall_clock_jumps_past_it() -> None:
    world = World(4)
    fired: list[str] = []

    def use(ports: Ports) -> None:
        world.timers().at("noon", ports.clock.now() + 3600 * MICROS, lambda: fired.append("noon"))
        ports.clock.sleep(1)
        world.step_wall(3600)
        ports.clock.sleep(1)

    world.run(use)
    assert fired == ["noon"]


def test_a_deadlock_names_who_waits_for_what() -> None:
    def lock_twice(ports: Ports) -> None:
        left, right = ports.threads.lock(), ports.threads.lock()

        def other() -> None:
            with right:
                ports.clock.sleep(1)
                with left:
                    pass

        with left:
            ports.threads.start("other", other)
            ports.clock.sleep(1)
            with right:
                pass

    with pytest.raises(DeadlockError, match=r"seed 5: .*main/main waits in lock; main/other#1 waits in lock"):
        World(5).run(lock_twice)


def fail() -> None:
    raise KeyError("lost")


def start_and_wait(ports: Ports) -> None:
    ports.threads.start("failing", fail)
    ports.threads.signal().wait()


@pytest.mark.parametrize(("main", "thread"), [(start_and_wait, "failing#1"), (lambda ports: fail(), "main")])
def test_a_failing_thread_fails_the_run_and_the_seed_is_told(main: Callable[[Ports], None], thread: str) -> None:
    with pytest.raises(SimulationError, match=f"seed 7: main/{thread} failed: KeyError: 'lost'") as raised:
        World(7).run(main)
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_run_that_never_ends_is_cut() -> None:
    def spin(ports: Ports) -> None:
        while True:
            ports.clock.now()

    with pytest.raises(SimulationError, match="seed 9: no end after 500 switches"):
        World(9, max_switches=500).run(spin)


def test_a_killed_process_stops_where_it_is_and_the_others_go_on() -> None:
    world = World(11)
    steps: list[str] = []

    def victim(ports: Ports) -> None:
        steps.append("begun")
        ports.clock.sleep(10)
        steps.append("never")

    def main(ports: Ports) -> None:
        process = world.process("victim")
        thread = process.threads.start("main", lambda: victim(process))
        ports.clock.sleep(5)
        world.kill("victim")
        assert thread.join()
        ports.clock.sleep(60)
        steps.append("alive")

    world.run(main)
    assert steps == ["begun", "alive"]


def test_a_write_cut_by_a_kill_leaves_the_old_file_or_the_new_one_and_both_happen(tmp_path: Path) -> None:
    def content_after(seed: int) -> bytes:
        world, path = World(seed), tmp_path / f"file-{seed}"
        path.write_bytes(b"old")

        def main(ports: Ports) -> None:
            process = world.process("writer")
            process.threads.start("main", lambda: process.files.write(path, b"new"))
            ports.clock.now()
            ports.clock.now()
            world.kill("writer")

        world.run(main)
        return path.read_bytes()

    assert {content_after(seed) for seed in range(40)} == {b"old", b"new"}


def test_threads_that_still_run_when_main_returns_are_ended() -> None:
    cleaned: list[str] = []

    def wait_for_ever(ports: Ports) -> None:
        try:
            ports.threads.signal().wait()
        finally:
            cleaned.append("yes")

    def main(ports: Ports) -> None:
        ports.threads.start("waiting", lambda: wait_for_ever(ports))
        ports.clock.sleep(1)

    World(13).run(main)
    assert cleaned == ["yes"]


def ticking(world: World, beats: list[int]) -> Callable[[Ports], None]:
    """A process that notes the time each second."""

    def tick(ports: Ports) -> None:
        while True:
            ports.clock.sleep(1)
            beats.append(ports.clock.monotonic())

    def start(_: Ports) -> None:
        process = world.process("ticking")
        process.threads.start("main", lambda: tick(process))

    return start


def test_a_stopped_process_stays_where_it_is_until_it_goes_on() -> None:
    world, beats = World(21), list[int]()

    def main(ports: Ports) -> None:
        ticking(world, beats)(ports)
        ports.clock.sleep(2.5)
        world.stop("ticking")
        assert world.is_stopped("ticking")
        ports.clock.sleep(10)
        before = len(beats)
        world.resume("ticking")
        ports.clock.sleep(2.5)
        assert (before, len(beats)) == (2, 5)

    world.run(main)


@pytest.mark.parametrize("act", ["kill", "stop"])
def test_an_ambush_takes_a_process_just_before_a_step(act: Literal["kill", "stop"]) -> None:
    world, beats = World(22), list[int]()

    def main(ports: Ports) -> None:
        world.ambush("ticking", act, call="clock.monotonic", count=3)
        ticking(world, beats)(ports)
        ports.clock.sleep(60)
        assert len(beats) == 2, "the third look at the clock did not come"
        assert world.is_stopped("ticking") == (act == "stop")

    world.run(main)
    assert f"{act} ticking/main#1 before clock.monotonic" in "\n".join(world.history)


def test_ambushes_can_be_called_off() -> None:
    world, beats = World(23), list[int]()

    def main(ports: Ports) -> None:
        world.ambush("ticking", "kill", count=5)
        world.disarm()
        ticking(world, beats)(ports)
        ports.clock.sleep(10.5)

    world.run(main)
    assert len(beats) == 10


def test_what_is_told_stands_in_the_history_with_its_process() -> None:
    world = World(24)

    def main(ports: Ports) -> None:
        process = world.process("other")
        process.threads.start("main", lambda: world.tell(f"I am {world.running}")).join()

    world.run(main)
    assert any(line.endswith(" other | I am other") for line in world.history)


def test_a_world_can_be_ended_from_within_a_step() -> None:
    world, steps = World(25), list[str]()

    def main(ports: Ports) -> None:
        world.fail(ValueError("enough"))
        steps.append("the step itself goes on")
        ports.clock.now()
        steps.append("never")

    with pytest.raises(SimulationError, match="seed 25: enough") as raised:
        world.run(main)
    assert isinstance(raised.value.__cause__, ValueError)
    assert steps == ["the step itself goes on"]


def test_a_thread_that_stays_gets_further_and_the_same_seed_still_gives_the_same_history() -> None:
    def changes(stay: float) -> int:
        histories = []
        for _ in range(2):
            world = World(26, stay=stay)
            world.run(sharing)
            histories.append(world.history)
        assert histories[0] == histories[1]
        threads = [line.split(" ", 1)[1].split(":")[0] for line in histories[0]]
        return sum(one != other for one, other in pairwise(threads))

    assert changes(0.95) < 0.8 * changes(0.0)


def test_a_process_that_kills_itself_as_the_world_ends_holds_nothing_up() -> None:
    world = World(27)

    def main(ports: Ports) -> None:
        process = world.process("victim")

        def die() -> None:
            world.fail(ValueError("enough"))
            world.kill("victim")

        process.threads.start("main", die).join()

    with pytest.raises(SimulationError, match="seed 27: enough"):
        world.run(main)


def test_a_killed_process_starts_no_more_threads() -> None:
    world, steps = World(28), list[str]()

    def main(ports: Ports) -> None:
        process = world.process("victim")
        world.kill("victim")
        assert process.threads.start("main", lambda: steps.append("never")).join()
        ports.clock.sleep(1)

    world.run(main)
    assert steps == []
