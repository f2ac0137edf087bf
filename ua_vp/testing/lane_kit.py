"""The kit for authors of lanes: run one mission with real folders and real processes, without worker or ledger.

from ua_vp.testing import run_mission

def test_it_greets(tmp_path):
    run = run_mission(MyLane(), "greet the reviewers", tmp_path=tmp_path)
    assert run.outcome.status == "completed"
    assert run.files["work_products/greeting.txt"] == b"hello\\n"
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import jsonschema

from ua_vp.errors import (
    CredentialError,
    FieldFault,
    GuardrailViolationError,
    LaneUnavailableError,
    MissionStoppedError,
    ValidationError,
)
from ua_vp.lane import TASK, Lane, MissionType, Outcome, Secret
from ua_vp.mission import Claim, FailureMode, Json, JsonObject, Mission, ReplyMode, Status, canonical_json
from ua_vp.ports import Ports
from ua_vp.runtime import real_ports
from ua_vp.sandbox.spec import NO_WALLS
from ua_vp.worker.context import Context
from ua_vp.worker.running import Running, Stop
from ua_vp.workspace import AttemptFolders, InputSource, RunLog, Workspace, discover, missing, prepare

INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE")
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneRun:
    """What a mission left: the lane's outcome, and what would be handed over."""

    outcome: Outcome
    files: Mapping[str, bytes]
    """Every file that would be handed over, by its path in the workspace, best first."""
    log: str
    """`run.log`."""
    progress: Sequence[str]
    """The summaries that the lane reported."""
    usage: Mapping[str, int]
    scratch: Path
    """The private folder; a worker would remove it now."""


class LaneContext(Context):
    """The worker's own `MissionContext`, with what a test grants the lane and hears of it."""

    def __init__(
        self,
        running: Running,
        folders: AttemptFolders,
        run_log: RunLog,
        *,
        ports: Ports,
        credentials: Mapping[str, str],
        cancel_on: bytes | None,
    ) -> None:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        super().__init__(
            running,
            folders,
            run_log,
            ports=ports,
            walls=NO_WALLS,
            environment=environment,
            report=lambda _progress: None,
        )
        self._held = running
        self._credentials = credentials
        self._cancel_on = cancel_on
        self._heard = b""
        self.reported: list[str] = []
        """The summaries that the lane reported."""

    def progress(self, summary: str, **data: Json) -> None:
        """Keep the summary for the test, too."""
        super().progress(summary, **data)
        self.reported.append(summary)

    def credential(self, name: str) -> Secret:
        """One of the test's `credentials`.

        Raises:
            CredentialError: the test grants none of this name.
        """
        if name not in self._credentials:
            raise CredentialError(f"credential {name!r} is not granted; give run_mission(credentials=...)")
        return Secret(name=name, value=self._credentials[name])

    def _write(self, stream: Literal["stdout", "stderr", "lane"], data: bytes) -> None:
        super()._write(stream, data)
        if self._cancel_on is None or stream == "lane":
            return
        self._heard += data
        if self._cancel_on in self._heard:
            self._held.ask_to_stop(Stop.CANCELLED)
        self._heard = self._heard[-len(self._cancel_on) :]


def run_mission(
    lane: Lane,
    objective: str = "do what the mission says",
    *,
    tmp_path: Path,
    mission_type: str = TASK,
    constraints: Mapping[str, Any] = NOTHING,
    inputs: Mapping[str, bytes] = NOTHING,
    credentials: Mapping[str, str] = NOTHING,
    cancel_on: bytes | None = None,
) -> LaneRun:
    """Dispatch a mission to `lane` as the product would, and run it on this thread with real processes.

    `inputs` are laid into the attempt by their paths. With `cancel_on` the mission is cancelled as soon as one of its
    processes writes that. What the lane raises by mistake is raised.

    Raises:
        LaneUnavailableError, ValidationError, GuardrailViolationError: dispatch would refuse the mission.
    """
    constraints = json.loads(canonical_json(dict(constraints)))  # as it comes off the wire
    kind = _dispatchable(lane, mission_type, constraints)
    ports = real_ports(os.environ)
    running = _running(_mission(lane, objective, mission_type, constraints, ports), kind, ports)
    mission = running.claim.mission
    workspace = Workspace(tmp_path.resolve() / "workspaces" / mission.mission_id)
    folders = prepare(workspace, 1, files=ports.files, inputs=_sources(inputs, tmp_path))
    run_log = RunLog(folders.run_log, clock=ports.clock, lock=ports.threads.lock())
    context = LaneContext(running, folders, run_log, ports=ports, credentials=credentials, cancel_on=cancel_on)
    outcome = _outcome(lane, context)
    run_log.close(f"{outcome.status}: {outcome.summary}")
    return _what_came(outcome, kind, folders, running, context.reported)


