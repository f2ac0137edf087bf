"""One real instance of the product per page, and the shell in which the page's commands run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from types import TracebackType

from tests.docs.pages import ROOT, UP, Command, missing
from tests.product import free_port
from tests.waiting import wait_until

START, END, COMMAND = 120.0, 60.0, 120.0
READY = "settings   "
"""Begins the line by which `up` says that all is there."""


class Instance:
    """`ua-vp up` in a home, a data folder and a checkout of its own; and a shell in that checkout."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        checkout = folder / "checkout"
        shutil.copytree(ROOT / "docs", checkout / "docs")
        for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"):
            shutil.copy(ROOT / page, checkout / page)
        self._said = folder / "up.out"
        self._env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "UA_VP_HOME": str(self.home),
            "UA_VP_OPS_BIND": f"127.0.0.1:{free_port()}",
            "XDG_DATA_HOME": str(folder / "data"),
        }
        self._cwd = checkout
        self._up: subprocess.Popen[bytes] | None = None
        self._shell = subprocess.Popen(
            ["bash", "--norc", "-o", "pipefail"],
            cwd=checkout, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def __enter__(self) -> Instance:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shell.kill()
        self._shell.communicate()
        self.stop()

    def run(self, command: Command) -> None:
        """Run a command of the page; what it shows must be what the page says, and it must succeed."""
        if command.text in UP:
            output = self.start(command)
        else:
            if self._up is None:
                self.start()
            output, code = self._in_shell(command.text)
            assert code == 0, f"{command.where}: exit {code}: $ {command.text}\n{output}"
        lacking = missing(command.shows, output)
        assert lacking is None, f"{command.where}: $ {command.text}\nnowhere: {lacking}\nshown:\n{output}"

    def start(self, command: Command | None = None) -> str:
        """`up`, anew if it runs; gives what it said when it and its first missions are there."""
        self.stop()
        first = ["--first-missions"] if command and command.text == UP[0] else []
        with self._said.open("wb") as said:
            self._up = subprocess.Popen(
                ["ua-vp", "up", *first], cwd=self._cwd, env=self._env, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True, executable=shutil.which("ua-vp", path=self._env["PATH"]),
            )  # fmt: skip
        up = self._up

        def is_ready() -> bool:
            assert up.poll() is None, f"`up` ended:\n{self._said.read_text()}"
            return READY in self._said.read_text()

        wait_until(is_ready, within=START, why="`up` says that all is there")
        return self._said.read_text()

    def append(self, settings: str) -> None:
        """Add to the settings that the first start writes."""
        if not self.home.exists():
            self.start()
        self.stop()
        with (self.home / "ua-vp.toml").open("a", encoding="utf-8") as file:
            file.write(f"\n{settings}")

    def stop(self) -> None:
        """Ctrl-C, and wait."""
        if self._up is not None:
            self._up.send_signal(signal.SIGINT)
            try:
                self._up.wait(END)
            except subprocess.TimeoutExpired:
                self._up.kill()
                raise
            self._up = None

    def _in_shell(self, text: str) -> tuple[str, int]:
        mark = f"end-{uuid.uuid4().hex}"
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(f'{text}\necho "\n{mark} $?"\n')
        self._shell.stdin.flush()
        lines = list[str]()
        for line in self._shell.stdout:
            if line.startswith(mark):
                return "".join(lines), int(line.split()[1])
            lines.append(line)
        raise AssertionError(f"the shell ended: {text}\n{''.join(lines)}")
