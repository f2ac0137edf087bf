"""Reading missions, attempts, workers and figures, within the caller's bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ua_vp import wire
from ua_vp.control import results, views
from ua_vp.control.asking import Asking, Moment, lanes_to_read, seal, sources_to_read, unseal
from ua_vp.control.views import LaneNow
from ua_vp.errors import ForbiddenError, NotFoundError, WorkspaceError
from ua_vp.ledger import Transaction, events, lanes, missions, sessions
from ua_vp.mission import Artifact, Mission, Status
from ua_vp.ports import MICROS

EVENTS_SHOWN = 50
ARTIFACTS_SHOWN = 50
HOLD_SECONDS = 5
"""How long after its terminal commit a mission that is not yet ready is held back from who waits for it."""

LaneReader = Callable[[Mission], LaneNow | None]


def find_mission(asking: Asking, mission_id: str) -> Mission:
    """The mission.

    Raises:
        NotFoundError: there is none, or it lies outside the caller's bounds.
    """
    return seen(asking, mission_id, asking.ledger.read(lambda tx: missions.get_mission(tx, mission_id)))


def seen(asking: Asking, mission_id: str, mission: Mission | None) -> Mission:
    """`mission`, if it is there and within the caller's bounds.

    Raises:
        NotFoundError: else.
    """
    if mission is None or not asking.caller.sees(mission):
        raise NotFoundError(f"no mission {mission_id[:100]!r}")
    return mission


def show(asking: Asking, mission: Mission) -> wire.MissionView:
    """A mission that was read, as everybody sees it."""
    moment = asking.moment()
    return asking.ledger.read(lambda tx: views.mission_view(mission, moment, lane_reader(tx, moment)(mission)))


def get_mission(asking: Asking, mission_id: str) -> tuple[Mission, wire.MissionView]:
    """The mission, and as everybody sees it.

    Raises:
        NotFoundError: there is none within the caller's bounds.
    """
    moment = asking.moment()

    def step(tx: Transaction) -> tuple[Mission, wire.MissionView]:
        mission = seen(asking, mission_id, missions.get_mission(tx, mission_id))
        return mission, views.mission_view(mission, moment, lane_reader(tx, moment)(mission))

    return asking.ledger.read(step)


def get_detail(asking: Asking, mission_id: str) -> wire.MissionDetail:
    """The mission with its newest events and first artifacts.

    Raises:
        NotFoundError: there is none within the caller's bounds.
    """
    moment = asking.moment()

    def step(tx: Transaction) -> tuple[Mission, wire.MissionView, list[wire.EventView], int]:
        mission = seen(asking, mission_id, missions.get_mission(tx, mission_id))
        newest = events.page_events(tx, after=None, mission_id=mission_id, limit=EVENTS_SHOWN)
        shown = [views.event_view(event) for event in newest]
        view = views.mission_view(mission, moment, lane_reader(tx, moment)(mission))
        return mission, view, shown, events.count_events(tx, mission_id)

    mission, view, newest, total = asking.ledger.read(step)
    artifacts, fault = _handed_over(mission)
    return wire.MissionDetail(
        mission=view,
        terminal=mission.status.terminal,
        events=newest,
        events_total=total,
        artifacts=[views.artifact_view(artifact) for artifact in artifacts[:ARTIFACTS_SHOWN]],
        artifacts_total=len(artifacts),
        artifacts_fault=fault,
    )


def list_missions(
    asking: Asking,
    *,
    vp_id: str | None,
    statuses: Sequence[Status],
    source_session_id: str | None,
    q: str | None,
    limit: int,
    cursor: str | None,
) -> wire.MissionPage:
    """One page, newest first.

    Raises:
        NotFoundError: lane or source lies outside the caller's bounds.
        ValidationError: the cursor is none of ours.
    """
    bound, sources = lanes_to_read(asking.caller, vp_id), sources_to_read(asking.caller, source_session_id)
    before, moment = _before(cursor), asking.moment()

    def page(tx: Transaction, source: str | None) -> list[Mission]:
        return missions.page_missions(
            tx,
            vp_id=vp_id,
            statuses=statuses,
            source_session_id=source,
            q=q,
            limit=limit + 1,
            before=before,
            lanes=bound,
        )

    def step(tx: Transaction) -> tuple[list[Mission], list[wire.MissionView]]:
        found = [mission for source in sources for mission in page(tx, source)]
        found.sort(key=lambda mission: (mission.created_at, mission.mission_id), reverse=True)
        lane_of = lane_reader(tx, moment)
        return found, [views.mission_view(mission, moment, lane_of(mission)) for mission in found[:limit]]

    found, shown = asking.ledger.read(step)
    last = found[limit - 1] if len(found) > limit else None
    return wire.MissionPage(missions=shown, next_cursor=seal(last.created_at, last.mission_id) if last else None)


def list_attempts(asking: Asking, mission_id: str) -> wire.AttemptsAnswer:
    """The record of every attempt, oldest first.

    Raises:
        NotFoundError: no such mission within the caller's bounds.
    """

    def step(tx: Transaction) -> list[wire.AttemptView]:
        seen(asking, mission_id, missions.get_mission(tx, mission_id))
        return [views.attempt_view(attempt) for attempt in missions.list_attempts(tx, mission_id)]

    return wire.AttemptsAnswer(attempts=asking.ledger.read(step))


def list_sessions(asking: Asking) -> wire.SessionsAnswer:
    """Worker sessions of the lanes that the caller sees, newest first."""
    moment = asking.moment()
    found = asking.ledger.read(sessions.list_sessions)
    found = sorted(found, key=lambda session: (session.opened_at, session.session_id), reverse=True)
    shown = [views.session_view(session, moment) for session in found if asking.caller.sees_lane(session.vp_id)]
    return wire.SessionsAnswer(sessions=shown)


def metrics(asking: Asking, vp_id: str | None) -> wire.MetricsView:
    """Figures of one lane, or of all.

    Raises:
        NotFoundError: the lane is not known, or lies outside the caller's bounds.
        ForbiddenError: the caller is bound to sources, or to several lanes and names none.
    """
    _unbound_by_source(asking)
    bound = lanes_to_read(asking.caller, vp_id)
    if vp_id is None and bound is not None:
        if len(bound) > 1:
            raise ForbiddenError(f"this token is bound to lanes; ask for one of them: vp_id={' or '.join(bound)}")
        vp_id = bound[0]
    moment = asking.moment()
    return asking.ledger.read(lambda tx: _metrics(tx, vp_id, moment))


def figures(asking: Asking) -> list[wire.MetricsView]:
    """Figures of each lane that the caller sees, by id.

    Raises:
        ForbiddenError: the caller is bound to sources.
    """
    _unbound_by_source(asking)
    moment = asking.moment()

    def step(tx: Transaction) -> list[wire.MetricsView]:
        known = [lane.manifest.info.vp_id for lane in lanes.list_lanes(tx)]
        return [_metrics(tx, vp_id, moment) for vp_id in sorted(known) if asking.caller.sees_lane(vp_id)]

    return asking.ledger.read(step)


def held_for(mission: Mission, now: int) -> float | None:
    """How long (seconds) who waits for the mission is to be held still; 0: answer now, None: until it ends.

    A mission that ended is held until its workspace is ready or blocked, at most HOLD_SECONDS after its commit.
    """
    if mission.completed_at is None or not mission.status.terminal:
        return None
    if mission.settled:
        return 0.0
    left = HOLD_SECONDS - (now - mission.completed_at) / MICROS
    return min(max(left, 0.0), float(HOLD_SECONDS))


def lane_reader(tx: Transaction, moment: Moment) -> LaneReader:
    """Gives a queued mission's lane as it is now, each lane read once."""
    known: dict[str, LaneNow | None] = {}

    def lane_of(mission: Mission) -> LaneNow | None:
        if mission.status is not Status.QUEUED:
            return None
        if mission.vp_id not in known:
            known[mission.vp_id] = lane_now(tx, mission.vp_id, moment)
        return known[mission.vp_id]

    return lane_of


