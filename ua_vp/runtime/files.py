"""Durable steps on files: each returns when it would survive a power cut."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from ua_vp.errors import DiskFullError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def random_name() -> str:
    """What makes a temporary name unique."""
    return secrets.token_hex(8)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn "no space left" into the error that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                f"{path}: no space left ({os.strerror(error.errno)}); make room and try again"
            ) from error
        raise


class DurableFiles:
    """`ports.Files` on the real file system; `unique` names temporary files."""

    def __init__(self, unique: Callable[[], str] = random_name) -> None:
        self._unique = unique

    def write(self, path: Path, data: bytes, *, mode: int = 0o640) -> None:
        """Put `data` at `path` whole or not at all; what was there before stays until the new file is durable.

        Raises:
            DiskFullError: no room; nothing is left behind.
        """
        temporary = path.with_name(f".{path.name[:50]}.{self._unique()}.tmp")
        with naming(path):
            try:
                self._write_new(temporary, data, mode)
                os.rename(temporary, path)
            finally:
                with suppress(OSError):  # after the rename it is gone
                    os.unlink(temporary)
            self._sync_folder(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        """Rename and fsync both folders; a source that is gone while the target is there counts as done.

        Raises:
            OSError: neither is there, the target is a folder with something in it, or they lie on two file systems.
            DiskFullError: no room.
        """
        with naming(target):
            try:
                os.rename(source, target)
            except FileNotFoundError:
                if os.path.lexists(source) or not os.path.lexists(target):
                    raise
            self._sync_folder(target.parent)
            if source.parent != target.parent and source.parent.is_dir():
                self._sync_folder(source.parent)

    def make_folder(self, path: Path, *, mode: int = 0o750) -> None:
        """Make `path` and its missing parents, durable; an existing folder is left as it is.

        Raises:
            FileExistsError: something else than a folder stands there.
            DiskFullError: no room.
        """
        missing = [path]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        with naming(path):
            for folder in reversed(missing):
                self._make_one(folder, mode)

    def sync(self, path: Path) -> None:
        """fsync a file or a folder.

        Raises:
            OSError: it cannot be opened, is a symbolic link, or the disk failed.
            DiskFullError: no room.
        """
        with naming(path):
            self._sync(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder and all below it without following links; missing is fine; read-only folders are opened up."""
        try:
            kind = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(kind):
            _empty(path)
            with suppress(FileNotFoundError):
                os.rmdir(path)
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)
        self._sync_folder(path.parent)

    def _write_new(self, path: Path, data: bytes, mode: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, mode)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            self._fsync(descriptor)
        finally:
            os.close(descriptor)

    def _make_one(self, folder: Path, mode: int) -> None:
        try:
            folder.mkdir(mode)
        except FileExistsError:
            if not folder.is_dir():
                raise
            return
        inherited = folder.stat().st_mode & stat.S_ISGID
        folder.chmod(mode | inherited)
        self._sync_folder(folder)
        self._sync_folder(folder.parent)

    def _sync_folder(self, path: Path) -> None:
        self._sync(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _sync(self, path: Path, flags: int) -> None:
        descriptor = os.open(path, flags)
        try:
            self._fsync(descriptor)
        finally:
            os.close(descriptor)

    def _fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)


def _empty(root: Path) -> None:
    """Remove all that is in `root`, however deep, with one open descriptor: down by name, up by `..`, checked.

    Raises:
        OSError: somebody moves folders about meanwhile, or does not let us.
    """
    here = _open_folder(os.fspath(root), None)
    above: list[tuple[str, tuple[int, int]]] = []
    try:
        while True:
            below = _remove_entries(here)
            if below is not None:
                above.append((below, _identity(here)))
                here = _replace(here, _open_folder(below, here))
            elif above:
                name, parent = above.pop()
                here = _replace(here, os.open("..", FOLDER, dir_fd=here))
                if _identity(here) != parent:
                    raise OSError(errno.EBUSY, f"{root}: a folder in it was moved while it was removed")
                os.rmdir(name, dir_fd=here)
            else:
                return
    finally:
        os.close(here)


def _remove_entries(folder: int) -> str | None:
    """Remove what is no folder, and empty folders; give the name of a folder with something in it, if there is one."""
    while listed := _some_entries(folder):
        for name, is_folder in listed:
            try:
                (os.rmdir if is_folder else os.unlink)(name, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                if not is_folder or error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise
                return name
    return None


def _some_entries(folder: int) -> list[tuple[str, bool]]:
    """At most 1000 entries, so that a folder of many folders is not listed whole for each of them."""
    with os.scandir(folder) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(entries, 1000)]


def _open_folder(name: str, parent: int | None) -> int:
    """Open a folder for emptying; where its owner shut himself out, the owner's bits are given back first."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{handle}", mode | stat.S_IRWXU)
    finally:
        os.close(handle)
    return os.open(name, FOLDER, dir_fd=parent)


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
