"""What the worker's threads tell its loop; everything arrives through one queue."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ua_vp.lane import Availability
from ua_vp.ledger import FinishVerdict, RequeueVerdict
from ua_vp.mission import Claim, Ending, JsonObject, RequeueReason
from ua_vp.ports import Queue
from ua_vp.worker.context import Progress
from ua_vp.worker.finalize import Staged


class Nudge(StrEnum):
    """Messages that carry nothing: something may be due."""

    WAKE = "wake"
    TICK = "tick"
    RECONCILE = "reconcile"
    DRAIN = "drain"
    LIMIT = "limit"
    """A mission broke a limit that is counted."""
    HURRY = "hurry"
    """Stop now: what runs is requeued."""
    FENCED = "fenced"
    """The heartbeat stopped everything because the lease ran out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """Commit this ending; the verdict goes to `reply`."""

    staged: Staged
    reply: Queue[FinishVerdict]


@dataclass(frozen=True, kw_only=True, slots=True)
class Requeue:
    """Put this claim's mission back into the queue; the verdict goes to `reply`. `backoff` in µs."""

    claim: Claim
    reason: RequeueReason
    backoff: int
    detail: str | None
    reply: Queue[RequeueVerdict]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """Published and marked on disk; the stamps are due."""

    claim: Claim
    receipt_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Late:
    """An attempt that was fenced off handed this in; it is kept, never published."""

    claim: Claim
    outcome: JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class Over:
    """A mission's or a closing's thread has ended.

    Not `done`: its mission still has to be ended (as `ending`, or as the ledger then says) or published.
    """

    claim: Claim
    done: bool
    ending: Ending | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Available:
    """The lane answered whether it can work."""

    availability: Availability


Message = Nudge | Finish | Requeue | Settled | Late | Over | Available | Progress
