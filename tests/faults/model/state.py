"""What the reference keeps, and the few things that several of its steps do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.faults.model.steps import (
    LEASE,
    OPERATOR,
    Held,
    Moment,
    Names,
    Row,
    artifacts,
    result_ref,
    worker_of,
)

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = "queued", "running", "completed", "failed", "cancelled"
ENDED = (COMPLETED, FAILED, CANCELLED)
STAMPS = ("published_at", "blocked_at", "released_at", "marked_at", "mirrored_at", "purged_at")
LISTED = 50
"""So many artifacts stand in a terminal event."""


class State:
    """One run's part of a ledger: two lanes, and whatever was done to them."""

    def __init__(self, names: Names, start: Moment) -> None:
        self.names = names
        self.moment = start
        self.newest_created = 0
        self.lanes = {names.lane(n): {"paused": False, "draining": False} for n in (0, 1)}
        self.missions: dict[str, Row] = {}
        """In order of dispatch."""
        self.attempts: dict[tuple[str, int], Row] = {}
        self.claims: dict[str, Row] = {}
        self.sessions: dict[str, Row] = {}
        self.events: list[Row] = []
        self.held: list[Held] = []
        """Every claim that was ever given, newest last."""
        self.touched: set[str] = set()
        """The missions that steps may have changed; whoever compares them clears it."""

    def _of(self, lane: str, *statuses: str) -> Iterator[Row]:
        """The missions of a lane in these states."""
        for it in self.missions.values():
            if it["vp_id"] == lane and it["status"] in statuses:
                yield it

    def _ended(self, mission: str) -> bool:
        return self.missions[mission]["status"] in ENDED

    def _current(self, held: Held) -> Row | None:
        """The fence: the mission, if it runs at this very attempt."""
        self.touched.add(held.mission)
        it = self.missions[held.mission]
        return it if (it["status"], it["attempt"]) == (RUNNING, held.attempt) else None

    def _use(self, held: Held, usage: Row) -> None:
        """What the mission and its attempt's record, if it has one, say was used."""
        self.missions[held.mission]["usage"] = usage
        self.attempts.get((held.mission, held.attempt), {}).update(usage=usage, usage_source="reported")

    def _start(self, it: Row, session: str) -> Any:
        """The next attempt of a queued mission: its number, its record, its claim, its event."""
        now = self.moment.now
        it |= {
            "status": RUNNING, "due": False, "attempt": it["attempt"] + 1, "requeue_reason": None,
            "started_at": it["started_at"] or now, "updated_at": now,
        }  # fmt: skip
        self.attempts[it["mission_id"], it["attempt"]] = {
            "worker_id": worker_of(session), "session_id": session, "claimed_at": now, "engaged_at": None,
            "ended_at": None, "end_reason": None, "late_outcome": None, "usage": {}, "usage_source": "unknown",
        }  # fmt: skip
        given = self._hold(it, session, closing=False)
        self._say_of(Held(it["mission_id"], it["attempt"], session), "started", {"worker_id": worker_of(session)})
        return given

    def _hold(self, it: Row, session: str, *, closing: bool) -> Any:
        """Give the claim to a session, whoever had it."""
        self.touched.add(it["mission_id"])
        self.claims[it["mission_id"]] = {
            "vp_id": it["vp_id"], "attempt": it["attempt"], "session_id": session, "worker_id": worker_of(session),
            "boot": self.moment.boot, "deadline": self.moment.boot_now + LEASE, "closing": closing,
        }  # fmt: skip
        self.held.append(Held(it["mission_id"], it["attempt"], session))
        return [it["mission_id"], it["attempt"]]

    def _nobody(self, it: Row, session: str) -> bool:
        """No live claim, and none of this session's own."""
        claim = self.claims.get(it["mission_id"])
        if claim is None:
            return True
        dead = claim["boot"] != self.moment.boot or claim["deadline"] < self.moment.boot_now
        return bool(dead and claim["session_id"] != session)

    def _unmarked(self, it: Row) -> bool:
        """Ended, without a marker, and not kept from it."""
        return it["marked_at"] is None and (it["blocked_at"] is None or it["released_at"] is not None)

    def _take_over(self, it: Row, session: str, *, reason: str) -> Any:
        """Fence the attempt off: the next one only brings the mission to its end, and has no record."""
        self._end_attempt(it["mission_id"], it["attempt"], reason)
        it |= {"attempt": it["attempt"] + 1, "updated_at": self.moment.now}
        return self._hold(it, session, closing=True)

    def _put_back(
        self, mission: str, reason: str, detail: str, actor: tuple[str, str], *, session: str | None, backoff: int
    ) -> None:
        """Back to its old place in the queue."""
        it, now = self.missions[mission], self.moment.now
        self.touched.add(mission)
        it["tries"] += reason in ("lease_lost", "retryable")
        it |= {
            "status": QUEUED, "due": backoff == 0, "due_at": now + backoff, "requeue_reason": reason, "updated_at": now,
        }  # fmt: skip
        self._end_attempt(mission, it["attempt"], reason)
        self.claims.pop(mission, None)
        said = {"reason": reason, "detail": detail, "tries": it["tries"]}
        self._say(mission, "requeued", actor, said, attempt=it["attempt"], session=session)

    def _was_put_back(self, held: Held, reason: str) -> bool:
        """Whether this very worker did it before: it asks again when an answer was lost."""
        return any(
            (it["type"], it["mission_id"], it["attempt"], it["session_id"]) == ("vp.mission.requeued", *held)
            and it["payload"]["reason"] == reason
            for it in self.events
        )

    def _end_attempt(self, mission: str, attempt: int, reason: str) -> None:
        record = self.attempts.get((mission, attempt))
        if record is not None and record["ended_at"] is None:
            record |= {"ended_at": self.moment.now, "end_reason": reason}

    def _end(
        self, mission: str, status: str, actor: tuple[str, str], *, summary: str, result_ref: str,
        session: str | None = None, made: int = 0, **failure: Any,
    ) -> None:  # fmt: skip
        """The terminal commit."""
        it, now = self.missions[mission], self.moment.now
        self.touched.add(mission)
        it |= {
            "status": status, "due": False, "requeue_reason": None, "summary": summary, "result_ref": result_ref,
            "failure_mode": None, "failure_detail": None, "completed_at": now, "updated_at": now, **failure,
        }  # fmt: skip
        cancel = {"cancel_reason": it["cancel_reason"]} if status == CANCELLED else {}
        folder = result_ref.removeprefix("workspace://")
        said = {
            "status": status, "summary": summary, "result_ref": result_ref, "failure_mode": it["failure_mode"],
            **cancel, "artifacts": artifacts(made)[:LISTED], "artifacts_total": made,
            "receipt_path": f"{folder}/mission_receipt.json", "sync_marker_path": f"{folder}/sync_ready.json",
        }  # fmt: skip
        self._say(mission, status, actor, said, attempt=it["attempt"], session=session)

    def _end_unclaimed(
        self, mission: str, status: str, actor: tuple[str, str], *, summary: str, **failure: Any
    ) -> None:
        """Who ends a mission without holding its attempt ends it as the next one."""
        self.missions[mission]["attempt"] += 1
        self._end(mission, status, actor, summary=summary, result_ref=result_ref(mission), **failure)

    def _end_by_operator(self, mission: str, status: str) -> str:
        it = self.missions[mission]
        self._end_attempt(mission, it["attempt"], "operator")
        self.claims.pop(mission, None)
        if status == CANCELLED:
            said = f"Cancelled over its worker's head: {it['cancel_reason']}"
            self._end_unclaimed(mission, status, OPERATOR, summary=said)
        else:
            said, why = f"Ended by {OPERATOR[0]}: it is stuck", "it is stuck"
            self._end_unclaimed(mission, status, OPERATOR, summary=said, failure_mode="operator", failure_detail=why)
        return status

    def _stamp(self, it: Row, stamp: str) -> bool:
        """From nothing to a value, once."""
        self.touched.add(it["mission_id"])
        it[stamp] = it[stamp] or self.moment.now
        return True

    def _stamp_of(self, held: Held, stamp: str) -> bool:
        """A worker stamps what ended with its attempt."""
        self.touched.add(held.mission)
        it = self.missions[held.mission]
        return self._ended(held.mission) and it["attempt"] == held.attempt and self._stamp(it, stamp)

    def _lease_of_session(self) -> Row:
        return {
            "last_heartbeat_at": self.moment.now, "lease_boot": self.moment.boot,
            "lease_deadline": self.moment.boot_now + LEASE,
        }  # fmt: skip

    def _extend(self, session: str) -> bool:
        """Move a session's lease on; one that was lost is open again."""
        it = self.sessions.get(session)
        if it is None or it["closed_at"] is not None:
            return False
        it |= self._lease_of_session()
        if it["lost_at"] is not None:
            it["lost_at"] = None
            self._say_of_session(session, "opened", {"after": "lost"})
        return True

    def _renew_claims(self, session: str) -> None:
        for mission, claim in self.claims.items():
            if claim["session_id"] == session:
                self.touched.add(mission)
                claim |= {"boot": self.moment.boot, "deadline": self.moment.boot_now + LEASE}

    def _report_lost(self, lane: str, observer: str) -> list[str]:
        """Say once of each other session of the lane that its lease ran out; oldest first."""
        lost = []
        for session, it in sorted(self.sessions.items(), key=lambda pair: pair[1]["opened_at"]):
            dead = it["lease_boot"] != self.moment.boot or it["lease_deadline"] < self.moment.boot_now
            gone = it["closed_at"] is not None or it["lost_at"] is not None
            if it["vp_id"] == lane and session != observer and dead and not gone:
                it["lost_at"] = self.moment.now
                said = {"worker_id": it["worker_id"]}
                self._say_of_session(session, "lost", said, by=worker_of(observer))
                lost.append(session)
        return lost

    # Events.

    def _say(
        self, mission: str, kind: str, actor: tuple[str, str], payload: Row, *,
        attempt: int | None = None, session: str | None = None,
    ) -> None:  # fmt: skip
        self.touched.add(mission)
        it = self.missions[mission]
        kind = kind if kind.startswith("vp.") else f"vp.mission.{kind}"
        self._log(kind, actor, payload, mission_id=mission, vp_id=it["vp_id"], session_id=session,
                  source_session_id=it["source_session_id"], attempt=attempt)  # fmt: skip

    def _say_of(self, held: Held, kind: str, payload: Row) -> None:
        """An event that a worker writes."""
        self._say(held.mission, kind, (held.worker, "worker"), payload, attempt=held.attempt, session=held.session)

    def _say_of_session(self, session: str, kind: str, payload: Row, *, by: str | None = None) -> None:
        actor = (by or worker_of(session), "worker")
        self._log(f"vp.session.{kind}", actor, payload, vp_id=self.sessions[session]["vp_id"], session_id=session)

    def _log(self, kind: str, actor: tuple[str, str], payload: Row, **subject: Any) -> None:
        self.events.append(
            {
                "type": kind, "at": self.moment.now, "actor": actor, "payload": payload,
                **dict.fromkeys(("mission_id", "session_id", "source_session_id", "attempt")), **subject,
            }
        )  # fmt: skip
