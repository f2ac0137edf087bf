"""One mission from its claim to its mark, on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from ua_vp.errors import DiskFullError, VpError, WorkspaceError
from ua_vp.ledger import FinishVerdict, RequeueVerdict
from ua_vp.mission import Claim, Ending, FailureMode, RequeueReason, Status
from ua_vp.ports import MICROS, Ports, Queue
from ua_vp.worker.assignment import Assignment
from ua_vp.worker.context import Context
from ua_vp.worker.execute import Decision, cancelled, decide, run_lane
from ua_vp.worker.finalize import Staged, ending_of, make_visible, prepare_closing, prepare_ending
from ua_vp.worker.messages import Finish, Late, Message, Over, Requeue, Settled
from ua_vp.worker.running import Running
from ua_vp.workspace import AttemptFolders, RunLog, keep_late, prepare, read_receipt

FIRST_BACKOFF, LONGEST_BACKOFF, JITTER = 5.0, 300.0, 0.2
"""Seconds before the next try after a retryable failure: 5 * 2^(tries-1), at most 300, ±20 %."""

V = TypeVar("V")

log = structlog.get_logger("ua_vp.worker")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a lane's run left: what is to become of it, its log, its folders."""

    decision: Decision
    log: RunLog
    folders: AttemptFolders

    def say(self, text: str) -> None:
        """A line of the worker's own in the log."""
        self.log.write("worker", text.encode("utf-8", "replace") + b"\n")


