"""What is answered: every field that the contract names, in its order; readers tolerate more.

Times are ISO 8601 UTC with `Z`. Enumerations are plain text here because they are open sets.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of every answer: a reader ignores fields that it does not know yet."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class InputView(Answer):
    """A file laid into the mission's `inputs/`."""

    input_id: str
    path: str


class MissionView(Answer):
    """A mission as everybody sees it."""

    mission_id: str
    vp_id: str
    status: str = Field(description="queued, running, completed, failed or cancelled")
    mission_type: str
    objective: str
    constraints: dict[str, Any] = {}
    budget: dict[str, Any] = Field({}, description="the limits that were set")
    inputs: list[InputView] = []
    priority: int
    attempt: int = Field(description="the fencing token: grows at every claim")
    tries: int
    max_tries: int
    worker_id: str | None = None
    lease_expires_at: str | None = Field(None, description="when its worker counts as lost, unless it renews")
    cancel_requested: bool
    cancel_reason: str | None = None
    cancelled_by: str | None = None
    result_ref: str | None = Field(None, description="`workspace://` + the folder; shown once it is published")
    summary: str | None = None
    failure_mode: str | None = None
    failure_detail: str | None = None
    source_session_id: str | None = None
    source_turn_id: str | None = None
    turn_id: str | None = None
    reply_mode: str
    retry_of: str | None = None
    continues: str | None = None
    group_id: str | None = None
    created_by: str
    not_before: str | None = None
    created_at: str
    started_at: str | None = Field(None, description="the first claim")
    last_progress_at: str | None = None
    completed_at: str | None = None
    ready_at: str | None = Field(None, description="when the workspace got its marker")
    updated_at: str
    duration_seconds: float | None = Field(None, description="from started_at to completed_at, or to now")
    queued_reason: str | None = Field(None, description="why a queued mission does not run yet")
    awaiting: dict[str, Any] | None = Field(None, description="the question it waits on")
    usage: dict[str, Any] = {}
    sync_state: str = Field(description="not_ready, ready, blocked or mirrored")
    actions: list[str] = Field(description="what may be done to it now")

    @property
    def terminal(self) -> bool:
        """Whether it has ended; a state that this version does not know has not."""
        return self.status in {"completed", "failed", "cancelled"}


class EventActorView(Answer):
    """Who did it, and through which face."""

    name: str
    via: str


class EventView(Answer):
    """One event; `seq` grows in the order of commits and is the cursor."""

    seq: int
    event_id: str
    type: str
    mission_id: str | None = None
    vp_id: str | None = None
    session_id: str | None = None
    source_session_id: str | None = None
    attempt: int | None = None
    actor: EventActorView
    at: str
    payload: dict[str, Any] = {}


class ArtifactView(Answer):
    """One handed-over file, ranked: what the lane declared first."""

    path: str
    category: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"


class AttemptView(Answer):
    """The record of one attempt."""

    attempt: int
    worker_id: str
    claimed_at: str
    engaged_at: str | None = Field(None, description="the lane's first sign of life")
    ended_at: str | None = None
    end_reason: str | None = None
    late_outcome: dict[str, Any] | None = Field(None, description="handed in too late: kept, never published")
    usage: dict[str, Any] = {}


class BridgeView(Answer):
    """How the asking session hears of the end."""

    attached: bool = Field(description="whether notices reach the source session by themselves")
    next_check_after_seconds: float = Field(description="when asking again makes sense; 0: it has ended")


class DispatchAnswer(Answer):
    """The mission, new or the one that the key already named."""

    mission: MissionView
    replayed: bool = False
    bridge: BridgeView | None = None


class WaitAnswer(Answer):
    """The mission as it is now; a time-out is no error."""

    mission: MissionView
    timed_out: bool
    bridge: BridgeView | None = None


class CancelAnswer(Answer):
    """What the cancel did: `cancelled` (it was queued) or `cancel_requested`."""

    mission: MissionView
    status: str


class MissionAnswer(Answer):
    """The mission as it is after the call."""

    mission: MissionView


class MissionPage(Answer):
    """Missions, newest first."""

    missions: list[MissionView]
    next_cursor: str | None = None


class MissionDetail(Answer):
    """A mission with its newest events (growing `seq`, at most 50) and first artifacts (at most 50)."""

    mission: MissionView
    terminal: bool
    events: list[EventView]
    events_total: int
    artifacts: list[ArtifactView]
    artifacts_total: int
    artifacts_fault: str | None = Field(None, description="why they cannot be listed: the workspace was changed")


