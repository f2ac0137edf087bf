"""What is left when a world has come to rest: nothing that was acknowledged is missing, nothing else is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.worlds.lives import Fault, Row
from tests.faults.worlds.promises import Promise
from ua_vp.ledger.hashes import faults
from ua_vp.workspace import Workspace, verify
from ua_vp.workspace.layout import LATE

if TYPE_CHECKING:
    from tests.faults.worlds.play import Play


def left_behind(play: Play) -> Iterator[Fault]:
    """Everything that is not as it should be."""
    yield from ((Promise.ACKNOWLEDGED, fault) for fault in _missing(play))
    yield from ((Promise.CLEAN, fault) for fault in _litter(play))
    for row in play.witness.rows("vp_missions"):
        yield from ((Promise.SOUND, f"{row['objective']}: {fault}") for fault in _unsound(play, row))
        kept = _attempts_kept(play.witness.workspace(row))
        yield from ((Promise.CLEAN, f"{row['objective']}: {fault}") for fault in kept)


def _missing(play: Play) -> Iterator[str]:
    missions = {row["mission_id"]: row for row in play.witness.rows("vp_missions")}
    for mission_id, request in play.acknowledged.items():
        if mission_id not in missions:
            yield f"{request.objective} was acknowledged and is lost"
        elif mission_id in play.cancelled and missions[mission_id]["status"] != "cancelled":
            yield f"{request.objective} was cancelled and is {missions[mission_id]['status']}"
    for (vp_id, key), mission_id in play.known.items():
        found = [row for row in missions.values() if (row["vp_id"], row["idempotency_key"]) == (vp_id, key)]
        if [row["mission_id"] for row in found] != [mission_id]:
            yield f"{len(found)} missions have {key}"


def _litter(play: Play) -> Iterator[str]:
    count = play.witness.count
    for what in (
        "vp_claims",
        "vp_attempts WHERE ended_at IS NULL",
        "vp_sessions WHERE closed_at IS NULL AND lost_at IS NULL",
    ):
        if count(what):
            yield f"{count(what)} rows: {what}"
    for folder, _, names in os.walk(play.ground):
        yield from (f"{name} in {Path(folder).name}" for name in names if name.endswith(".tmp"))


def _unsound(play: Play, row: Row) -> Iterator[str]:
    workspace = play.witness.workspace(row)
    yield from (fault.detail for fault in faults(row))
    yield from (f"{difference.path}: {difference.detail}" for difference in verify(workspace))
    summary = workspace.root / "work_products" / "summary.md"
    if summary.exists() and summary.read_text() != f"{row['mission_id']} {row['attempt']}\n":
        yield f"attempt {row['attempt']} is published with the work of another: {summary.read_text()}"


def _attempts_kept(workspace: Workspace) -> Iterator[str]:
    """What is left of the attempts: only what came late, and of that only what was staged."""
    for number in workspace.attempt_numbers():
        folder = workspace.attempt(number).root
        kept = sorted(path.name for path in folder.iterdir())
        if LATE not in kept or "scratch" in kept:
            yield f".attempts/{number} still holds {kept}"
    if workspace.attempts.exists():
        strangers = [path.name for path in workspace.attempts.iterdir() if not path.name.isdigit()]
        yield from (f".attempts still holds {name}" for name in strangers)
        if not workspace.attempt_numbers():
            yield ".attempts is still there"
