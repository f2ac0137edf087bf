"""Bells as Unix datagram sockets: each listener has one in a shared folder, and a ring is one byte to each."""

from __future__ import annotations

import os
import secrets
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from ua_vp import ports

BELL = ".bell"
"""How the name of a listener's socket ends."""
FOLDER_MODE, BELL_MODE = 0o2770, 0o660
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

log = structlog.get_logger("ua_vp.runtime")


class DatagramBells:
    """`ports.Bells` on the sockets in a folder; no state, so any thread may ring."""

    def hang(self, folder: Path) -> ports.Bell:
        """A new socket in `folder`; where that cannot be, a bell that never rings, and a line in the log."""
        bell = socket.socket(socket.AF_UNIX, KIND)
        try:
            _make(folder)
            return DatagramBell(bell, _bind(bell, folder))
        except OSError as error:
            log.warning("no_wake_up", folder=str(folder), error=str(error), detail="changes are noticed a little later")
            return DatagramBell(bell, None)

    def ring(self, folder: Path) -> None:
        """One byte to each socket in `folder`; those whose owner is dead are removed, one that is full is left alone."""
        with suppress(OSError), _opened(folder) as (descriptor, here):
            hung = [name for name in os.listdir(descriptor) if name.endswith(BELL)]
            if hung:
                with socket.socket(socket.AF_UNIX, KIND) as ringer:
                    for name in hung:
                        _ring_one(ringer, f"{here}/{name}")


class DatagramBell:
    """`ports.Bell` on a socket of its own, at `path` if others can reach it."""

    def __init__(self, bell: socket.socket, path: Path | None) -> None:
        self._bell = bell
        self._path = path
        self._rung = select.poll()
        self._rung.register(bell, select.POLLIN)

    def wait(self, timeout: float) -> bool:
        """Wait for a byte, at most `timeout` seconds, and take all that are there."""
        if not self._rung.poll(timeout * 1000):
            return False
        with suppress(BlockingIOError):
            while True:
                self._bell.recv(1)
        return True

    def close(self) -> None:
        """Remove the socket."""
        self._bell.close()
        if self._path is not None:
            with suppress(OSError):  # the folder may be gone; what is left is removed by whoever rings
                self._path.unlink()


def _make(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(FOLDER_MODE)  # whatever the umask


def _bind(bell: socket.socket, folder: Path) -> Path:
    """Give `bell` a name that was never used in `folder`, once others can reach it: before, it would be taken for dead."""
    name = secrets.token_hex(8)
    with _opened(folder) as (_, here):
        bell.bind(f"{here}/{name}")
        os.chmod(f"{here}/{name}", BELL_MODE)
        os.rename(f"{here}/{name}", f"{here}/{name}{BELL}")
    return folder / f"{name}{BELL}"


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[int, str]]:
    """`folder` as a descriptor and as a path that is short: a socket's may have 107 bytes."""
    descriptor = os.open(folder, FOLDER)
    try:
        yield descriptor, f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _ring_one(ringer: socket.socket, path: str) -> None:
    try:
        ringer.sendto(b"\0", path)
    except ConnectionRefusedError:
        with suppress(OSError):  # somebody else removed it, or may and we may not
            os.unlink(path)
    except OSError:
        return  # it has a byte already, or is gone
