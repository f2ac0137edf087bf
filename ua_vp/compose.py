"""The composition root: the only module that knows every part, reads the environment, and puts the real machine in.

`serve` and `work` are what a process of the product does from start to end; `probe` looks at the installed plugins.
Each returns an exit status. What only one of them needs is imported in it: a process starts sooner.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

import ua_vp
from ua_vp import host, telemetry
from ua_vp.access import ensure_first_token
from ua_vp.errors import ConfigurationError, LaneUnavailableError, VpError
from ua_vp.lane import Verdict
from ua_vp.ledger import Ledger, lanes, open_ledger
from ua_vp.mission import Actor, JsonObject, canonical_json, lane_name
from ua_vp.ports import Ports, Signal
from ua_vp.runtime import real_ports
from ua_vp.runtime.listening import listen
from ua_vp.runtime.threads import RealThreads
from ua_vp.sandbox.probe import Refusal, walls_for
from ua_vp.settings import Settings, workspace_folder

if TYPE_CHECKING:
    from ua_vp.worker import Assignment, Worker, WorkerExit

INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""What a mission's processes get of the worker's own environment."""

JUDGE_AGAIN_SECONDS = 5.0
"""Until the verdicts are offered again to a ledger that did not take them."""
LEDGER_GONE = 75
"""Exit status of an API whose ledger is gone (EX_TEMPFAIL, sysexits.h): start it again."""


def probe(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Verdict]:
    """A verdict on each installed plugin, without touching the ledger."""
    return host.probe_all(settings, real_ports(environ), environ=environ)


def work(settings: Settings, vp_id: str, *, once: bool = False, environ: Mapping[str, str] = os.environ) -> int:
    """Be the worker of lane `vp_id` until SIGTERM or SIGINT; a second one stops what runs at once.

    Raises:
        ConfigurationError, LaneUnavailableError: the lane cannot be worked for; the text says the remedy.
        LedgerGoneError: the ledger cannot be opened; one that goes while it works ends the process with status 75.
    """
    from ua_vp.runtime.scheduler import RealTimers
    from ua_vp.worker import Worker, WorkerExit

    threads = RealThreads()
    ports = real_ports(environ)
    _say_in_lines(ports)
    ledger = ledger_of(settings, ports)
    try:
        verdicts = host.probe_all(settings, ports, environ=environ)
        publish(ledger, ports, verdicts)
        record = ledger.read(lambda tx: lanes.get_lane(tx, vp_id))
        owner = record.manifest.distribution if record else None  # if two claim the lane, the first one recorded
        site, hooks = assignment(settings, vp_id, verdicts, owner, environ)
        timers = RealTimers(ports.clock, threads)
        worker = Worker(site, ledger, ports, timers, notify=hooks.mission_event)
        try:
            ended = _run_with_signals(worker, once=once)
        except VpError as error:  # a lane's own threads might keep an ordinary exit waiting for ever
            structlog.get_logger("ua_vp.worker").error("worker_ended", code=error.code, detail=error.detail)
            _leave_at_once(WorkerExit.RESTART)
    finally:
        ledger.close()
    if ended is not WorkerExit.DRAINED:
        _leave_at_once(ended)
    return int(ended)


def serve(settings: Settings, *, environ: Mapping[str, str] = os.environ) -> int:
    """Be the ops API until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the address is in use or impossible, the home cannot be written, or the ledger was written
            by a newer release.
        LedgerGoneError: the ledger cannot be opened; one that goes and stays away ends the process with status 75.
    """
    from ua_vp.ops.app import OpsParts, create_app
    from ua_vp.ops.server import Server

    ports = real_ports(environ)
    _say_in_lines(ports)
    listener, url = listen(settings.ops.bind)
    ledger = ledger_of(settings, ports)
    try:
        judged = ports.threads.signal()
        installed = tuple(plugin.entry_point for plugin in host.find_installed())
        parts = OpsParts(
            ledger=ledger,
            ports=ports,
            settings=settings,
            version=ua_vp.__version__,
            build=ua_vp.__version__,
            plugins=installed,
            judged=judged,
        )
        _settle_in(settings, ledger, ports, url)
        ports.threads.start("probe", lambda: _judge(ledger, ports, settings, environ, judged))
        _on_signals(lambda: None)  # uvicorn hears them, and raises them again when it has stopped
        server = Server(create_app(parts), ledger, patience=settings.worker.lease_seconds)
        server.run(sockets=[listener])
        return LEDGER_GONE if server.gone else 0
    finally:
        listener.close()
        _forget(settings.ops_file)
        ledger.close()


def ledger_of(settings: Settings, ports: Ports, *, create: bool = True) -> Ledger:
    """The ledger that the settings name, migrated."""
    return open_ledger(settings.database.url or settings.ledger_path, ports=ports, create=create)


