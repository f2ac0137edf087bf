"""One mission from its claim to its mark, on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from ua_vp.errors import DiskFullError, VpError, WorkspaceError
from ua_vp.lane import Outcome
from ua_vp.ledger import FinishVerdict, RequeueVerdict
from ua_vp.mission import Claim, Ending, FailureMode, RequeueReason, Status
from ua_vp.ports import MICROS, Ports, Queue
from ua_vp.worker.assignment import Assignment
from ua_vp.worker.context import Context
from ua_vp.worker.execute import Decision, cancelled, decide, failed, run_lane
from ua_vp.worker.finalize import Staged, make_visible, prepare_closing, prepare_ending
from ua_vp.worker.messages import Finish, Late, Message, Over, Requeue, Settled
from ua_vp.worker.running import Running
from ua_vp.workspace import AttemptFolders, RunLog, clear_up, drop_work, keep_late, prepare, read_receipt

FIRST_BACKOFF, LONGEST_BACKOFF, JITTER = 5.0, 300.0, 0.2
"""Seconds before the next try after a retryable failure: 5 * 2^(tries-1), at most 300, ±20 %."""

V = TypeVar("V")

log = structlog.get_logger("ua_vp.worker")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a lane's run left: what it said, what is to become of the mission, its log, its folders."""

    said: Outcome
    decision: Decision
    log: RunLog
    folders: AttemptFolders


