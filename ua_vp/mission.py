"""A mission: its states, its way through them, and the values that belong to it (contract, section 2)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
JsonObject: TypeAlias = Mapping[str, Json]

VP_ID = re.compile(r"vp\.([a-z][a-z0-9-]{0,30})\.primary")
MISSION_ID = re.compile(r"vp-mission-[0-9a-f]{32}")
DEFAULT_PRIORITY = 100
PRIORITY_BOUND = 1_000_000
AGEING_SECONDS = 600
"""One step of priority weighs as much as this many seconds of waiting."""
DEFAULT_MAX_TRIES = 3


class Status(StrEnum):
    """The states of a mission."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the mission has ended; an ended mission never changes."""
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED}),
        Status.RUNNING: frozenset({Status.QUEUED, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
        Status.COMPLETED: frozenset(),
        Status.FAILED: frozenset(),
        Status.CANCELLED: frozenset(),
    }
)
"""The one transition table: from each state, the states it may change to."""


class RequeueReason(StrEnum):
    """Why a running mission went back to the queue; the first two count as a try."""

    LEASE_LOST = "lease_lost"
    RETRYABLE = "retryable"
    PROVIDER_HOLD = "provider_hold"
    DRAINED = "drained"
    OPERATOR = "operator"

    @property
    def counts(self) -> bool:
        """Whether it uses up one of `max_tries`."""
        return self in {RequeueReason.LEASE_LOST, RequeueReason.RETRYABLE}


class FailureMode(StrEnum):
    """Why a mission failed."""

    LANE_ERROR = "lane_error"
    GUARDRAIL_VIOLATION = "guardrail_violation"
    TIMEOUT = "timeout"
    NO_PROGRESS = "no_progress"
    LEASE_EXPIRED = "lease_expired"
    CREDENTIAL_ERROR = "credential_error"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    BUDGET_EXCEEDED = "budget_exceeded"
    MISSING_WORK_PRODUCT = "missing_work_product"
    WORKSPACE_ERROR = "workspace_error"
    LANE_UNAVAILABLE = "lane_unavailable"
    OPERATOR = "operator"


class QueuedReason(StrEnum):
    """Why a queued mission is not running yet."""

    WAITING_FOR_WORKER = "waiting_for_worker"
    LANE_PAUSED = "lane_paused"
    LANE_DRAINING = "lane_draining"
    LANE_AT_CAPACITY = "lane_at_capacity"
    NO_LIVE_WORKER = "no_live_worker"
    NOT_BEFORE = "not_before"
    RETRY_BACKOFF = "retry_backoff"
    PROVIDER_HOLD = "provider_hold"


class SyncState(StrEnum):
    """Where a mission's workspace stands on its way to a mirror."""

    NOT_READY = "not_ready"
    READY = "ready"
    BLOCKED = "blocked"
    MIRRORED = "mirrored"


class ReplyMode(StrEnum):
    """Whether the session that asked gets notices."""

    ASYNC = "async"
    NONE = "none"


class Category(StrEnum):
    """What a file of a workspace is for, in order of rank."""

    PRIMARY = "primary"
    SUPPORTING = "supporting"
    MARKER = "marker"


