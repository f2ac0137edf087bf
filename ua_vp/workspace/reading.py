"""Reading what a committed attempt handed over: its list in pages, and the bytes of what is listed, of nothing else.

From the commit on these answer, from staging until it is published.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ua_vp.errors import NotFoundError, ValidationError
from ua_vp.mission import Artifact, Category
from ua_vp.workspace.artifacts import hash_of, open_listed
from ua_vp.workspace.layout import MARKER, RECEIPT, Workspace
from ua_vp.workspace.openat2 import open_beneath
from ua_vp.workspace.receipt import Receipt, read_receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactList:
    """A page of artifacts, best first; `total` counts all of the category, `next_after` continues (None: the end)."""

    artifacts: tuple[Artifact, ...]
    total: int
    next_after: str | None


def list_artifacts(
    ws: Workspace, attempt: int, *, category: Category | None = None, limit: int = 100, after: str | None = None
) -> ArtifactList:
    """What committed `attempt` handed over, from behind the path `after`, at most `limit`; markers once published.

    Raises:
        NotFoundError: nothing is handed over yet, or no more (the folder is gone).
        ValidationError: `after` is not a path of this list.
        WorkspaceError: the workspace holds something else than it should.
    """
    receipt = _receipt(ws, attempt)
    artifacts = [
        artifact
        for artifact in (*receipt.artifacts, *_markers(ws))
        if category is None or artifact.category is category
    ]
    places = {artifact.path: place for place, artifact in enumerate(artifacts)}
    if after is not None and after not in places:
        raise ValidationError(f"the cursor {after!r} is none of this list; begin again without it")
    start = 0 if after is None else places[after] + 1
    page = tuple(artifacts[start : start + limit])
    more = page and start + limit < len(artifacts)
    return ArtifactList(artifacts=page, total=len(artifacts), next_after=page[-1].path if more else None)


def open_artifact(ws: Workspace, attempt: int, path: str) -> tuple[int, Artifact]:
    """(descriptor, artifact) of a listed file, or of receipt and marker once published; the caller closes the descriptor.

    The size is compared with the receipt, the hash is not: that is `verify`.

    Raises:
        NotFoundError: it is not listed, or it is listed and gone.
        WorkspaceError: it is no longer the regular file with one link, of the size, that was handed over.
    """
    candidates = (*_receipt(ws, attempt).artifacts, *_markers(ws))
    listed = next((artifact for artifact in candidates if artifact.path == path), None)
    if listed is None:
        raise NotFoundError(f"{path!r} is not among the artifacts")
    return _open(ws, attempt, listed), listed


def _receipt(ws: Workspace, attempt: int) -> Receipt:
    receipt = read_receipt(ws, attempt)
    if receipt is None:
        raise NotFoundError(f"attempt {attempt} has handed nothing over in {ws.root}")
    return receipt


def _open(ws: Workspace, attempt: int, listed: Artifact) -> int:
    """From the final place, else from staging; the final place again last: publishing may have moved it meanwhile."""
    for place in (listed.path, ws.staged(attempt, listed.path)):
        try:
            return open_listed(ws, listed, place)
        except NotFoundError:
            continue
    return open_listed(ws, listed)


def _markers(ws: Workspace) -> list[Artifact]:
    """The receipt and the marker, as far as they are in their final places."""
    markers = []
    for path in (RECEIPT, MARKER):
        try:
            fd = open_beneath(ws.root, path)
        except NotFoundError:
            continue
        try:
            size, sha256 = hash_of(fd)
        finally:
            os.close(fd)
        markers.append(
            Artifact(path=path, category=Category.MARKER, bytes=size, sha256=sha256, media_type="application/json")
        )
    return markers
