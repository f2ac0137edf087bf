"""A worker on a real ledger and real folders; only the lane is made up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ua_vp import Availability, Budget, LaneInfo, MissionContext, MissionType, Outcome, Status
from ua_vp.events import Event
from ua_vp.lane import Manifest, Verdict
from ua_vp.ledger import Ledger, Session, Transaction, claims, events, lanes, missions, open_ledger, sessions
from ua_vp.mission import Actor, Attempt, Claim, JsonObject, Mission, NewMission, ReplyMode, RequeueReason
from ua_vp.ports import MICROS, Ports
from ua_vp.runtime import real_ports
from ua_vp.runtime.scheduler import RealTimers
from ua_vp.runtime.threads import RealThreads, end_process
from ua_vp.worker import Assignment, Worker
from ua_vp.workspace import Workspace

VP_ID = "vp.probe.primary"
INFO = LaneInfo(
    vp_id=VP_ID,
    display_name="Probe",
    mission_types={"task": MissionType(description="whatever the test wants", schema={"type": "object"})},
)


@dataclass
class ProbeLane:
    """A lane that does what the test says."""

    do: Callable[[MissionContext], Outcome]
    info: LaneInfo = INFO

    def availability(self) -> Availability:
        return Availability()

    def run(self, ctx: MissionContext) -> Outcome:
        return self.do(ctx)


@dataclass
class Bench:
    """Dispatches, starts workers, reads back."""

    root: Path
    ledger: Ledger
    ports: Ports
    timers: list[RealTimers] = field(default_factory=list)
    over: bool = False
    """Whether the test is: what a failing test left running may then meet a closed ledger."""

    def failed(self, name: str, error: BaseException) -> None:
        """A thread failed: the process ends, but not if that would hide what the test itself has to say."""
        if not self.over:
            end_process(name, error)

    def dispatch(
        self,
        objective: str = "do it",
        *,
        budget: Budget | None = None,
        max_tries: int = 3,
        constraints: JsonObject | None = None,
        not_before: int | None = None,
    ) -> str:
        mission_id = f"vp-mission-{self.ports.ids.uuid7()}"
        new = NewMission(
            mission_id=mission_id,
            vp_id=VP_ID,
            mission_type="task",
            objective=objective,
            constraints=constraints or {},
            budget=budget or Budget(),
            inputs=(),
            priority=100,
            max_tries=max_tries,
            not_before=not_before,
            idempotency_key=None,
            source_session_id=None,
            source_turn_id=None,
            turn_id=None,
            reply_mode=ReplyMode.ASYNC,
            created_by=Actor(name="test", via="test"),
        )
        now = self.ports.clock.now()
        self.ledger.run(lambda tx: missions.dispatch(tx, new, now=now))
        return mission_id

    def site(self, do: Callable[[MissionContext], Outcome], **changes: object) -> Assignment:
        site = Assignment(
            lane=ProbeLane(do),
            info=INFO,
            availability=Availability,
            workspaces=self.root / "vp_probe_primary_external",
            host="test-host",
            pid=os.getpid(),
            build="test",
            executor="ua-vp-probe",
            executor_version="1",
            environment={"PATH": os.environ["PATH"]},
            lease=2.0,
            grace=0.3,
            drain=5.0,
        )
        return replace(site, **changes)  # type: ignore[arg-type]  # fields of the dataclass, by name

    def worker(
        self,
        do: Callable[[MissionContext], Outcome],
        *,
        notify: Callable[[Event], None] | None = None,
        **changes: object,
    ) -> Worker:
        timers = RealTimers(self.ports.clock, RealThreads(self.failed))
        self.timers.append(timers)
        return Worker(self.site(do, **changes), self.ledger, self.ports, timers, notify=notify)

    def mission(self, mission_id: str) -> Mission:
        found = self.ledger.read(lambda tx: missions.get_mission(tx, mission_id))
        assert found is not None
        return found

    def attempts(self, mission_id: str) -> list[Attempt]:
        return self.ledger.read(lambda tx: missions.list_attempts(tx, mission_id))

    def sessions(self) -> list[Session]:
        return self.ledger.read(sessions.list_sessions)

    def events(self, mission_id: str) -> list[Event]:
        return self.ledger.read(lambda tx: events.page_events(tx, after=0, mission_id=mission_id, limit=100))

    def event_types(self, mission_id: str) -> list[str]:
        return [event.type.removeprefix("vp.mission.") for event in self.events(mission_id)]

    def cancel(self, mission_id: str, reason: str = "requested") -> None:
        now, actor = self.ports.clock.now(), Actor(name="test", via="test")
        self.ledger.run(lambda tx: missions.request_cancel(tx, mission_id, reason=reason, actor=actor, now=now))

    def take_away(self, mission_id: str) -> None:
        """Do what another worker does that found this one dead: put the mission back, then claim it."""
        clock, leases = self.ports.clock, self.ledger.lease_time()
        far = leases.now + 600 * MICROS
        session = "vp-session-other"

        def step(tx: Transaction) -> None:
            mission = missions.get_mission(tx, mission_id)
            assert mission is not None
            claim = Claim(mission=mission, attempt=mission.attempt, session_id="", worker_id="other", deadline=far)
            claims.requeue(tx, claim, RequeueReason.LEASE_LOST, now=clock.now(), backoff=0, detail="taken away")
            claims.claim(
                tx,
                vp_id=VP_ID,
                session_id=session,
                worker_id="other",
                limit=1,
                now=clock.now(),
                boot_id=leases.boot_id,
                deadline=far,
            )

        self.ledger.run(step)

    def workspace(self, mission_id: str) -> Workspace:
        return Workspace(self.root / "vp_probe_primary_external" / mission_id)

    def log(self, mission_id: str) -> str:
        return (self.workspace(mission_id).root / "run.log").read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    ports = real_ports(os.environ)
    ledger = open_ledger(tmp_path / "vp_state.db", ports=ports)
    made = Bench(root=tmp_path / "AGENT_RUN_WORKSPACES", ledger=ledger, ports=ports)
    made.ports = replace(ports, threads=RealThreads(made.failed))
    announce(made)
    yield made
    made.over = True
    for timers in made.timers:
        timers.close()
    ledger.close()


def announce(bench: Bench) -> None:
    """Publish the lane, as a worker does at its start."""
    manifest = Manifest(
        info=INFO,
        availability=Availability(),
        distribution="ua-vp-probe",
        version="1",
        workspace_base=f"workspace://{bench.root}/vp_probe_primary_external",
        sandbox="none",
    )
    verdict = Verdict(
        entry_point="probe", distribution="ua-vp-probe", version="1", ok=True, detail="", manifests=(manifest,)
    )
    now, actor = bench.ports.clock.now(), Actor(name="test", via="test")
    bench.ledger.run(lambda tx: lanes.publish_verdicts(tx, [verdict], now=now, actor=actor))


def deliver(ctx: MissionContext) -> Outcome:
    """The shortest lane: one work product."""
    (ctx.work_products / "summary.md").write_text(f"# Done\n\n{ctx.mission.objective}\n")
    return Outcome(status=Status.COMPLETED, summary="done", primary=["summary.md"])


__all__ = ["Bench", "ProbeLane", "announce", "deliver"]
