"""What is done, and done to, a small home: the real control, ledger, worker and workspace code with a trivial lane.

A home is a folder: `vp_state.db` and its companions in `home/`, the lane's workspaces in `spaces/`. Each deed opens the
ledger under a boot of its own, so that whatever an earlier process held is dead at once, as after a power cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ua_vp import Availability, LaneInfo, MissionContext, MissionType, Outcome, Status
from ua_vp.access import Caller, Scope
from ua_vp.control.asking import Asking
from ua_vp.control.cancel import cancel
from ua_vp.control.dispatch import Dispatched, dispatch
from ua_vp.errors import DiskFullError, LedgerBusyError, LedgerGoneError
from ua_vp.lane import Manifest, Verdict
from ua_vp.ledger import Ledger, lanes, open_ledger
from ua_vp.ledger.checkpoint import Checkpointer
from ua_vp.ledger.verifying import verify_rows
from ua_vp.mission import Actor
from ua_vp.ports import MICROS, Ports
from ua_vp.runtime import real_ports
from ua_vp.runtime.clock import RealClock
from ua_vp.runtime.scheduler import RealTimers
from ua_vp.runtime.threads import RealThreads
from ua_vp.worker import Assignment, Worker

VP_ID = "vp.trivial.primary"
LATER = 3600 * MICROS
"""A repair comes an hour later: what waits for its next try is due by then."""
ACTOR = Actor(name="tester", via="api")
INFO = LaneInfo(
    vp_id=VP_ID,
    display_name="Trivial",
    mission_types={"task": MissionType(description="three small files", schema={"type": "object"})},
)
Say = Callable[[str], None]
"""Says, in the order of the log, what somebody was answered."""


class LaterClock(RealClock):
    """The real clock, its wall an hour ahead."""

    def now(self) -> int:
        return super().now() + LATER


@dataclass(frozen=True, kw_only=True, slots=True)
class TrivialLane:
    """Writes three small files; asked to, cancels its own mission first and waits until it is told to stop."""

    cancel: Callable[[str], object]
    info: LaneInfo = INFO

    def availability(self) -> Availability:
        return Availability()

    def run(self, ctx: MissionContext) -> Outcome:
        (ctx.work_products / "summary.md").write_text(f"# Done\n\n{ctx.mission.objective}\n")
        (ctx.work_products / "data").mkdir()
        (ctx.work_products / "data" / "table.csv").write_text("1,2\n" * 500)
        (ctx.supporting / "notes.txt").write_text("notes\n")
        ctx.log("three files")
        if ctx.mission.objective.startswith("running"):
            self.cancel(ctx.mission.mission_id)
            ctx.cancelled.wait()
        return Outcome(status=Status.COMPLETED, summary="done", primary=["summary.md"])


@dataclass(frozen=True, kw_only=True, slots=True)
class House:
    """One process's view of a home."""

    root: Path
    ledger: Ledger
    ports: Ports
    say: Say

    @property
    def asking(self) -> Asking:
        caller = Caller(token_id="t", actor=ACTOR, scopes=frozenset(scope.value for scope in Scope))
        return Asking(ledger=self.ledger, clock=self.ports.clock, ids=self.ports.ids, caller=caller)

    def announce(self) -> None:
        """Publish the lane, as a worker does at its start."""
        manifest = Manifest(
            info=INFO, availability=Availability(), distribution="ua-vp-trivial", version="1",
            workspace_base=f"workspace://{self.root}/spaces", sandbox="none",
        )  # fmt: skip
        verdict = Verdict(
            entry_point="trivial", distribution="ua-vp-trivial", version="1", ok=True, detail="", manifests=(manifest,)
        )
        now = self.ports.clock.now()
        self.ledger.run(lambda tx: lanes.publish_verdicts(tx, [verdict], now=now, actor=ACTOR))

    def dispatch(self, key: str) -> Dispatched:
        """Dispatch under `key`, which is also what the lane is asked to do."""
        body = {"vp_id": VP_ID, "mission_type": "task", "objective": key}
        try:
            taken = dispatch(self.asking, body, header_key=key)
        except (LedgerBusyError, LedgerGoneError, DiskFullError):
            self.say(f"not {key}")
            raise
        self.say(f"{'again' if taken.replayed else 'new'} {key}")
        return taken

    def cancel(self, mission_id: str) -> None:
        cancel(self.asking, mission_id, reason="requested")
        self.say(f"cancelled {mission_id}")

    def work(self) -> int:
        """Be a worker once: reconcile, claim, run that to the mark, end."""
        timers = RealTimers(self.ports.clock, RealThreads())
        site = Assignment(
            lane=TrivialLane(cancel=self.cancel), info=INFO, availability=Availability, workspaces=self.root / "spaces",
            host="host", pid=os.getpid(), build="test", executor="ua-vp-trivial", executor_version="1",
            environment={"PATH": os.environ["PATH"]}, lease=float(os.environ["DEED_LEASE"]), grace=1.0, drain=5.0,
        )  # fmt: skip
        try:
            return Worker(site, self.ledger, self.ports, timers).once()
        finally:
            timers.close()


@contextmanager
def house(root: Path, say: Say, *, later: bool = False) -> Iterator[House]:
    ports = real_ports(os.environ)
    if later:
        ports = replace(ports, clock=LaterClock(ports.clock.boot_id))
    ledger = open_ledger(root / "home" / "vp_state.db", ports=ports)
    try:
        yield House(root=root, ledger=ledger, ports=ports, say=say)
    finally:
        ledger.close()


def checkpoint_often() -> None:
    """The log is emptied when it has 64 KiB, so that what is cut short is often a checkpoint."""
    defaults = Checkpointer.__init__.__kwdefaults__
    assert defaults is not None
    defaults["log_bytes"] = 64 << 10


def create(root: Path, say: Say) -> None:
    """The first start: ledger and lane."""
    with house(root, say) as here:
        here.announce()


def order(root: Path, say: Say) -> None:
    """Dispatch under each key."""
    with house(root, say) as here:
        for key in keys():
            here.dispatch(key)


def work(root: Path, say: Say) -> None:
    """Be a worker once."""
    with house(root, say) as here:
        say(f"worker {here.work()}")


def call_off(root: Path, say: Say) -> None:
    """Cancel what was dispatched under each key and still waits."""
    with house(root, say) as here:
        for key in keys():
            here.cancel(here.dispatch(key).mission.mission_id)


def whole_life(root: Path, say: Say) -> None:
    """From nothing: ledger, lane, then missions, each after a new start: done, cancelled queued and running, done."""
    create(root, say)
    for key in ("first", "queued", "running", "last"):
        with house(root, say) as here:
            mission = here.dispatch(key).mission
            if key == "queued":
                here.cancel(mission.mission_id)
            say(f"worker {here.work()}")


def repair(root: Path, say: Say) -> None:
    """What the next start does an hour later: the lane, the callers' second tries, one reconcile and what it finds."""
    with house(root, say, later=True) as here:
        here.announce()
        for key in keys():
            here.dispatch(key)
        say(f"worker {here.work()}")
        faulty = here.ledger.read(verify_rows)
        assert not faulty, faulty


def keys() -> list[str]:
    """The idempotency keys that a deed was given."""
    return os.environ["DEED_KEYS"].split()


DEEDS: Mapping[str, Callable[[Path, Say], None]] = {
    deed.__name__: deed for deed in (create, order, work, call_off, whole_life, repair)
}
