"""`ua-vp artifacts ls`, `cat`, `pull`, `verify`."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ua_vp.cli import tables, text, words
from ua_vp.cli.console import AsJson, Here
from ua_vp.cli.exits import Exit

MissionId = Annotated[str, Parameter(name="ID")]


def ls(mission_id: MissionId, /, *, category: str | None = None, as_json: AsJson = False, console: Here) -> int:
    """List a mission's artifacts, best first.

    Args:
        category: Only `primary`, `supporting` or `marker`.
    """
    with console.client() as client:
        found = list(client.each_artifact(mission_id, category=category))
    if as_json:
        console.json({"artifacts": [one.model_dump(mode="json") for one in found], "artifacts_total": len(found)})
        return Exit.DONE
    rows = [(one.category, words.size(one.bytes), one.sha256, one.path) for one in found]
    for line in tables.columns(("category", "size", "sha256", "path"), rows):
        console.data(line)
    return Exit.DONE


def cat(mission_id: MissionId, path: str, /, *, as_json: AsJson = False, console: Here) -> int:
    """Print one artifact: byte for byte into a file or pipe, harmless text on a terminal.

    Args:
        path: As `ua-vp artifacts ls` lists it.
    """
    with console.client() as client:
        chunks = client.read_artifact(mission_id, path)
        if not as_json and not console.is_terminal:
            for chunk in chunks:
                console.raw(chunk)
            return Exit.DONE
        content = b"".join(chunks)
    if as_json:
        console.json({"path": path, "bytes": len(content), "base64": base64.b64encode(content).decode("ascii")})
    else:
        console.data(text.block(content.decode("utf-8", errors="replace")).removesuffix("\n"))
    return Exit.DONE


def pull(
    mission_id: MissionId,
    /,
    *,
    to: Annotated[Path | None, Parameter(negative=())] = None,
    as_json: AsJson = False,
    console: Here,
) -> int:
    """Copy every artifact of a mission into a folder here; each comes whole and with the listed hash, or not at all.

    Args:
        to: The folder; default: one named like the mission, here.
    """
    folder = to or Path(mission_id)
    with console.client() as client:
        for artifact in client.each_artifact(mission_id):
            target = client.download(mission_id, artifact, folder)
            if as_json:
                console.json({**artifact.model_dump(mode="json"), "file": str(target)})
            else:
                console.data(text.line(target))
    return Exit.DONE


def verify(mission_id: MissionId, /, *, as_json: AsJson = False, console: Here) -> int:
    """Compare every artifact with the receipt, the receipt with marker and ledger; exit code 10 if anything differs."""
    with console.client() as client:
        found = client.verify(mission_id)
    if as_json:
        differences = [{"path": one.path, "detail": one.detail} for one in found]
        console.json({"mission_id": mission_id, "sound": not found, "differences": differences})
    elif not found:
        console.data(
            text.line(f"{mission_id}  sound: every artifact is as the receipt says, the receipt as the ledger")
        )
    for one in found if not as_json else ():
        console.data(text.line(f"{one.path}: {one.detail}"))
    return Exit.DIFFERENCE if found else Exit.DONE
