"""Every process below the test: whatever detaches itself, forks twice or begins a session of its own stays in sight."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.product import Product
from tests.waiting import wait_until

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True, slots=True)
class Relative:
    """A living process below the test."""

    pid: int
    command: str
    kind: str
    """`api`, `worker`, `launcher` (and what it watches itself with), `child` (of a mission or a probe)."""


class Kin:
    """While it is open this process is a subreaper: orphans below it become its children, not those of init."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._before = {pid for pid, _ in below(os.getpid())}

    def __enter__(self) -> Kin:
        be_subreaper(True)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            wait_until(self._all_killed, within=30, why="what was left is killed")
        finally:
            be_subreaper(False)

    def _all_killed(self) -> bool:
        for relative in self.living():
            with suppress(ProcessLookupError):
                os.kill(relative.pid, signal.SIGKILL)
        return not self.living()

    def living(self, kind: str | None = None) -> list[Relative]:
        """Those of the product that live, of one kind or all; the dead that were left to us are buried on the way."""
        ours, found = self._product.pids, []
        for pid, state in below(os.getpid()):
            if pid in self._before:
                continue
            if state == "Z":
                if pid not in ours:
                    with suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
            elif relative := self._look(pid):
                found.append(relative)
        return [relative for relative in found if kind in {None, relative.kind}]

    def _look(self, pid: int) -> Relative | None:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it ended meanwhile
            return None
        return Relative(pid=pid, command=command, kind=self._kind(pid, command))

    def _kind(self, pid: int, command: str) -> str:
        if pid in self._product.pids:
            return "api" if command.endswith(" serve") else "worker"
        return "launcher" if "launcher.py run" in command else "child"


def be_subreaper(yes: bool) -> None:
    """prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(yes), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def below(top: int) -> list[tuple[int, str]]:
    """(process, state) of every descendant of `top` now."""
    children: dict[int, list[tuple[int, str]]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                state, parent = Path(f"/proc/{name}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
                children.setdefault(int(parent), []).append((int(name), state))
    found = list(children.get(top, []))
    for pid, _ in found:
        found += children.get(pid, [])
    return found
