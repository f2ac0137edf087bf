"""Where the ledger's tests find one: the only thing that another store must bring is a Place."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from tests.waiting import wait_until
from ua_vp.lane import Availability, LaneInfo, Manifest, MissionType, Verdict
from ua_vp.ledger import (
    CancelOutcome,
    Dispatched,
    FinishVerdict,
    Ledger,
    Reconciled,
    RequeueVerdict,
    Session,
    Transaction,
    claims,
    events,
    lanes,
    missions,
    open_ledger,
    sessions,
)
from ua_vp.ledger.leases import Judge
from ua_vp.ledger.postgres import WRITE_LOCK
from ua_vp.mission import Actor, Budget, Claim, Ending, Mission, NewMission, ReplyMode, RequeueReason, Status
from ua_vp.ports import MICROS, Ports
from ua_vp.runtime import real_ports
from ua_vp.runtime.threads import RealQueue, RealThreads

T = TypeVar("T")

LANE, OTHER_LANE = "vp.general.primary", "vp.coder.primary"
BOOT = "boot-1"
LEASE = 30 * MICROS
START = 1_800_000_000 * MICROS
SOMEBODY = Actor(name="simone", via="api")
DONE = Ending(status=Status.COMPLETED, summary="done")

_numbers = itertools.count(1)


def new_mission(**fields: object) -> NewMission:
    """A mission to dispatch; `fields` are what the test is about."""
    plain = NewMission(
        mission_id=f"vp-mission-{os.getpid():016x}{next(_numbers):016x}",
        vp_id=LANE,
        mission_type="task",
        objective="write a summary",
        constraints={},
        budget=Budget(),
        inputs=(),
        priority=100,
        max_tries=3,
        not_before=None,
        idempotency_key=None,
        source_session_id=None,
        source_turn_id=None,
        turn_id=None,
        reply_mode=ReplyMode.ASYNC,
        created_by=SOMEBODY,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]  # the test names real fields


def manifest(vp_id: str = LANE, *, aliases: tuple[str, ...] = (), availability: Availability | None = None) -> Manifest:
    """A lane as a probe finds it."""
    info = LaneInfo(
        vp_id=vp_id,
        display_name="A lane",
        aliases=aliases,
        mission_types={"task": MissionType(description="anything", schema={"type": "object"})},
    )
    return Manifest(
        info=info,
        availability=availability or Availability(),
        distribution="ua-vp-general",
        version="1.0",
        workspace_base="workspace:///srv/workspaces/vp_general_primary_external",
        sandbox="none",
    )


def verdict(entry_point: str, *manifests: Manifest, ok: bool = True, remedy: str | None = None) -> Verdict:
    """What a probe says of one plugin."""
    return Verdict(
        entry_point=entry_point,
        distribution=f"ua-vp-{entry_point}",
        version="1.0",
        ok=ok,
        detail="loaded" if ok else "import failed",
        remedy=remedy,
        manifests=manifests,
    )


class CountedQueue(RealQueue[T]):
    """A queue that knows how much was ever put into it."""

    puts = 0

    def put(self, item: T) -> None:
        super().put(item)
        self.puts += 1


class CountedThreads(RealThreads):
    """Real threads whose last queue can be asked how much was put into it: how many callers a writer has had."""

    last: CountedQueue[object]

    def queue(self) -> CountedQueue[T]:
        queue: CountedQueue[T] = CountedQueue()
        self.last = queue  # type: ignore[assignment]  # whatever it holds
        return queue


@dataclass
class Place:
    """A store in which a test opens ledgers; all are closed with it. On PostgreSQL it has a `url`, and no file."""

    path: Path
    url: str | None = None
    threads: CountedThreads = field(default_factory=CountedThreads)
    opened: list[Ledger] = field(default_factory=list)

    @property
    def where(self) -> Path | str:
        """As `open_ledger` takes it."""
        return self.url or self.path

    @property
    def ports(self) -> Ports:
        return replace(real_ports(os.environ), threads=self.threads)

    def open(self, *, create: bool = True, busy_seconds: float = 5.0) -> Ledger:
        ledger = open_ledger(self.where, ports=self.ports, create=create, busy_seconds=busy_seconds)
        self.opened.append(ledger)
        return ledger

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The write lock, held by a connection that knows nothing of the product; in one thread."""
        if self.url is None:
            with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                yield
                other.execute("ROLLBACK")
        else:
            with self.raw() as server:
                server.execute(f"SELECT pg_advisory_lock({WRITE_LOCK})".encode())
                yield

    def raw(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection to the database on PostgreSQL, as somebody's with a shell there; used as a context manager."""
        assert self.url is not None, "a place on PostgreSQL"
        return psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True)

    def shift_clock(self, micros: int) -> None:
        """Have the database's clock read so much more than it does."""
        with self.raw() as server:
            (source,) = server.execute("SELECT prosrc FROM pg_proc WHERE proname = 'vp_clock'").fetchone() or ("",)
            body = f"SELECT ({source.strip().removeprefix('SELECT ')}) + {micros}"
            server.execute(
                f"CREATE OR REPLACE FUNCTION vp_clock() RETURNS bigint LANGUAGE sql VOLATILE AS $$ {body} $$".encode()
            )

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()


