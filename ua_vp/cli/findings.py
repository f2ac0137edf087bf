"""What `ua-vp doctor` looks at; each check stands alone and gives findings instead of raising."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ua_vp.errors import LedgerGoneError, UnreachableError, VpError

if TYPE_CHECKING:
    from ua_vp.cli.console import Console
    from ua_vp.client import Client
    from ua_vp.settings import Settings
    from ua_vp.wire import LanesAnswer

FREE_BYTES = 500_000_000
"""Less room than this on the disk of the home is a fault: missions copy whole repositories."""


class Weight(StrEnum):
    """How much a finding matters: only a fault makes `doctor` exit with 8."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    weight: Weight
    detail: str
    remedy: str | None = None


def ok(subject: str, detail: str) -> Finding:
    """It is as it should be."""
    return Finding(subject=subject, weight=Weight.OK, detail=detail)


def note(subject: str, detail: str, remedy: str | None = None) -> Finding:
    """Worth knowing; nothing is broken."""
    return Finding(subject=subject, weight=Weight.NOTE, detail=detail, remedy=remedy)


def fault(subject: str, detail: str, remedy: str | None = None) -> Finding:
    """Broken."""
    return Finding(subject=subject, weight=Weight.FAULT, detail=detail, remedy=remedy)


def home(settings: Settings) -> Iterator[Finding]:
    """The folder of the ledger: there, ours, closed to strangers, with room."""
    folder = settings.home
    if not folder.is_dir():
        yield note("home", f"{folder} is not there yet", "`ua-vp up` makes it")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & stat.S_IRWXO:
        yield fault("home", f"{folder} is open to every account (mode {mode:o})", f"chmod o= {folder}")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield fault("home", f"{folder} is not ours to write", "run this as the account that owns it")
    else:
        yield ok("home", f"{folder}, mode {mode:o}")
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        yield fault("disk", f"{free // 1_000_000} MB are free on the disk of {folder}", "make room")
    wake = folder / "wake"
    if wake.exists() and not (wake.is_dir() and os.access(wake, os.R_OK | os.W_OK | os.X_OK)):
        yield note("wake", f"{wake} is no folder of ours to write: changes are noticed a little later", f"rm -r {wake}")
    token = settings.token_path
    if token.exists() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        yield fault("token", f"{token} can be read by other accounts", f"chmod 600 {token}")


def ledger(settings: Settings, console: Console) -> Iterator[Finding]:
    """The ledger opens; on SQLite, its version and what is known against it."""
    from ua_vp import runtime
    from ua_vp.ledger import open_ledger, place_of

    if settings.database.url is None:
        yield _sqlite()
        if not settings.ledger_path.exists():
            yield note("ledger", f"there is none yet at {settings.ledger_path}", "`ua-vp up` makes it")
            return
    try:
        where = settings.database.url or settings.ledger_path
        opened = open_ledger(where, ports=runtime.real_ports(console.environ), create=False)
        identity = opened.identity
        opened.close()
        yield ok("ledger", f"{place_of(where)} opens: {identity.ledger_id}, schema {identity.revision}")
    except VpError as error:
        remedy = "restore it from a backup" if isinstance(error, LedgerGoneError) else None
        yield fault("ledger", error.detail, remedy)


def _sqlite() -> Finding:
    from ua_vp.ledger.checkpoint import corrupts_on_checkpoint

    known = f"SQLite {sqlite3.sqlite_version}"
    if not corrupts_on_checkpoint(sqlite3.sqlite_version_info):
        return ok("sqlite", f"{known}, without the known fault of WAL checkpoints")
    detail = f"{known} can corrupt a WAL database at a checkpoint; the ledger works around it (one checkpointer)"
    return note("sqlite", detail)


