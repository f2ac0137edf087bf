"""`ua-vp events`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter, validators

from ua_vp.cli import lanes, text
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.exits import Exit
from ua_vp.client import Client
from ua_vp.wire import EventView

TELLING = ("summary", "reason", "failure_mode", "detail", "worker_id", "mission_type", "receipt_sha256", "remedy")
"""What of a payload is worth a place on one line, in this order."""


def events(
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative=())] = False,
    after: Annotated[int | None, Parameter(validator=validators.Number(gte=0))] = None,
    mission: str | None = None,
    lane: str | None = None,
    event_type: Annotated[tuple[str, ...], Parameter(name="--type", negative=())] = (),
    limit: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """Print events in the order in which they happened. Ctrl-C stops the printing.

    Args:
        follow: Go on as they happen.
        after: Those behind this number; default: the newest, or with `-f` those from now on.
        mission: Only of this mission.
        lane: Only of this lane: its id, name or alias.
        event_type: Only of this type; may be given more than once.
        limit: At most so many.
    """
    last = after
    with console.client() as client:
        vp_id = lanes.resolve(client, lane).vp_id if lane else None
        try:
            for event in _chosen(client, after, limit, mission, vp_id, event_type, follow=follow):
                _print(event, console, as_json=as_json)
                last = event.seq
        except KeyboardInterrupt:
            console.say(f"detached. To come back: ua-vp events -f{f' --after {last}' if last is not None else ''}")
            return Exit.INTERRUPTED
    return Exit.DONE


def _chosen(
    client: Client,
    after: int | None,
    limit: int | None,
    mission: str | None,
    vp_id: str | None,
    types: tuple[str, ...],
    *,
    follow: bool,
) -> Iterator[EventView]:
    """The events that were asked for, at most `limit`."""
    if follow:
        found = client.follow_events(after=after, mission_id=mission, vp_id=vp_id, types=types)
    elif after is not None and limit is None:
        found = client.each_event(after=after, mission_id=mission, vp_id=vp_id, types=types)
    else:
        page = client.events(after=after, mission_id=mission, vp_id=vp_id, types=types, limit=limit)
        found = iter(page.events)
    for count, event in enumerate(found, start=1):
        yield event
        if count == limit:
            return


def _print(event: EventView, console: Console, *, as_json: bool) -> None:
    if as_json:
        console.json(event)
        return
    told = [f"{name}={event.payload[name]}" for name in TELLING if event.payload.get(name) is not None]
    subject = event.mission_id or event.vp_id or event.session_id or "-"
    cells = (f"{text.line(event.type):<28}", text.line(subject), text.line("  ".join(told)))
    console.data(f"{event.seq:>6}  {text.line(event.at)}  {'  '.join(cells)}".rstrip())
