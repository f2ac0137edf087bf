"""The marker: `sync_ready.json`, always last; it means a complete, hash-right workspace. And checking that it does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ua_vp.errors import WorkspaceError
from ua_vp.mission import Artifact, Status
from ua_vp.ports import MICROS, Files
from ua_vp.workspace.artifacts import hash_of, open_listed
from ua_vp.workspace.layout import (
    LATE,
    MARKER,
    RECEIPT,
    RUN_LOG,
    SHARED_FILE,
    SHARED_FOLDER,
    SUPPORTING,
    WORK_PRODUCTS,
    Workspace,
    exists,
    explained,
    is_folder,
    own_folder,
    own_staging,
)
from ua_vp.workspace.receipt import Receipt, read_beneath
from ua_vp.workspace.walk import Found, walk

VERSION = 1
"""Version of the marker's shape; a later one only adds fields."""
RACES_BORNE = 1000
"""How often somebody else may be quicker at removing what we remove, too; each time there is less left to remove."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Something in a workspace that is not as receipt and marker say; `path` is relative to the workspace."""

    path: str
    detail: str


def mark(
    ws: Workspace,
    *,
    mission_id: str,
    vp_id: str,
    state: Status,
    completed_at: int,
    receipt_sha256: str,
    files: Files,
) -> None:
    """Write `sync_ready.json`, then remove `.attempts` but for what a late outcome staged.

    `completed_at` is wall µs. May be cut short at any line and run again, by anybody, even at the same time.

    Raises:
        WorkspaceError: the published receipt is not the one with this hash, or what it lists is not there in its size: no
            marker is written.
        DiskFullError: no room.
    """
    with explained("mark", ws.root):
        own_folder(ws.root)
        published = read_beneath(ws, RECEIPT)
        if published is None or hashlib.sha256(published).hexdigest() != receipt_sha256:
            raise WorkspaceError(
                f"{ws.root} holds {'another receipt' if published else 'no receipt'} than the one to be marked "
                f"(SHA-256 {receipt_sha256}): publish comes before mark"
            )
        _refuse_incomplete(ws, Receipt.from_bytes(published))
        marker = marker_bytes(
            mission_id=mission_id, vp_id=vp_id, state=state, completed_at=completed_at, receipt_sha256=receipt_sha256
        )
        _write(ws, marker, files)
        _clear(ws, files)


def clear_up(ws: Workspace, *, files: Files) -> None:
    """Once the marker stands, remove `.attempts` as `mark` does: whoever slept may have made a folder there since.

    Raises:
        WorkspaceError: it cannot be removed.
    """
    with explained("clear up", ws.root):
        if exists(ws.marker):
            _clear(ws, files)


def marker_bytes(*, mission_id: str, vp_id: str, state: Status, completed_at: int, receipt_sha256: str) -> bytes:
    """What `sync_ready.json` holds; `completed_at_epoch` is in seconds."""
    value = {
        "version": VERSION,
        "mission_id": mission_id,
        "vp_id": vp_id,
        "state": state,
        "ready": True,
        "completed_at_epoch": completed_at / MICROS,
        "receipt_sha256": receipt_sha256,
    }
    return (json.dumps(value, indent=2) + "\n").encode()


def keep_late(ws: Workspace, attempt: int, *, files: Files) -> bool:
    """Keep what fenced-off `attempt` staged, until retention: called before its late outcome is recorded.

    Returns whether it is kept; False if the winner's mark has removed it already.
    """
    folders = ws.attempt(attempt)
    with explained("keep a late outcome in", folders.root):
        try:
            files.write(folders.root / LATE, b"", mode=SHARED_FILE)
        except FileNotFoundError:
            return False
        files.remove_tree(folders.scratch)
        return exists(folders.root / LATE)


def drop_work(ws: Workspace, attempt: int, *, files: Files) -> None:
    """Remove all but the log of an attempt that will not be handed over: there is no room, it may have taken it all.

    Raises:
        WorkspaceError: a folder of it was replaced, or cannot be removed.
    """
    with explained("make room in", ws.root):
        folders = own_staging(ws, attempt)
        for folder in (folders.scratch, folders.inputs, folders.work_products, folders.supporting):
            files.remove_tree(folder)


def verify(ws: Workspace) -> list[Difference]:
    """Hold the published workspace against its receipt and marker, every byte; empty means sound.

    Raises:
        ConfigurationError: no `openat2`.
    """
    try:
        data = read_beneath(ws, RECEIPT)
        if data is None:
            return [Difference(path=RECEIPT, detail="missing")]
        receipt = Receipt.from_bytes(data)
    except WorkspaceError as error:
        return [Difference(path=RECEIPT, detail=error.detail)]
    with explained("verify", ws.root):
        return [
            *_marker_differences(ws, receipt, hashlib.sha256(data).hexdigest()),
            *_file_differences(ws, receipt),
        ]