class Conductor:
    """Takes claims to their end; one call per mission, each on its own thread. It speaks to the ledger through `post`."""

    def __init__(self, site: Assignment, ports: Ports, post: Callable[[Message], None]) -> None:
        self._site = site
        self._ports = ports
        self._post = post

    def run(self, running: Running) -> None:
        """Work on a fresh claim: lane, ending or requeue, publication."""
        settled = False
        try:
            settled = self._run(running)
        except (VpError, OSError) as error:
            log.error("mission could not be published; tried again", mission_id=running.mission_id, error=str(error))
        finally:
            running.ended = True
            self._post(Over(claim=running.claim, settled=settled))

    def close(self, claim: Claim, ending: Ending) -> None:
        """Bring a mission to its end for which no lane runs: its tries, its queue or its worker are gone.

        `ending` is what becomes of a mission that is still running; one that has ended keeps its own.
        """
        settled = False
        try:
            settled = self._close(claim, ending)
        except (VpError, OSError) as error:
            log.error("mission could not be closed; tried again later", mission_id=claim.mission_id, error=str(error))
        finally:
            self._post(Over(claim=claim, settled=settled, ending=ending))

    def _run(self, running: Running) -> bool:
        try:
            run = self._execute(running)
        except (DiskFullError, WorkspaceError, OSError) as error:
            return self._without_workspace(running, str(error))
        if running.abandoned:
            return self._late(running, run)
        decision = run.decision
        if decision.requeue is not None:
            run.say(f"back to the queue ({decision.requeue}): {decision.ending.summary}")
            verdict = self._requeue(running.claim, decision.requeue, decision.ending.summary)
            if verdict is RequeueVerdict.REQUEUED:
                run.log.close(f"outcome: requeued ({decision.requeue})")
                return True
            if verdict is RequeueVerdict.LEASE_LOST:
                return self._late(running, run)
            if verdict is RequeueVerdict.CANCEL_FIRST:
                run = replace(run, decision=Decision(ending=cancelled(running)))
        return self._finish(running, run)

    def _execute(self, running: Running) -> Run:
        """Run the lane; what it started is gone when this returns."""
        site, claim, files = self._site, running.claim, self._ports.files
        workspace = site.workspace(claim.mission_id)
        folders = prepare(workspace, claim.attempt, files=files)
        run_log = self._log(folders)
        context = Context(
            running,
            folders,
            run_log,
            ports=self._ports,
            walls=site.walls,
            environment=site.environment,
            report=self._post,
        )
        context.write_worker(f"attempt {claim.attempt} of {claim.mission_id} on {site.host}, worker {claim.worker_id}")
        outcome = run_lane(site.lane, context)
        running.ended = True
        running.clear_away()
        return Run(decision=decide(running, outcome), log=run_log, folders=folders)

    def _finish(self, running: Running, run: Run) -> bool:
        try:
            staged = self._stage(running, run)
            verdict = self._commit(staged)
            if verdict is FinishVerdict.CANCEL_FIRST:  # cancelled while it was being staged: it ends so, with its files
                run = replace(
                    run, decision=replace(run.decision, ending=cancelled(running)), log=self._log(run.folders)
                )
                staged = self._stage(running, run)
                verdict = self._commit(staged)
        except (DiskFullError, WorkspaceError, OSError) as error:
            return self._without_workspace(running, str(error))
        if verdict is not FinishVerdict.DONE:
            return self._late(running, run)
        self._publish(staged)
        return True

    def _stage(self, running: Running, run: Run) -> Staged:
        return prepare_ending(
            running.claim,
            run.decision,
            run.log,
            laid=run.folders.laid,
            site=self._site,
            clock=self._ports.clock,
            files=self._ports.files,
        )

    def _log(self, folders: AttemptFolders) -> RunLog:
        return RunLog(folders.run_log, clock=self._ports.clock, lock=self._ports.threads.lock())

    def _late(self, running: Running, run: Run) -> bool:
        """Hand in what came too late: it is kept beside the attempt, never published."""
        ending = run.decision.ending
        run.log.close(f"outcome too late, not published: {ending.status}: {ending.summary}")
        keep_late(self._site.workspace(running.mission_id), running.claim.attempt, files=self._ports.files)
        outcome = {
            "status": ending.status.value,
            "summary": ending.summary,
            "failure_mode": ending.failure_mode,
            "at": self._ports.clock.now(),
        }
        self._post(Late(claim=running.claim, outcome=outcome))
        return True

    def _without_workspace(self, running: Running, detail: str) -> bool:
        """No folder to work in: another try; when none is left the mission fails, and its receipt follows later."""
        claim = running.claim
        if self._requeue(claim, RequeueReason.RETRYABLE, detail) is not RequeueVerdict.EXHAUSTED:
            return True
        ending = Ending(
            status=Status.FAILED,
            summary=detail,
            failure_mode=FailureMode.WORKSPACE_ERROR,
            failure_detail=detail,
        )
        return self._close(claim, ending)

    def _close(self, claim: Claim, ending: Ending) -> bool:
        workspace, files = self._site.workspace(claim.mission_id), self._ports.files
        mission = claim.mission
        if mission.status.terminal:
            receipt = read_receipt(workspace, claim.attempt)
            if receipt is not None:
                self._show(claim, mission.status, receipt.completed_at, receipt.sha256)
                return True
            ending = ending_of(mission)
        staged = prepare_closing(claim, ending, site=self._site, clock=self._ports.clock, files=files)
        if not mission.status.terminal:
            verdict = self._commit(staged)
            if verdict is not FinishVerdict.DONE:
                log.warning("mission was closed by somebody else", mission_id=claim.mission_id, verdict=str(verdict))
                return True
        self._publish(staged)
        return True

    def _publish(self, staged: Staged) -> None:
        self._show(staged.claim, staged.ending.status, staged.completed_at, staged.receipt_sha256)

    def _show(self, claim: Claim, state: Status, completed_at: int, receipt_sha256: str) -> None:
        make_visible(
            claim,
            state,
            completed_at=completed_at,
            receipt_sha256=receipt_sha256,
            site=self._site,
            files=self._ports.files,
        )
        self._post(Settled(claim=claim, receipt_sha256=receipt_sha256))

    def _commit(self, staged: Staged) -> FinishVerdict:
        reply: Queue[FinishVerdict] = self._ports.threads.queue()
        self._post(Finish(staged=staged, reply=reply))
        return _answer(reply)

    def _requeue(self, claim: Claim, reason: RequeueReason, detail: str) -> RequeueVerdict:
        reply: Queue[RequeueVerdict] = self._ports.threads.queue()
        backoff = self._backoff(claim) if reason is RequeueReason.RETRYABLE else 0
        self._post(Requeue(claim=claim, reason=reason, backoff=backoff, detail=detail, reply=reply))
        return _answer(reply)

    def _backoff(self, claim: Claim) -> int:
        """µs until the next try; exponential with jitter, so that what failed together does not come back together."""
        seconds = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**claim.mission.tries)
        return int(seconds * (1 - JITTER + 2 * JITTER * self._ports.ids.fraction()) * MICROS)


def _answer(reply: Queue[V]) -> V:
    """What the loop answers; it answers every message before it ends."""
    while (verdict := reply.get()) is None:
        continue
    return verdict
