"""A lane that does whatever a lane must not do: the mission's type says what. Installed by the `rogue` fixture.

`run` alone behaves: it runs `constraints.argv` in the mission's walls, as the shipped lanes do.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ua_vp
from ua_vp.mission import JsonObject

FOR_EVER = 1000.0
ARGV: JsonObject = {"type": "array", "items": {"type": "string"}}


def run(ctx: ua_vp.MissionContext) -> None:
    """Run a program and wait for it."""
    argv = ctx.mission.constraints["argv"]
    assert isinstance(argv, Sequence)
    code = ctx.run([str(argument) for argument in argv]).code
    if code:
        raise RuntimeError(f"exit code {code}")


def kill(ctx: ua_vp.MissionContext) -> None:
    """Take the worker with it, as the kernel would out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave(ctx: ua_vp.MissionContext) -> None:
    """End the worker without a word."""
    os._exit(0)


def crash(ctx: ua_vp.MissionContext) -> None:
    """Read what is not there, as a broken extension module does."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def hoard(ctx: ua_vp.MissionContext) -> None:
    """Take memory until there is none, within a limit of its own: a quarter of a gigabyte more than there is."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), before[1]))
    try:
        kept = []
        while True:
            kept.append(bytearray(16 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def ignore(ctx: ua_vp.MissionContext) -> None:
    """Hear nothing: neither `cancelled` nor the end of its time. Ends when the test removes the file of its objective."""
    begun = Path(ctx.mission.objective)
    begun.touch()
    while begun.exists():
        threading.Event().wait(0.05)


def flood(ctx: ua_vp.MissionContext) -> None:
    """Fill the log from many threads for as long as it may."""
    threads = [threading.Thread(target=pour, args=(ctx,), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pour(ctx: ua_vp.MissionContext) -> None:
    """One of those threads: a gigabyte, were it let."""
    for _ in range(16_384):
        if ctx.cancelled.is_set():
            return
        ctx.log("x" * 65_536)


def hog(ctx: ua_vp.MissionContext) -> None:
    """Hold the interpreter lock: no thread of the worker runs meanwhile. How long (s) is its objective."""
    ctypes.PyDLL(None).usleep(int(float(ctx.mission.objective) * 1_000_000))  # PyDLL, unlike CDLL, keeps the lock


def again(ctx: ua_vp.MissionContext) -> ua_vp.Outcome:
    """Ask for another try the first time, and end well the second."""
    return ua_vp.Outcome.failed("not now", retryable=True) if ctx.mission.tries == 0 else ua_vp.Outcome.completed("now")


def leak(ctx: ua_vp.MissionContext) -> None:
    """Return, and leave a hundred threads behind that never end."""
    for _ in range(100):
        threading.Thread(target=threading.Event().wait, args=(FOR_EVER,), daemon=True).start()
    deliver(ctx)


def deliver(ctx: ua_vp.MissionContext) -> None:
    """What the mission owes."""
    (ctx.work_products / "summary.md").write_text("# Done\n", encoding="utf-8")


WAYS: Mapping[str, Callable[[ua_vp.MissionContext], ua_vp.Outcome | None]] = {
    way.__name__: way for way in (run, kill, leave, crash, hoard, ignore, flood, hog, again, leak)
}


class Rogue:
    """The lane."""

    info = ua_vp.LaneInfo(
        vp_id="vp.rogue.primary",
        display_name="Rogue",
        mission_types={
            name: ua_vp.MissionType(
                description=str(way.__doc__), schema={"type": "object", "properties": {"argv": ARGV}}, owes=()
            )
            for name, way in WAYS.items()
        },
        capacity=4,
    )

    def availability(self) -> ua_vp.Availability:
        """Always."""
        return ua_vp.Availability()

    def run(self, ctx: ua_vp.MissionContext) -> ua_vp.Outcome:
        """Do as the mission's type says; end well if that comes back."""
        return WAYS[ctx.mission.mission_type](ctx) or ua_vp.Outcome.completed("it came back")


@ua_vp.hookimpl
def ua_vp_lanes() -> Sequence[ua_vp.Lane]:
    """The one lane."""
    return [Rogue()]