def _refuse_incomplete(ws: Workspace, receipt: Receipt) -> None:
    """Every listed file is there and has its size; its bytes were made durable before the commit."""
    for artifact in receipt.artifacts:
        os.close(open_listed(ws, artifact))


def _write(ws: Workspace, marker: bytes, files: Files) -> None:
    """Put the marker at its place by way of `.attempts`, so that a crash leaves no temporary file in the workspace."""
    if read_beneath(ws, MARKER) == marker:
        return
    if not is_folder(ws.attempts):
        _remove_impostor(ws)
        files.make_folder(ws.attempts, mode=SHARED_FOLDER)
    draft = ws.attempts / MARKER
    try:
        own_folder(ws.attempts)
        files.write(draft, marker, mode=SHARED_FILE)
        files.rename(draft, ws.root / MARKER)
    except FileNotFoundError:
        if read_beneath(ws, MARKER) != marker:  # else somebody else has marked it, and cleared up
            raise


def _clear(ws: Workspace, files: Files) -> None:
    """Remove the attempts, once more if somebody else did so at the same time."""
    for races_left in reversed(range(RACES_BORNE)):
        try:
            _remove_impostor(ws)
            if _clear_once(ws, files):
                files.remove_tree(ws.attempts)
        except FileNotFoundError:
            if not races_left:
                raise
        else:
            return


def _clear_once(ws: Workspace, files: Files) -> bool:
    """Remove every attempt but the late ones; returns whether none is left."""
    if not is_folder(ws.attempts):
        return False
    own_folder(ws.attempts)
    empty = True
    for path in sorted(ws.attempts.iterdir()):
        if is_folder(path) and exists(path / LATE):
            files.remove_tree(path / "scratch")
            empty = False
        else:
            files.remove_tree(path)
    return empty


def _remove_impostor(ws: Workspace) -> None:
    """A mission may have put a link in the place of `.attempts`: nothing is done by way of it."""
    if exists(ws.attempts) and not is_folder(ws.attempts):
        ws.attempts.unlink(missing_ok=True)


def _marker_differences(ws: Workspace, receipt: Receipt, receipt_sha256: str) -> Iterator[Difference]:
    if receipt.mission_id != ws.root.name:
        yield Difference(path=RECEIPT, detail=f"is the receipt of {receipt.mission_id}")
    try:
        data = read_beneath(ws, MARKER)
        found: Any = None if data is None else json.loads(data)
    except (WorkspaceError, ValueError) as error:
        yield Difference(path=MARKER, detail=f"is no marker: {error}")
        return
    if not isinstance(found, dict):
        yield Difference(path=MARKER, detail="missing" if data is None else "is no marker: not a JSON object")
        return
    wanted = {
        "mission_id": receipt.mission_id,
        "vp_id": receipt.vp_id,
        "state": receipt.status,
        "ready": True,
        "completed_at_epoch": receipt.completed_at / MICROS,
        "receipt_sha256": receipt_sha256,
    }
    for name, value in wanted.items():
        if found.get(name) != value:
            yield Difference(path=MARKER, detail=f"{name} is {found.get(name)!r}, by the receipt it is {value!r}")


def _file_differences(ws: Workspace, receipt: Receipt) -> Iterator[Difference]:
    """Listed files that are gone or changed, and files that nobody listed."""
    listed = {artifact.path: artifact for artifact in receipt.artifacts}
    known = {entry.path for entry in receipt.left_out}
    refused: dict[str, str] = {}
    for entry in walk(ws.root, (WORK_PRODUCTS, SUPPORTING, RUN_LOG)):
        if not isinstance(entry, Found):
            refused[entry.path] = entry.reason
        elif entry.path in listed:
            yield from _content_difference(listed.pop(entry.path), entry)
        elif entry.path not in known:
            yield Difference(path=entry.path, detail="is not in the receipt")
    for path in listed:
        yield Difference(path=path, detail=f"cannot be read: {refused[path]}" if path in refused else "missing")


def _content_difference(artifact: Artifact, entry: Found) -> Iterator[Difference]:
    size, sha256 = hash_of(entry.fd)
    if size != artifact.bytes:
        yield Difference(path=artifact.path, detail=f"has {size} bytes, by the receipt {artifact.bytes}")
    elif sha256 != artifact.sha256:
        yield Difference(path=artifact.path, detail=f"has SHA-256 {sha256}, by the receipt {artifact.sha256}")
