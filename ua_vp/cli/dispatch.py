"""`ua-vp dispatch`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
from cyclopts import Parameter, validators

from ua_vp.cli import lanes, missions, words
from ua_vp.cli.app import STANDARD_INPUT
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.exits import Exit
from ua_vp.client import Client
from ua_vp.errors import FieldFault, NotFoundError, ValidationError
from ua_vp.mission import PRIORITY_BOUND
from ua_vp.wire import DispatchAnswer, DispatchRequest, InputRequest, LaneView, NotPlainError, parse_plain

M = TypeVar("M", bound=pydantic.BaseModel)

Priority = Annotated[int | None, Parameter(validator=validators.Number(gte=-PRIORITY_BOUND, lte=PRIORITY_BOUND))]


def dispatch(
    lane: str,
    objective: str | None = None,
    /,
    *,
    mission_type: Annotated[str | None, Parameter(name="--type")] = None,
    constraints: str | None = None,
    inputs: Annotated[tuple[str, ...], Parameter(name="--input", negative=())] = (),
    key: str | None = None,
    priority: Priority = None,
    wait: Annotated[bool, Parameter(negative=())] = False,
    timeout: missions.Seconds = None,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """Hand a mission to a lane and print its id.

    Args:
        lane: The lane's id, name or alias.
        objective: What is to be done; `-` reads it from standard input. With `--type` it may be left out.
        mission_type: A type that the lane takes (`ua-vp lanes ls`); default: `task`.
        constraints: What the type asks for: a JSON object, or `@FILE` that holds one.
        inputs: A file for the mission, as NAME=FILE; may be given more than once.
        key: Idempotency key: the same key and the same request is the same mission.
        priority: Lower runs sooner; default 100.
        wait: Wait for the end, and exit as `ua-vp wait` does.
        timeout: Wait, but for at most so many seconds; then the exit code is 124.
    """
    # A key of our own, so that a lost answer can be asked for again.
    fields: dict[str, Any] = {"idempotency_key": key or f"cli:{uuid.uuid4().hex}", "priority": priority}
    fields |= {"mission_type": mission_type, "constraints": constraints_of(constraints)}
    with console.client() as client:
        to = lanes.resolve(client, lane)
        fields |= {"vp_id": to.vp_id, "objective": _objective(objective, to, mission_type, console)}
        answer = client.dispatch(checked(DispatchRequest, fields | {"inputs": _upload(client, inputs) or None}))
        if wait or timeout is not None:
            _say_taken(answer, console)
            ids, also = (answer.mission.mission_id,), {"replayed": answer.replayed}
            return missions.wait_for(client, ids, timeout=timeout, as_json=as_json, console=console, also=also)
    return _taken(answer, as_json=as_json, console=console)


def _taken(answer: DispatchAnswer, *, as_json: bool, console: Console) -> int:
    mission_id = answer.mission.mission_id
    _say_taken(answer, console)
    if as_json:
        console.json(answer)
        return Exit.DONE
    console.data(mission_id)
    console.say(f"next: ua-vp wait {mission_id}, or show, logs -f, cancel")
    return Exit.DONE


def _say_taken(answer: DispatchAnswer, console: Console) -> None:
    replayed = " (this key had dispatched it before)" if answer.replayed else ""
    console.say(f"{answer.mission.mission_id} {words.state(answer.mission)}{replayed}")


def _objective(given: str | None, lane: LaneView, mission_type: str | None, console: Console) -> str:
    if given == STANDARD_INPUT:
        try:
            return console.stdin.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValidationError(f"the objective on standard input is not UTF-8 text: {error}") from error
    if given is not None:
        return given
    if mission_type is None:
        raise ValidationError("say what is to be done, or give `-` and write it to standard input")
    kind = lane.mission_types.get(mission_type)
    if kind is None:
        raise NotFoundError(
            f"{lane.vp_id} has no type {mission_type!r}; it has {', '.join(lane.mission_types) or 'none'}"
        )
    return kind.description


def constraints_of(given: str | None) -> dict[str, Any] | None:
    """What `--constraints` gives: a JSON object, or the file that holds one.

    Raises:
        ValidationError: it is none, or the file cannot be read.
    """
    if given is None:
        return None
    source = given
    if given.startswith("@"):
        try:
            source = Path(given[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValidationError(f"--constraints: {given[1:]} cannot be read: {error}") from error
    try:
        value = parse_plain(source.encode())
    except (NotPlainError, UnicodeEncodeError) as error:
        raise ValidationError(f"--constraints: {error}; to read a file, write @FILE") from error
    if not isinstance(value, dict):
        raise ValidationError(f"--constraints must be a JSON object, not {type(value).__name__}")
    return value


def _upload(client: Client, inputs: Sequence[str]) -> list[InputRequest]:
    """Upload each NAME=FILE."""
    uploaded = []
    for one in inputs:
        name, separator, file = one.partition("=")
        if not separator or not name or not file:
            raise ValidationError(f"--input {one!r}: write NAME=FILE")
        try:
            content = Path(file).read_bytes()
        except OSError as error:
            raise ValidationError(f"--input {one!r}: {error}") from error
        uploaded.append(InputRequest(input_id=client.upload(name, content).input_id, path=name))
    return uploaded


def checked(model: type[M], fields: dict[str, Any]) -> M:
    """The request with those of `fields` that are not None.

    Raises:
        ValidationError: they break its rules; the text says which.
    """
    try:
        return model.model_validate({name: value for name, value in fields.items() if value is not None})
    except pydantic.ValidationError as error:
        faults = [
            FieldFault(pointer="#/" + "/".join(map(str, fault["loc"])), detail=fault["msg"]) for fault in error.errors()
        ]
        words = "; ".join(f"{fault.pointer[2:]}: {fault.detail}" for fault in faults)
        raise ValidationError(words, faults=faults) from error