def machine(environ: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """What the kernel and the system must give: openat2, a name for the boot, git."""
    from ua_vp import runtime

    yield _openat2(folder)
    try:
        yield ok("boot id", runtime.real_ports(environ).clock.boot_id)
    except VpError as error:
        yield fault("boot id", error.detail)
    git = shutil.which("git", path=environ.get("PATH"))
    if git:
        yield ok("git", git)
    else:
        yield fault("git", "it is not on the PATH; CODIE works on clones", "apt-get install git")


def _openat2(folder: Path) -> Finding:
    from ua_vp.workspace.openat2 import FOLDER, openat2

    there = folder if folder.is_dir() else Path("/")
    descriptor = os.open(there, FOLDER)
    try:
        os.close(openat2(descriptor, ".", FOLDER))
        return ok("openat2", "there: artifacts are opened beneath their workspace, without following links")
    except (VpError, OSError) as error:
        return fault("openat2", str(error))
    finally:
        os.close(descriptor)


def sandbox(settings: Settings) -> Iterator[Finding]:
    """Lanes whose missions run without walls, and lanes that refuse to start because nothing allows that."""
    from ua_vp import host
    from ua_vp.sandbox.probe import Refusal, walls_for

    for name in sorted({plugin.entry_point for plugin in host.find_installed()}):
        walls = walls_for(settings.lane(name).sandbox, lane=name)
        if isinstance(walls, Refusal):
            yield fault("sandbox", f"lane {name} refuses to start: {walls.reason}", walls.remedy)
        else:
            yield note("sandbox", f'lane {name}: sandbox = "none", missions run unconfined as this account')


def api(client: Client) -> Iterator[Finding]:
    """The running API: reachable, ready, which code."""
    try:
        version, ready = client.version(), client.ready()
    except VpError as error:
        yield fault("api", error.detail)
        return
    yield ok("api", f"{client.url} answers: ua-vp {version.version}, ledger {version.ledger_id}")
    if not ready.ready:
        yield fault("api", f"not ready: {'; '.join(ready.reasons)}")


def workers(client: Client, answer: LanesAnswer) -> Iterator[Finding]:
    """A live worker for each lane that can take missions."""
    live = [session for session in client.sessions() if session.effective_status == "live"]
    for lane in answer.lanes:
        own = [session.worker_id for session in live if session.vp_id == lane.vp_id]
        if own:
            yield ok("workers", f"{lane.vp_id}: {', '.join(own)}")
        elif lane.available:
            yield fault("workers", f"{lane.vp_id}: none is live", f"`ua-vp worker {lane.vp_id}`, or `ua-vp up`")


def plugins_of(answer: LanesAnswer) -> Iterator[Finding]:
    """Each plugin's verdict as the API tells it, and what each lane lacks."""
    for plugin in answer.plugins:
        subject = f"plugin {plugin.entry_point}"
        if plugin.state == "ok":
            yield ok(subject, f"{plugin.distribution} {plugin.version}: {', '.join(plugin.vp_ids)}")
        else:
            yield fault(subject, plugin.detail, plugin.remedy)
    for lane in answer.lanes:
        if not lane.available:
            yield note(f"lane {lane.vp_id}", lane.reason or "unavailable", lane.remedy)
        for name, kind in lane.mission_types.items() if lane.available else ():
            if not kind.available:
                yield note(f"lane {lane.vp_id}", f"type {name} is unavailable", kind.remedy)


def strangers(settings: Settings) -> Iterator[Finding]:
    """Tables of lanes that nobody installed, or whose name is misspelt."""
    from ua_vp import host

    for sentence in host.tables_without_plugin(settings):
        yield note("settings", sentence, "correct the name, remove the table, or install the lane")


def probed(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Each plugin's verdict by a look of our own, as no API can be asked."""
    from ua_vp import compose

    for verdict in compose.probe(settings, environ):
        subject = f"plugin {verdict.entry_point}"
        if not verdict.ok:
            yield fault(subject, verdict.detail, verdict.remedy)
            continue
        ids = ", ".join(manifest.info.vp_id for manifest in verdict.manifests)
        yield ok(subject, f"{verdict.distribution} {verdict.version}: {ids}")
        for manifest in verdict.manifests:
            for name, remedy in manifest.availability.types.items():
                yield note(f"lane {manifest.info.vp_id}", f"type {name} is unavailable", remedy)


def safely(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an error that it did not expect is a finding too."""
    try:
        yield from check()
    except (VpError, OSError, sqlite3.Error) as error:
        remedy = "`ua-vp up` starts it" if isinstance(error, UnreachableError) else None
        yield fault(subject, str(error), remedy)
