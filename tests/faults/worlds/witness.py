"""Who sees every committed state and every file that becomes visible, and says which promise they break."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.worlds.lives import ENDS, Fault, Life, Row, change_faults, row_faults, said
from tests.faults.worlds.promises import BrokenError, Promise
from ua_vp.mission import AGEING_SECONDS, Mission
from ua_vp.ports import MICROS, Signal
from ua_vp.testing import World
from ua_vp.testing.simulated import SimulatedSignal
from ua_vp.workspace import Workspace, verify
from ua_vp.workspace.layout import ATTEMPTS, MARKER


@dataclass
class LaneRun:
    """A lane at work; `lost_at` (µs, monotonic) is when its attempt was seen to be the mission's no more."""

    process: str
    mission_id: str
    attempt: int
    cancelled: SimulatedSignal
    lost_at: int | None = None

    @property
    def told(self) -> bool:
        """Whether it was asked to stop."""
        return self.cancelled.raised


@dataclass
class Snapshot:
    """One committed state, and the events that came with it."""

    events: list[Row] = field(default_factory=list)
    events_total: int = 0
    missions: dict[str, Row] = field(default_factory=dict)
    claims: dict[str, Row] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    """How many attempts of a mission ended in a way that counts as a try."""


class Witness:
    """Calls no port, so it sees each state in the very step that made it."""

    def __init__(self, world: World, ledger: Path, workspaces: Path, *, lease: float) -> None:
        self._world = world
        self._workspaces = workspaces
        self._patience = int((lease / 2 + 0.5) * MICROS)
        self._db = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._newest_seq = self._events_seen = 0
        self._newest_created = 0
        self._by = ""
        self._ran: set[tuple[str, int]] = set()
        self._at_work: list[LaneRun] = []
        self.lives: dict[str, Life] = {}
        self.now = self._read()
        self._events_seen = len(self.now.events)
        self._newest_seq = self.now.events_total
        self.commits = self.takeovers = self.kills = self.published = 0
        self.awake_since: dict[str, int] = {}
        """When (µs, monotonic) a process that was stopped went on."""

    def close(self) -> None:
        self._db.close()

    def blame(self, promise: Promise, detail: str) -> None:
        """End the world: this promise is broken."""
        self._world.fail(BrokenError(promise, detail))

    def committed(self, process: str) -> None:
        """Look at what `process` committed just now."""
        self.commits += 1
        self._by = process
        before, self.now = self.now, self._read()
        for promise, detail in self._faults(before):
            self.blame(promise, detail)

    def moved(self, source: Path, target: Path) -> None:
        """A file or folder got another name: one that others can see?"""
        mission_id = target.parent.name
        row, life = self.now.missions.get(mission_id), self.lives.get(mission_id)
        if row is None or life is None:
            return
        if target.name == MARKER:
            self.published += 1
            for fault in self._marker_faults(row):
                self.blame(Promise.MARKER, f"{life.name}: {fault}")
        elif ATTEMPTS in source.parts:
            attempt = int(source.parts[source.parts.index(ATTEMPTS) + 1])
            if row["status"] not in ENDS or row["attempt"] != attempt:
                self.blame(
                    Promise.FENCE,
                    f"{life.name}: attempt {attempt} publishes {target.name}, by the ledger the mission is "
                    f"{row['status']} at attempt {row['attempt']}",
                )

    def lane_begins(self, process: str, mission: Mission, cancelled: Signal) -> LaneRun:
        """A lane is called."""
        assert isinstance(cancelled, SimulatedSignal)
        run = LaneRun(process, mission.mission_id, mission.attempt, cancelled)
        if (run.mission_id, run.attempt) in self._ran:
            self.blame(Promise.ONCE, f"{mission.objective}: attempt {mission.attempt} is run again")
        self._ran.add((run.mission_id, run.attempt))
        self._at_work.append(run)
        return run

    def lane_ends(self, run: LaneRun) -> None:
        """It returned."""
        self._at_work = [other for other in self._at_work if other is not run]

    def gone(self, process: str) -> None:
        """A process has ended, its lanes with it."""
        self._at_work = [run for run in self._at_work if run.process != process]

    def count(self, what: str) -> int:
        """How many rows of a table, or of a table under a condition, are committed now."""
        return int(self._db.execute(f"SELECT count(*) FROM {what}").fetchone()[0])

    def rows(self, what: str) -> list[Row]:
        """The rows of a table, or of a table under a condition."""
        return [dict(row) for row in self._db.execute(f"SELECT * FROM {what}")]

    def _read(self) -> Snapshot:
        def rows(sql: str, *values: object) -> list[Row]:
            return [dict(row) for row in self._db.execute(sql, values)]

        return Snapshot(
            events=rows("SELECT * FROM vp_events WHERE seq > ? ORDER BY seq", self._newest_seq),
            events_total=rows("SELECT count(*) AS n FROM vp_events")[0]["n"],
            missions={row["mission_id"]: row for row in rows("SELECT * FROM vp_missions")},
            claims={row["mission_id"]: row for row in rows("SELECT * FROM vp_claims")},
            lost={
                row["mission_id"]: row["n"]
                for row in rows(
                    "SELECT mission_id, count(*) AS n FROM vp_attempts WHERE end_reason IN ('lease_lost', 'retryable') "
                    "GROUP BY mission_id"
                )
            },
        )

    def _faults(self, before: Snapshot) -> Iterator[Fault]:
        """What the step from one committed state to the next breaks."""
        now = self.now
        for event in now.events:
            self._newest_seq, self._events_seen = event["seq"], self._events_seen + 1
            if event["mission_id"] is not None:
                yield from self._event_faults(event)
        if now.events_total != self._events_seen:
            yield Promise.SEQ, f"{now.events_total} events, {self._events_seen} were seen: one came before another"
        for mission_id, row in now.missions.items():
            life = self.lives.get(mission_id)
            if life is None:
                yield Promise.TOGETHER, f"{row['objective']} is there without its event"
                continue
            yield from row_faults(row, life, now.claims, now.lost)
            yield from change_faults(before.missions.get(mission_id), row, life)
            yield from self._claim_faults(before.claims.get(mission_id), row, life)
        yield from self._queue_faults()
        yield from self._lane_faults()

    def _event_faults(self, event: Row) -> Iterator[Fault]:
        mission_id, kind = event["mission_id"], event["type"].removeprefix("vp.mission.")
        row, life = self.now.missions.get(mission_id), self.lives.get(mission_id)
        if row is None or (life is None) != (kind == "dispatched"):
            yield Promise.LIFECYCLE, f"{kind} of a mission that is {'there already' if life else 'not there'}"
            return
        if life is None:
            self.lives[mission_id] = self._born(row, event)
            return
        self._world.tell(
            f"committed: {life.name}, attempt {event['attempt']}: {kind} {self._without_place(said(event))}"
        )
        if life.refuses(kind, event):
            promise = Promise.CANCEL if life.cancelled and kind in {*ENDS, "requeued"} else Promise.LIFECYCLE
            yield promise, f"{kind} of attempt {event['attempt']}, of {life}"
        life.live_on(kind, event)
        if kind == "ready":
            sha256 = json.loads(event["payload"])["receipt_sha256"]
            yield from ((Promise.STAMPS, f"{life.name}: {fault}") for fault in self._ready_faults(row, sha256))

    def _born(self, row: Row, event: Row) -> Life:
        """A mission that was dispatched: its place is never before one that was given earlier."""
        self._newest_created = max(self._newest_created, row["created_at"])
        self._world.tell(f"committed: {row['objective']}: dispatched, priority {row['priority']}")
        order = self._newest_created + row["priority"] * AGEING_SECONDS * MICROS
        return Life(name=row["objective"], order=order, seq=event["seq"])

    def _ready_faults(self, row: Row, sha256: str) -> Iterator[str]:
        receipt = self.workspace(row).receipt
        if row["published_at"] is None or row["marked_at"] is None:
            yield "ready without its stamps"
        if not receipt.exists() or hashlib.sha256(receipt.read_bytes()).hexdigest() != sha256:
            yield "ready with the hash of another receipt"
        yield from self._marker_faults(row)

    def _marker_faults(self, row: Row) -> Iterator[str]:
        workspace = self.workspace(row)
        differences = verify(workspace)
        if differences:
            yield f"{differences[0].path}: {differences[0].detail}"
            return
        receipt = json.loads(workspace.receipt.read_bytes())
        for name in ("attempt", "status"):
            if receipt[name] != row[name]:
                yield f"the receipt says {name} {receipt[name]}, the ledger {row[name]}"

    def _claim_faults(self, held: Row | None, row: Row, life: Life) -> Iterator[Fault]:
        """`held` is the claim as it was before this commit: who took it may do so only if its lease was over."""
        claim = self.now.claims.get(row["mission_id"])
        back = [
            event
            for event in self.now.events
            if event["mission_id"] == row["mission_id"] and event["type"] == "vp.mission.requeued"
        ]
        taker = back[0]["session_id"] if back else claim["session_id"] if claim else None
        if held is None or taker is None:
            return
        boot = self._world.time.monotonic + self._world.time.boot
        if taker != held["session_id"]:
            self.takeovers += 1
            if held["deadline"] >= boot:
                left = (held["deadline"] - boot) / MICROS
                yield Promise.TAKEN, f"{life.name} was taken {left:.3f} s before the lease of its holder was over"
        for run in self._at_work:
            its_own = (run.process, run.mission_id, run.attempt) == (self._by, row["mission_id"], held["attempt"])
            if its_own and not run.told and (back or (claim and claim["attempt"] != run.attempt)):
                yield Promise.TAKEN, f"{life.name} was taken by its own worker, whose lane runs on"

    def _queue_faults(self) -> Iterator[Fault]:
        for event in self.now.events:
            if event["type"] != "vp.mission.started":
                continue
            chosen = self.lives[event["mission_id"]]
            for row in self.now.missions.values():
                rival = self.lives[row["mission_id"]]
                waits = row["status"] == "queued" and row["due"] and row["vp_id"] == event["vp_id"]
                if waits and (rival.order, rival.seq) < (chosen.order, chosen.seq):
                    yield Promise.QUEUE, f"{chosen.name} was started before {rival.name}"

    def _lane_faults(self) -> Iterator[Fault]:
        time = self._world.time.monotonic
        for run in self._at_work:
            row = self.now.missions[run.mission_id]
            if row["attempt"] == run.attempt and row["status"] == "running":
                continue
            run.lost_at = run.lost_at or time
            if self._world.is_stopped(run.process):
                self.awake_since[run.process] = time
            since = max(run.lost_at, self.awake_since.get(run.process, 0))
            if not run.told and time - since > self._patience:
                ago = (time - run.lost_at) / MICROS
                what = f"{row['objective']}: attempt {run.attempt} in {run.process}"
                yield Promise.STOPPED, f"{what} was lost {ago:.3f} s ago and works on"

    def _without_place(self, text: str) -> str:
        """A world's history must not know where its files lie."""
        return text.replace(str(self._workspaces), "")

    def workspace(self, row: Row) -> Workspace:
        """The mission's folder."""
        return Workspace(self._workspaces / row["vp_id"] / row["mission_id"])
