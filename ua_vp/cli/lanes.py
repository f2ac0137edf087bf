"""`ua-vp lanes …` and `ua-vp workers`, and how every command finds the lane that is meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from ua_vp.cli import tables, text, words
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.exits import Exit
from ua_vp.client import Client
from ua_vp.errors import NotFoundError
from ua_vp.mission import lane_name
from ua_vp.wire import LanesAnswer, LaneView


def ls(*, as_json: AsJson = False, console: Here) -> int:
    """List lanes, whether they can take missions, and degraded plugins with their remedy."""
    with console.client() as client:
        answer = client.lanes()
    if as_json:
        console.json(answer)
        return Exit.DONE
    rows = [
        (
            lane.vp_id,
            lane.display_name,
            state(lane),
            lane.depth.queued,
            lane.depth.running,
            lane.capacity,
            types_of(lane),
        )
        for lane in answer.lanes
    ]
    headings = ("lane", "name", "state", "queued", "running", "capacity", "takes")
    for line in tables.columns(headings, rows, width=console.width()):
        console.data(line)
    for line in notes(answer):
        console.data(text.line(line))
    return Exit.DONE


def pause(lane: str, /, *, as_json: AsJson = False, console: Here) -> int:
    """Have a lane's workers claim nothing for a while; what they run goes on, and dispatches are still taken.

    Args:
        lane: The lane's id, name or alias.
    """
    return _steer(lane, "pause", as_json=as_json, console=console)


def resume(lane: str, /, *, as_json: AsJson = False, console: Here) -> int:
    """Have a lane's workers claim again, after a pause or a drain.

    Args:
        lane: The lane's id, name or alias.
    """
    return _steer(lane, "resume", as_json=as_json, console=console)


def drain(lane: str, /, *, as_json: AsJson = False, console: Here) -> int:
    """Have a lane's workers claim nothing more, so that it runs empty: before it is moved or taken out.

    Args:
        lane: The lane's id, name or alias.
    """
    return _steer(lane, "drain", as_json=as_json, console=console)


def _steer(wanted: str, verb: Literal["pause", "resume", "drain"], *, as_json: bool, console: Console) -> int:
    with console.client() as client:
        lane = client.steer_lane(resolve(client, wanted).vp_id, verb)
    if as_json:
        console.json({"lane": lane.model_dump(mode="json")})
        return Exit.DONE
    console.data(f"{text.line(lane.vp_id)}  {state(lane)}")
    if verb != "resume":
        console.say(
            f"{lane.depth.running} running, {lane.depth.queued} queued; ua-vp lanes resume {lane.vp_id} ends it"
        )
    return Exit.DONE


def workers(
    *,
    all_sessions: Annotated[bool, Parameter(name="--all", negative=(), help="Closed sessions too.")] = False,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """List workers; one is live while its lease runs, whatever else it may say."""
    with console.client() as client:
        sessions = client.sessions()
    shown = [session for session in sessions if all_sessions or session.effective_status != "closed"]
    if as_json:
        console.json({"sessions": [session.model_dump(mode="json") for session in shown]})
        return Exit.DONE
    now = console.clock.now()
    rows = [
        (
            session.vp_id,
            session.effective_status,
            session.worker_id,
            session.pid,
            session.host,
            words.ago(session.last_heartbeat_at, now),
            words.ago(session.opened_at, now),
        )
        for session in shown
    ]
    for line in tables.columns(
        ("lane", "state", "worker", "pid", "host", "heard of", "started"), rows, width=console.width()
    ):
        console.data(line)
    return Exit.DONE


def state(lane: LaneView) -> str:
    """One word: what the lane does with a new mission."""
    if not lane.available:
        return "unavailable"
    return "paused" if lane.paused else "draining" if lane.draining else "available"


def types_of(lane: LaneView) -> str:
    """The mission types that it takes now."""
    return ", ".join(name for name, kind in lane.mission_types.items() if kind.available) or "nothing"


def notes(answer: LanesAnswer) -> Iterator[str]:
    """What does not work, and what to do about it, a line each."""
    for lane in answer.lanes:
        if not lane.available and lane.remedy:
            yield f"{lane.vp_id}: {lane.reason or 'unavailable'}; {lane.remedy}"
        for name, kind in lane.mission_types.items() if lane.available else ():
            if not kind.available:
                yield f"{lane.vp_id}: type {name} is unavailable; {kind.remedy or 'no remedy is known'}"
    for plugin in answer.plugins:
        if plugin.state != "ok":
            yield f"plugin {plugin.entry_point} ({plugin.distribution}): {plugin.detail}; {plugin.remedy or ''}"


def resolve(client: Client, wanted: str) -> LaneView:
    """The lane that an id, name, alias or display name means.

    Raises:
        NotFoundError: none or several answer to it; near names are in the text.
    """
    lanes = {lane.vp_id: lane for lane in client.lanes().lanes}
    return lanes[which(wanted, {lane.vp_id: (lane.display_name, *lane.aliases) for lane in lanes.values()})]


def which(wanted: str, lanes: Mapping[str, Sequence[str]]) -> str:
    """The id of the lane that is meant; `lanes` are ids and the further names of each. Case does not count.

    Raises:
        NotFoundError: none or several answer to it; near names are in the text.
    """
    if wanted in lanes:
        return wanted
    names = {vp_id: {_plain(one) for one in (vp_id, lane_name(vp_id) or vp_id, *more)} for vp_id, more in lanes.items()}
    found = [vp_id for vp_id, own in names.items() if _plain(wanted) in own]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFoundError(f"{wanted!r} may be {' or '.join(found)}; say which")
    near = difflib.get_close_matches(_plain(wanted), sorted(set().union(*names.values())), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(lanes) or 'none'}"
    raise NotFoundError(f"no lane is called {wanted!r}; {hint}")


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())