def lane_now(tx: Transaction, vp_id: str, moment: Moment) -> LaneNow | None:
    """The lane as it is now; None if the ledger does not know it."""
    record = lanes.get_lane(tx, vp_id)
    if record is None:
        return None
    live = live_workers(tx, vp_id, moment)
    capacity = record.manifest.info.capacity
    enough = capacity * max(live, 1)
    running = missions.page_missions(tx, vp_id=vp_id, statuses=(Status.RUNNING,), limit=enough, before=None)
    return LaneNow(
        paused=record.paused, draining=record.draining, capacity=capacity, live_workers=live, running=len(running)
    )


def live_workers(tx: Transaction, vp_id: str | None, moment: Moment) -> int:
    """How many workers hold a fresh lease."""
    found = sessions.list_sessions(tx, vp_id)
    return sum(sessions.session_state(session, moment.boot_id, moment.boot) == "live" for session in found)


def _unbound_by_source(asking: Asking) -> None:
    if asking.caller.sources:
        raise ForbiddenError("this token is bound to source sessions; figures cover everybody's missions")


def _metrics(tx: Transaction, vp_id: str | None, moment: Moment) -> wire.MetricsView:
    counts = missions.counts(tx, vp_id)
    if vp_id is not None and lanes.get_lane(tx, vp_id) is None and not any(counts.counts.values()):
        raise NotFoundError(f"no lane {vp_id!r}")
    oldest = counts.oldest_queued
    durations = counts.durations
    return wire.MetricsView(
        vp_id=vp_id,
        counts={status.value: counts.counts.get(status.value, 0) for status in Status},
        events=dict(counts.events),
        durations=wire.DurationsView(
            count=durations.count, avg=durations.avg, p50=durations.p50, p95=durations.p95, max=durations.max
        ),
        oldest_queued_seconds=max(moment.now - oldest, 0) / MICROS if oldest is not None else None,
        live_workers=live_workers(tx, vp_id, moment),
    )


def _handed_over(mission: Mission) -> tuple[tuple[Artifact, ...], str | None]:
    """The artifacts, or what is wrong with the workspace: a mission can be looked at whatever became of its files."""
    try:
        return results.handed_over(mission), None
    except WorkspaceError as error:
        return (), error.detail


def _before(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    created_at, mission_id = unseal(cursor, 2)
    return int(created_at), mission_id
