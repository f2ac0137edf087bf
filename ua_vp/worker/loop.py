"""The worker: one loop thread that waits on one queue and brings everything to the ledger in one Step a tick."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import structlog

from ua_vp.errors import LedgerGoneError, VpError
from ua_vp.events import Event
from ua_vp.ledger import FinishVerdict, Holder, Ledger, RequeueVerdict, claims, lanes, missions
from ua_vp.mission import Claim
from ua_vp.ports import MICROS, Ports, Queue, Timers
from ua_vp.worker.assignment import Assignment
from ua_vp.worker.execute import ending_for_stop
from ua_vp.worker.finalize import ending_without_lane
from ua_vp.worker.hands import Hands
from ua_vp.worker.heartbeat import Heartbeat
from ua_vp.worker.messages import Available, Message, Nudge, Over
from ua_vp.worker.observe import Observer
from ua_vp.worker.outbox import Outbox
from ua_vp.worker.running import Running, Stop
from ua_vp.worker.session import leave_seat, take_seat
from ua_vp.worker.tick import Due, Ticked, tick

RECONCILE_LIMIT = 16
"""Missions that one reconcile takes at most; the rest come next time."""
AVAILABILITY_SECONDS = 60.0

log = structlog.get_logger("ua_vp.worker")


class WorkerExit(IntEnum):
    """How `run` ended, as a process exit status."""

    DRAINED = 0
    RESTART = 75
    """A lane did not return and still sits in this process: start a new one."""


class Worker:
    """One lane's worker in this process. `run` or `once` is called once; `drain` and `hurry` from any thread."""

    def __init__(
        self,
        site: Assignment,
        ledger: Ledger,
        ports: Ports,
        timers: Timers,
        *,
        notify: Callable[[Event], None] | None = None,
    ) -> None:
        self._site = site
        self._ledger = ledger
        self._ports = ports
        self._timers = timers
        self._queue: Queue[Message] = ports.threads.queue()
        self._outbox = Outbox()
        self._hands = Hands(site, ports, self._queue.put)
        self._seat = take_seat(site, ledger, ports)
        self._heartbeat = Heartbeat(ports, lease=site.lease, renew=self._renew, fence=self._fence)
        self._observer = Observer(ledger, ports.threads, vp_id=site.vp_id, notify=notify) if notify else None
        self._watch = ledger.watch(lambda: self._queue.put(Nudge.WAKE))
        self._available = True
        self._claiming = True
        self._drain_until: int | None = None
        self._retry = False
        self._restart = False

    def drain(self) -> None:
        """Claim no more; end when what runs has ended, at most `drain` seconds from now."""
        self._queue.put(Nudge.DRAIN)

    def hurry(self) -> None:
        """End now: what runs is stopped and goes back to the queue, not counted as a try."""
        self._queue.put(Nudge.HURRY)

    def run(self) -> WorkerExit:
        """Work until drained.

        Raises:
            LedgerGoneError: the ledger is gone for good; everything this worker ran was stopped.
        """
        lease = self._site.lease
        for name, seconds, nudge in (("tick", lease / 3, Nudge.TICK), ("reconcile", lease / 4, Nudge.RECONCILE)):
            self._timers.every(name, seconds, lambda nudge=nudge: self._queue.put(nudge))  # type: ignore[misc]
        self._timers.every("availability", AVAILABILITY_SECONDS, self._ask_availability)
        self._queue.put(Nudge.RECONCILE)
        return self._work()

    def once(self) -> WorkerExit:
        """Reconcile, claim up to capacity once, run that to the mark, end."""
        self._timers.every("tick", self._site.lease / 3, lambda: self._queue.put(Nudge.TICK))
        self._reconcile()
        self._tick()
        self._claiming = False
        self._drain_until = self._ports.clock.monotonic() + int(1e15)
        return self._work() if not self._done() else self._end()

    def _work(self) -> WorkerExit:
        while not self._done():
            self._turn(self._queue.get(self._patience()))
        return self._end()

    def _done(self) -> bool:
        return self._drain_until is not None and self._hands.empty and not self._outbox

    def _patience(self) -> float | None:
        waits = [self._hands.patience(), self._site.lease / 8 if self._retry else None]
        if self._drain_until is not None:
            waits.append(max(0.0, (self._drain_until - self._ports.clock.monotonic()) / MICROS))
        return min((wait for wait in waits if wait is not None), default=None)

    def _turn(self, message: Message | None) -> None:
        """Take every waiting message, then do what they call for, once."""
        nudges: set[Nudge] = set()
        while message is not None:
            self._take(message, nudges)
            message = self._queue.get(0)
        self._obey(nudges)
        for hopeless in self._hands.check_limits():
            self._abandon(hopeless)
        if Nudge.RECONCILE in nudges:
            self._reconcile()
        if self._outbox or self._retry or Nudge.TICK in nudges or (nudges and self._something_due()):
            self._tick()

    def _take(self, message: Message, nudges: set[Nudge]) -> None:
        match message:
            case Nudge():
                nudges.add(message)
            case Over():
                self._hands.over(message)
                nudges.add(Nudge.WAKE)
            case Available():
                self._available = message.availability.available
                self._publish_availability(message)
                nudges.add(Nudge.WAKE)
            case _:
                self._outbox.put(message)

    def _obey(self, nudges: set[Nudge]) -> None:
        now = self._ports.clock.monotonic()
        if Nudge.DRAIN in nudges and self._drain_until is None:
            self._drain_until = now + int(self._site.drain * MICROS)
        if Nudge.HURRY in nudges:
            self._drain_until = now
        if self._drain_until is not None:
            self._claiming = False
            if now >= self._drain_until:
                self._hands.stop_all(Stop.DRAINED)

    def _something_due(self) -> bool:
        """Whether a tick would find work, stopping on the way what was cancelled or lost.

        A read: were it a write, each of our own commits would wake us to the next.
        """
        now, free, before = self._ports.clock.now(), self._free() > 0, self._hands.held
        session_id, vp_id = self._seat.session_id, self._site.vp_id
        try:
            due, held = self._ledger.read(
                lambda tx: (free and claims.has_due(tx, vp_id, now), claims.holding(tx, session_id))
            )
        except VpError as error:
            return self._failed(error)
        self._hands.renewed(held, before)
        return due

    def _free(self) -> int:
        return max(0, self._site.info.capacity - self._hands.busy) if self._claiming and self._available else 0

    def _tick(self) -> None:
        clock, held = self._ports.clock, self._hands.held
        due = Due(
            vp_id=self._site.vp_id,
            session_id=self._seat.session_id,
            worker_id=self._seat.worker_id,
            now=clock.now(),
            boot_id=clock.boot_id,
            boot_now=clock.boot(),
            deadline=clock.boot() + self._site.lease_micros,
            finishes=tuple(self._outbox.finishes),
            requeues=tuple(self._outbox.requeues),
            progress=tuple(self._outbox.progress),
            settled=tuple(self._outbox.settled),
            late=tuple(self._outbox.late),
            held=held,
            claiming=self._claiming and self._available,
            free=self._free(),
        )
        try:
            ticked = self._ledger.run(lambda tx: tick(tx, due))
        except VpError as error:
            self._failed(error)
            return
        self._retry = False
        self._ticked(due, ticked)

    def _ticked(self, due: Due, ticked: Ticked) -> None:
        ended = zip(due.finishes, ticked.finishes, strict=True)
        requeued = zip(due.requeues, ticked.requeues, strict=True)
        over = [finish.staged.claim for finish, verdict in ended if verdict is not FinishVerdict.CANCEL_FIRST]
        over += [item.claim for item, verdict in requeued if verdict is RequeueVerdict.REQUEUED]
        for claim in over:
            self._hands.committed(claim.mission_id)
        self._outbox.answer(ticked.finishes, ticked.requeues)
        self._hands.renewed(ticked.renewal.missions, due.held)
        if ticked.renewal.alive:
            self._heartbeat.extended(due.deadline)
        else:
            log.warning("another worker took this session for dead; opening a new one", session=self._seat.session_id)
            self._seat = take_seat(self._site, self._ledger, self._ports)
        for claim in ticked.claims:
            self._hands.start(claim)
        if ticked.next_due is not None:
            self._timers.at("next-due", ticked.next_due, lambda: self._queue.put(Nudge.WAKE))
        if self._observer:
            self._observer.nudge()

    def _failed(self, error: VpError) -> bool:
        """The ledger did not take it: keep everything and try again, until the lease is lost for good."""
        if isinstance(error, LedgerGoneError) and self._heartbeat.fenced:
            self._hands.stop_all(Stop.LEASE_LOST)
            raise error
        log.warning("the ledger could not be reached; tried again", error=str(error))
        self._retry = True
        return False

    def _reconcile(self) -> None:
        """Take over what dead workers left, and what this worker could not bring to its end before."""
        clock, site, seat = self._ports.clock, self._site, self._seat
        now, boot_now, deadline = clock.now(), clock.boot(), clock.boot() + site.lease_micros
        try:
            found = self._ledger.run(
                lambda tx: claims.reconcile(
                    tx,
                    vp_id=site.vp_id,
                    session_id=seat.session_id,
                    worker_id=seat.worker_id,
                    now=now,
                    boot_id=clock.boot_id,
                    boot_now=boot_now,
                    deadline=deadline,
                    limit=RECONCILE_LIMIT,
                )
            )
            again = [self._reread(mission_id) for mission_id in self._hands.unsettled]
        except VpError as error:
            self._failed(error)
            return
        for mission in found.requeued:
            log.warning("requeued: its worker is gone", mission_id=mission.mission_id, attempt=mission.attempt)
        for claim in (*found.closing, *(claim for claim in again if claim)):
            ending = self._hands.unsettled.pop(claim.mission_id, None)
            self._hands.close(claim, ending or ending_without_lane(claim.mission))
        self._hands.unsettled.clear()
        if found.requeued:
            self._queue.put(Nudge.WAKE)

    def _reread(self, mission_id: str) -> Claim | None:
        """Our claim on a mission as it stands now; None if somebody else has it or it is done."""
        mission = self._ledger.read(lambda tx: missions.get_mission(tx, mission_id))
        if mission is None or mission.settled or mission.worker_id != self._seat.worker_id:
            return None
        return Claim(
            mission=mission,
            attempt=mission.attempt,
            session_id=self._seat.session_id,
            worker_id=self._seat.worker_id,
            deadline=self._heartbeat.deadline,
            closing=True,
        )

    def _abandon(self, running: Running) -> None:
        """End the mission of a lane that does not return, as attempt + 1; then let this process be replaced."""
        clock, seat = self._ports.clock, self._seat
        self._restart = True
        self.drain()
        now, deadline = clock.now(), clock.boot() + self._site.lease_micros
        holder = Holder(session_id=seat.session_id, worker_id=seat.worker_id, boot_id=clock.boot_id, deadline=deadline)
        try:
            claim = self._ledger.run(
                lambda tx: claims.supersede(
                    tx,
                    running.claim,
                    holder,
                    now=now,
                    end_reason="abandoned",
                )
            )
        except VpError as error:
            self._failed(error)
            running.abandoned = False  # seen again at the next look
            return
        if claim is not None:
            self._hands.close(claim, ending_for_stop(running))

    def _ask_availability(self) -> None:
        """On a thread of its own: a lane that hangs here must not stop the loop."""

        def ask() -> None:
            self._queue.put(Available(availability=self._site.availability()))

        self._ports.threads.start("availability", ask)

    def _publish_availability(self, message: Available) -> None:
        now = self._ports.clock.now()
        try:
            self._ledger.run(lambda tx: lanes.update_availability(tx, self._site.vp_id, message.availability, now=now))
        except VpError as error:
            self._failed(error)

    def _renew(self) -> int:
        """The heartbeat's renewal, the same as a tick's; returns the new deadline."""
        clock, held, seat = self._ports.clock, self._hands.held, self._seat
        now, boot_now, deadline = clock.now(), clock.boot(), clock.boot() + self._site.lease_micros
        renewal = self._ledger.run(
            lambda tx: claims.renew(
                tx,
                session_id=seat.session_id,
                now=now,
                boot_id=clock.boot_id,
                boot_now=boot_now,
                deadline=deadline,
            )
        )
        self._hands.renewed(renewal.missions, held)
        return deadline

    def _fence(self) -> None:
        self._hands.stop_all(Stop.LEASE_LOST)
        self._queue.put(Nudge.FENCED)

    def _end(self) -> WorkerExit:
        self._timers.close()
        self._watch.close()
        self._heartbeat.close()
        leave_seat(self._seat, self._ledger, self._ports)
        if self._observer:
            self._observer.close()
        return WorkerExit.RESTART if self._restart else WorkerExit.DRAINED
