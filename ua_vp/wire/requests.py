"""What may be asked: strict models; nothing is converted, trimmed or ignored."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ua_vp.mission import DEFAULT_MAX_TRIES, DEFAULT_PRIORITY, PRIORITY_BOUND
from ua_vp.wire.plain import plain_faults
from ua_vp.wire.times import from_iso

LONGEST_OBJECTIVE = 100_000
"""Characters."""
LONGEST_BODY = 1024 * 1024
"""Bytes of a request's body."""
LONGEST_WAIT = 50
"""Seconds that `wait` and `Prefer: wait` may hold an answer."""
LARGEST_COUNT = 10**15

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _has_words(value: str) -> str:
    if not value.strip():
        raise ValueError("must say something; it is empty or only white space")
    return value


def _plain(value: Any) -> Any:
    for fault in plain_faults(value):
        raise ValueError(f"{fault.pointer}: {fault.detail}" if fault.pointer != "#" else fault.detail)
    return value


def _one_line(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters")
    return value


def _instant(value: str) -> str:
    from_iso(value)
    return value


def _stays_inside(value: str) -> str:
    parts = value.split("/")
    if value.startswith("/") or any(part in {"", ".", ".."} for part in parts):
        raise ValueError("must be a plain relative path: no leading /, no empty part, no . or ..")
    return value


Text = Annotated[str, AfterValidator(_plain)]
Name = Annotated[Text, Field(min_length=1, max_length=200), AfterValidator(_one_line), AfterValidator(_has_words)]
Instant = Annotated[str, Field(max_length=64), AfterValidator(_instant)]
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Duration = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]


class Request(BaseModel):
    """Base of every request body: unknown fields are refused, values are never converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BudgetRequest(Request):
    """Limits of a mission; each is optional and enforced, over one attempt."""

    seconds: Duration | None = Field(None, description="run time; when it runs out: failure mode `timeout`")
    idle_seconds: Duration | None = Field(None, description="time without progress; then: `no_progress`")
    tokens: Count | None = Field(None, description="model tokens; then: `budget_exceeded`")
    usd_cents: Count | None = Field(None, description="spending, in US cents; then: `budget_exceeded`")
    output_bytes: Count | None = Field(None, description="bytes of output; then: `budget_exceeded`")


class InputRequest(Request):
    """A file uploaded before, to be laid read-only into the mission's `inputs/`."""

    input_id: Name = Field(description="what the upload answered")
    path: Annotated[Name, AfterValidator(_stays_inside)] = Field(description="where in `inputs/`, relative")


class DispatchRequest(Request):
    """Hand a mission to a lane: `POST /missions/dispatch`."""

    vp_id: Name = Field(description="the lane, `vp.<name>.primary`")
    objective: Annotated[Text, Field(min_length=1, max_length=LONGEST_OBJECTIVE), AfterValidator(_has_words)] = Field(
        description="what is to be done"
    )
    mission_type: Name = Field("task", description="a type that the lane publishes")
    constraints: Annotated[dict[str, Any], AfterValidator(_plain)] = Field(
        default_factory=dict, description="what the type's JSON Schema asks for; unknown keys are refused"
    )
    budget: BudgetRequest = Field(default_factory=BudgetRequest, description="limits")
    inputs: list[InputRequest] = Field(default_factory=list, max_length=1000, description="files uploaded before")
    idempotency_key: Name | None = Field(None, description="same key and same request: the same mission, once")
    priority: int = Field(
        DEFAULT_PRIORITY, ge=-PRIORITY_BOUND, le=PRIORITY_BOUND, description="lower runs sooner; it ages"
    )
    max_tries: int = Field(DEFAULT_MAX_TRIES, ge=1, le=20, description="how many attempts may be lost")
    not_before: Instant | None = Field(None, description="ISO 8601 with zone; it is not started sooner")
    source_session_id: Name | None = Field(None, description="the session that asks, and gets the notices")
    source_turn_id: Name | None = Field(None, description="that session's own name for the turn")
    reply_mode: Literal["async", "none"] = Field("async", description="whether the source session gets notices")
    turn_id: Name | None = Field(None, description="the strict turn that this dispatch belongs to")
    continues: Name | None = Field(None, description="an earlier mission to build upon")


class TokenRequest(Request):
    """Make a token: `POST /tokens`."""

    name: Name = Field(description="who acts with it: stands in every event that it brings about")
    scopes: list[Name] = Field(min_length=1, max_length=20, description="what it allows")
    lanes: list[Name] = Field(default_factory=list, max_length=100, description="only these lanes; none: all")
    sources: list[Name] = Field(default_factory=list, max_length=100, description="only these sessions; none: all")
    expires_at: Instant | None = Field(None, description="ISO 8601 with zone; from then on it is refused")


class RetryChanges(Request):
    """What is to be otherwise than in the mission that is repeated; what is left out, or null, is as it was."""

    objective: Annotated[Text, Field(min_length=1, max_length=LONGEST_OBJECTIVE), AfterValidator(_has_words)] | None = (
        Field(None, description="what is to be done")
    )
    mission_type: Name | None = Field(None, description="a type that the lane publishes")
    constraints: Annotated[dict[str, Any], AfterValidator(_plain)] | None = Field(
        None, description="all of them: they take the place of the old ones"
    )
    budget: BudgetRequest | None = Field(None, description="all limits: they take the place of the old ones")
    priority: int | None = Field(None, ge=-PRIORITY_BOUND, le=PRIORITY_BOUND, description="lower runs sooner")
    max_tries: int | None = Field(None, ge=1, le=20, description="how many attempts may be lost")
    not_before: Instant | None = Field(None, description="ISO 8601 with zone; it is not started sooner")


class RetryRequest(Request):
    """Do an ended mission again, as a new one: `POST /missions/{id}/retry`; the body may be left out."""

    changes: RetryChanges = Field(default_factory=RetryChanges, description="what is to be otherwise")


class ReasonRequest(Request):
    """Why an operator steps in: `POST /missions/{id}/requeue`, `/fail`."""

    reason: Annotated[Text, Field(min_length=1, max_length=1000), AfterValidator(_has_words)] = Field(
        description="kept with the mission's events, for whoever asks later"
    )


class CancelRequest(Request):
    """Why a mission is cancelled: `POST /missions/{id}/cancel`; the body may be left out."""

    reason: Annotated[Text, Field(min_length=1, max_length=1000), AfterValidator(_has_words)] = Field(
        "requested", description="shown as `cancel_reason`"
    )
