"""`ua-vp up`: the whole product from one terminal."""

from __future__ import annotations

import fcntl
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ua_vp import runtime
from ua_vp.cli import first_missions, settings_file
from ua_vp.cli import lanes as lane_commands
from ua_vp.cli.console import AsJson, Console, Here
from ua_vp.cli.exits import Exit
from ua_vp.cli.household import Household, last_words
from ua_vp.cli.pace import Pace, Signals, StopAskedError
from ua_vp.client import Client
from ua_vp.errors import ConfigurationError, InvalidStateError, UnauthorizedError, UnreachableError, VpError
from ua_vp.mission import lane_name
from ua_vp.ports import Ports
from ua_vp.runtime.processes import RealProcesses
from ua_vp.runtime.threads import RealThreads
from ua_vp.settings import Settings
from ua_vp.wire import LaneView

API = "serve"
READY_SECONDS = 60.0
"""For the API to be ready, and for each worker to be live; beyond that something is wrong."""
REFUSED = frozenset({Exit.USAGE, Exit.REFUSED})
"""Exit statuses of a child that cannot start as things are: waiting for it would not help."""
AFTERMATH = 10.0
"""Seconds for the API to end after the workers have."""
AT_ONCE = 1.0
"""Seconds from the second Ctrl-C to the kill."""


def up(
    *,
    first_missions: Annotated[bool, Parameter(negative=())] = False,
    once: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """Run the API and a worker for each lane that is installed, and look after them. Ctrl-C ends them in good order.

    Args:
        first_missions: Then do one real mission on each shipped lane, and check what came of it.
        once: End when that is done; the exit code says whether all of it was right.
    """
    ports = runtime.real_ports(console.environ)
    chosen = _prepare(console, ports)
    signals = Signals()
    with _alone(chosen.home), signals.listening():
        house = _household(chosen, console, ports)
        place = Place(settings=chosen, console=console, house=house, pace=Pace(ports.clock, house, signals))
        try:
            return _live(place, ports, first_missions=first_missions, once=once, as_json=as_json)
        finally:
            house.kill()


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What the steps of `up` share."""

    settings: Settings
    console: Console
    house: Household
    pace: Pace

    @property
    def url(self) -> str:
        """Where the API listens."""
        bind = self.house.env["UA_VP_OPS_BIND"]
        if bind.startswith("unix:"):
            return bind
        host, _, port = bind.rpartition(":")
        everywhere = host in {"", "0.0.0.0"}  # noqa: S104  # somebody's setting; not ours
        return f"http://{'127.0.0.1' if everywhere else host}:{port}"

    def client(self) -> Client:
        """A client of the API; while it waits, the household is tended."""
        token = self.settings.token_path
        return Client(
            self.url, token.read_text("utf-8").strip() if token.exists() else None, clock=self.pace, face="cli"
        )


def _prepare(console: Console, ports: Ports) -> Settings:
    """The settings; at a first start, written down with comments."""
    chosen = console.settings()
    ports.files.make_folder(chosen.home, mode=0o700)
    if settings_file.write_if_absent(chosen, ports.files):
        console.say(f'first start: wrote {chosen.config}; missions run unconfined (sandbox = "none"), it says why')
        return console.settings()
    return chosen


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the lock by which only one `up` runs in a home."""
    with (home / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidStateError(
                f"another `ua-vp up` runs in {home}; stop it first, or give this one a UA_VP_HOME of its own"
            ) from None
        yield


def _household(chosen: Settings, console: Console, ports: Ports) -> Household:
    bind = free_bind(chosen.ops.bind)
    if bind != chosen.ops.bind:
        console.say(f"{chosen.ops.bind} is taken by somebody else; the API listens on {bind} instead")
    ours = {name: value for name, value in console.environ.items() if name not in {"UA_VP_URL", "UA_VP_TOKEN"}}
    return Household(
        starter=RealProcesses(RealThreads()),
        clock=ports.clock,
        env={**ours, "UA_VP_OPS_BIND": bind, "PYTHONUNBUFFERED": "1"},
        logs=chosen.home / "logs",
        say=console.say,
    )


def free_bind(bind: str) -> str:
    """`bind`, or the same host with a free port if that one is taken; a Unix socket is the API's own affair.

    Raises:
        ConfigurationError: it is no address of this machine.
    """
    if bind.startswith("unix:"):
        return bind
    host, _, port = bind.rpartition(":")
    refused = "it is not HOST:PORT"
    for wanted in (int(port), 0) if port.isdecimal() and int(port) < 65536 else ():
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host.strip("[]"), wanted))
                return f"{host}:{probe.getsockname()[1]}"
        except OSError as error:
            refused = str(error)
    raise ConfigurationError(
        f"the API cannot listen on {bind}: {refused}; set UA_VP_OPS_BIND to HOST:PORT or unix:PATH"
    )


def _live(place: Place, ports: Ports, *, first_missions: bool, once: bool, as_json: bool) -> Exit:
    """Start, work, stay, stop."""
    try:
        lanes = _start(place)
        code = _first(place, ports, lanes, as_json=as_json) if first_missions else Exit.DONE
        _where_to_look(place)
        while not once:
            place.pace.sleep(3600)
        return _drain(place, code)
    except StopAskedError:
        return _drain(place, Exit.INTERRUPTED if once else Exit.DONE)


