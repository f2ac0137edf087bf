"""The worker: one loop thread that waits on one queue and brings everything to the ledger in one Step a tick."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import structlog

from ua_vp.errors import LedgerGoneError, VpError
from ua_vp.events import Event
from ua_vp.ledger import FinishVerdict, Ledger, RequeueVerdict, claims, lanes
from ua_vp.ports import MICROS, Ports, Queue, Timers
from ua_vp.worker.assignment import Assignment, Moment
from ua_vp.worker.hands import Hands
from ua_vp.worker.heartbeat import Heartbeat
from ua_vp.worker.messages import Available, Message, Nudge, Over
from ua_vp.worker.observe import Observer
from ua_vp.worker.outbox import Outbox
from ua_vp.worker.reconcile import Reconciler
from ua_vp.worker.running import Stop
from ua_vp.worker.session import leave_seat, take_seat
from ua_vp.worker.tick import Due, Ticked, tick

AVAILABILITY_SECONDS = 60.0

log = structlog.get_logger("ua_vp.worker")


class WorkerExit(IntEnum):
    """How `run` or `once` ended, as a process exit status."""

    DRAINED = 0
    UNSETTLED = 1
    """Something could not be brought to its end or published; the next worker of the lane tries again."""
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
        self._reconciler = Reconciler(site, ledger, ports.clock, self._hands)
        self._seat = take_seat(site, ledger, ports)
        self._heartbeat = Heartbeat(ports, lease=site.lease, renew=self._renew, fence=self._fence)
        self._observer = Observer(ledger, ports.threads, vp_id=site.vp_id, notify=notify) if notify else None
        self._watch = ledger.watch(lambda: self._queue.put(Nudge.WAKE))
        self._available = site.availability().available
        self._asking = False
        self._once = False
        self._has_ticked = False
        self._drain_until: int | None = None
        """µs, monotonic; set once it is to end."""
        self._retry_at: int | None = None
        """µs, monotonic: when the ledger is tried again after it could not be reached."""
        self._owed: set[Nudge] = set()
        """What was asked for and not done yet, because the ledger could not be reached."""
        self._restart = False
        self._gave_up = False

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
        return self._work()

    def once(self) -> WorkerExit:
        """Reconcile, claim up to capacity once, run that to the mark, end.

        Raises:
            LedgerGoneError: the ledger is gone for good; everything this worker ran was stopped.
        """
        self._once = True
        return self._work()

    def _work(self) -> WorkerExit:
        lease = self._site.lease
        self._timers.every("tick", lease / 3, lambda: self._queue.put(Nudge.TICK))
        self._timers.every("reconcile", lease / 4, lambda: self._queue.put(Nudge.RECONCILE))
        self._timers.every("availability", AVAILABILITY_SECONDS, self._ask_availability)
        nudges = {Nudge.RECONCILE, Nudge.TICK} | self._listen(0)
        while True:
            self._do(nudges)
            if self._done():
                return self._end()
            nudges = self._listen(self._patience())

    def _done(self) -> bool:
        if self._drain_until is None:
            return self._once and self._retry_at is None and self._hands.empty and not self._outbox
        late = self._ports.clock.monotonic() >= self._drain_until
        # Without a lease nothing can be handed over any more: another worker takes what is left.
        self._gave_up = late and self._heartbeat.fenced
        return self._gave_up or (self._hands.empty and not self._outbox)

    def _listen(self, patience: float | None) -> set[Nudge]:
        """Wait for a message, at most `patience` seconds, take every message there is; returns the nudges among them."""
        nudges: set[Nudge] = set()
        message = self._queue.get(patience)
        while message is not None:
            match message:
                case Nudge():
                    nudges.add(message)
                case Over():
                    self._hands.over(message)
                    nudges.add(Nudge.WAKE)
                case Available():
                    self._asking = False
                    self._heard(message)
                    nudges.add(Nudge.WAKE)
                case _:
                    self._outbox.put(message)
            message = self._queue.get(0)
        return nudges

    def _patience(self) -> float | None:
        now = self._ports.clock.monotonic()
        if self._retry_at is not None:
            return max(0.0, (self._retry_at - now) / MICROS)
        waits = [self._hands.patience()]
        if self._drain_until is not None and now < self._drain_until:
            waits.append((self._drain_until - now) / MICROS)
        return min((wait for wait in waits if wait is not None), default=None)

    def _do(self, nudges: set[Nudge]) -> None:
        """What the nudges call for, once; a ledger that cannot be reached is tried again a little later."""
        self._obey(nudges)
        hopeless = self._hands.check_limits()
        self._owed |= nudges
        if self._retry_at is not None and self._ports.clock.monotonic() < self._retry_at:
            return
        nudges, self._retry_at = self._owed, None
        try:
            for running in hopeless:
                self._restart = True
                self._obey({Nudge.DRAIN})
                self._reconciler.abandon(running, self._seat)
            if Nudge.RECONCILE in nudges and self._reconciler.reconcile(self._seat):
                nudges.add(Nudge.TICK)
            if self._outbox or Nudge.TICK in nudges or (nudges and self._something_due()):
                self._tick()
            self._owed = set()
        except VpError as error:
            self._owed |= {Nudge.TICK}
            self._failed(error)

    def _obey(self, nudges: set[Nudge]) -> None:
        now = self._ports.clock.monotonic()
        if Nudge.DRAIN in nudges and self._drain_until is None:
            self._drain_until = now + int(self._site.drain * MICROS)
        if Nudge.HURRY in nudges:
            self._drain_until = now
        if self._drain_until is not None and now >= self._drain_until:
            self._hands.stop_all(Stop.DRAINED)

    def _something_due(self) -> bool:
        """Whether a tick would find work, stopping on the way what was cancelled or lost.

        A read: were it a write, each of our own commits would wake us to the next.
        """
        now, free, before = self._ports.clock.now(), self._free() > 0, self._hands.held
        session_id, vp_id = self._seat.session_id, self._site.vp_id
        due, held, next_due = self._ledger.read(
            lambda tx: (
                free and claims.has_due(tx, vp_id, now),
                claims.holding(tx, session_id),
                claims.next_due(tx, vp_id, now),
            )
        )
        self._hands.renewed(held, before)
        self._wake_at(next_due)
        return due

    def _free(self) -> int:
        return max(0, self._site.info.capacity - self._hands.busy) if self._claiming else 0

    @property
    def _claiming(self) -> bool:
        return self._available and self._drain_until is None and not (self._once and self._has_ticked)

    def _tick(self) -> None:
        due = Due(
            vp_id=self._site.vp_id,
            seat=self._seat,
            moment=self._moment(),
            finishes=tuple(self._outbox.finishes),
            requeues=tuple(self._outbox.requeues),
            progress=tuple(self._outbox.progress),
            settled=tuple(self._outbox.settled),
            late=tuple(self._outbox.late),
            held=self._hands.held,
            claiming=self._claiming,
            free=self._free(),
        )
        ticked = self._ledger.run(lambda tx: tick(tx, due))
        self._ticked(due, ticked)

    def _ticked(self, due: Due, ticked: Ticked) -> None:
        ended = zip(due.finishes, ticked.finishes, strict=True)
        requeued = zip(due.requeues, ticked.requeues, strict=True)
        over = [finish.staged.claim for finish, verdict in ended if verdict is not FinishVerdict.CANCEL_FIRST]
        over += [item.claim for item, verdict in requeued if verdict is RequeueVerdict.REQUEUED]
        for claim in over:
            self._hands.committed(claim)
        self._hands.renewed(ticked.renewal.missions, due.held)
        self._outbox.answer(ticked.finishes, ticked.requeues)
        self._has_ticked = True
        for claim in ticked.claims:
            if claim.closing:
                self._reconciler.close(claim)
            else:
                self._hands.start(claim)
        self._wake_at(ticked.next_due)
        if self._observer:
            self._observer.nudge()
        if ticked.renewal.alive:
            self._heartbeat.extended(due.moment.fence)
        else:
            log.warning("session_taken_for_dead", session_id=self._seat.session_id, detail="a new one is opened")
            self._seat = take_seat(self._site, self._ledger, self._ports)

    def _wake_at(self, wall: int | None) -> None:
        if wall is not None:
            self._timers.at("next-due", wall, lambda: self._queue.put(Nudge.WAKE))

    def _failed(self, error: VpError) -> None:
        """The ledger did not take it: keep everything and try again, until the lease is lost for good."""
        if isinstance(error, LedgerGoneError) and self._heartbeat.fenced:
            self._hands.stop_all(Stop.LEASE_LOST)
            raise error
        log.warning("ledger_not_reached", code=error.code, error=str(error))
        self._retry_at = self._ports.clock.monotonic() + self._site.lease_micros // 8

    def _ask_availability(self) -> None:
        """On a thread of its own: a lane that hangs here must not stop the loop. One question at a time."""

        def ask() -> None:
            self._queue.put(Available(availability=self._site.availability()))

        if not self._asking:
            self._asking = True
            self._ports.threads.start("availability", ask)

    def _heard(self, message: Available) -> None:
        now, vp_id = self._ports.clock.now(), self._site.vp_id
        self._available = message.availability.available
        try:
            self._ledger.run(lambda tx: lanes.update_availability(tx, vp_id, message.availability, now=now))
        except VpError as error:
            self._failed(error)

    def _renew(self) -> int | None:
        """The heartbeat's renewal, the same as a tick's; returns the new fence, None if the session is dead."""
        moment, held, seat = self._moment(), self._hands.held, self._seat
        renewal = self._ledger.run(
            lambda tx: claims.renew(
                tx,
                session_id=seat.session_id,
                now=moment.now,
                boot_id=moment.boot_id,
                boot_now=moment.boot_now,
                deadline=moment.deadline,
            )
        )
        self._hands.renewed(renewal.missions, held)
        return moment.fence if renewal.alive else None

    def _moment(self) -> Moment:
        return self._site.moment(self._ports.clock).on(self._ledger.lease_time())

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
        for mission_id, attempt in self._hands.open_ends:
            log.error("mission_left_open", mission_id=mission_id, attempt=attempt)
        if self._restart:
            return WorkerExit.RESTART
        return WorkerExit.UNSETTLED if self._gave_up or self._hands.open_ends else WorkerExit.DRAINED