class Conductor:
    """Takes claims to their end; one call per mission, each on its own thread. It speaks to the ledger through `post`.

    Each call ends with the message `Over`, which says whether its mission still needs somebody.
    """

    def __init__(self, site: Assignment, ports: Ports, post: Callable[[Message], None]) -> None:
        self._site = site
        self._ports = ports
        self._post = post

    def run(self, running: Running) -> None:
        """Work on a fresh claim: lane, ending or requeue, publication."""
        over = Over(claim=running.claim, done=False)
        try:
            over = self._run(running)
        except (VpError, OSError) as error:
            log.error("mission_not_brought_to_its_end", mission_id=running.claim.mission_id, error=str(error))
        finally:
            running.ended = True
            self._clear_up(running.claim)
            self._post(over)

    def close(self, claim: Claim, ending: Ending | None) -> None:
        """Bring a mission to its end for which no lane runs: its tries, its queue or its worker are gone.

        `ending` is what becomes of a mission that is still running, or how one ended that never ran; without it, the
        mission ended with a receipt staged, and only its publication was cut short.
        """
        over = Over(claim=claim, done=False, ending=ending)
        try:
            over = self._close(claim, ending)
        except (VpError, OSError) as error:
            log.error("mission_not_closed_yet", mission_id=claim.mission_id, error=str(error))
        finally:
            self._clear_up(claim)
            self._post(over)

    def _run(self, running: Running) -> Over:
        try:
            run = self._execute(running)
        except (VpError, OSError) as error:
            return self._without_workspace(running, str(error))
        try:
            return self._conclude(running, run)
        finally:
            self._close_log(run.log)

    def _execute(self, running: Running) -> Run:
        """Run the lane; what it started is gone when this returns."""
        site, claim = self._site, running.claim
        with ExitStack() as undo:
            folders = prepare(site.workspace(claim.mission_id), claim.attempt, files=self._ports.files)
            run_log = self._open_log(folders)
            undo.callback(self._close_log, run_log)
            context = Context(
                running,
                folders,
                run_log,
                ports=self._ports,
                walls=site.walls,
                environment=site.environment,
                report=self._post,
            )
            context.say(f"attempt {claim.attempt} of {claim.mission_id} on {site.host}, worker {claim.worker_id}")
            said = run_lane(site.lane, site.info.path_policy, context)
            running.clear_away()
            undo.pop_all()
        return Run(said=said, decision=decide(running, said), log=run_log, folders=folders)

    def _conclude(self, running: Running, run: Run) -> Over:
        claim, requeue = running.claim, run.decision.requeue
        if running.abandoned:
            return self._late(running, run)
        if requeue is not None:
            why = run.decision.ending.summary
            _say(run.log, f"back to the queue ({requeue}): {why}")
            verdict = self._requeue(claim, requeue, why)
            if verdict is RequeueVerdict.REQUEUED:
                self._close_log(run.log, f"outcome: requeued ({requeue})")
                return Over(claim=claim, done=True)
            if verdict is RequeueVerdict.LEASE_LOST:
                return self._late(running, run)
            if verdict is RequeueVerdict.CANCEL_FIRST:
                run = replace(run, decision=Decision(ending=cancelled(running)))
        return self._finish(running, run)

    def _finish(self, running: Running, run: Run) -> Over:
        try:
            staged = self._stage(running, run)
            verdict = self._commit(staged)
            if verdict is FinishVerdict.CANCEL_FIRST:  # cancelled while it was being staged: it ends so, with its files
                ending = replace(run.decision, ending=cancelled(running))
                run = replace(run, decision=ending, log=self._open_log(run.folders))
                staged = self._stage(running, run)
                verdict = self._commit(staged)
        except (VpError, OSError) as error:
            if isinstance(error, DiskFullError):
                self._make_room(running.claim)
            return self._without_workspace(running, str(error), run)
        if verdict is not FinishVerdict.DONE:
            return self._late(running, run)
        return self._show(staged.claim, staged.ending.status, staged.completed_at, staged.receipt_sha256)

    def _stage(self, running: Running, run: Run) -> Staged:
        try:
            return prepare_ending(
                running.claim,
                run.decision,
                run.log,
                laid=run.folders.laid,
                site=self._site,
                clock=self._ports.clock,
                files=self._ports.files,
            )
        finally:
            self._close_log(run.log)

    def _late(self, running: Running, run: Run) -> Over:
        """Hand in what came too late, as the lane said it: it is kept beside the attempt, never published."""
        claim, said = running.claim, run.said
        self._close_log(run.log, f"outcome too late, not published: {said.status}: {said.summary}")
        try:
            keep_late(self._site.workspace(claim.mission_id), claim.attempt, files=self._ports.files)
        except VpError as error:
            log.warning("late_files_not_kept", mission_id=claim.mission_id, error=str(error))
        outcome = {
            "status": said.status.value,
            "summary": said.summary.encode("utf-8", "replace").decode("utf-8"),
            "failure_mode": said.failure_mode,
            "at": self._ports.clock.now(),
        }
        self._post(Late(claim=claim, outcome=outcome))
        return Over(claim=claim, done=True)

    def _clear_up(self, claim: Claim) -> None:
        """Leave nothing behind in a mission that somebody else brought to its marker while this worker slept."""
        try:
            clear_up(self._site.workspace(claim.mission_id), files=self._ports.files)
        except VpError as error:
            log.warning("attempts_not_cleared_up", mission_id=claim.mission_id, error=str(error))

    def _make_room(self, claim: Claim) -> None:
        """Give up what could not be staged: its mission, and everybody else's, needs the room for its end."""
        try:
            drop_work(self._site.workspace(claim.mission_id), claim.attempt, files=self._ports.files)
        except VpError as error:
            log.warning("no_room_made", mission_id=claim.mission_id, error=str(error))

    def _without_workspace(self, running: Running, detail: str, run: Run | None = None) -> Over:
        """No folder to work in, or its files cannot be staged: another try.

        When none is left the mission fails, once there is room for its receipt. If the folder is gone because another
        attempt was published, what the lane said in its `run` came too late.
        """
        claim, ending = running.claim, failed(running, FailureMode.WORKSPACE_ERROR, detail)
        verdict = self._requeue(claim, RequeueReason.RETRYABLE, ending.summary)
        if verdict is RequeueVerdict.CANCEL_FIRST:
            return Over(claim=claim, done=False)
        if verdict is RequeueVerdict.LEASE_LOST and run is not None:
            return self._late(running, run)
        return Over(claim=claim, done=verdict is not RequeueVerdict.EXHAUSTED, ending=ending)

    def _close(self, claim: Claim, ending: Ending | None) -> Over:
        workspace, mission = self._site.workspace(claim.mission_id), claim.mission
        if mission.status.terminal:
            receipt = read_receipt(workspace, claim.attempt)
            if receipt is not None:
                return self._show(claim, mission.status, receipt.completed_at, receipt.sha256)
        if ending is None:
            raise WorkspaceError(
                f"{workspace.root} has lost the receipt of attempt {claim.attempt}, which ended {mission.status}: "
                "its folder was removed, replaced, or is not mounted; bring it back, and the next look publishes it"
            )
        staged = prepare_closing(claim, ending, site=self._site, clock=self._ports.clock, files=self._ports.files)
        if not mission.status.terminal:
            verdict = self._commit(staged)
            if verdict is not FinishVerdict.DONE:
                # Cancelled meanwhile: the next look ends it so. Lost: whoever took it ends it.
                return Over(claim=claim, done=verdict is FinishVerdict.LEASE_LOST)
        return self._show(claim, ending.status, staged.completed_at, staged.receipt_sha256)

    def _show(self, claim: Claim, state: Status, completed_at: int, receipt_sha256: str) -> Over:
        make_visible(
            claim,
            state,
            completed_at=completed_at,
            receipt_sha256=receipt_sha256,
            site=self._site,
            files=self._ports.files,
        )
        self._post(Settled(claim=claim, receipt_sha256=receipt_sha256))
        return Over(claim=claim, done=True)

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

    def _open_log(self, folders: AttemptFolders) -> RunLog:
        return RunLog(folders.run_log, clock=self._ports.clock, lock=self._ports.threads.lock())

    def _close_log(self, run_log: RunLog, last_line: str = "") -> None:
        """Close it, whatever the disk says: nothing that was decided hangs on a log."""
        try:
            run_log.close(last_line)
        except VpError as error:
            log.warning("run_log_not_complete", error=str(error))


def _say(run_log: RunLog, text: str) -> None:
    run_log.write("worker", text.encode("utf-8", "replace") + b"\n")


def _answer(reply: Queue[V]) -> V:
    """What the loop answers; it answers every message before it ends."""
    while (verdict := reply.get()) is None:
        continue
    return verdict