@dataclass
class Worker:
    """A worker's session, seen from the ledger; `boot_now` is its boot clock, moved by the test."""

    ledger: Ledger
    session_id: str
    vp_id: str = LANE
    boot_id: str = BOOT
    boot_now: int = 0
    now: int = START

    @property
    def worker_id(self) -> str:
        return f"worker-of-{self.session_id}"

    @property
    def deadline(self) -> int:
        return self.boot_now + LEASE

    def start(self) -> Worker:
        session = Session(
            session_id=self.session_id,
            vp_id=self.vp_id,
            worker_id=self.worker_id,
            pid=1,
            host="host",
            build="1.0",
            opened_at=self.now,
            last_heartbeat_at=self.now,
            lease_boot=self.boot_id,
            lease_deadline=self.deadline,
        )
        self.ledger.run(lambda tx: sessions.open_session(tx, session))
        return self

    def claim(self, limit: int = 1) -> list[Claim]:
        return self.ledger.run(
            lambda tx: claims.claim(
                tx,
                vp_id=self.vp_id,
                session_id=self.session_id,
                worker_id=self.worker_id,
                limit=limit,
                now=self.now,
                boot_id=self.boot_id,
                deadline=self.deadline,
            )
        )

    def finish(self, claim: Claim, ending: Ending = DONE) -> FinishVerdict:
        return self.ledger.run(
            lambda tx: claims.finish(
                tx,
                claim,
                ending,
                completed_at=self.now,
                result_ref=f"workspace:///srv/{claim.mission_id}",
                receipt_path=f"/srv/{claim.mission_id}/mission_receipt.json",
                sync_marker_path=f"/srv/{claim.mission_id}/sync_ready.json",
            )
        )

    def requeue(self, claim: Claim, reason: RequeueReason, *, backoff: int = 0) -> RequeueVerdict:
        return self.ledger.run(
            lambda tx: claims.requeue(tx, claim, reason, now=self.now, backoff=backoff, detail="because")
        )

    def publish(self, claim: Claim) -> bool:
        return self.ledger.run(lambda tx: claims.stamp_published(tx, claim, now=self.now))

    def mark(self, claim: Claim) -> bool:
        return self.ledger.run(lambda tx: claims.stamp_marked(tx, claim, now=self.now, receipt_sha256="abc"))

    def progress(self, claim: Claim, summary: str | None = "half way", **fields: object) -> bool:
        given = {"data": {}, "usage": None, "engaged": False, **fields}
        return self.ledger.run(
            lambda tx: claims.note_progress(tx, claim, now=self.now, summary=summary, **given)  # type: ignore[arg-type]
        )

    def renew(self) -> claims.Renewal:
        return self.ledger.run(
            lambda tx: claims.renew(
                tx,
                session_id=self.session_id,
                now=self.now,
                boot_id=self.boot_id,
                boot_now=self.boot_now,
                deadline=self.deadline,
            )
        )

    def reconcile(self, limit: int = 100, *, judge: Judge | None = None) -> Reconciled:
        return self.ledger.run(
            lambda tx: claims.reconcile(
                tx,
                vp_id=self.vp_id,
                session_id=self.session_id,
                worker_id=self.worker_id,
                now=self.now,
                boot_id=self.boot_id,
                boot_now=self.boot_now,
                deadline=self.deadline,
                limit=limit,
                judge=judge,
            )
        )


def dispatched(ledger: Ledger, *, now: int = START, **fields: object) -> Mission:
    """A mission in the queue."""
    new = new_mission(**fields)
    outcome = ledger.run(lambda tx: missions.dispatch(tx, new, now=now))
    assert isinstance(outcome, Dispatched)
    return outcome.mission


def cancelled(ledger: Ledger, mission_id: str, *, now: int = START, reason: str = "requested") -> CancelOutcome:
    """What a request to cancel comes to."""
    outcome = ledger.run(lambda tx: missions.request_cancel(tx, mission_id, reason=reason, actor=SOMEBODY, now=now))
    assert outcome is not None
    return outcome


def read(ledger: Ledger, mission_id: str) -> Mission:
    """The mission as it is now."""
    mission = ledger.read(lambda tx: missions.get_mission(tx, mission_id))
    assert mission is not None
    return mission


def event_types(ledger: Ledger, mission_id: str) -> list[str]:
    """What happened to a mission, in order, without the common beginning of the names."""
    found = ledger.read(lambda tx: events.page_events(tx, after=0, mission_id=mission_id, limit=1000))
    return [event.type.removeprefix("vp.mission.") for event in found]


def register_lane(ledger: Ledger, vp_id: str = LANE) -> None:
    """Make a lane known."""
    ledger.run(lambda tx: lanes.publish_verdicts(tx, [verdict("general", manifest(vp_id))], now=START, actor=SOMEBODY))


def cut_all_others(place: Place) -> None:
    """End every connection to this database, as an administrator or a failing network does."""
    with place.raw() as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@contextmanager
def held_up(ledger: Ledger) -> Iterator[None]:
    """Keep the writer inside a Step, so that callers pile up behind it."""
    inside, go_on = threading.Event(), threading.Event()

    def step(_: Transaction) -> None:
        inside.set()
        go_on.wait()

    first = threading.Thread(target=ledger.run, args=(step,))
    first.start()
    inside.wait()
    try:
        yield
    finally:
        go_on.set()
        first.join()


def piled_up(place: Place, ledger: Ledger, callers: list[threading.Thread]) -> None:
    """Start `callers` while the writer is held up, let them go, and wait for them."""
    with held_up(ledger):
        before = place.threads.last.puts
        for caller in callers:
            caller.start()
        wait_until(lambda: place.threads.last.puts - before == len(callers), within=10, why="all callers wait")
    for caller in callers:
        caller.join()
