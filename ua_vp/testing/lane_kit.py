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
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema

from ua_vp.errors import (
    CredentialError,
    FieldFault,
    GuardrailViolationError,
    LaneUnavailableError,
    MissionStoppedError,
    ValidationError,
)
from ua_vp.lane import TASK, Finished, Lane, MissionType, Outcome, Secret
from ua_vp.mission import FailureMode, Json, JsonObject, Mission, ReplyMode, Status, canonical_json
from ua_vp.ports import Child, Command, Ports, Signal
from ua_vp.runtime import real_ports
from ua_vp.workspace import AttemptFolders, InputSource, RunLog, Workspace, discover, fresh_folder, missing, prepare

INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE")
TAIL = 64 * 1024
CAPTURED = 64 * 1024 * 1024
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


@dataclass(kw_only=True, slots=True)
class LaneContext:
    """A `MissionContext` with real processes: what `run_mission` hands to the lane."""

    mission: Mission
    folders: AttemptFolders
    run_log: RunLog
    ports: Ports
    cancelled: Signal
    cancel_on: bytes | None = None
    """The mission is cancelled as soon as a process writes this."""
    credentials: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None
    reported: list[str] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)

    @property
    def work_products(self) -> Path:
        """Folder for deliverables."""
        return self.folders.work_products

    @property
    def supporting(self) -> Path:
        """Folder for diagnostics and notes."""
        return self.folders.supporting

    @property
    def scratch(self) -> Path:
        """Private folder."""
        return self.folders.scratch

    @property
    def inputs(self) -> Path:
        """Folder with the mission's input files."""
        return self.folders.inputs

    def log(self, text: str) -> None:
        """Write lines to `run.log`."""
        self.run_log.write("lane", text.encode("utf-8", "replace") + b"\n")

    def progress(self, summary: str, **data: Json) -> None:
        """Keep the summary for the test, and log it with its data."""
        self.reported.append(summary)
        self.log(f"progress: {summary}{f' {data}' if data else ''}")

    def usage(self, **counts: int) -> None:
        """Keep the totals for the test."""
        self.counted.update(counts)

    def credential(self, name: str) -> Secret:
        """One of the test's `credentials`.

        Raises:
            CredentialError: the test grants none of this name.
        """
        if name not in self.credentials:
            raise CredentialError(f"credential {name!r} is not granted; give run_mission(credentials=...)")
        return Secret(name=name, value=self.credentials[name])

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        capture: bool = False,
        timeout: float | None = None,
    ) -> Finished:
        """Run a program and wait for its whole process tree (see `MissionContext.run`)."""
        if self.cancelled.is_set():
            raise MissionStoppedError(f"the mission is cancelled; {command[0]} was not started")
        whole = Command(
            argv=tuple(command),
            cwd=cwd or fresh_folder(self.folders),
            env={**self._variables(), **(env or {})},
            stdin=stdin,
        )
        child = self.ports.processes.launch(whole)
        finished, timed_out = self._follow(child, capture=capture, timeout=timeout)
        if self.cancelled.is_set():
            raise MissionStoppedError(f"{command[0]} was stopped with its mission")
        if timed_out:
            raise TimeoutError(f"{command[0]} ran longer than {timeout:g} s and was stopped")
        return finished

    def _follow(self, child: Child, *, capture: bool, timeout: float | None) -> tuple[Finished, bool]:
        """Log the output until it ends and every process is gone."""
        clock, captured, tail, timed_out = self.ports.clock, bytearray(), bytearray(), False
        end = None if timeout is None else clock.monotonic() + round(timeout * 1_000_000)
        while True:
            chunk = child.read(None if end is None or timed_out else max(0.0, (end - clock.monotonic()) / 1_000_000))
            if chunk is None:
                timed_out = True
                child.kill()
                continue
            stream, data = chunk
            if not data:
                break
            self.run_log.write("stdout" if stream == "stdout" else "stderr", data)
            tail += data
            if capture and stream == "stdout":
                captured += data[: CAPTURED - len(captured)]
            if self.cancel_on is not None and self.cancel_on in tail and not self.cancelled.is_set():
                self.cancelled.set()
                child.terminate()
            del tail[:-TAIL]
        ended = child.wait()
        assert ended is not None  # without a limit it waits for the end
        return Finished(code=ended.code, stdout=bytes(captured), tail=bytes(tail)), timed_out

    def _variables(self) -> dict[str, str]:
        """Write objective and constraints where programs find them; the environment of the mission's processes."""
        objective, constraints = self.scratch / "objective.txt", self.scratch / "constraints.json"
        objective.write_text(self.mission.objective, encoding="utf-8")
        constraints.write_bytes(canonical_json(self.mission.constraints))
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return inherited | {
            "HOME": str(self.folders.home),
            "TMPDIR": str(self.folders.tmp),
            "UA_VP_MISSION_ID": self.mission.mission_id,
            "UA_VP_WORK_PRODUCTS": str(self.work_products),
            "UA_VP_SUPPORTING": str(self.supporting),
            "UA_VP_INPUTS": str(self.inputs),
            "UA_VP_OBJECTIVE_FILE": str(objective),
            "UA_VP_CONSTRAINTS_FILE": str(constraints),
        }


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
    mission = _mission(lane, objective, mission_type, constraints, ports)
    workspace = Workspace(tmp_path.resolve() / "workspaces" / mission.mission_id)
    folders = prepare(workspace, 1, files=ports.files, inputs=_sources(inputs, tmp_path))
    run_log = RunLog(folders.run_log, clock=ports.clock, lock=ports.threads.lock())
    context = LaneContext(
        mission=mission,
        folders=folders,
        run_log=run_log,
        ports=ports,
        cancelled=ports.threads.signal(),
        cancel_on=cancel_on,
        credentials=credentials,
        deadline=kind.default_budget.seconds,
    )
    outcome = _outcome(lane, context)
    run_log.close(f"{outcome.status}: {outcome.summary}")
    return _what_came(outcome, kind, workspace, context)


def _what_came(outcome: Outcome, kind: MissionType, workspace: Workspace, context: LaneContext) -> LaneRun:
    """What the attempt left, as the worker would find it."""
    folders = context.folders
    found = discover(workspace, 1, declared=outcome.primary)
    return LaneRun(
        outcome=_owing(outcome, missing(found.artifacts, kind.owes)),
        files={artifact.path: (folders.staging / artifact.path).read_bytes() for artifact in found.artifacts},
        log=folders.run_log.read_text(encoding="utf-8", errors="replace"),
        progress=context.reported,
        usage=context.counted,
        scratch=folders.scratch,
    )


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