class ArtifactPage(Answer):
    """Artifacts in order of rank."""

    artifacts: list[ArtifactView]
    artifacts_total: int
    next_cursor: str | None = None


class EventPage(Answer):
    """Events in growing `seq`; ask again with `after=next_after`."""

    events: list[EventView]
    next_after: int


class AttemptsAnswer(Answer):
    """Every attempt of a mission, oldest first."""

    attempts: list[AttemptView]


class SessionView(Answer):
    """A worker's session."""

    session_id: str
    vp_id: str
    worker_id: str
    pid: int
    host: str
    build: str
    opened_at: str
    last_heartbeat_at: str | None = None
    lease_expires_at: str | None = None
    closed_at: str | None = None
    effective_status: str = Field(description="live, stale or closed: worked out from the lease, never stored")


class SessionsAnswer(Answer):
    """Worker sessions, newest first."""

    sessions: list[SessionView]


class DepthView(Answer):
    """How many missions a lane has."""

    queued: int
    running: int


class LanePluginView(Answer):
    """The distribution that provides a lane."""

    distribution: str
    version: str


class MissionTypeView(Answer):
    """A type of mission that a lane takes."""

    description: str
    schema_: dict[str, Any] = Field(alias="schema", description="JSON Schema of the whole of `constraints`")
    available: bool
    remedy: str | None = None


class LaneView(Answer):
    """A lane; one whose plugin is degraded has no mission types and says what to do."""

    vp_id: str
    display_name: str
    aliases: list[str] = []
    available: bool
    reason: str | None = None
    remedy: str | None = None
    paused: bool = False
    draining: bool = False
    capacity: int
    depth: DepthView
    sandbox: str | None = None
    plugin: LanePluginView
    mission_types: dict[str, MissionTypeView] = {}


class PluginView(Answer):
    """What the probe found out about an installed plugin."""

    entry_point: str
    distribution: str
    version: str
    state: str = Field(description="ok or degraded")
    detail: str
    remedy: str | None = None
    vp_ids: list[str] = []
    probed_at: str


class TokenView(Answer):
    """A token without its secret, which nobody can read again. No `lanes` or `sources` means all of them."""

    token_id: str
    name: str
    state: str
    """`active`, `expired` or `revoked`."""
    scopes: list[str]
    lanes: list[str]
    sources: list[str]
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    """To the minute."""
    revoked_at: str | None


class TokenAnswer(Answer):
    """The token as it is after the call."""

    token: TokenView


class NewTokenAnswer(TokenAnswer):
    """A token just made; `secret` is told this once."""

    secret: str


class TokensAnswer(Answer):
    """Tokens, newest first."""

    tokens: list[TokenView]


class LaneAnswer(Answer):
    """The lane as it is after the call."""

    lane: LaneView


class LanesAnswer(Answer):
    """Every lane by `vp_id`, and every installed plugin."""

    lanes: list[LaneView]
    plugins: list[PluginView] = []


class DurationsView(Answer):
    """How long missions took, in seconds."""

    count: int
    avg: float | None = None
    p50: float | None = None
    p95: float | None = None
    max: float | None = None


class MetricsView(Answer):
    """Figures of one lane, or of all (`vp_id` null)."""

    vp_id: str | None = None
    counts: dict[str, int]
    events: dict[str, int]
    durations: DurationsView
    oldest_queued_seconds: float | None = None
    live_workers: int


class VersionView(Answer):
    """Which code serves which ledger."""

    version: str
    build: str
    ledger_id: str
    ledger_epoch: int
    schema_revision: str
    lane_api_version: int


class LivezAnswer(Answer):
    """The process answers."""

    status: str


class ReadyzAnswer(Answer):
    """Whether missions can be taken; if not, why."""

    ready: bool
    reasons: list[str] = []


class ProblemError(Answer):
    """One fault in a request."""

    pointer: str = Field(description="where, as a JSON pointer such as `#/objective`")
    detail: str


class Problem(Answer):
    """An error (RFC 9457, `application/problem+json`)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="stable; contract, section 5")
    detail: str
    retryable: bool = False
    request_id: str = ""
    errors: list[ProblemError] = []
    mission_id: str | None = Field(None, description="the mission that the error is about, where there is one")
