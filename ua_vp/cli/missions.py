"""`ua-vp ls`, `wait`, `cancel`: many missions, or one step with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, validators

from ua_vp.cli import exits, lanes, tables, text, words
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.exits import Exit
from ua_vp.client import Client
from ua_vp.wire import MissionPage, MissionView, WaitAnswer

HOLD = 2
"""Seconds after which a wait looks again, so that a change of state is told soon."""

Seconds = Annotated[float | None, Parameter(validator=validators.Number(gte=0))]


def ls(
    lane: str | None = None,
    /,
    *,
    status: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    search: str | None = None,
    source: str | None = None,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=500))] = 20,
    cursor: str | None = None,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """List missions, newest first.

    Args:
        lane: Only this lane's: its id, name or alias.
        status: Only these states (queued, running, completed, failed, cancelled); may be given more than once.
        search: Only those whose objective or summary holds this text.
        source: Only those that this session asked for.
        limit: At most so many.
        cursor: Go on where the last list ended.
    """
    with console.client() as client:
        page = client.missions(
            vp_id=lanes.resolve(client, lane).vp_id if lane else None,
            statuses=status,
            source_session_id=source,
            q=search,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        console.json(page)
    else:
        _print(page, console)
    return Exit.DONE


def _print(page: MissionPage, console: Console) -> None:
    headings = ("mission", "lane", "type", "status", "dispatched", "took", "what")
    rows = [_row(mission, now=console.clock.now()) for mission in page.missions]
    for line in tables.columns(headings, rows, width=console.width()):
        console.data(line)
    if page.next_cursor:
        console.say(f"there are more: --cursor {page.next_cursor}")


def _row(mission: MissionView, *, now: int) -> tuple[str, ...]:
    age, took = words.ago(mission.created_at, now), words.seconds(mission.duration_seconds)
    return mission.mission_id, mission.vp_id, mission.mission_type, mission.status, age, took, gist(mission)


def gist(mission: MissionView) -> str:
    """What one line can say of a mission: how it ended, or why it waits, or what it is about."""
    if mission.terminal:
        return mission.summary or mission.failure_detail or mission.objective
    return words.why_queued(mission) if mission.status == "queued" else mission.objective


def wait(
    *mission_ids: Annotated[str, Parameter(name="ID")], timeout: Seconds = None, as_json: AsJson = False, console: Here
) -> int:
    """Wait until missions have ended and their work products can be read. Ctrl-C stops the waiting, not the missions.

    Args:
        timeout: Seconds to wait at most; then the exit code is 124.
    """
    if not mission_ids:
        console.say("ua-vp: wait for which mission? Give one ID or more")
        return Exit.USAGE
    with console.client() as client:
        return wait_for(client, mission_ids, timeout=timeout, as_json=as_json, console=console)


def wait_for(
    client: Client,
    mission_ids: Sequence[str],
    *,
    timeout: float | None,
    as_json: bool,
    console: Console,
    also: dict[str, Any] | None = None,
) -> Exit:
    """Wait for all of them in the order given, telling each end; gives the exit code for all of them together."""
    until = None if timeout is None else console.clock.monotonic() + timeout * 1_000_000
    statuses: list[str | None] = []
    try:
        for mission_id in mission_ids:
            left = None if until is None else max(0.0, (until - console.clock.monotonic()) / 1_000_000)
            answer = _watch(client, mission_id, timeout=left, console=console)
            statuses.append(None if answer.timed_out else answer.mission.status)
            if as_json:
                console.json({**answer.model_dump(mode="json"), **(also or {})})
            else:
                console.data(ending(answer.mission))
    except KeyboardInterrupt:
        console.say(f"detached; nothing was stopped. To come back: ua-vp wait {' '.join(mission_ids)}")
        return Exit.INTERRUPTED
    return exits.of_missions(statuses)


def _watch(client: Client, mission_id: str, *, timeout: float | None, console: Console) -> WaitAnswer:
    """Wait for one mission, telling each change of state."""
    last, told = None, ""
    for last in client.watch(mission_id, timeout=timeout, hold=HOLD):
        state = words.state(last.mission)
        if state != told and not last.mission.terminal:
            console.say(f"{mission_id} {state}")
        told = state
    assert last is not None, "a watch gives at least one answer"
    return last


def ending(mission: MissionView) -> str:
    """One line: which mission, how it stands, how long it took, what it says."""
    parts = [mission.mission_id, words.state(mission), words.seconds(mission.duration_seconds), mission.summary or ""]
    return text.line("  ".join(part for part in parts if part))


def cancel(
    mission_id: Annotated[str, Parameter(name="ID")],
    /,
    *,
    reason: str | None = None,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """Cancel a mission: at once while it is queued; a running one is stopped by its worker.

    Args:
        reason: Shown as its `cancel_reason`.
    """
    with console.client() as client:
        answer = client.cancel(mission_id, reason=reason)
    if as_json:
        console.json(answer)
        return Exit.DONE
    console.data(f"{text.line(answer.mission.mission_id)}  {text.line(answer.status)}")
    if answer.status == "cancel_requested":
        console.say(
            f"its processes are being stopped; `ua-vp wait {answer.mission.mission_id}` says when they are gone"
        )
    return Exit.DONE