def publish(ledger: Ledger, ports: Ports, verdicts: list[Verdict]) -> None:
    """Write the verdicts where dispatch, `doctor` and people find them."""
    now, actor = ports.clock.now(), Actor(name=f"{socket.gethostname()}:{os.getpid()}", via="worker")
    ledger.run(lambda tx: lanes.publish_verdicts(tx, verdicts, now=now, actor=actor))


def assignment(
    settings: Settings, vp_id: str, verdicts: list[Verdict], distribution: str | None, environ: Mapping[str, str]
) -> tuple[Assignment, host.Hooks]:
    """The lane of `vp_id`, as `distribution` provides it, loaded into this process, with all a worker needs to know."""
    from ua_vp.worker import Assignment

    loaded = host.load_lane(settings, vp_id, verdicts=verdicts, distribution=distribution)
    name = lane_name(vp_id) or vp_id
    walls = walls_for(settings.lane(name).sandbox, lane=name)
    if isinstance(walls, Refusal):
        raise LaneUnavailableError(f"{vp_id}: {walls}")
    site = Assignment(
        lane=loaded.lane,
        info=loaded.info,
        availability=loaded.availability,
        workspaces=workspace_folder(settings, name),
        host=socket.gethostname(),
        pid=os.getpid(),
        build=ua_vp.__version__,
        executor=loaded.verdict.distribution,
        executor_version=loaded.verdict.version,
        environment={key: environ[key] for key in INHERITED if key in environ},
        walls=walls,
        lease=settings.worker.lease_seconds,
        grace=settings.worker.grace_seconds,
        drain=settings.worker.drain_seconds,
    )
    return site, loaded.hooks


def _run_with_signals(worker: Worker, *, once: bool) -> WorkerExit:
    """Run the worker on a thread of its own, so that the main thread is free to hear signals."""
    done = threading.Event()
    ended: list[WorkerExit | BaseException] = []

    def run() -> None:
        try:
            ended.append(worker.once() if once else worker.run())
        except BaseException as error:  # handed to the main thread, which raises it
            ended.append(error)
        finally:
            done.set()

    asked = iter((worker.drain, worker.hurry))

    def asked_to_end() -> None:
        next(asked, worker.hurry)()

    previous = _on_signals(asked_to_end)
    threading.Thread(target=run, name="loop", daemon=True).start()
    done.wait()
    for number, handler in previous.items():
        signal.signal(number, handler)
    result = ended[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _on_signals(call: Callable[[], None]) -> dict[signal.Signals, Any]:
    def heard(_number: int, _frame: FrameType | None) -> None:
        call()

    return {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}


def _leave_at_once(status: int) -> NoReturn:
    """End the process although a lane still sits in it: its threads might keep an ordinary exit waiting for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _say_in_lines(ports: Ports) -> None:
    """Log to standard error, for people on a terminal and for machines elsewhere."""
    telemetry.set_up(sys.stderr, clock=ports.clock, json=not sys.stderr.isatty())


def _judge(ledger: Ledger, ports: Ports, settings: Settings, environ: Mapping[str, str], judged: Signal) -> None:
    """Probe the plugins beside the running API, and publish until the ledger takes it; `/readyz` waits for it."""
    verdicts = host.probe_all(settings, ports, environ=environ)
    while not judged.is_set():
        try:
            publish(ledger, ports, verdicts)
            judged.set()
        except VpError as error:
            structlog.get_logger("ua_vp.ops").error("plugins_not_judged", code=error.code, detail=error.detail)
            ports.clock.sleep(JUDGE_AGAIN_SECONDS)


def _settle_in(settings: Settings, ledger: Ledger, ports: Ports, url: str) -> None:
    """See to the API's own token, and write where it listens.

    Raises:
        ConfigurationError: the home cannot be written, or the token's file cannot be used.
    """
    where: JsonObject = {"url": url, "pid": os.getpid(), "ledger_id": ledger.identity.ledger_id}
    try:
        _clear_up(settings.ops_file, settings.token_path)
        if ensure_first_token(settings.token_path, ledger=ledger, ports=ports):
            structlog.get_logger("ua_vp.ops").info("token_made", path=str(settings.token_path))
        ports.files.write(settings.ops_file, canonical_json(where) + b"\n")
    except OSError as error:
        raise ConfigurationError(f"{settings.home} cannot be written ({error}); see to its disk and owner") from error


def _clear_up(*files: Path) -> None:
    """Remove what an API left that was killed while it wrote one of these `files`: it alone writes them."""
    for file in files:
        for left in file.parent.glob(f".{file.name}.*.tmp"):
            left.unlink(missing_ok=True)


def _forget(ops_file: Path) -> None:
    """Remove `ops.json` if it is still ours."""
    try:
        if json.loads(ops_file.read_bytes())["pid"] == os.getpid():
            ops_file.unlink()
    except (OSError, ValueError, KeyError):
        return