class Action(StrEnum):
    """What may be done to a mission by an operator."""

    CANCEL = "cancel"
    RETRY = "retry"
    REQUEUE = "requeue"
    FAIL = "fail"
    RELEASE_SYNC = "release_sync"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Limits of one mission; None is no limit. Counted over one attempt."""

    seconds: float | None = None
    idle_seconds: float | None = None
    tokens: int | None = None
    usd_cents: int | None = None
    output_bytes: int | None = None

    def to_json(self) -> dict[str, Json]:
        """Only the limits that are set."""
        values: dict[str, Json] = {
            "seconds": self.seconds,
            "idle_seconds": self.idle_seconds,
            "tokens": self.tokens,
            "usd_cents": self.usd_cents,
            "output_bytes": self.output_bytes,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file uploaded before, to be laid read-only into the attempt at `path` (relative)."""

    input_id: str
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who did something, and through which face (`api`, `cli`, `mcp`, `worker`, …)."""

    name: str
    via: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """One handed-over file: `path` relative to the workspace, size in bytes, SHA-256 in hex."""

    path: str
    category: Category
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewMission:
    """A dispatch that was parsed and checked: everything the ledger writes for it. Instants are wall µs."""

    mission_id: str
    vp_id: str
    mission_type: str
    objective: str
    constraints: JsonObject
    budget: Budget
    inputs: tuple[InputFile, ...]
    priority: int
    max_tries: int
    not_before: int | None
    idempotency_key: str | None
    source_session_id: str | None
    source_turn_id: str | None
    turn_id: str | None
    reply_mode: ReplyMode
    created_by: Actor
    retry_of: str | None = None
    continues: str | None = None
    group_id: str | None = None

    def fingerprint(self) -> str:
        """SHA-256 over what makes two dispatches with one key the same request (contract, section 2)."""
        return canonical_sha256(
            {
                "vp_id": self.vp_id,
                "mission_type": self.mission_type,
                "objective": self.objective,
                "constraints": self.constraints,
                "budget": self.budget.to_json(),
                "inputs": [{"input_id": i.input_id, "path": i.path} for i in self.inputs],
                "not_before": self.not_before,
                "max_tries": self.max_tries,
                "continues": self.continues,
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mission:
    """One row of the ledger as read, the live claim joined in. Instants are wall µs."""

    mission_id: str
    vp_id: str
    status: Status
    mission_type: str
    objective: str
    constraints: JsonObject
    budget: Budget
    inputs: tuple[InputFile, ...]
    priority: int
    attempt: int
    tries: int
    max_tries: int
    cancel_requested: bool
    cancel_reason: str | None
    cancelled_by: str | None
    result_ref: str | None
    summary: str | None
    failure_mode: FailureMode | None
    failure_detail: str | None
    source_session_id: str | None
    source_turn_id: str | None
    turn_id: str | None
    reply_mode: ReplyMode
    retry_of: str | None
    continues: str | None
    group_id: str | None
    created_by: str
    not_before: int | None
    due_at: int
    requeue_reason: RequeueReason | None
    """Why it is back in the queue; None while it waits for its first claim."""
    created_at: int
    started_at: int | None
    last_progress_at: int | None
    completed_at: int | None
    updated_at: int
    published_at: int | None = None
    blocked_at: int | None = None
    released_at: int | None = None
    marked_at: int | None = None
    mirrored_at: int | None = None
    purged_at: int | None = None
    worker_id: str | None = None
    lease_boot: str | None = None
    """Boot id under which `lease_deadline` counts; None while nobody holds a claim."""
    lease_deadline: int | None = None
    """Deadline of the claim, µs on the boot clock of `lease_boot`."""
    usage: JsonObject = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Ended and published: its marker is there, or it was blocked from mirroring."""
        return self.marked_at is not None or self.blocked_at is not None

    @property
    def sync_state(self) -> SyncState:
        """Worked out from the stamps."""
        if self.mirrored_at is not None:
            return SyncState.MIRRORED
        if self.marked_at is not None:
            return SyncState.READY
        if self.blocked_at is not None and self.released_at is None:
            return SyncState.BLOCKED
        return SyncState.NOT_READY

    @property
    def actions(self) -> tuple[Action, ...]:
        """What may be done to it now; everything else is `invalid_state`."""
        if self.status is Status.QUEUED:
            return (Action.CANCEL,)
        if self.status is Status.RUNNING:
            return (Action.CANCEL, Action.REQUEUE, Action.FAIL)
        blocked = (Action.RELEASE_SYNC,) if self.sync_state is SyncState.BLOCKED else ()
        return (Action.RETRY, *blocked)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The right to work on one attempt of one mission, until its lease runs out.

    `attempt` fences every write: a write with an old attempt changes nothing. `deadline` is µs on the boot clock.
    `closing` is set when the claim was taken only to bring a mission to its end (its attempts or its queue are used
    up, or its publication was cut short): no lane runs for it.
    """

    mission: Mission
    attempt: int
    session_id: str
    worker_id: str
    deadline: int
    closing: bool = False

    @property
    def mission_id(self) -> str:
        """The mission's id."""
        return self.mission.mission_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a mission ends: the values of the terminal commit."""

    status: Status
    summary: str
    failure_mode: FailureMode | None = None
    failure_detail: str | None = None
    cancel_reason: str | None = None
    artifacts: tuple[Artifact, ...] = ()
    usage: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """The record of one attempt; kept for ever. Instants are wall µs."""

    mission_id: str
    attempt: int
    worker_id: str
    claimed_at: int
    engaged_at: int | None
    ended_at: int | None
    end_reason: str | None
    late_outcome: JsonObject | None
    usage: JsonObject


def lane_name(vp_id: str) -> str | None:
    """The `<name>` in `vp.<name>.primary`, or None if `vp_id` is not of that form."""
    match = VP_ID.fullmatch(vp_id)
    return match.group(1) if match else None


def vp_id_of(name: str) -> str:
    """The lane id of a lane's `<name>`."""
    return f"vp.{name}.primary"


CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)
"""Without the look for circles, half as long; what holds itself is too deep, which is an error as well."""


def canonical_json(value: Json) -> bytes:
    """One byte sequence per JSON value: keys sorted, no white space, UTF-8 (in the manner of RFC 8785)."""
    return CANONICAL.encode(value).encode()


def canonical_sha256(value: Json) -> str:
    """SHA-256 of `canonical_json(value)`, hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def due_order(*, created: int, ledger_last: int, priority: int) -> int:
    """The key by which due missions run, smallest first: ageing without reading the clock at claim time.

    A priority step weighs AGEING_SECONDS. `ledger_last` (the newest `created` the ledger has seen) keeps a wall clock
    that stepped back from letting newcomers overtake.
    """
    return max(created, ledger_last) + priority * AGEING_SECONDS * 1_000_000
