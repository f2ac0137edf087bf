"""Opening files beneath a folder without following anything: Linux's `openat2` (5.6 or newer), with no fallback.

A check on a path string loses the race against somebody who swaps a folder for a link; here the kernel resolves and
checks in one step. See openat2(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path

from ua_vp.errors import ConfigurationError, NotFoundError, WorkspaceError

NUMBER = 437
"""The system call's number, the same on every architecture that CPython supports on Linux."""
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
RACES_BORNE = 1000
"""How often a rename may go on meanwhile (EAGAIN, or the file we opened has just lost its name) before we give up."""

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Never waits: opening a FIFO or a device for reading returns at once, and what is not a regular file is refused then."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OpenHow(ctypes.Structure):
    """`struct open_how` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(folder: int, relative: str, flags: int) -> int:
    """A descriptor of `relative`, resolved beneath the open `folder` without crossing any link; the caller closes it.

    Raises:
        ConfigurationError: this kernel has no `openat2`, or a filter forbids it.
        OSError: ELOOP (a link in the way), EXDEV (leads out of the folder), ENOENT, … as of openat2(2).
    """
    name = _encoded(relative)
    how = OpenHow(flags=flags | os.O_CLOEXEC, mode=0, resolve=BENEATH)
    for _ in range(RACES_BORNE):
        fd, number = _call(folder, name, how)
        if fd >= 0:
            return fd
        if number in {errno.ENOSYS, errno.EPERM}:
            raise ConfigurationError(
                f"openat2 is not to be had here ({os.strerror(number)}): it needs Linux 5.6 or newer, and in a container "
                "a seccomp profile that allows it; without it no artifact can be opened safely"
            )
        if number not in {errno.EAGAIN, errno.EINTR}:
            raise OSError(number, os.strerror(number), relative)
    raise OSError(errno.EAGAIN, "the folder is being renamed all the time", relative)


def open_folder(path: Path) -> int:
    """A descriptor of the folder at `path`, whose last component must not be a link; the caller closes it.

    Raises:
        OSError: it is not there, or is no folder.
    """
    return os.open(path, FOLDER)


def open_beneath(root: Path, relative: str) -> int:
    """A descriptor, for reading, of the regular file `relative` beneath `root`; the caller closes it.

    No component may be a symbolic link, and the file must have exactly one name: a second one may lie anywhere.

    Raises:
        NotFoundError: nothing is there.
        WorkspaceError: a link, a path that leads out of `root`, or not a regular file with one link.
        ConfigurationError: no `openat2`.
    """
    try:
        folder = open_folder(root)
    except FileNotFoundError:
        raise NotFoundError(f"{root} does not exist") from None
    except OSError as error:
        raise WorkspaceError(f"{root} cannot be opened as a folder: {error.strerror}") from error
    try:
        return open_regular(folder, relative)
    except FileNotFoundError:
        raise NotFoundError(f"{relative!r} does not exist in {root}") from None
    except OSError as error:
        raise WorkspaceError(f"{relative!r} in {root} is refused: {refusal(error)}") from error
    finally:
        os.close(folder)


def open_regular(folder: int, relative: str) -> int:
    """Like `open_beneath`, from an open folder, with the kernel's own errors.

    Raises:
        OSError: as of openat2(2); EMLINK: the file has more than one name; EINVAL: it is no regular file.
    """
    for _ in range(RACES_BORNE):
        fd = openat2(folder, relative, READ)
        found = os.fstat(fd)
        regular = stat.S_ISREG(found.st_mode)
        if regular and found.st_nlink == 1:
            return fd
        os.close(fd)
        if not regular or found.st_nlink > 1:
            raise OSError(errno.EMLINK if regular else errno.EINVAL, kind_of(found), relative)
        # No name left: it was removed, or replaced by a rename, since it was opened.
    raise OSError(errno.EAGAIN, "the file is being replaced all the time", relative)


def kind_of(found: os.stat_result) -> str:
    """What kind of thing it is, in words."""
    kinds: tuple[tuple[Callable[[int], bool], str], ...] = (
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISDIR, "folder"),
        (stat.S_ISFIFO, "FIFO"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "device"),
        (stat.S_ISBLK, "device"),
    )
    for matches, name in kinds:
        if matches(found.st_mode):
            return name
    return "regular file" if found.st_nlink == 1 else f"hard link ({found.st_nlink} names)"


def refusal(error: OSError) -> str:
    """Why the kernel, or `open_regular`, refused, in words."""
    words = {
        errno.ELOOP: "a symbolic link is in the way",
        errno.EXDEV: "the path leads out of the folder",
        errno.ENXIO: "socket or device",
        errno.ENODEV: "device",
    }
    return words.get(error.errno or 0, error.strerror or str(error))


def _encoded(relative: str) -> bytes:
    try:
        name = os.fsencode(relative)
    except UnicodeEncodeError:
        raise OSError(errno.EINVAL, "the name cannot be written in UTF-8", relative) from None
    if b"\0" in name:
        raise OSError(errno.EINVAL, "the name holds a NUL byte", relative)
    return name


def _call(folder: int, name: bytes, how: OpenHow) -> tuple[int, int]:
    """(descriptor, 0) or (-1, errno)."""
    size = ctypes.c_size_t(ctypes.sizeof(how))
    fd = int(_libc().syscall(ctypes.c_long(NUMBER), ctypes.c_long(folder), name, ctypes.byref(how), size))
    return fd, ctypes.get_errno() if fd < 0 else 0


@cache
def _libc() -> ctypes.CDLL:
    """The C library, with errno kept per thread; `syscall` answers with a long."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library
