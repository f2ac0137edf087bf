"""Stage, commit, publish, mark: the four steps by which a mission's end becomes true and then visible.

The order is the point (architecture, section 3): staged files are invisible, the fenced commit is the moment of
truth, and publishing and marking can be done again by anybody from any line on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ua_vp.mission import Claim, Ending, FailureMode, Mission, Status
from ua_vp.ports import Clock, Files
from ua_vp.worker.assignment import Assignment
from ua_vp.worker.execute import Decision, owing
from ua_vp.workspace import (
    Discovery,
    ExecutorUse,
    LaidInput,
    RunLog,
    SandboxUse,
    Workspace,
    copy_log,
    discover,
    keep_log,
    mark,
    missing,
    prepare,
    publish,
    put_in_place,
    receipt_for,
    stage,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """An ending whose files are durable and hashed, ready for the fenced commit."""

    claim: Claim
    ending: Ending
    completed_at: int
    result_ref: str
    receipt_path: str
    sync_marker_path: str
    receipt_sha256: str


def prepare_ending(
    claim: Claim,
    decision: Decision,
    log: RunLog,
    *,
    laid: tuple[LaidInput, ...],
    site: Assignment,
    clock: Clock,
    files: Files,
) -> Staged:
    """Close the log, find what the lane left, and stage it with its receipt. The attempt's processes are gone.

    Raises:
        WorkspaceError, DiskFullError: the files cannot be staged; nothing was committed.
    """
    workspace = site.workspace(claim.mission_id)
    for number in _earlier(workspace, claim.attempt):
        keep_log(workspace, number, claim.attempt, files=files)
    kind = site.info.mission_types.get(claim.mission.mission_type)
    found = discover(workspace, claim.attempt, declared=decision.primary)
    for path in found.not_found:
        log.write("worker", f"declared, but not there: {path!r}\n".encode("utf-8", "replace"))
    decision = owing(decision, missing(found.artifacts, kind.owes if kind else ()))
    _close_log(log, decision.ending, found)
    found = discover(workspace, claim.attempt, declared=decision.primary)  # again: the log is whole only now
    ending = replace(decision.ending, artifacts=found.artifacts)
    return _stage(claim, ending, found, laid, workspace=workspace, site=site, clock=clock, files=files)


def prepare_closing(claim: Claim, ending: Ending, *, site: Assignment, clock: Clock, files: Files) -> Staged:
    """Stage an ending for which no lane runs, in a fresh staging that holds logs of earlier attempts alone.

    A mission that ended without a claim has no attempt of its own that would fence two workers off each other, of which
    one may have slept: each stages in a draft, and the first one stands.
    """
    workspace = site.workspace(claim.mission_id)
    ended = claim.mission.status.terminal
    if ended:
        workspace = workspace.drafting(claim.attempt, claim.session_id)
    prepare(workspace, claim.attempt, files=files)
    earlier = _earlier(workspace, claim.attempt)
    for number in earlier[-1:]:
        copy_log(workspace, number, claim.attempt, files=files)
    for number in earlier[:-1]:
        keep_log(workspace, number, claim.attempt, files=files)
    found = discover(workspace, claim.attempt)
    ending = replace(ending, artifacts=found.artifacts)
    staged = _stage(claim, ending, found, (), workspace=workspace, site=site, clock=clock, files=files)
    if ended:
        return replace(staged, receipt_sha256=put_in_place(workspace, claim.attempt, files=files).sha256)
    return staged


def make_visible(
    claim: Claim, state: Status, *, completed_at: int, receipt_sha256: str, site: Assignment, files: Files
) -> None:
    """Publish and mark; done again from any line it gives the same folder."""
    workspace = site.workspace(claim.mission_id)
    publish(workspace, claim.attempt, files=files)
    mark(
        workspace,
        mission_id=claim.mission_id,
        vp_id=claim.mission.vp_id,
        state=state,
        completed_at=completed_at,
        receipt_sha256=receipt_sha256,
        files=files,
    )


def ending_of(mission: Mission) -> Ending:
    """The ending that a terminal row records."""
    return Ending(
        status=mission.status,
        summary=mission.summary or mission.status.value,
        failure_mode=mission.failure_mode,
        failure_detail=mission.failure_detail,
        cancel_reason=mission.cancel_reason,
        usage=mission.usage,
    )


def ending_without_lane(mission: Mission) -> Ending:
    """How a mission ends whose worker is gone and whose tries are used up, or that was to be cancelled meanwhile."""
    if mission.cancel_requested:
        return Ending(
            status=Status.CANCELLED, summary="cancelled; its worker was gone", cancel_reason=mission.cancel_reason
        )
    detail = f"no worker brought it to its end: {mission.tries} of {mission.max_tries} tries are lost"
    return Ending(status=Status.FAILED, summary=detail, failure_mode=FailureMode.LEASE_EXPIRED, failure_detail=detail)


def _close_log(log: RunLog, ending: Ending, found: Discovery) -> None:
    for left in found.left_out:
        log.write("worker", f"not handed over: {left.path!r}: {left.reason}\n".encode("utf-8", "replace"))
    if ending.failure_detail:
        log.write("worker", ending.failure_detail.encode("utf-8", "replace") + b"\n")
    mode = f" ({ending.failure_mode})" if ending.failure_mode else ""
    log.close(f"outcome: {ending.status}{mode}: {ending.summary}")


def _earlier(workspace: Workspace, attempt: int) -> list[int]:
    """The attempts before this one that left a folder, oldest first."""
    return [number for number in workspace.attempt_numbers() if number < attempt]


def _stage(
    claim: Claim,
    ending: Ending,
    found: Discovery,
    laid: tuple[LaidInput, ...],
    *,
    workspace: Workspace,
    site: Assignment,
    clock: Clock,
    files: Files,
) -> Staged:
    completed_at = claim.mission.completed_at or clock.now()  # it may have ended before, in the queue
    ran = not claim.closing
    receipt = receipt_for(
        claim,
        ending,
        completed_at=completed_at,
        host=site.host,
        build=site.build,
        result_ref=workspace.result_ref,
        sandbox=SandboxUse(backend=site.walls.backend, network=site.walls.network, gaps=site.walls.gaps)
        if ran
        else None,
        executor=ExecutorUse(name=site.executor, version=site.executor_version) if ran else None,
        inputs=laid,
        left_out=found.left_out,
    )
    sha256 = stage(workspace, claim.attempt, receipt, files=files)
    return Staged(
        claim=claim,
        ending=ending,
        completed_at=completed_at,
        result_ref=workspace.result_ref,
        receipt_path=str(workspace.receipt),
        sync_marker_path=str(workspace.marker),
        receipt_sha256=sha256,
    )
