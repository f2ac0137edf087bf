"""The product's ledger: the Steps of its API and of its worker, without HTTP, folders and files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.contender import SLOTS, Order, by_threads, main
from ua_vp.ledger import FinishVerdict, Ledger, Session, missions, open_ledger, sessions, sqlite
from ua_vp.mission import Actor, Budget, Claim, Ending, NewMission, ReplyMode, Status
from ua_vp.ports import MICROS, Ports, Queue
from ua_vp.runtime import real_ports
from ua_vp.worker.assignment import Moment
from ua_vp.worker.finalize import Staged
from ua_vp.worker.messages import Finish, Settled
from ua_vp.worker.session import Seat
from ua_vp.worker.tick import Due, Ticked, tick

LANE = "vp.general.primary"
SEAT = Seat(session_id="vp-session-bench", worker_id="bench:1")
DONE = Ending(status=Status.COMPLETED, summary="done")
SHA256 = "0" * 64


class TheLedger:
    """Dispatches as the API does; works in the worker's own tick: finish, stamp, renew and claim in one Step."""

    def __init__(self, order: Order) -> None:
        if order.synchronous == "NORMAL":
            sqlite.PRAGMAS = *sqlite.PRAGMAS, "PRAGMA synchronous=NORMAL"  # type: ignore[assignment]  # one more
        self.ports = real_ports(os.environ)
        where: Path | str = order.dsn.replace("postgresql://", "postgresql+psycopg://") or order.database
        self.ledger = open_ledger(where, ports=self.ports)

    def dispatch(self, order: Order) -> None:
        by_threads(order, self.hand_over)

    def hand_over(self) -> None:
        mission, now = new_mission(self.ports), self.ports.clock.now()
        self.ledger.run(lambda tx: missions.dispatch(tx, mission, now=now))

    def prepare(self, order: Order) -> None:
        self.worker = Worker(self.ledger, self.ports)

    def work(self, order: Order) -> None:
        settled = 0
        while settled < order.missions:
            settled += self.worker.tick()

    def serve(self, started: Callable[[], None]) -> None:
        woken: Queue[bool] = self.ports.threads.queue()
        worker = Worker(self.ledger, self.ports)
        self.ledger.watch(lambda: woken.put(True))
        started()
        while True:
            worker.tick()
            if worker.claimed:
                started()
            elif not worker.ended:
                woken.get()

    def close(self) -> None:
        self.ledger.close()


class Worker:
    """A session that claims up to SLOTS missions in each tick, ends them in the next, and stamps them in the one after."""

    def __init__(self, ledger: Ledger, ports: Ports) -> None:
        self._ledger = ledger
        self._ports = ports
        self._replies: Queue[FinishVerdict] = ports.threads.queue()
        self.claimed: tuple[Claim, ...] = ()
        self.ended: tuple[Claim, ...] = ()
        session = session_at(self.moment())
        ledger.run(lambda tx: sessions.open_session(tx, session))

    def moment(self) -> Moment:
        clock, own = self._ports.clock, self._ports.clock.boot()
        fence = own + 30 * MICROS
        here = Moment(now=clock.now(), boot_id=clock.boot_id, boot_now=own, deadline=fence, own=own, fence=fence)
        return here.on(self._ledger.lease_time())

    def tick(self) -> int:
        """How many missions were settled: durably published and marked."""
        moment = self.moment()
        due = Due(
            vp_id=LANE,
            seat=SEAT,
            moment=moment,
            finishes=[Finish(staged=staged(claim, moment.now), reply=self._replies) for claim in self.claimed],
            settled=[Settled(claim=claim, receipt_sha256=SHA256) for claim in self.ended],
            held=frozenset((claim.mission_id, claim.attempt) for claim in (*self.claimed, *self.ended)),
            free=SLOTS - len(self.claimed),
        )
        ticked: Ticked = self._ledger.run(lambda tx: tick(tx, due))
        settled, self.ended, self.claimed = len(self.ended), self.claimed, ticked.claims
        return settled


def staged(claim: Claim, now: int) -> Staged:
    """An ending whose files are durable: as a worker brings it."""
    folder = f"/srv/ua-vp/workspaces/vp_general_primary_external/{claim.mission_id}"
    return Staged(
        claim=claim,
        ending=DONE,
        completed_at=now,
        result_ref=f"workspace://{folder}",
        receipt_path=f"{folder}/mission_receipt.json",
        sync_marker_path=f"{folder}/sync_ready.json",
        receipt_sha256=SHA256,
    )


_numbers = itertools.count(1)


def new_mission(ports: Ports) -> NewMission:
    """What the API makes of a small request."""
    return NewMission(
        mission_id=f"vp-mission-{ports.ids.uuid7()}",
        vp_id=LANE,
        mission_type="task",
        objective=f"Write a summary of report {next(_numbers)}",
        constraints={},
        budget=Budget(),
        inputs=(),
        priority=100,
        max_tries=3,
        not_before=None,
        idempotency_key=None,
        source_session_id="session-bench",
        source_turn_id=None,
        turn_id=None,
        reply_mode=ReplyMode.ASYNC,
        created_by=Actor(name="simone", via="api"),
    )


def session_at(moment: Moment) -> Session:
    """The session of SEAT, opened now."""
    return Session(
        session_id=SEAT.session_id,
        vp_id=LANE,
        worker_id=SEAT.worker_id,
        pid=os.getpid(),
        host="bench",
        build="bench",
        opened_at=moment.now,
        last_heartbeat_at=moment.now,
        lease_boot=moment.boot_id,
        lease_deadline=moment.deadline,
    )


if __name__ == "__main__":
    main(TheLedger)
