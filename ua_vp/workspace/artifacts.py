"""What an attempt hands over: found, hashed, ranked, counted; nothing is cut silently."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath

from ua_vp.errors import WorkspaceError
from ua_vp.mission import Artifact, Category
from ua_vp.workspace.layout import (
    CHUNK,
    RECEIPT,
    RUN_LOG,
    SUPPORTING,
    WORK_PRODUCTS,
    AttemptFolders,
    Workspace,
    explained,
    own_staging,
)
from ua_vp.workspace.openat2 import open_beneath
from ua_vp.workspace.walk import LeftOut, put_in_order, shown, walk

HANDED_OVER = (WORK_PRODUCTS, SUPPORTING, RUN_LOG)
"""The entries of staging that are published, in order of rank."""
UNKNOWN_TYPE = "application/octet-stream"
TYPES = {
    ".diff": "text/x-diff",
    ".jsonl": "application/x-ndjson",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".patch": "text/x-diff",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
"""Endings that the standard library's table lacks."""
PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Discovery:
    """What an attempt's staging holds. `not_found`: what the lane declared but is not among the artifacts."""

    artifacts: tuple[Artifact, ...]
    left_out: tuple[LeftOut, ...]
    not_found: tuple[str, ...] = ()


def discover(ws: Workspace, attempt: int, *, declared: Sequence[str | Path] = ()) -> Discovery:
    """Put the attempt's staging in order, then find, hash and rank what it hands over.

    Called on the worker once the attempt's processes are gone and its run log is closed. Every file and folder gets the
    mode of what is handed over; what is not a regular file with one link, or has no name in UTF-8, is left out and
    named with the reason. `declared` are the lane's deliverables, best first: relative to `work_products/`, or
    absolute inside it.

    Raises:
        WorkspaceError: staging is not there, or cannot be read.
        ConfigurationError: no `openat2`.
    """
    folders = ws.attempt(attempt)
    found: list[Artifact] = []
    left_out: list[LeftOut] = []
    with explained("read", folders.staging):
        own_staging(ws, attempt)
        put_in_order(folders.staging)
        for entry in walk(folders.staging, HANDED_OVER, settle=True):
            if isinstance(entry, LeftOut):
                left_out.append(entry)
            else:
                found.append(_artifact(entry.path, entry.fd))
        left_out += _strangers(folders.staging)
    names, not_found = _declared(folders, declared, {artifact.path for artifact in found})
    return Discovery(
        artifacts=rank(found, names),
        left_out=tuple(sorted(left_out, key=lambda entry: entry.path)),
        not_found=not_found,
    )


def rank(found: Sequence[Artifact], declared: Sequence[str]) -> tuple[Artifact, ...]:
    """Best first: `declared` (workspace paths) in their order, then work products, supporting files, the run log."""
    first = {path: place for place, path in reversed(list(enumerate(declared)))}
    tops = {top: place for place, top in enumerate(HANDED_OVER)}

    def key(artifact: Artifact) -> tuple[int, int, str]:
        top = tops[artifact.path.partition("/")[0]]
        return first.get(artifact.path, len(declared)), top, artifact.path

    return tuple(sorted(found, key=key))


def missing(artifacts: Sequence[Artifact], owes: Sequence[str]) -> list[str]:
    """The patterns in `owes` that no artifact satisfies.

    A pattern is a glob over the path relative to the workspace: `*` and `?` stay within a component, `**` stands for
    any number of components, so `work_products/**` asks for at least one file below `work_products/`.
    """
    paths = [artifact.path.split("/") for artifact in artifacts]
    return [pattern for pattern in owes if not any(_matches(path, pattern.split("/")) for path in paths)]


def media_type(path: str) -> str:
    """The media type that the name suggests; the bytes are not looked at, so it is a claim, not a finding."""
    name = path.rpartition("/")[2]
    ending = os.path.splitext(name)[1].lower()
    if ending in TYPES:
        return TYPES[ending]
    # The name is reduced to its last two endings: `guess_type` reads its argument as a URL.
    endings = "".join(PurePosixPath(name.replace(":", "_")).suffixes[-2:])
    guessed, packing = _table().guess_type(f"name{endings}")
    if packing:
        return PACKED.get(packing, UNKNOWN_TYPE)
    return guessed or UNKNOWN_TYPE


def category_of(path: str) -> Category:
    """What a file of a workspace is for, from where it lies."""
    top = path.partition("/")[0]
    if top == WORK_PRODUCTS:
        return Category.PRIMARY
    return Category.SUPPORTING if top in HANDED_OVER else Category.MARKER


def hash_of(fd: int) -> tuple[int, str]:
    """(bytes, SHA-256) of an open file from its start; the position of `fd` stays."""
    digest, offset = hashlib.sha256(), 0
    while chunk := os.pread(fd, CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
    return offset, digest.hexdigest()


def open_listed(ws: Workspace, artifact: Artifact, place: str | None = None) -> int:
    """A descriptor of a listed file, of the listed size, at its final place or at `place`; the caller closes it.

    Raises:
        NotFoundError: it is gone.
        WorkspaceError: a link, not a regular file with one link, or of another size.
    """
    fd = open_beneath(ws.root, place or artifact.path)
    size = os.fstat(fd).st_size
    if size == artifact.bytes:
        return fd
    os.close(fd)
    raise WorkspaceError(
        f"{artifact.path!r} in {ws.root} has {size} bytes, by the receipt {artifact.bytes}: it was changed"
    )


@cache
def _table() -> mimetypes.MimeTypes:
    """The standard library's own table, without the files of this machine: the same answer everywhere."""
    return mimetypes.MimeTypes()


def _artifact(path: str, fd: int) -> Artifact:
    size, sha256 = hash_of(fd)
    return Artifact(path=path, category=category_of(path), bytes=size, sha256=sha256, media_type=media_type(path))


def _strangers(staging: Path) -> list[LeftOut]:
    """What a mission put beside the entries that are handed over."""
    strangers = sorted(set(os.listdir(staging)) - {*HANDED_OVER, RECEIPT})
    reason = f"it lies beside {WORK_PRODUCTS}/ and {SUPPORTING}/, not in them"
    return [LeftOut(path=shown(name), reason=reason) for name in strangers]


def _declared(
    folders: AttemptFolders, declared: Sequence[str | Path], found: set[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Workspace paths of what the lane declared and is there, and what is not there, as declared."""
    names, not_found = [], []
    for given in declared:
        # An absolute path replaces the folder it is joined to.
        relative = os.path.relpath(folders.work_products / given, folders.staging)
        if relative in found and category_of(relative) is Category.PRIMARY:
            names.append(relative)
        else:
            not_found.append(shown(str(given)))
    return names, tuple(not_found)


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        rest = pattern[1:]
        # At the end `**` wants a file, so at least one component.
        return any(_matches(path[skip:], rest) for skip in range(len(path) + 1)) if rest else bool(path)
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])
