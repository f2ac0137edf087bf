"""Run the lane on one attempt and decide what its outcome means."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from ua_vp.errors import CredentialError, DiskFullError, GuardrailViolationError, MissionStoppedError, WorkspaceError
from ua_vp.guardrails import PathPolicy
from ua_vp.lane import Lane, Outcome
from ua_vp.mission import Ending, FailureMode, RequeueReason, Status
from ua_vp.worker.context import Context
from ua_vp.worker.running import Running, Stop

SUMMARY_LIMIT = 2_000
DETAIL_LIMIT = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What is to become of the mission: an ending, or the queue again (`requeue`) and the ending if that is refused."""

    ending: Ending
    primary: tuple[str, ...] = ()
    requeue: RequeueReason | None = None


def run_lane(lane: Lane, policy: PathPolicy, ctx: Context) -> Outcome:
    """The lane's outcome, checked; whatever it raises becomes a failure. Called on the mission's own thread.

    `policy` is checked again first: what a path leads to may have changed since dispatch.
    """
    try:
        policy.check(ctx.mission.constraints)
        return _checked(lane.run(ctx))
    except MissionStoppedError as error:
        return Outcome.failed("stopped", detail=error.detail)
    except GuardrailViolationError as error:
        return Outcome.failed(error.detail, failure_mode=FailureMode.GUARDRAIL_VIOLATION)
    except CredentialError as error:
        return Outcome.failed(error.detail, failure_mode=FailureMode.CREDENTIAL_ERROR)
    except (DiskFullError, WorkspaceError) as error:
        return Outcome.failed(error.detail, failure_mode=FailureMode.WORKSPACE_ERROR)
    except BaseException as error:  # a lane is others' code: even exit() must not leave the mission running
        trace = "".join(traceback.format_exception(error)).rstrip()
        ctx.say("the lane raised:\n" + trace)
        text = "".join(traceback.format_exception_only(error)).strip()
        return Outcome.failed(f"the lane raised {text}", detail=trace)


def decide(running: Running, outcome: Outcome) -> Decision:
    """What the outcome means, the reason for a stop before all else."""
    if running.stop is None:
        return _of_outcome(running, outcome)
    requeue = {Stop.DRAINED: RequeueReason.DRAINED, Stop.LEASE_LOST: RequeueReason.LEASE_LOST}.get(running.stop)
    return Decision(ending=ending_for_stop(running), requeue=requeue)


def ending_for_stop(running: Running) -> Ending:
    """How a mission ends that was asked to stop."""
    match running.stop:
        case Stop.CANCELLED:
            return cancelled(running)
        case Stop.DRAINED:
            return failed(running, FailureMode.OPERATOR, "its worker was stopped")
        case Stop.LEASE_LOST | None:
            return failed(running, FailureMode.LEASE_EXPIRED, "its worker could not reach the ledger in time")
        case stop:
            return failed(running, stop.failure_mode or FailureMode.LANE_ERROR, running.stop_detail)


def cancelled(running: Running) -> Ending:
    """The ending of a mission that somebody cancelled, in the words that the ledger has."""
    return Ending(
        status=Status.CANCELLED,
        summary="cancelled while running",
        cancel_reason=running.cancel_reason or "requested",
        usage=running.usage,
    )


def failed(running: Running, mode: FailureMode, summary: str, detail: str = "") -> Ending:
    """The ending of a mission that could not be done."""
    return Ending(
        status=Status.FAILED,
        summary=clip(summary or mode.value, SUMMARY_LIMIT),
        failure_mode=mode,
        failure_detail=clip(detail or summary, DETAIL_LIMIT) or None,
        usage=running.usage,
    )


def owing(decision: Decision, missing: list[str]) -> Decision:
    """The decision once it is known which deliverables are `missing`: success that owes something is none."""
    if decision.ending.status is not Status.COMPLETED or not missing:
        return decision
    detail = "the lane reported success but left nothing for " + ", ".join(missing)
    ending = decision.ending
    return Decision(
        ending=Ending(
            status=Status.FAILED,
            summary=detail,
            failure_mode=FailureMode.MISSING_WORK_PRODUCT,
            failure_detail=f"{detail}; it said: {ending.summary}",
            usage=ending.usage,
        ),
        primary=decision.primary,
    )


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, saying how many were left out; no NUL, no lone surrogates (no store takes them)."""
    clean = text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= limit else f"{clean[:limit]}… ({len(clean) - limit} more characters in run.log)"


def _of_outcome(running: Running, outcome: Outcome) -> Decision:
    primary = tuple(str(path) for path in outcome.primary)
    if outcome.status is Status.COMPLETED:
        summary = clip(outcome.summary or "completed", SUMMARY_LIMIT)
        return Decision(ending=Ending(status=Status.COMPLETED, summary=summary, usage=running.usage), primary=primary)
    ending = failed(running, outcome.failure_mode or FailureMode.LANE_ERROR, outcome.summary, outcome.detail or "")
    return Decision(ending=ending, primary=primary, requeue=RequeueReason.RETRYABLE if outcome.retryable else None)


def _checked(outcome: object) -> Outcome:
    """The outcome with every field of its type, whatever the lane put there.

    Raises:
        TypeError, ValueError: it cannot be read as an outcome.
    """
    if not isinstance(outcome, Outcome):
        raise TypeError(f"the lane returned {type(outcome).__name__} where an Outcome is due")
    given: Any = outcome  # a lane without a type checker may have put anything into it
    status = Status(given.status)
    if status not in {Status.COMPLETED, Status.FAILED}:
        raise ValueError(f"the lane returned status {status.value!r}; completed or failed is due")
    return Outcome(
        status=status,
        summary="" if given.summary is None else str(given.summary),
        primary=tuple(str(path) for path in given.primary or ()),
        failure_mode=None if given.failure_mode is None else FailureMode(given.failure_mode),
        detail=None if given.detail is None else str(given.detail),
        retryable=bool(given.retryable),
    )
