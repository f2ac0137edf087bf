"""`ua-vp retry`, `requeue`, `fail`: what operators do with a mission."""

from __future__ import annotations

import uuid
from typing import Annotated

from cyclopts import Parameter

from ua_vp.cli import missions, text, words
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.dispatch import Priority, checked, constraints_of
from ua_vp.cli.exits import Exit
from ua_vp.wire import MissionView, ReasonRequest, RetryChanges

MissionId = Annotated[str, Parameter(name="ID")]


def retry(
    mission_id: MissionId,
    /,
    *,
    objective: str | None = None,
    mission_type: Annotated[str | None, Parameter(name="--type")] = None,
    constraints: str | None = None,
    priority: Priority = None,
    key: str | None = None,
    wait: Annotated[bool, Parameter(negative=())] = False,
    timeout: missions.Seconds = None,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """Do an ended mission again, as a new one, and print its id. What no option changes is as it was.

    Args:
        objective: What is to be done.
        mission_type: A type that the lane takes.
        constraints: What the type asks for: a JSON object, or `@FILE` that holds one; takes the place of the old one.
        priority: Lower runs sooner.
        key: Idempotency key: the same key and the same request is the same mission.
        wait: Wait for the end, and exit as `ua-vp wait` does.
        timeout: Wait, but for at most so many seconds; then the exit code is 124.
    """
    fields = {"objective": objective, "mission_type": mission_type, "priority": priority}
    changes = checked(RetryChanges, fields | {"constraints": constraints_of(constraints)})
    own_key = key or f"cli:{uuid.uuid4().hex}"  # so that a lost answer can be asked for again
    with console.client() as client:
        again = client.retry(mission_id, changes, key=own_key)
        console.say(f"{again.mission_id} {words.state(again)}, again after {mission_id}")
        if wait or timeout is not None:
            return missions.wait_for(client, (again.mission_id,), timeout=timeout, as_json=as_json, console=console)
    console.say(f"next: ua-vp wait {again.mission_id}, or show, logs -f, cancel")
    return _done(again, as_json=as_json, console=console, line=again.mission_id)


def requeue(mission_id: MissionId, /, *, reason: str, as_json: AsJson = False, console: Here) -> int:
    """Take a running mission from its worker and queue it again. It does not count as a try.

    Args:
        reason: Kept with the mission's events.
    """
    why = checked(ReasonRequest, {"reason": reason}).reason
    with console.client() as client:
        mission = client.requeue(mission_id, reason=why)
    return _done(mission, as_json=as_json, console=console)


def fail(mission_id: MissionId, /, *, reason: str, as_json: AsJson = False, console: Here) -> int:
    """End a running mission as failed, with failure mode `operator`; its worker stops it.

    Args:
        reason: Kept with the mission as its failure's detail.
    """
    why = checked(ReasonRequest, {"reason": reason}).reason
    with console.client() as client:
        mission = client.fail(mission_id, reason=why)
    return _done(mission, as_json=as_json, console=console)


def _done(mission: MissionView, *, as_json: bool, console: Console, line: str | None = None) -> int:
    if as_json:
        console.json({"mission": mission.model_dump(mode="json")})
    else:
        console.data(text.line(line or f"{mission.mission_id}  {words.state(mission)}"))
    return Exit.DONE
