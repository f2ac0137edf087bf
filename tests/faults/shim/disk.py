"""What a disk may hold after a power cut: states built from the shim's log of what a process did.

The model, no kinder than ext4 or xfs in their usual modes:
- Data of a file is safe from its last fsync or fdatasync on, with the size that it had then. Of what was written or
  truncated later, each sector of 512 bytes, and each truncation, is there or not, in any combination; a gap reads as
  zeros. So writes are torn and reordered between two fsyncs.
- Names (create, link, rename, unlink, mkdir, rmdir) change in order, as in a file system's journal: some number of them
  is there. An fsync of a folder makes safe every change of a name in it, and with it all that came before. An fsync of
  a file makes no name safe: those file systems do that, too, but POSIX does not promise it.
- A file that never was synced may be there empty. The memory that SQLite shares (`-shm`) holds anything.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

HEAD = struct.Struct("=IIIIQq")
SECTOR = 512
NAMES = frozenset("cdlyvu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call that succeeded, or (`!`) an answer that was given; see `shim.c` for the kinds."""

    kind: str
    path: str
    other: str
    data: bytes
    inode: int
    offset: int


@dataclass(eq=False)
class File:
    """A file, or a symbolic link, with all that was done to its bytes: `safe` of the changes are certain."""

    link: str | None = None
    changes: list[Call] = field(default_factory=list)
    safe: int = 0


@dataclass(eq=False)
class Folder:
    """A folder; `changed` is how many names had changed on the disk when one in it last did."""

    entries: dict[str, Entry] = field(default_factory=dict)
    changed: int = 0


Entry: TypeAlias = "File | Folder"


def read_log(path: Path) -> list[Call]:
    """The shim's log."""
    data, calls, at = path.read_bytes(), [], 0
    while at < len(data):
        kind, *lengths, inode, offset = HEAD.unpack_from(data, at)
        at += HEAD.size
        parts = []
        for length in lengths:
            parts.append(data[at : at + length])
            at += length
        name, other, bytes_ = parts
        calls.append(
            Call(kind=chr(kind), path=name.decode(), other=other.decode(), data=bytes_, inode=inode, offset=offset)
        )
    return calls


class Disk:
    """The folder `root` as it was left by `calls`, the last ones of which may not be on the disk yet."""

    def __init__(self, root: Path, calls: Sequence[Call]) -> None:
        self._root = str(root)
        self._top = Folder()
        self._files: dict[int, File] = {}
        self._names: list[tuple[Call, Entry | None]] = []
        self._safe_names = 0
        for call in calls:
            self._take(call)

    def whole(self) -> dict[str, bytes | None]:
        """Every path with its bytes (None: a folder), as if nothing was lost."""
        return self._contents(len(self._names), Random(0), keep=1.0)

    def after_a_cut(self, random: Random) -> dict[str, bytes | None]:
        """A state that the model allows."""
        names = random.choice((self._safe_names, len(self._names), random.randint(self._safe_names, len(self._names))))
        return self._contents(names, random, keep=random.choice((0.0, 0.5, 0.9, 1.0)))

    def _take(self, call: Call) -> None:
        if call.kind in NAMES:
            entry = self._new(call)
            self._names.append((call, entry))
            for path in filter(None, (call.path, call.other if call.kind == "v" else "")):
                self._folder(self._top, path).changed = len(self._names)
            apply(self._top, self._below(call), entry)
        elif call.kind in "wt" and call.inode in self._files:
            self._files[call.inode].changes.append(call)
        elif call.kind == "s":
            self._sync(call)

    def _new(self, call: Call) -> Entry | None:
        """What the call brings into being, or gives another name."""
        if call.kind == "d":
            return Folder()
        if call.kind == "l":
            return self._files[call.inode]
        if call.kind in "cy":
            made = File(link=call.other if call.kind == "y" else None)
            self._files[call.inode] = made
            return made
        return None

    def _sync(self, call: Call) -> None:
        entry = find(self._top, self._parts(call.path))
        if isinstance(entry, Folder):
            self._safe_names = max(self._safe_names, entry.changed)
        elif call.inode in self._files:
            file = self._files[call.inode]
            file.safe = len(file.changes)

    def _contents(self, names: int, random: Random, *, keep: float) -> dict[str, bytes | None]:
        top = Folder()
        for call, entry in self._names[:names]:
            apply(top, self._below(call), Folder() if call.kind == "d" else entry)
        return {path: content(path, entry, random, keep) for path, entry in walk(top, "")}

    def _folder(self, top: Folder, path: str) -> Folder:
        found = find(top, self._parts(path)[:-1])
        assert isinstance(found, Folder), path
        return found

    def _below(self, call: Call) -> tuple[str, list[str], list[str]]:
        return call.kind, self._parts(call.path), self._parts(call.other) if call.kind == "v" else []

    def _parts(self, path: str) -> list[str]:
        return [part for part in path.removeprefix(self._root).split("/") if part]


def find(top: Folder, parts: Sequence[str]) -> Entry:
    entry: Entry = top
    for part in parts:
        assert isinstance(entry, Folder)
        entry = entry.entries[part]
    return entry


def apply(top: Folder, change: tuple[str, list[str], list[str]], entry: Entry | None) -> None:
    """Change a name."""
    kind, path, other = change
    folder = find(top, path[:-1])
    assert isinstance(folder, Folder)
    if kind == "u":
        folder.entries.pop(path[-1], None)  # a socket was never there: `bind` makes it, and the shim does not see that
    elif kind == "v":
        target = find(top, other[:-1])
        assert isinstance(target, Folder)
        target.entries[other[-1]] = folder.entries.pop(path[-1])
    else:
        assert entry is not None
        folder.entries[path[-1]] = entry


def walk(folder: Folder, path: str) -> Iterator[tuple[str, Entry]]:
    """Everything below, each folder before what is in it."""
    for name, entry in folder.entries.items():
        yield f"{path}{name}", entry
        if isinstance(entry, Folder):
            yield from walk(entry, f"{path}{name}/")


def content(path: str, entry: Entry, random: Random, keep: float) -> bytes | None:
    """The bytes of a file; of what is not safe, each sector with probability `keep`."""
    if isinstance(entry, Folder):
        return None
    data = bytearray()
    for number, call in enumerate(entry.changes):
        certain = number < entry.safe or keep == 1.0
        if call.kind == "t" and (certain or random.random() < keep):
            del data[call.offset :]
            data += bytes(call.offset - len(data))
        elif call.kind == "w":
            for offset, piece in sectors(call):
                if certain or random.random() < keep:
                    data += bytes(max(0, offset - len(data)))
                    data[offset : offset + len(piece)] = piece
    return random.randbytes(len(data)) if path.endswith("-shm") and keep < 1.0 else bytes(data)


def sectors(call: Call) -> Iterator[tuple[int, bytes]]:
    """A write, cut at the sectors' borders, with offsets."""
    start, end = call.offset, call.offset + len(call.data)
    while start < end:
        border = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, call.data[start - call.offset : border - call.offset]
        start = border


def lay_out(root: Path, contents: dict[str, bytes | None]) -> None:
    """Put a state of the disk into the empty folder `root`."""
    for path, data in contents.items():
        if data is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)
