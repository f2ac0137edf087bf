"""What missions handed over: the list, the bytes, the log. Every file is opened beneath its workspace, never by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ua_vp import wire, workspace
from ua_vp.control import views
from ua_vp.control.asking import Asking, seal, unseal
from ua_vp.errors import NotFoundError
from ua_vp.ledger import Transaction, lanes, missions
from ua_vp.mission import Artifact, Category, Mission
from ua_vp.workspace import Workspace

SCHEME = "workspace://"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenArtifact:
    """A listed file, open for reading; who gets it closes `fd`."""

    fd: int
    path: str
    bytes: int
    sha256: str
    media_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenLog:
    """The log of one attempt, open for reading; who gets it closes `fd`."""

    fd: int
    attempt: int
    bytes: int
    """Its size now."""
    complete: bool
    """Whether nothing will be added."""


def list_artifacts(
    asking: Asking, mission_id: str, *, category: Category | None, limit: int, cursor: str | None
) -> wire.ArtifactPage:
    """One page in order of rank. Receipt and marker are listed where category `marker` is asked for.

    Raises:
        NotFoundError: no such mission within the caller's bounds.
        ValidationError: the cursor is none of ours.
        WorkspaceError: the workspace holds no sound receipt.
    """
    start = int(unseal(cursor, 1)[0]) if cursor is not None else 0
    mission, folder = _find(asking, mission_id)
    if category is Category.MARKER:
        found: Sequence[Artifact] = _markers(mission, folder)
    else:
        found = [one for one in handed_over(mission) if category in {None, one.category}]
    page = found[start : start + limit]
    more = start + limit < len(found)
    return wire.ArtifactPage(
        artifacts=[views.artifact_view(artifact) for artifact in page],
        artifacts_total=len(found),
        next_cursor=seal(start + limit) if more else None,
    )


def handed_over(mission: Mission) -> tuple[Artifact, ...]:
    """The artifacts of a mission that has ended, ranked; none before its end.

    Raises:
        WorkspaceError: the workspace holds no sound receipt.
    """
    folder = workspace_of(mission)
    if not mission.status.terminal or folder is None:
        return ()
    receipt = workspace.read_receipt(folder, mission.attempt)
    return receipt.artifacts if receipt is not None else ()


def open_artifact(asking: Asking, mission_id: str, path: str) -> OpenArtifact:
    """A listed file, or receipt or marker; from the committed attempt's staging until it is published.

    Raises:
        NotFoundError: no such mission within the caller's bounds, the file is not listed, or it was removed.
        WorkspaceError: what lies there now is not what was handed over.
    """
    mission, folder = _find(asking, mission_id)
    if folder is None or not mission.status.terminal:
        raise NotFoundError(f"mission {mission_id} has handed over nothing here (yet)")
    try:
        fd, listed = workspace.open_artifact(folder, mission.attempt, path)
    except NotFoundError as error:
        raise NotFoundError(f"mission {mission_id}: {error.detail}") from error
    return OpenArtifact(
        fd=fd, path=path, bytes=os.fstat(fd).st_size, sha256=listed.sha256, media_type=listed.media_type
    )


def open_log(asking: Asking, mission_id: str, attempt: int | None) -> OpenLog:
    """The log of `attempt`, by default of the current one.

    Raises:
        NotFoundError: no such mission within the caller's bounds, no such attempt, or no log of it (yet).
    """
    mission, folder = _find(asking, mission_id)
    number = attempt if attempt is not None else mission.attempt
    if number > mission.attempt or number < 1:
        raise NotFoundError(f"mission {mission_id} has no attempt {number} (yet); it has had {mission.attempt}")
    if folder is None:
        raise NotFoundError(f"mission {mission_id} has no workspace here (yet)")
    fd, complete = workspace.open_log(folder, number)
    return OpenLog(fd=fd, attempt=number, bytes=os.fstat(fd).st_size, complete=complete)


def workspace_of(mission: Mission, base: str | None = None) -> Workspace | None:
    """Where the mission's files lie on this machine: as its end fixed it, else in its lane's `base`; None: elsewhere."""
    reference = mission.result_ref or (f"{base}/{mission.mission_id}" if base else None)
    if reference is None or not reference.startswith(SCHEME + "/"):
        return None
    return Workspace(Path(reference.removeprefix(SCHEME)))


def _find(asking: Asking, mission_id: str) -> tuple[Mission, Workspace | None]:
    def step(tx: Transaction) -> tuple[Mission | None, str | None]:
        mission = missions.get_mission(tx, mission_id)
        lane = lanes.get_lane(tx, mission.vp_id) if mission is not None else None
        return mission, lane.manifest.workspace_base if lane is not None else None

    mission, base = asking.ledger.read(step)
    if mission is None or not asking.caller.sees(mission):
        raise NotFoundError(f"no mission {mission_id[:100]!r}")
    return mission, workspace_of(mission, base)


def _markers(mission: Mission, folder: Workspace | None) -> tuple[Artifact, ...]:
    """Receipt and marker, as far as they are there."""
    if folder is None or not mission.status.terminal:
        return ()
    try:
        return workspace.list_artifacts(folder, mission.attempt, category=Category.MARKER).artifacts
    except NotFoundError:
        return ()