def _what_came(
    outcome: Outcome, kind: MissionType, folders: AttemptFolders, running: Running, reported: Sequence[str]
) -> LaneRun:
    """What the attempt left, as the worker would find it."""
    workspace = Workspace(folders.root.parent.parent)
    found = discover(workspace, 1, declared=outcome.primary)
    return LaneRun(
        outcome=_owing(outcome, missing(found.artifacts, kind.owes)),
        files={artifact.path: (folders.staging / artifact.path).read_bytes() for artifact in found.artifacts},
        log=folders.run_log.read_text(encoding="utf-8", errors="replace"),
        progress=reported,
        usage={name: count for name, count in running.usage.items() if name != "output_bytes"},
        scratch=folders.scratch,
    )


def _running(mission: Mission, kind: MissionType, ports: Ports) -> Running:
    claim = Claim(mission=mission, attempt=1, session_id="lane-kit", worker_id="lane-kit", deadline=0)
    return Running(claim, kind.default_budget, clock=ports.clock, threads=ports.threads, wake=lambda: None)


def _dispatchable(lane: Lane, mission_type: str, constraints: JsonObject) -> MissionType:
    """The mission's type, if dispatch would take it."""
    availability, kind = lane.availability(), lane.info.mission_types.get(mission_type)
    if kind is None:
        known = ", ".join(lane.info.mission_types)
        raise ValidationError(f"{lane.info.vp_id} has no mission type {mission_type!r}; it has {known}")
    remedy = availability.types.get(mission_type)
    if not availability.available or remedy:
        raise LaneUnavailableError(remedy or availability.remedy or availability.reason or "the lane is unavailable")
    errors = [
        FieldFault(pointer="#/" + "/".join(map(str, ["constraints", *error.absolute_path])), detail=error.message)
        for error in jsonschema.Draft202012Validator(dict(kind.schema)).iter_errors(constraints)
    ]
    if errors:
        raise ValidationError("; ".join(f"{fault.pointer}: {fault.detail}" for fault in errors), faults=errors)
    lane.info.path_policy.check(constraints)
    return kind


def _outcome(lane: Lane, context: LaneContext) -> Outcome:
    try:
        return lane.run(context)
    except MissionStoppedError as error:
        return Outcome(status=Status.CANCELLED, summary=error.detail)
    except GuardrailViolationError as error:
        return Outcome.failed(error.detail, failure_mode=FailureMode.GUARDRAIL_VIOLATION)
    except CredentialError as error:
        return Outcome.failed(error.detail, failure_mode=FailureMode.CREDENTIAL_ERROR)


def _owing(outcome: Outcome, owed: Sequence[str]) -> Outcome:
    """Success that owes something is none."""
    if outcome.status is not Status.COMPLETED or not owed:
        return outcome
    text = f"the lane reported success but left nothing for {', '.join(owed)}"
    return Outcome.failed(text, failure_mode=FailureMode.MISSING_WORK_PRODUCT, detail=outcome.summary)


def _sources(inputs: Mapping[str, bytes], tmp_path: Path) -> list[InputSource]:
    folder = tmp_path / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    sources = []
    for number, (path, data) in enumerate(inputs.items()):
        source = folder / str(number)
        source.write_bytes(data)
        sources.append(InputSource(path=path, source=source))
    return sources


def _mission(lane: Lane, objective: str, mission_type: str, constraints: JsonObject, ports: Ports) -> Mission:
    now = ports.clock.now()
    return Mission(
        mission_id=f"vp-mission-{ports.ids.uuid7()}",
        vp_id=lane.info.vp_id,
        status=Status.RUNNING,
        mission_type=mission_type,
        objective=objective,
        constraints=constraints,
        budget=lane.info.mission_types[mission_type].default_budget,
        inputs=(),
        priority=100,
        attempt=1,
        tries=0,
        max_tries=3,
        cancel_requested=False,
        cancel_reason=None,
        cancelled_by=None,
        result_ref=None,
        summary=None,
        failure_mode=None,
        failure_detail=None,
        source_session_id=None,
        source_turn_id=None,
        turn_id=None,
        reply_mode=ReplyMode.NONE,
        retry_of=None,
        continues=None,
        group_id=None,
        created_by="lane kit",
        not_before=None,
        due_at=now,
        requeue_reason=None,
        created_at=now,
        started_at=now,
        last_progress_at=None,
        completed_at=None,
        updated_at=now,
    )