def _start(place: Place) -> Sequence[LaneView]:
    """The API first, then a worker for each lane that can take missions; returns when all are there."""
    console, house = place.console, place.house
    console.say(f"starting the API on {place.url}; the plugins are looked at")
    house.start(API, _ourselves("serve"))
    _await(place, API, lambda client: client.ready().ready)
    with place.client() as client:
        answer = client.lanes()
    for note in lane_commands.notes(answer):
        console.say(note)
    working = [lane for lane in answer.lanes if lane.available]
    names = {lane.vp_id: f"worker {lane_name(lane.vp_id)}" for lane in working}
    for lane in working:
        console.say(f"starting the worker of {lane.display_name} ({lane.vp_id})")
        house.start(names[lane.vp_id], _ourselves("worker", lane.vp_id))
    missing = [lane for lane in working if not _arrived(place, lane, names[lane.vp_id])]
    there = ", ".join(lane.display_name for lane in working if lane not in missing)
    console.say(f"ready: {there or 'no lane'}")
    return [lane for lane in answer.lanes if lane not in missing]


def _arrived(place: Place, lane: LaneView, name: str) -> bool:
    """Whether the lane's worker is live; if it cannot be, says why: the other lanes do not suffer."""
    try:
        _await(place, name, partial(_is_live, vp_id=lane.vp_id))
    except VpError as error:
        place.console.paragraph(error.detail)
        return False
    return True


def _ourselves(*arguments: str) -> list[str]:
    """A command of this program; `-P` keeps what lies in the current folder from posing as the product."""
    return [sys.executable, "-P", "-m", "ua_vp", *arguments]


def _is_live(client: Client, vp_id: str) -> bool:
    return any(session.vp_id == vp_id and session.effective_status == "live" for session in client.sessions())


def _await(place: Place, name: str, condition: Callable[[Client], bool]) -> None:
    """Wait until the API says that a child is there.

    Raises:
        ConfigurationError: it refuses these settings; its own last words are in the text.
        UnreachableError: it is not there in time.
    """
    member = place.house.members[name]

    def there() -> bool:
        if member.last_status in REFUSED:
            raise ConfigurationError(_obituary(place, name, "refuses to start"))
        try:
            with place.client() as client:
                return condition(client)
        except (UnreachableError, UnauthorizedError):  # not listening yet, or its token is not written yet
            return False

    if not place.pace.until(there, within=READY_SECONDS):
        raise UnreachableError(_obituary(place, name, f"is not there after {READY_SECONDS:g} s"))


def _obituary(place: Place, name: str, what: str) -> str:
    log = place.house.log_of(name)
    return "\n  ".join((f"{name} {what}; the end of {log}:", *last_words(log)))


def _first(place: Place, ports: Ports, lanes: Sequence[LaneView], *, as_json: bool) -> Exit:
    console = place.console
    console.say("first missions: one real mission on each lane")
    plans = first_missions.plans(Path.cwd(), console.environ, ports.processes)
    with place.client() as client:
        return first_missions.run(client, lanes, plans, console, as_json=as_json)


def _where_to_look(place: Place) -> None:
    from ua_vp.ledger import place_of

    console, chosen = place.console, place.settings
    other_home = f"UA_VP_HOME={chosen.home} " if "UA_VP_HOME" in console.environ else ""
    for line in (
        f"API        {place.url} (token in {chosen.token_path})",
        f"ledger     {place_of(chosen.database.url or chosen.ledger_path)}",
        f"logs       {place.house.logs}",
        f"settings   {chosen.config}",
        f"missions   {chosen.workspace_root}",
        f"try        {other_home}ua-vp ls, lanes ls, workers, doctor; ua-vp dispatch general --type check-docs …",
    ):
        console.paragraph(line)


def _drain(place: Place, code: Exit) -> Exit:
    """End in good order: workers first, they finish what they do; the API last, so that people can watch."""
    house, pace, console = place.house, place.pace, place.console
    workers = [member.name for member in house.running() if member.name != API]
    try:
        if workers:
            limit = place.settings.worker.drain_seconds
            console.say(
                f"stopping: {', '.join(workers)} end first, missions get {limit:g} s; Ctrl-C again stops at once"
            )
        house.terminate(workers)
        told: list[str] = []
        while any(member.name != API for member in house.running()):
            told = _waited_for(place, told)
            pace.until(lambda: not any(member.name != API for member in house.running()), within=2.0)
        house.terminate([API])
        pace.until(lambda: not house.running(), within=AFTERMATH)
        console.say("stopped")
        return code
    except StopAskedError:
        return _stop_at_once(place)


def _waited_for(place: Place, told: list[str]) -> list[str]:
    """Say which missions the workers still finish, if that has changed."""
    try:
        with place.client() as client:
            running = [mission.mission_id for mission in client.missions(statuses=["running"]).missions]
    except VpError:
        return told
    if running and running != told:
        place.console.say(f"waiting for {', '.join(running)}")
    return running


def _stop_at_once(place: Place) -> Exit:
    place.console.say("stopping at once; what ran goes back into the queue")
    house = place.house
    house.terminate([member.name for member in house.running()])
    with suppress(StopAskedError):  # once more changes nothing: the kill comes next
        place.pace.until(lambda: not house.running(), within=AT_ONCE)
    house.kill()
    return Exit.INTERRUPTED
