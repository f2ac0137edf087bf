"""What the reference answers when it is asked: steps that change nothing."""

from __future__ import annotations

from typing import Any

from tests.faults.model.state import ENDED, QUEUED, RUNNING, STAMPS, State
from tests.faults.model.steps import Row

ENDS = {f"vp.mission.{status}" for status in ENDED}


class Reading(State):
    """Every step that only reads."""

    def get(self, *, mission: str) -> Any:
        """The mission as it is shown: its claim and the worker of its attempt joined in, the latest instant."""
        it = self.missions.get(mission)
        if it is None:
            return None
        claim = self.claims.get(mission, {})
        ended_by = self.attempts.get((mission, it["attempt"]), {}) if it["status"] in ENDED else {}
        stamps = [it[stamp] for stamp in STAMPS if it[stamp] is not None]
        shown = {
            "worker_id": claim.get("worker_id") or ended_by.get("worker_id"),
            "lease_deadline": claim.get("deadline"),
            "updated_at": max([it["updated_at"], *stamps]),
        }
        return {name: it[name] for name in ("status", "attempt", "tries", "due_at", "cancel_requested")} | shown

    def by_key(self, *, lane: str, key: str) -> Any:
        found = [it for it in self.missions.values() if (it["vp_id"], it["idempotency_key"]) == (lane, key)]
        return found[0]["mission_id"] if found else None

    def page(self, *, lane: str, statuses: tuple[str, ...], before: str | None, limit: int) -> Any:
        """Newest first, from behind a mission."""

        def place(it: Row) -> tuple[int, str]:
            return (it["created_at"], it["mission_id"])

        found = sorted((it for it in self.missions.values() if it["vp_id"] == lane), key=place, reverse=True)
        if statuses:
            found = [it for it in found if it["status"] in statuses]
        if before is not None:
            found = [it for it in found if place(it) < place(self.missions[before])]
        return [it["mission_id"] for it in found[:limit]]

    def log(self, *, lane: str, mission: str | None, ends: bool, after: int | None, limit: int) -> Any:
        """Events of a lane or a mission: those behind the `after`-th event of the run, or the newest."""
        numbered = list(enumerate(self.events, start=1))
        found = [
            (number, event["type"])
            for number, event in numbered
            if event["vp_id"] == lane
            and (mission is None or event["mission_id"] == mission)
            and (not ends or event["type"] in ENDS)
        ]
        if after is None:
            return [kind for _, kind in found][-limit:]
        return [kind for number, kind in found if number > after][:limit]

    def has_due(self, *, lane: str) -> Any:
        now, switches = self.moment.now, self.lanes[lane]
        ready = any(it["vp_id"] == lane and it["status"] == QUEUED and (it["due"] or it["due_at"] <= now)
                    for it in self.missions.values())  # fmt: skip
        return ready and not (switches["paused"] or switches["draining"])

    def next_due(self, *, lane: str) -> Any:
        """When the next mission that waits for its time will be due."""
        return min(
            (
                it["due_at"]
                for it in self.missions.values()
                if it["vp_id"] == lane and it["status"] == QUEUED and not it["due"] and it["due_at"] > self.moment.now
            ),
            default=None,
        )

    def holding(self, *, session: str) -> Any:
        """What a session holds, and what its worker should know of it."""
        held = {}
        for mission, claim in self.claims.items():
            if claim["session_id"] == session:
                it = self.missions[mission]
                held[mission] = (claim["attempt"], it["cancel_requested"], it["cancel_reason"], it["status"] in ENDED,
                                 claim["closing"])  # fmt: skip
        return held

    def counts(self, *, lane: str) -> Any:
        """What the metrics of a lane say."""
        mine = [it for it in self.missions.values() if it["vp_id"] == lane]
        of_status = {status: sum(it["status"] == status for it in mine) for status in (QUEUED, RUNNING, *ENDED)}
        events: dict[str, int] = {}
        for event in self.events:
            if event["vp_id"] == lane:
                events[event["type"]] = events.get(event["type"], 0) + 1
        spans = [it["completed_at"] - it["started_at"] for it in mine if it["status"] in ENDED and it["started_at"]]
        return {
            "counts": of_status,
            "events": events,
            "oldest_queued": min((it["created_at"] for it in mine if it["status"] == QUEUED), default=None),
            "durations": (len(spans), max(spans, default=0) / 1_000_000),
        }

    def attempts_of(self, *, mission: str) -> Any:
        return [
            (number, record["worker_id"], record["end_reason"], record["late_outcome"], record["usage"])
            for (of, number), record in sorted(self.attempts.items())
            if of == mission
        ]

    def sessions_of(self, *, lane: str) -> Any:
        """Newest first, with what their lease says of them now."""

        def state(it: Row) -> str:
            if it["closed_at"] is not None:
                return "closed"
            live = it["lease_boot"] == self.moment.boot and it["lease_deadline"] >= self.moment.boot_now
            return "live" if live else "stale"

        mine = [it for it in self.sessions.values() if it["vp_id"] == lane]
        newest = sorted(mine, key=lambda it: it["opened_at"], reverse=True)
        return [(it["session_id"], state(it), it["lost_at"] is not None) for it in newest]
