"""A family of processes that does not want to end, as a mission's work in tests; and a look for its members.

Run as `python family.py MARKER FOLDER` it is the work: the first time (FOLDER is not there) it makes FOLDER, a daemon in
a session of its own whose parent is gone, a child and a grandchild that ignore SIGTERM, then FOLDER/up, and stays for
ever. Every later time it writes `work_products/summary.md` and ends well. MARKER stands in the command line of each.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

MEMBERS = 4


def members(marker: str) -> list[int]:
    """The living processes that carry `marker` in their command line or environment, this one left out.

    A process that has ended and was not waited for has neither, and does not count.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):  # it ended meanwhile
                if marker.encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


class Family:
    """A family that a mission will be; used as a context manager, nobody of it outlives the test."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.marker = str(folder / "marker")
        self._home = folder / "home"
        self._program = str(shutil.copy(__file__, folder / "family.py"))

    def __enter__(self) -> Family:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def argv(self, python: str) -> tuple[str, ...]:
        """What the mission has to run."""
        return python, self._program, self.marker, str(self._home)

    def is_up(self) -> bool:
        """Whether the whole family is there."""
        return (self._home / "up").exists() and len(self.members()) >= MEMBERS

    def members(self) -> list[int]:
        """The processes of it that live."""
        return members(self.marker)


def main(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileExistsError:
        Path("work_products", "summary.md").write_text("# A later attempt did it\n", encoding="utf-8")
        return
    reader, writer = os.pipe()
    fork(lambda: fork_daemon(writer))
    fork(lambda: fork_stubborn(writer))
    for _ in range(MEMBERS - 1):
        os.read(reader, 1)
    print("the family is up", flush=True)
    (folder / "up").touch()
    stay()


def fork_daemon(up: int) -> None:
    os.setsid()
    fork(lambda: refuse_to_end(up, quiet=True))


def fork_stubborn(up: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fork(lambda: refuse_to_end(up, quiet=False))
    refuse_to_end(up, quiet=False)


def refuse_to_end(up: int, *, quiet: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if quiet:  # a real daemon holds none of its parent's streams
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
    os.write(up, b".")
    stay()


def fork(child: Callable[[], object]) -> None:
    if not os.fork():
        child()
        os._exit(0)


def stay() -> NoReturn:
    while True:
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[2]))
