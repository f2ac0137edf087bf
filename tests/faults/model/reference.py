"""The ledger as the contract describes it, in plain Python: rows are dicts, a transaction is a method call.

It is written to be obviously right, not fast, and shares no code with `ua_vp.ledger`. Every method is a step; what it
returns is the verdict that the real step must give.
"""

from __future__ import annotations

from typing import Any

from tests.faults.model.reading import Reading
from tests.faults.model.state import CANCELLED, ENDED, FAILED, QUEUED, RUNNING, STAMPS
from tests.faults.model.steps import OPERATOR, SOMEBODY, Held, Row, receipt_sha256, result_ref, worker_of

COUNTED = ("lease_lost", "retryable")
"""The reasons for a requeue that use up a try."""
TEN_MINUTES = 600 * 1_000_000


class Reference(Reading):
    """Every step that changes something."""

    # Dispatch and cancel.

    def dispatch(
        self, *, mission: str, lane: str, key: str | None, objective: str, priority: int, max_tries: int,
        not_before: int | None, source: str | None, retry_of: str | None = None,
    ) -> Any:  # fmt: skip
        request = {"objective": objective, "max_tries": max_tries, "not_before": not_before}
        for old in self.missions.values():
            if key is not None and (old["vp_id"], old["idempotency_key"]) == (lane, key):
                same = all(old[name] == value for name, value in request.items())
                return ("replayed" if same else "conflict", old["mission_id"])
        now = self.moment.now
        self.newest_created = max(self.newest_created, now)
        due_at = max(now, not_before or now)
        self.missions[mission] = {
            **dict.fromkeys(("cancel_reason", "cancelled_by", "requeue_reason", "result_ref", "summary")),
            **dict.fromkeys(("failure_mode", "failure_detail", "started_at", "last_progress_at", "completed_at")),
            **dict.fromkeys(STAMPS),
            **request,
            "mission_id": mission, "vp_id": lane, "idempotency_key": key, "priority": priority,
            "source_session_id": source, "retry_of": retry_of, "created_by": SOMEBODY[0], "created_at": now,
            "due_order": self.newest_created + priority * TEN_MINUTES,
            "status": QUEUED, "due": due_at <= now, "due_at": due_at, "attempt": 0, "tries": 0,
            "cancel_requested": False, "usage": {}, "updated_at": now,
        }  # fmt: skip
        self._say(mission, "dispatched", SOMEBODY, {"mission_type": "task", "priority": priority})
        return ("new", mission)

    def retry(self, *, retry_of: str, limit: int, **wanted: Any) -> Any:
        if retry_of not in self.missions:
            return None
        if not self._ended(retry_of):
            return "invalid_state"
        lane, key = self.missions[retry_of]["vp_id"], wanted["key"]
        new = key is None or all((it["vp_id"], it["idempotency_key"]) != (lane, key) for it in self.missions.values())
        family = [mission for mission in self.missions if self._first(mission) == self._first(retry_of)]
        if new and len(family) - 1 >= limit:
            return "retry_limit"
        verdict = self.dispatch(retry_of=retry_of, lane=lane, **wanted)
        if verdict[0] == "replayed" and self.missions[verdict[1]]["retry_of"] != retry_of:
            return ("conflict", verdict[1])
        return verdict

    def _first(self, mission: str) -> str:
        """What it is a retry of, in the end."""
        while (earlier := self.missions[mission]["retry_of"]) is not None:
            mission = earlier
        return mission

    def cancel(self, *, mission: str, reason: str) -> Any:
        if mission not in self.missions:
            return None
        it = self.missions[mission]
        if it["status"] == QUEUED:
            it |= {"cancel_requested": True, "cancel_reason": reason, "cancelled_by": SOMEBODY[0]}
            self._end_unclaimed(mission, CANCELLED, SOMEBODY, summary=f"Cancelled before it started: {reason}")
            return "ended"
        if it["status"] != RUNNING:
            return "already_terminal"
        if not it["cancel_requested"]:
            it |= {"cancel_requested": True, "cancel_reason": reason, "cancelled_by": SOMEBODY[0]}
            it["updated_at"] = self.moment.now
            self._say(mission, "cancel_requested", SOMEBODY, {"reason": reason}, attempt=it["attempt"])
        return "requested"

    # What a worker does.

    def claim(self, *, session: str, lane: str, limit: int) -> Any:
        if limit <= 0 or self.lanes[lane]["paused"] or self.lanes[lane]["draining"]:
            return []
        for it in self._of(lane, QUEUED):
            if it["due_at"] <= self.moment.now:
                it["due"] = True
                self.touched.add(it["mission_id"])
        due = [it for it in self._of(lane, QUEUED) if it["due"]]  # in order of dispatch, which decides between equals
        first = sorted(due, key=lambda it: it["due_order"])[:limit]
        return [self._start(it, session) for it in first]

    def renew(self, *, session: str) -> Any:
        if not self._extend(session):
            return None
        self._renew_claims(session)
        return self.holding(session=session)

    def progress(self, *, held: Held, summary: str | None, usage: Row | None, engaged: bool) -> Any:
        it = self._current(held)
        if it is None:
            return False
        it |= {"last_progress_at": self.moment.now, "updated_at": self.moment.now}
        if usage is not None:
            self._use(held, usage)
        record = self.attempts.get((held.mission, held.attempt))
        if engaged and record is not None:
            record["engaged_at"] = record["engaged_at"] or self.moment.now
        if summary is not None:
            self._say_of(held, "progress", {"summary": summary, "data": {}})
        return True

    def finish(self, *, held: Held, status: str, usage: Row | None, made: int) -> Any:
        it = self._current(held)
        if it is None:
            return "lease_lost"
        if it["cancel_requested"] and status != CANCELLED:
            return "cancel_first"
        failure = {"failure_mode": "timeout", "failure_detail": "too slow"} if status == FAILED else {}
        if status == CANCELLED:
            it["cancel_reason"] = it["cancel_reason"] or "requested"
            it["cancelled_by"] = it["cancelled_by"] or held.worker
        if usage:
            self._use(held, usage)
        self._end(held.mission, status, (held.worker, "worker"), session=held.session, made=made,
                  result_ref=result_ref(held.mission), summary=f"it was {status}", **failure)  # fmt: skip
        self._end_attempt(held.mission, held.attempt, status)
        return "done"

    def requeue(self, *, held: Held, reason: str, backoff: int) -> Any:
        it = self._current(held)
        if it is None:
            return "requeued" if self._was_put_back(held, reason) else "lease_lost"
        if it["cancel_requested"]:
            return "cancel_first"
        if reason in COUNTED and it["tries"] + 1 >= it["max_tries"]:
            return "exhausted"
        self._put_back(held.mission, reason, "because", (held.worker, "worker"), session=held.session, backoff=backoff)
        return "requeued"

    def supersede(self, *, held: Held) -> Any:
        it = self._current(held)
        if it is not None:
            return self._take_over(it, held.session, reason="abandoned")
        it, claim = self.missions[held.mission], self.claims.get(held.mission, {})
        again = claim.get("closing") and (claim["session_id"], claim["attempt"]) == (held.session, held.attempt + 1)
        return self._hold(it, held.session, closing=True) if again and it["status"] == RUNNING else None

    def late(self, *, held: Held, outcome: Row) -> Any:
        self.touched.add(held.mission)
        record = self.attempts.get((held.mission, held.attempt))
        if record is not None:
            record["late_outcome"] = record["late_outcome"] or outcome

    def publish(self, *, held: Held) -> Any:
        return self._stamp_of(held, "published_at")

    def mark(self, *, held: Held) -> Any:
        it = self.missions[held.mission]
        blocked = it["blocked_at"] is not None and it["released_at"] is None
        if it["marked_at"] is None and blocked:
            return False
        before = it["marked_at"]
        if not self._stamp_of(held, "marked_at"):
            return False
        if before is None:
            self._say_of(held, "ready", {"receipt_sha256": receipt_sha256(*held[:2])})
            self.claims.pop(held.mission, None)
        return True

    def block(self, *, held: Held) -> Any:
        it = self.missions[held.mission]
        before = it["blocked_at"]
        if (before is None and it["marked_at"] is not None) or not self._stamp_of(held, "blocked_at"):
            return False
        if before is None:
            self._say_of(held, "sync_blocked", {"detail": "a live secret"})
            self.claims.pop(held.mission, None)
        return True

    def reconcile(self, *, session: str, lane: str, limit: int) -> Any:
        self._extend(session)
        self._renew_claims(session)
        requeued, closing = [], []
        dead = sorted(
            (it for it in self._of(lane, RUNNING) if self._nobody(it, session)), key=lambda it: it["created_at"]
        )
        for it in dead[:limit]:
            claim = self.claims[it["mission_id"]]
            last = it["tries"] + 1 >= it["max_tries"]
            if claim["closing"]:
                closing.append(self._take_over(it, session, reason="lease_lost"))
            elif it["cancel_requested"] or last:
                it["tries"] += 1
                closing.append(self._take_over(it, session, reason="lease_lost"))
            else:
                detail = f"worker {claim['worker_id']} lost its lease"
                by = (worker_of(session), "worker")
                self._put_back(it["mission_id"], "lease_lost", detail, by, session=session, backoff=0)
                requeued.append(it["mission_id"])
        left = limit - len(requeued) - len(closing)
        open_ends = [it for it in self._of(lane, *ENDED) if self._unmarked(it) and self._nobody(it, session)]
        for it in sorted(open_ends, key=lambda it: it["completed_at"])[: max(0, left)]:
            closing.append(self._hold(it, session, closing=True))
        return {"requeued": requeued, "closing": closing, "lost": self._report_lost(lane, session)}

    # What operators, mirrors and retention do.

    def operator_requeue(self, *, mission: str) -> Any:
        if mission not in self.missions:
            return None
        if self.missions[mission]["status"] != RUNNING:
            return "invalid_state"
        if self.missions[mission]["cancel_requested"]:
            return self._end_by_operator(mission, CANCELLED)
        self._put_back(mission, "operator", "wrong host", OPERATOR, session=None, backoff=0)
        return QUEUED

    def operator_fail(self, *, mission: str) -> Any:
        if mission not in self.missions:
            return None
        it = self.missions[mission]
        if it["status"] != RUNNING:
            return "invalid_state"
        return self._end_by_operator(mission, CANCELLED if it["cancel_requested"] else FAILED)

    def release(self, *, mission: str) -> Any:
        if mission not in self.missions:
            return None
        it = self.missions[mission]
        if it["blocked_at"] is None or it["released_at"] is not None or it["marked_at"] is not None:
            return "invalid_state"
        return self._stamp(it, "released_at")

    def acknowledge(self, *, mission: str, attempt: int) -> Any:
        if mission not in self.missions:
            return None
        it = self.missions[mission]
        if it["marked_at"] is None:
            return "not_ready"
        if attempt != it["attempt"]:
            return "differs"
        if it["mirrored_at"] is None:
            self._stamp(it, "mirrored_at")
            said = {"mirror_id": "home", "receipt_sha256": receipt_sha256(mission, attempt)}
            self._say(mission, "vp.mirror.acknowledged", OPERATOR, said, attempt=attempt)
        return "acknowledged"

    def purge(self, *, mission: str) -> Any:
        it = self.missions.get(mission)
        return it is not None and it["marked_at"] is not None and self._stamp(it, "purged_at")

    def steer(self, *, lane: str, paused: bool | None, draining: bool | None) -> Any:
        was = dict(self.lanes[lane])
        wanted = {name: was[name] if value is None else value
                  for name, value in (("paused", paused), ("draining", draining))}  # fmt: skip
        self.lanes[lane] = wanted
        if wanted != was:
            kind = "resumed"
            if wanted["draining"] and not was["draining"]:
                kind = "draining"
            elif wanted["paused"] and not was["paused"]:
                kind = "paused"
            self._log(f"vp.lane.{kind}", OPERATOR, dict(wanted), vp_id=lane)
        return (wanted["paused"], wanted["draining"])

    def open(self, *, session: str, lane: str) -> Any:
        now = self.moment.now
        self.sessions[session] = {
            "session_id": session, "vp_id": lane, "worker_id": worker_of(session), "opened_at": now,
            "closed_at": None, "lost_at": None, **self._lease_of_session(),
        }  # fmt: skip
        said = {"worker_id": worker_of(session), "host": "host", "pid": 1, "build": "1.0"}
        self._say_of_session(session, "opened", said)

    def close(self, *, session: str) -> Any:
        if session in self.sessions and self.sessions[session]["closed_at"] is None:
            self.sessions[session]["closed_at"] = self.moment.now
            self._say_of_session(session, "closed", {})
