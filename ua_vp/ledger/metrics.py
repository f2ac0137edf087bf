"""Counts over the ledger for people and for Prometheus: read from tallies and small indexes, not by counting rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, bindparam, func, select

from ua_vp.events import TERMINAL_EVENT
from ua_vp.ledger.tables import is_finished, is_open, missions, tallies
from ua_vp.ledger.transaction import Transaction
from ua_vp.mission import Status
from ua_vp.ports import MICROS

NEWEST = 10_000
"""Durations are those of so many missions that finished last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Durations:
    """Seconds from first claim to end, over the newest missions that ended; zeros without any."""

    count: int
    avg: float
    p50: float
    p95: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """`counts` by status, `events` by type, `queued` and `running` by lane; `oldest_queued` is its `created_at`."""

    counts: Mapping[str, int]
    events: Mapping[str, int]
    durations: Durations
    oldest_queued: int | None
    queued: Mapping[str, int]
    running: Mapping[str, int]


def counts(tx: Transaction, vp_id: str | None = None) -> Metrics:
    """The metrics of one lane, or of all."""
    events: dict[str, int] = {}
    for row in tx.rows(TALLIES if vp_id is None else TALLIES_OF_LANE, **_lane(vp_id)):
        events[row["type"]] = events.get(row["type"], 0) + row["total"]
    depth: dict[Status, dict[str, int]] = {Status.QUEUED: {}, Status.RUNNING: {}}
    oldest = []
    for row in tx.rows(OPEN if vp_id is None else OPEN_OF_LANE, **_lane(vp_id)):
        status = Status(row["status"])
        depth[status][row["vp_id"]] = row["total"]
        if status is Status.QUEUED:
            oldest.append(row["oldest"])
    by_status = {status.value: sum(depth[status].values()) for status in depth}
    by_status |= {status.value: events.get(kind.value, 0) for status, kind in TERMINAL_EVENT.items()}
    spans = [row["span"] for row in tx.rows(SPANS if vp_id is None else SPANS_OF_LANE, **_lane(vp_id))]
    return Metrics(
        counts=by_status,
        events=events,
        durations=_durations(spans),
        oldest_queued=min(oldest, default=None),
        queued=depth[Status.QUEUED],
        running=depth[Status.RUNNING],
    )


def _lane(vp_id: str | None) -> dict[str, str]:
    return {} if vp_id is None else {"vp_id": vp_id}


def _durations(spans: Sequence[int]) -> Durations:
    if not spans:
        return Durations(count=0, avg=0.0, p50=0.0, p95=0.0, max=0.0)
    ordered = sorted(span / MICROS for span in spans)

    def rank(share: float) -> float:
        """Nearest rank."""
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return Durations(
        count=len(ordered), avg=sum(ordered) / len(ordered), p50=rank(0.5), p95=rank(0.95), max=ordered[-1]
    )


_of_lane = missions.c.vp_id == bindparam("vp_id")
TALLIES = select(tallies.c.type, tallies.c.total)
TALLIES_OF_LANE = TALLIES.where(tallies.c.vp_id == bindparam("vp_id"))
OPEN = (
    select(
        missions.c.vp_id,
        missions.c.status,
        func.count().label("total"),
        func.min(missions.c.created_at).label("oldest"),
    )
    .where(is_open)
    .group_by(missions.c.vp_id, missions.c.status)
)
OPEN_OF_LANE = OPEN.where(_of_lane)


def _spans(*, of_lane: bool) -> Select[tuple[int]]:
    query = select((missions.c.completed_at - missions.c.started_at).label("span"))
    query = query.where(is_finished, missions.c.started_at.is_not(None))
    query = query.where(_of_lane) if of_lane else query
    return query.order_by(missions.c.completed_at.desc()).limit(NEWEST)


SPANS, SPANS_OF_LANE = _spans(of_lane=False), _spans(of_lane=True)
