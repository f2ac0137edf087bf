"""Deeds under the shim, in homes of their own: builds the shim, keeps a driver, prepares homes, repairs and audits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.shim.audit import Findings, audit, lies

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc")
LEASE = 4.0
LIMIT = 40
"""Seconds after which a deed counts as hung."""

needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="no C compiler to build the shim (Debian: gcc and libc6-dev)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a deed ended: `exit` as of `os.waitstatus_to_exitcode`, what it said, its standard error, its counted calls."""

    exit: int
    said: list[str]
    error: str
    calls: list[str]

    @property
    def killed(self) -> bool:
        return self.exit == -signal.SIGKILL

    @property
    def hung(self) -> bool:
        return self.exit == -signal.SIGALRM

    @property
    def last(self) -> str:
        """The call before which the shim acted, if it acted once."""
        return self.calls[-1] if self.calls else "nothing"

    def keys(self, word: str) -> set[str]:
        """The keys (missions) that were answered with `word`: `new`, `again`, or `not` (`cancelled`)."""
        return {line.split()[1] for line in self.said if line.startswith(f"{word} ")}

    @property
    def acknowledged(self) -> set[str]:
        return self.keys("new") | self.keys("again")


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """A deed, the deeds that lead to the home in which it is done, and the keys that both are given."""

    name: str
    deed: str
    before: tuple[str, ...] = ()
    key: str = "write"

    @property
    def promised(self) -> set[str]:
        """Keys that were acknowledged before it begins."""
        return {self.key} if "order" in self.before else set()


OPERATIONS = (
    Operation(name="create", deed="create"),
    Operation(name="dispatch", deed="order", before=("create",)),
    Operation(name="mission", deed="work", before=("create", "order")),
    Operation(name="cancel queued", deed="call_off", before=("create", "order")),
    Operation(name="end a cancelled one", deed="work", before=("create", "order", "call_off")),
    Operation(name="cancel running", deed="work", before=("create", "order"), key="running"),
)
BY_NAME = {operation.name: operation for operation in OPERATIONS}


class Bench:
    """A driver and a folder for homes; homes are made once for each history, and copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self._trace = folder / "trace"
        environ = {**os.environ, "LD_PRELOAD": str(build(folder)), "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.shim.driver"],
            cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def home(self, operation: Operation) -> Path:
        """A fresh home, in which the operation is what comes next; the one before is gone."""
        made = self._folder / "-".join(("home", *operation.before, operation.key))
        if not made.exists():
            made.mkdir()
            for deed in operation.before:
                assert self.do(deed, made, key=operation.key).exit == 0
        return self.copy(made)

    def copy(self, made: Path, name: str = "root") -> Path:
        """A copy of a home, but for bells, which are sockets; what had this name before is gone."""
        copied = self.empty(name)
        shutil.copytree(made, copied, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bell"))
        return copied

    def empty(self, name: str = "root") -> Path:
        """A folder with nothing in it."""
        made = self._folder / name
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        return made

    def do(
        self,
        deed: str,
        root: Path,
        *,
        key: str = "",
        mutant: str = "",
        limit: int = LIMIT,
        lease: float = LEASE,
        **shim: str | int,
    ) -> Ended:
        """Do `deed` in the home `root`, by a product broken by `mutant`, for `limit` seconds; `shim`: such as `at=7`."""
        self._trace.unlink(missing_ok=True)
        settings = {"roots": str(root), "trace": str(self._trace), **shim}
        env = {f"SHIM_{name.upper()}": str(value) for name, value in settings.items()}
        env |= {"DEED_KEYS": key, "DEED_LEASE": str(lease), "DEED_MUTANT": mutant, "DEED_LIMIT": str(limit)}
        answer = self._ask({"deed": deed, "root": str(root), "env": env})
        calls = self._trace.read_text(errors="replace").splitlines() if self._trace.exists() else []
        return Ended(calls=calls, **answer)

    def repaired(self, root: Path, before: Ended, *, promised: set[str], key: str, mutant: str = "") -> Findings:
        """Start again after `before`, reconcile once; what is wrong then, with the home and with what was answered."""
        acknowledged = promised | before.acknowledged
        found = Findings(lost=lies(root))
        again = self.do("repair", root, key=key, mutant=mutant)
        found.add(audit(root, acknowledged, before.keys("cancelled")))
        if again.exit or "worker 0" not in again.said:
            found.lost.append(f"the repair ended with {again.exit}, {again.said}: {again.error[-2000:]}")
        found.lost += [f"{one} was acknowledged, and forgotten" for one in acknowledged - again.keys("again")]
        found.double += [f"{one} was refused, and is there" for one in before.keys("not") & again.keys("again")]
        return found

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        asking, answers = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answers is not None
        asking.write(json.dumps(request) + "\n")
        asking.flush()
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    made = Bench(folder)
    try:
        yield made
    finally:
        made.close()


def build(folder: Path) -> Path:
    """Compile the shim into `folder`."""
    assert COMPILER is not None
    shim = folder / "shim.so"
    flags: Sequence[str] = ("-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")
    subprocess.run([COMPILER, *flags, "-o", shim, HERE / "shim.c"], check=True)
    return shim
