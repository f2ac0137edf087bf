"""Walking over what a mission left, by descriptors, without following anything; and putting it in order first."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ua_vp.workspace.layout import (
    RUN_LOG,
    SHARED_FILE,
    SHARED_FOLDER,
    SUPPORTING,
    WORK_PRODUCTS,
    exists,
    is_folder,
    make_folder,
    set_mode,
)
from ua_vp.workspace.openat2 import FOLDER, kind_of, open_folder, open_regular, openat2, refusal

LONGEST_PATH = 4095
"""Bytes of the longest absolute path that the kernel takes (PATH_MAX without its NUL)."""
ROOM_FOR_STAGING = len("/.attempts/18446744073709551615/staging/")
REFUSALS = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.ELOOP, errno.EXDEV, errno.ENXIO, errno.ENODEV, errno.EMLINK, errno.EINVAL,
        errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG,
    }
)  # fmt: skip
"""Errors that say something of the one entry; any other is the machine's and ends the walk."""
LOST_LOG = b"the run log was replaced by something else during the mission; what it held is lost\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Something that is not handed over, and why; bytes of its path that are no UTF-8 are shown as `\\xNN`."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A regular file with one link, open for reading while the walk stands on it; the walk closes `fd`."""

    path: str
    fd: int
    status: os.stat_result


def walk(root: Path, tops: Sequence[str], *, settle: bool = False) -> Iterator[Found | LeftOut]:
    """Everything below `root` in the entries `tops`: each file once, and each thing that is left out once.

    No particular order. Empty folders are not mentioned. `settle` gives files and folders the modes of what is handed
    over, before they are opened: a mission may have made them unreadable.

    Raises:
        OSError: `root` cannot be opened, or the machine fails (no descriptors, a disk fault).
        ConfigurationError: no `openat2`.
    """
    folder = open_folder(root)
    try:
        waiting = [top for top in reversed(tops) if exists(root / top)]
        room = LONGEST_PATH - len(os.fsencode(root)) - ROOM_FOR_STAGING
        while waiting:
            path = waiting.pop()
            faulty = _name_fault(path, room)
            if faulty:
                yield LeftOut(path=shown(path), reason=faulty)
                continue
            try:
                yield from _visit(folder, path, waiting, settle=settle)
            except OSError as error:
                if error.errno not in REFUSALS:
                    raise
                yield LeftOut(path=path, reason=refusal(error))
    finally:
        os.close(folder)


def shown(path: str) -> str:
    """`path` with bytes that are no UTF-8 as `\\xNN`, so that it can stand in a JSON text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def put_in_order(staging: Path) -> None:
    """Make the top of a staging folder what it must be, once its mission's processes are gone.

    A mission may have removed or replaced the folders it was given: what stands in their place steps aside (a link
    is removed, what it points to is left alone), and a folder takes its place. `run.log` must be a regular file with one name.

    Raises:
        OSError: as the machine says.
    """
    for name in (WORK_PRODUCTS, SUPPORTING):
        make_sure(staging / name)
    log = staging / RUN_LOG
    if exists(log) and not _is_plain(log):
        step_aside(log)
        log.write_bytes(LOST_LOG)
        log.chmod(SHARED_FILE)


def make_sure(folder: Path) -> None:
    """Make it a real folder that we can write in, whatever a mission put in its place."""
    if not is_folder(folder):
        step_aside(folder)
        make_folder(folder, SHARED_FOLDER)
    set_mode(folder, SHARED_FOLDER)


def step_aside(path: Path) -> None:
    """Free the name `path`: what is a folder or a plain file is renamed to `<name>.moved-<k>`, anything else removed."""
    if not exists(path):
        return
    if not is_folder(path) and not _is_plain(path):
        path.unlink(missing_ok=True)
        return
    number = 1
    while exists(aside := path.with_name(f"{path.name}.moved-{number}")):
        number += 1
    path.rename(aside)


def _is_plain(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _name_fault(path: str, room: int) -> str | None:
    raw = os.fsencode(path)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "the name is not valid UTF-8"
    return f"the path is longer than {room} bytes" if len(raw) > room else None


def _visit(folder: int, path: str, waiting: list[str], *, settle: bool) -> Iterator[Found | LeftOut]:
    """Give the file at `path`, or put the entries of the folder at `path` on `waiting`."""
    handle = openat2(folder, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
    finally:
        os.close(handle)
    if stat.S_ISDIR(found.st_mode):
        below = _open(folder, path, found, settle=settle)
        try:
            waiting += [f"{path}/{name}" for name in sorted(os.listdir(below), reverse=True)]
        finally:
            os.close(below)
    elif stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:  # none: it is gone, or replaced, and opening finds out
        fd = _open(folder, path, found, settle=settle)
        try:
            yield Found(path=path, fd=fd, status=os.fstat(fd))
        finally:
            os.close(fd)
    else:
        yield LeftOut(path=path, reason=kind_of(found))


def _open(folder: int, path: str, found: os.stat_result, *, settle: bool) -> int:
    """A descriptor for reading of what was found at `path`."""
    is_dir = stat.S_ISDIR(found.st_mode)
    if settle:
        executable = SHARED_FILE | 0o110 if found.st_mode & stat.S_IXUSR else SHARED_FILE
        set_mode_beneath(folder, path, SHARED_FOLDER if is_dir else executable)
    return openat2(folder, path, FOLDER) if is_dir else open_regular(folder, path)


def set_mode_beneath(folder: int, path: str, mode: int) -> None:
    """chmod of the regular file with one link, or the folder, at `path` beneath the open `folder`; follows nothing.

    By way of /proc, because a descriptor that was opened by name alone (O_PATH) is all one gets of an unreadable file.

    Raises:
        OSError: as of openat2(2) and chmod(2); EMLINK: the file has more than one name.
    """
    handle = openat2(folder, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        if not stat.S_ISDIR(found.st_mode) and (not stat.S_ISREG(found.st_mode) or found.st_nlink > 1):
            raise OSError(errno.EMLINK, kind_of(found), path)
        if stat.S_IMODE(found.st_mode) != stat.S_IMODE(mode):
            os.chmod(f"/proc/self/fd/{handle}", stat.S_IMODE(mode))
    finally:
        os.close(handle)
