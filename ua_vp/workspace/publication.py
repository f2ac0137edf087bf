"""Stage before the commit, publish after it; each may be cut short at any line and run again, by anybody."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ua_vp.errors import WorkspaceError
from ua_vp.mission import Artifact
from ua_vp.ports import Files
from ua_vp.workspace.artifacts import HANDED_OVER, open_listed
from ua_vp.workspace.layout import (
    RECEIPT,
    SHARED_FILE,
    SUPPORTING,
    WORK_PRODUCTS,
    Workspace,
    exists,
    explained,
    is_folder,
    own_folder,
    own_staging,
)
from ua_vp.workspace.receipt import Receipt, published_receipt, read_beneath, read_receipt


def stage(ws: Workspace, attempt: int, receipt: Receipt, *, files: Files) -> str:
    """Make what `discover` found durable and write the receipt beside it; returns the receipt's SHA-256.

    What is staged stays invisible until the attempt is committed; running it again gives the same.

    Raises:
        WorkspaceError: a listed file is gone or changed since it was hashed, or cannot be written.
        DiskFullError: no room; nothing was published.
    """
    if receipt.attempt != attempt:
        raise WorkspaceError(f"the receipt of attempt {receipt.attempt} cannot be staged in attempt {attempt}")
    with explained("stage", ws.root):
        folders = own_staging(ws, attempt)
        for artifact in receipt.artifacts:
            os.close(open_listed(ws, artifact, ws.staged(attempt, artifact.path)))
            files.sync(folders.staging / artifact.path)
        for folder in _folders(folders.staging, receipt.artifacts):
            files.sync(folder)
        if is_folder(folders.receipt):  # a mission may have put it there
            files.remove_tree(folders.receipt)
        files.write(folders.receipt, receipt.to_bytes(), mode=SHARED_FILE)
        for folder in (folders.root, ws.attempts, ws.root):
            files.sync(folder)
    return receipt.sha256


def put_in_place(draft: Workspace, attempt: int, *, files: Files) -> Receipt:
    """Let what was staged in a draft be what `attempt` staged, unless somebody else's is: the first one stands.

    Gives the receipt that is staged then. May be cut short at any line, and done by several at once.

    Raises:
        WorkspaceError: the draft is gone, because somebody has marked the mission meanwhile.
        DiskFullError: no room.
    """
    ws = replace(draft, draft=None)
    source, target = draft.attempt(attempt).root, ws.attempt(attempt).root
    with explained("put a draft in place in", ws.root):
        own_folder(ws.attempts)
        try:
            files.rename(source, target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            files.remove_tree(source)
        receipt = read_receipt(ws, attempt)
        if receipt is None:
            raise WorkspaceError(f"{target} was cleared away meanwhile: somebody else has marked the mission")
        return receipt


def publish(ws: Workspace, attempt: int, *, files: Files) -> None:
    """Move what the committed `attempt` staged to its final place, the receipt last.

    An entry whose source is gone while the target is there counts as done, so that this may be run again after a crash
    at any line, by another process, even at the same time.

    Raises:
        WorkspaceError: nothing is staged, or an entry of another attempt is in the way: nothing is overwritten.
        DiskFullError: no room.
    """
    folders = ws.attempt(attempt)
    with explained("publish", ws.root):
        if _done(ws, attempt):
            return
        own_folder(ws.root)
        staged = read_beneath(ws, ws.staged(attempt, RECEIPT))
        if staged is None:
            if _done(ws, attempt):  # somebody else published it meanwhile
                return
            raise WorkspaceError(
                f"attempt {attempt} has nothing staged in {ws.root}, and nothing is published: its folder was removed or "
                "replaced by hand; bring it back, or let the mission be retried"
            )
        _check_staged(Receipt.from_bytes(staged), ws, attempt)
        for name in (*HANDED_OVER, RECEIPT):
            _move(folders.staging / name, ws.root / name, files)


def _done(ws: Workspace, attempt: int) -> bool:
    """Whether `attempt` is published as a whole: its receipt is moved last.

    Raises:
        WorkspaceError: another attempt is published there.
    """
    receipt = published_receipt(ws)
    if receipt is not None and receipt.attempt != attempt:
        raise WorkspaceError(f"{ws.root} holds attempt {receipt.attempt}; attempt {attempt} is not published over it")
    return receipt is not None


def _check_staged(receipt: Receipt, ws: Workspace, attempt: int) -> None:
    if receipt.attempt != attempt or receipt.mission_id != ws.root.name:
        raise WorkspaceError(
            f"what attempt {attempt} staged in {ws.root} has the receipt of attempt {receipt.attempt} of "
            f"{receipt.mission_id}; it is not published"
        )


def _move(source: Path, target: Path, files: Files) -> None:
    """Rename unless it was done, or there is nothing to rename; never onto something.

    Looking first is enough: only the one committed attempt is ever published, and whoever else does it meanwhile moves
    the same things to the same places.
    """
    if not exists(source):
        return
    if exists(target):
        if not exists(source):  # moved between the two looks
            return
        raise WorkspaceError(
            f"{target} is in the way of {source}: it was put there by another attempt, or by hand; move it away, and the "
            "next reconcile goes on"
        )
    try:
        files.rename(source, target)
    except FileNotFoundError:  # moved by somebody else, who has perhaps cleared up behind it
        if exists(source) or not exists(target):
            raise


def _folders(staging: Path, artifacts: Sequence[Artifact]) -> list[Path]:
    """Every folder that leads to an artifact, the deepest first, and the two that are always there."""
    paths = [PurePosixPath(artifact.path) for artifact in artifacts]
    names = {parent.as_posix() for path in paths for parent in path.parents} | {WORK_PRODUCTS, SUPPORTING, "."}
    return [staging / name for name in sorted(names, key=lambda name: (-name.count("/"), name == ".", name))]
