"""Files: onto this machine whole, with the listed hash, inside the folder that was asked for; and what was uploaded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pydantic

from ua_vp.errors import DifferenceError, WorkspaceError
from ua_vp.wire import ArtifactView


class Uploaded(pydantic.BaseModel):
    """A file that the API keeps for missions."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    input_id: str
    name: str
    bytes: int
    sha256: str


def target_of(artifact: ArtifactView, folder: Path) -> Path:
    """Where an artifact goes under `folder`.

    Raises:
        WorkspaceError: its path, or a link in the way, leads out of `folder`.
    """
    relative = PurePosixPath(artifact.path)
    target = (folder / relative).resolve()
    if relative.is_absolute() or ".." in relative.parts or not target.is_relative_to(folder.resolve()):
        raise WorkspaceError(f"{artifact.path!r} leads out of {folder}; nothing was written")
    return target


def save(artifact: ArtifactView, chunks: Iterable[bytes], target: Path) -> None:
    """Put the chunks at `target`, whole or not at all.

    Raises:
        DifferenceError: what came is not what the list says.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    digest = hashlib.sha256()
    try:
        with open(descriptor, "wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != artifact.sha256:
            raise DifferenceError(f"{artifact.path!r} came with another hash than listed; nothing was written")
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
