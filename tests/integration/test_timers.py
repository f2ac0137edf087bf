"""Real timers: they fire, are replaced, and hold across a step of the wall clock."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo

import pytest

from tests.waiting import wait_until
from ua_vp.ports import MICROS
from ua_vp.runtime.clock import RealClock
from ua_vp.runtime.scheduler import RealTimers
from ua_vp.runtime.threads import RealThreads

HOUR = 3600


class SetClock(RealClock):
    """The real clocks, with a wall clock that can be set `ahead` (seconds) and a `slept` that only boot time sees."""

    ahead = 0
    slept = 0

    def now(self) -> int:
        return super().now() + self.ahead * MICROS

    def boot(self) -> int:
        return super().boot() + self.slept * MICROS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Also the wall clock that APScheduler reads."""
    clock = SetClock("test")

    class Datetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=clock.ahead)

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Datetime)
    return clock


@pytest.fixture
def timers(clock: SetClock) -> Iterator[RealTimers]:
    timers = RealTimers(clock, RealThreads())
    yield timers
    timers.close()
    timers.close()


def test_a_repeating_timer_repeats_until_it_is_cancelled(timers: RealTimers) -> None:
    fired: list[str] = []
    timers.every("tick", 0.02, lambda: fired.append("tick"))
    wait_until(lambda: len(fired) > 3, within=10, why="it repeats")
    timers.cancel("tick")
    timers.cancel("tick")
    count = len(fired)
    timers.every("other", 0.1, lambda: fired.append("other"))
    wait_until(lambda: "other" in fired, within=10, why="the other goes on")
    assert fired.count("tick") == count


def test_a_name_used_again_replaces_its_timer(timers: RealTimers, clock: SetClock) -> None:
    fired: list[str] = []
    timers.every("tick", 0.05, lambda: fired.append("old"))
    timers.every("tick", 0.05, lambda: fired.append("new"))
    timers.at("once", clock.now() + HOUR * MICROS, lambda: fired.append("late"))
    timers.at("once", clock.now(), lambda: fired.append("once"))
    wait_until(lambda: fired.count("new") > 2 and "once" in fired, within=10, why="both fire")
    assert "old" not in fired
    assert fired.count("once") == 1


def test_an_instant_that_has_passed_fires_at_once_and_the_end_of_time_never(timers: RealTimers) -> None:
    fired: list[str] = []
    timers.at("end", 2**63, lambda: fired.append("end"))
    timers.at("beginning", 0, lambda: fired.append("beginning"))
    wait_until(lambda: fired == ["beginning"], within=10, why="1970 has passed")


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_repeating_timer_goes_on_after_the_wall_clock_was_set(timers: RealTimers, clock: SetClock, step: int) -> None:
    fired: list[str] = []
    timers.every("tick", 0.3, lambda: fired.append("tick"))
    wait_until(lambda: fired, within=10, why="it runs")
    clock.ahead = step
    count = len(fired)
    wait_until(lambda: len(fired) > count + 3, within=10, why="it goes on within a few seconds")


def test_an_instant_is_met_when_the_wall_clock_jumps_past_it(timers: RealTimers, clock: SetClock) -> None:
    fired: list[str] = []
    timers.at("noon", clock.now() + HOUR * MICROS, lambda: fired.append("noon"))
    timers.at("planned", 0, lambda: fired.append("planned"))
    wait_until(lambda: fired, within=10, why="the scheduler has looked at both")
    clock.ahead = 2 * HOUR
    wait_until(lambda: fired == ["planned", "noon"], within=10, why="noon has passed")


def test_a_machine_that_slept_plans_anew(timers: RealTimers, clock: SetClock) -> None:
    fired: list[str] = []
    timers.at("noon", clock.now() + HOUR * MICROS, lambda: fired.append("noon"))
    clock.ahead = clock.slept = 2 * HOUR
    wait_until(lambda: fired == ["noon"], within=10, why="noon passed in sleep")


def test_a_failing_callback_is_a_failing_thread(clock: SetClock) -> None:
    failed: list[str] = []
    timers = RealTimers(clock, RealThreads(), on_failure=lambda name, error: failed.append(f"{name}: {error!r}"))

    def fail() -> None:
        raise ValueError("bad")

    timers.at("bad", 0, fail)
    wait_until(lambda: failed, within=10, why="the failure is told")
    timers.close()
    assert failed[0].startswith("timer bad: ValueError")


def test_an_error_that_leaves_a_thread_is_written_and_ends_the_process() -> None:
    script = (
        "from ua_vp.runtime import real_ports\nthreads = real_ports({}).threads\n"
        "def fail() -> None: raise KeyError('lost')\n"
        "threads.start('the-writer', fail); threads.signal().wait()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert ended.returncode == 70
    assert "thread 'the-writer' failed" in ended.stderr
    assert "KeyError: 'lost'" in ended.stderr


def test_timers_do_not_keep_a_process_alive() -> None:
    script = (
        "from ua_vp.runtime import real_ports; from ua_vp.runtime.scheduler import RealTimers\n"
        "ports = real_ports({}); timers = RealTimers(ports.clock, ports.threads)\n"
        "timers.every('tick', 0.01, lambda: None)\n"
    )
    subprocess.run([sys.executable, "-c", script], timeout=30, check=True)
