"""The first missions of a fresh install: real work on each lane, waited for, checked against the receipts, told."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ua_vp.cli import exits, text, words
from ua_vp.cli.console import Console
from ua_vp.cli.exits import Exit
from ua_vp.client import Client
from ua_vp.errors import ConfigurationError, LaneUnavailableError, VpError
from ua_vp.mission import Json
from ua_vp.ports import Command, Processes
from ua_vp.wire import DispatchRequest, LaneView, MissionView

PATIENCE = 180.0
"""Seconds for a first mission to end; more than any has ever needed."""
SAMPLE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One first mission: for which lane, and what it is about."""

    vp_id: str
    mission_type: str
    objective: str
    inputs: Callable[[], Mapping[str, Json]]
    """Makes its constraints; called when the lane is there."""


def plans(folder: Path, environ: Mapping[str, str], processes: Processes) -> Sequence[Plan]:
    """General reads the documentation in `folder`; CODIE mends a small repository that is made for it."""
    return (
        Plan(
            vp_id="vp.general.primary",
            mission_type="check-docs",
            objective=f"Check the documentation in {folder}: links, anchors, code blocks, orphaned pages",
            inputs=lambda: {"inputs": {"root": str(folder)}},
        ),
        Plan(
            vp_id="vp.coder.primary",
            mission_type="mend",
            objective="Mend the sample repository: lint, formatting, and its tests run before and after",
            inputs=lambda: {"repository": str(make_sample(environ, processes))},
        ),
    )


def make_sample(environ: Mapping[str, str], processes: Processes) -> Path:
    """A new small repository with faults in it, outside checkout and home.

    Raises:
        ConfigurationError: it could not be made; the text says why.
    """
    data = Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    target = data.absolute() / "ua-vp" / "first-mission" / f"tally-{uuid.uuid4().hex[:8]}"
    argv = [sys.executable, "-P", "-m", "ua_vp_codie.sample", os.fspath(target)]
    child = processes.launch(Command(argv=argv, cwd=Path("/"), env=dict(environ)))
    output = b""
    while (chunk := child.read(SAMPLE_SECONDS)) is not None and chunk[1]:
        output += chunk[1]
    child.kill()
    ended = child.wait()
    if ended is None or ended.code != 0 or not target.is_dir():
        said = output.decode("utf-8", errors="replace").strip()
        raise ConfigurationError(f"the sample repository for CODIE's first mission could not be made: {said}")
    return target


def run(client: Client, lanes: Sequence[LaneView], chosen: Sequence[Plan], console: Console, *, as_json: bool) -> Exit:
    """Dispatch them all, wait for each, verify it, tell it; gives the worst exit code."""
    started: list[tuple[LaneView, str]] = []
    codes: list[Exit] = []
    for plan in chosen:
        try:
            lane = _lane(plan, lanes)
            mission = client.dispatch(_request(plan)).mission
            console.say(f"{lane.display_name}: {plan.objective} ({mission.mission_id})")
            started.append((lane, mission.mission_id))
        except VpError as error:
            console.say(f"{plan.vp_id}: no first mission: {error.detail}")
            codes.append(exits.of_error(error))
    codes += [_follow(client, lane, mission_id, console, as_json=as_json) for lane, mission_id in started]
    return next((code for code in codes if code), Exit.DONE)


def _lane(plan: Plan, lanes: Sequence[LaneView]) -> LaneView:
    for lane in lanes:
        if lane.vp_id == plan.vp_id:
            kind = lane.mission_types.get(plan.mission_type)
            if lane.available and kind is not None and kind.available:
                return lane
            remedy = (kind.remedy if kind else None) or lane.remedy or "`ua-vp doctor` says why"
            raise LaneUnavailableError(f"type {plan.mission_type} is unavailable: {remedy}")
    raise LaneUnavailableError("the lane is not installed, or its worker is not there; `ua-vp doctor` says what is")


def _request(plan: Plan) -> DispatchRequest:
    return DispatchRequest(
        vp_id=plan.vp_id,
        mission_type=plan.mission_type,
        objective=plan.objective,
        constraints=dict(plan.inputs()),
        idempotency_key=f"first-mission:{uuid.uuid4().hex}",
        reply_mode="none",
    )


def _follow(client: Client, lane: LaneView, mission_id: str, console: Console, *, as_json: bool) -> Exit:
    """Wait for one mission, saying each change; then check and tell it."""
    told, mission = "", None
    try:
        for answer in client.watch(mission_id, timeout=PATIENCE, hold=1):
            mission = answer.mission
            state = words.state(mission)
            if state != told and not mission.terminal:
                console.say(f"{lane.display_name}: {state}")
            told = state
        assert mission is not None, "a watch gives at least one answer"
        return _tell(client, lane, mission, console, as_json=as_json)
    except VpError as error:
        console.say(f"{lane.display_name}: {mission_id}: {error.detail}")
        return exits.of_error(error)


def _tell(client: Client, lane: LaneView, mission: MissionView, console: Console, *, as_json: bool) -> Exit:
    differences = client.verify(mission.mission_id) if mission.terminal else []
    if as_json:
        found = [{"path": one.path, "detail": one.detail} for one in differences]
        console.json({"mission": mission.model_dump(mode="json"), "verified": not found, "differences": found})
    else:
        lines = _report(client, lane, mission, [f"{one.path}: {one.detail}" for one in differences])
        for line in lines:
            console.data(text.line(line) if line.strip() == line else "  " + text.line(line))
    code = exits.of_missions([mission.status])
    return code or (Exit.DIFFERENCE if differences else Exit.DONE)


def _report(client: Client, lane: LaneView, mission: MissionView, differences: Sequence[str]) -> Iterator[str]:
    took = words.seconds(mission.duration_seconds)
    yield f"{lane.display_name}, {mission.mission_type}: {words.state(mission)} after {took}: {mission.summary or ''}"
    folder = (mission.result_ref or "").removeprefix("workspace://")
    artifacts = list(client.each_artifact(mission.mission_id)) if mission.terminal else []
    for artifact in artifacts:
        if artifact.category == "primary":
            yield f"  {folder}/{artifact.path} ({words.size(artifact.bytes)})"
    if not mission.terminal:
        yield f"  it had not ended after {PATIENCE:g} s: ua-vp show {mission.mission_id}"
    for difference in differences:
        yield f"  NOT as the receipt says: {difference}"
    if mission.terminal and not differences:
        yield f"  receipt checked: the hashes of all {len(artifacts)} files are as it says, and the ledger has its hash"
    if mission.status == "failed":
        yield f"  why: {mission.failure_detail or mission.failure_mode}; ua-vp logs {mission.mission_id}"
