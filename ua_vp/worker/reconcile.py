"""Take over what dead workers left, and bring to its end what this worker could not before."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import structlog

from ua_vp.events import EventType
from ua_vp.ledger import Ledger, RequeueVerdict, Sightings, Transaction, claims, events, missions
from ua_vp.mission import Claim, Ending, RequeueReason
from ua_vp.ports import Clock
from ua_vp.worker.assignment import Assignment, Moment
from ua_vp.worker.execute import cancelled, ending_for_stop
from ua_vp.worker.finalize import ending_of, ending_without_lane
from ua_vp.worker.hands import Hands
from ua_vp.worker.running import Running, Stop
from ua_vp.worker.session import Seat

LIMIT = 16
"""Missions that one reconcile takes at most; the rest come next time."""

log = structlog.get_logger("ua_vp.worker")


class Reconciler:
    """Steps of the loop, on its thread; each may raise what the ledger raises, and then is simply done again."""

    def __init__(self, site: Assignment, ledger: Ledger, clock: Clock, hands: Hands) -> None:
        self._site = site
        self._ledger = ledger
        self._clock = clock
        self._hands = hands
        self._sightings = Sightings(site.lease_micros)

    def reconcile(self, seat: Seat) -> bool:
        """Requeue, take over and publish what dead workers left; returns whether something is in the queue again."""
        site, moment, leases = self._site, self._site.moment(self._clock), self._ledger.lease_time()
        moment, judge = moment.on(leases), self._sightings.judge(leases, own=moment.own)
        found = self._ledger.run(
            lambda tx: claims.reconcile(
                tx,
                vp_id=site.vp_id,
                session_id=seat.session_id,
                worker_id=seat.worker_id,
                now=moment.now,
                boot_id=moment.boot_id,
                boot_now=moment.boot_now,
                deadline=moment.deadline,
                limit=LIMIT,
                judge=judge,
            )
        )
        for mission in found.requeued:
            log.warning("requeued_from_a_lost_worker", mission_id=mission.mission_id, attempt=mission.attempt)
        for claim in found.closing:
            self.close(claim)
        self._try_again(seat)
        return bool(found.requeued)

    def close(self, claim: Claim, ending: Ending | None = None) -> None:
        """Have a mission brought to its end: as `ending`, or as the ledger says."""
        if claim.mission.status.terminal:
            nothing_staged = self._ledger.read(lambda tx: _nothing_staged(tx, claim))
            self._hands.close(claim, ending_of(claim.mission) if nothing_staged else None)
        else:
            self._hands.close(claim, ending or ending_without_lane(claim.mission))

    def abandon(self, running: Running, seat: Seat) -> None:
        """Let the mission of a lane that does not return go on without it.

        A worker that stops, or lost its lease, puts it back into the queue; else it ends, as attempt + 1.
        """
        moment, claim = self._moment(), running.claim
        back = {Stop.DRAINED: RequeueReason.DRAINED, Stop.LEASE_LOST: RequeueReason.LEASE_LOST}.get(
            running.stop or Stop.LEASE_LOST
        )

        def step(tx: Transaction) -> Claim | None:
            if back is not None:
                verdict = claims.requeue(tx, claim, back, now=moment.now, backoff=0, detail="its lane did not return")
                if verdict in {RequeueVerdict.REQUEUED, RequeueVerdict.LEASE_LOST}:
                    return None
            return claims.supersede(tx, claim, seat.holder(moment), now=moment.now, end_reason="abandoned")

        taken = self._ledger.run(step)
        running.abandoned = running.committed = True
        log.error("lane_does_not_return", mission_id=claim.mission_id, detail="its mission goes on without it")
        if taken is None:
            return
        ending = ending_for_stop(running)
        if taken.mission.cancel_requested:
            ending = replace(cancelled(running), cancel_reason=taken.mission.cancel_reason)
        self._hands.close(taken, ending)

    def _try_again(self, seat: Seat) -> None:
        """What could not be ended or published: as the ledger says now, if that attempt is still ours."""
        if not self._hands.open_ends:
            return
        ours = self._ledger.read(lambda tx: claims.holding(tx, seat.session_id))
        for (mission_id, attempt), over in tuple(self._hands.open_ends.items()):
            mine = ours.get(mission_id)
            mission = self._ledger.read(partial(missions.get_mission, mission_id=mission_id))
            claim: Claim | None = None
            if mission is not None and mine is not None and mine.attempt == attempt:
                claim = replace(over.claim, mission=mission)
                if not claim.closing and not mission.status.terminal:  # its staging keeps what the lane left
                    claim = self._supersede(claim, seat)
            del self._hands.open_ends[mission_id, attempt]
            if claim is not None:
                self.close(replace(claim, closing=True), over.ending)

    def _moment(self) -> Moment:
        return self._site.moment(self._clock).on(self._ledger.lease_time())

    def _supersede(self, claim: Claim, seat: Seat) -> Claim | None:
        moment = self._moment()
        holder = seat.holder(moment)
        return self._ledger.run(
            lambda tx: claims.supersede(tx, claim, holder, now=moment.now, end_reason="workspace_error")
        )


def _nothing_staged(tx: Transaction, claim: Claim) -> bool:
    """Whether no worker ended the mission: nothing was staged then, and its folder is made only now."""
    kinds = [EventType.CANCELLED.value, EventType.FAILED.value]
    ends = events.page_events(tx, after=None, mission_id=claim.mission_id, types=kinds, limit=1)
    return any(event.attempt == claim.attempt and event.session_id is None for event in ends)
