"""`ua-vp show`: one screen that answers why a mission is not moving, or what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from ua_vp.cli import tables, text, words
from ua_vp.cli.console import AsJson, Here
from ua_vp.cli.exits import Exit
from ua_vp.client import Client
from ua_vp.errors import ForbiddenError, NotFoundError
from ua_vp.wire import MissionDetail, MissionView

LOG_LINES, ARTIFACTS = 5, 12
TAIL = 8192
"""Bytes of the log to find the last lines in."""
OBJECTIVE = 600
"""Characters of the objective that fit on the screen."""


def show(mission_id: Annotated[str, Parameter(name="ID")], /, *, as_json: AsJson = False, console: Here) -> int:
    """Show a mission: state and reason, attempt, lease, last progress, last log lines, artifacts, what to do next."""
    with console.client() as client:
        detail = client.mission(mission_id)
        if as_json:
            console.json(detail)
            return Exit.DONE
        log = last_lines(client, detail.mission)
    for line in screen(detail, log, now=console.clock.now()):
        console.data(line)
    return Exit.DONE


def last_lines(client: Client, mission: MissionView) -> list[str]:
    """The last lines of the current attempt's log; none if there is no log, or it is not ours to read."""
    try:
        tail = client.log_tail(mission.mission_id, TAIL)
    except (NotFoundError, ForbiddenError):
        return []
    return tail.decode("utf-8", errors="replace").splitlines()[-LOG_LINES:]


def screen(detail: MissionDetail, log: list[str], *, now: int) -> Iterator[str]:
    """The lines of the screen, harmless for a terminal."""
    mission = detail.mission
    yield text.line(f"{mission.mission_id}  {words.state(mission)}")
    for name, value in facts(detail, now):
        if value:
            yield f"  {name:<11}{text.line(value)}"
    if log:
        yield f"  log        last lines of attempt {mission.attempt}:"
        for line in log:
            yield f"    {text.line(line, 200)}"
    if detail.artifacts:
        yield f"  artifacts  {detail.artifacts_total}, best first:"
        yield from _artifacts(detail)
    yield "  next"
    for command in next_commands(mission):
        yield f"    {text.line(command)}"


def facts(detail: MissionDetail, now: int) -> Iterator[tuple[str, str | None]]:
    """Name and value of each line that has something to say."""
    mission = detail.mission
    yield "objective", text.line(mission.objective, OBJECTIVE)
    yield "lane", f"{mission.vp_id}, type {mission.mission_type}, priority {mission.priority}"
    yield "dispatched", f"{words.ago(mission.created_at, now)} by {mission.created_by}"
    yield "took", words.seconds(mission.duration_seconds) if mission.started_at else None
    yield (
        "attempt",
        f"{mission.attempt}; {mission.tries} of {mission.max_tries} tries lost" if mission.attempt else None,
    )
    if mission.status == "running":
        lease = f", lease ends {words.ago(mission.lease_expires_at, now)}" if mission.lease_expires_at else ""
        yield "worker", f"{mission.worker_id or 'unknown'}{lease}"
    yield "progress", _progress(detail, now)
    yield "cancel", f"requested by {mission.cancelled_by or 'somebody'}" if mission.cancel_requested else None
    yield "summary", mission.summary
    yield "failure", mission.failure_detail
    yield "result", mission.result_ref
    yield "sync", mission.sync_state if mission.terminal else None


def _progress(detail: MissionDetail, now: int) -> str | None:
    """When something last happened in a running mission, and what it said."""
    mission = detail.mission
    if mission.status != "running":
        return None
    said = [event.payload.get("summary") for event in detail.events if event.type == "vp.mission.progress"]
    last = f": {said[-1]}" if said and said[-1] else ""
    return f"{words.ago(mission.last_progress_at, now)}{last}" if mission.last_progress_at else "none yet"


def _artifacts(detail: MissionDetail) -> Iterator[str]:
    rows = [(one.path, one.category, words.size(one.bytes), one.sha256[:12]) for one in detail.artifacts[:ARTIFACTS]]
    for line in tables.columns(("path", "category", "size", "sha256"), rows):
        yield f"    {line}"
    if detail.artifacts_total > ARTIFACTS:
        yield f"    … and {detail.artifacts_total - ARTIFACTS} more"


def next_commands(mission: MissionView) -> Iterator[str]:
    """Commands that make sense now."""
    own = mission.mission_id
    if mission.terminal:
        yield f"ua-vp artifacts pull {own}"
        yield f"ua-vp artifacts verify {own}"
        yield f"ua-vp logs {own}"
        if "retry" in mission.actions and mission.status != "completed":
            yield f"ua-vp retry {own}"
        return
    if mission.status == "running":
        yield f"ua-vp logs {own} -f"
    else:
        yield "ua-vp workers"
        yield "ua-vp lanes ls"
    yield f"ua-vp wait {own}"
    if "cancel" in mission.actions:
        yield f"ua-vp cancel {own}"
    if "requeue" in mission.actions:
        yield f"ua-vp requeue {own} --reason WHY"
    if "fail" in mission.actions:
        yield f"ua-vp fail {own} --reason WHY"
