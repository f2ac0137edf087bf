"""Probes every installed plugin, each in a process of its own, before anything depends on it."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ua_vp.errors import WorkspaceError
from ua_vp.host.installed import Installed, Request, find_installed, request_for
from ua_vp.host.plugin import fix, short_path
from ua_vp.lane import Manifest, Verdict
from ua_vp.ports import MICROS, Child, Command, Exit, Ports
from ua_vp.settings import Settings

AT_ONCE = 8
LONGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer; a plugin whose manifest is longer is degraded."""
LAST_WORDS = 16 * 1024
"""Bytes kept of what a plugin prints."""
TURN = 0.02
"""Seconds that one probe is listened to before the next one has its turn."""
LAST_WORD = 1.0
"""Seconds that a late probe has to say where it is."""
FRAME = re.compile(r'File "([^"]+)", line (\d+) in ')


def probe_all(settings: Settings, ports: Ports, *, environ: Mapping[str, str]) -> list[Verdict]:
    """A verdict on each installed entry point of group `ua_vp`; up to `AT_ONCE` are probed side by side.

    Each probe is a process tree of its own that ends with its verdict, at the latest after
    `settings.worker.probe_seconds`. `environ` is handed to the probes, so that a plugin finds what it will find in
    its worker.
    """
    requests = [request_for(plugin, settings) for plugin in find_installed()]
    probes: list[_Probe] = []
    running: list[_Probe] = []
    while running or len(probes) < len(requests):
        for request in requests[len(probes) : len(probes) + AT_ONCE - len(running)]:
            probes.append(_Probe(request, ports, environ))
            running.append(probes[-1])
        running = [probe for probe in running if not probe.step()]
    return [probe.verdict() for probe in probes]


class _Probe:
    """One probe under way."""

    def __init__(self, request: Request, ports: Ports, environ: Mapping[str, str]) -> None:
        self._request = request
        self._clock = ports.clock
        self._processes = ports.processes
        self._command = Command(
            argv=(sys.executable, "-P", "-m", "ua_vp.host"),
            cwd=Path("/"),
            env={name: value for name, value in environ.items() if name != "UA_VP_TOKEN"},
            stdin=json.dumps(request.to_json(), default=str).encode(),
        )
        self._kills = 0
        self._start()

    def _start(self) -> None:
        self._answer = bytearray()
        self._words = bytearray()
        self._exit: Exit | None = None
        self._ended_output = False
        self._late = False
        self._failure: OSError | None = None
        self._child: Child | None = None
        self._deadline = self._clock.monotonic() + round(self._request.seconds * MICROS)
        try:
            self._child = self._processes.launch(self._command)
        except OSError as error:
            self._failure = error

    def step(self) -> bool:
        """Listen for at most `TURN`; whether the probe is over and its processes are gone.

        One that somebody killed (the kernel, out of memory) says nothing of its plugin: it is begun once more.
        """
        if self._child is None:
            return True
        if self._ended_output:
            self._exit = _exit_of(self._child)
        else:
            self._listen(self._child)
        if self._exit is None and self._clock.monotonic() > self._deadline:
            self._end(self._child)
        if self._exit is not None and self._exit.code == -signal.SIGKILL and not self._late and not self._kills:
            self._kills += 1
            self._start()
        return self._exit is not None

    def _end(self, child: Child) -> None:
        """Ask the probe where it is and to go; make it go when it was asked before."""
        if not self._late:
            self._late = True
            self._deadline = self._clock.monotonic() + round(LAST_WORD * MICROS)
            child.terminate()
        else:
            child.kill()
            self._exit = _exit_of(child, None)

    def _listen(self, child: Child) -> None:
        chunk = child.read(TURN)
        if chunk is None:
            return
        stream, data = chunk
        if not data:
            self._ended_output = True
        elif stream == "stdout" and len(self._answer) <= LONGEST_ANSWER:
            self._answer += data
        elif stream == "stderr":
            self._words += data
            del self._words[:-LAST_WORDS]

    def verdict(self) -> Verdict:
        """What the probe found out."""
        plugin, answer = self._request.plugin, self._read_answer()
        if answer is None:
            answer = {"ok": False, **self._explain(plugin)}
        return Verdict(
            entry_point=plugin.entry_point,
            distribution=plugin.distribution,
            version=plugin.version,
            ok=answer["ok"],
            detail=answer["detail"],
            remedy=answer["remedy"],
            manifests=tuple(Manifest.from_json(manifest) for manifest in answer.get("manifests", ())),
            hooks=tuple(answer.get("hooks", ())),
        )

    def _read_answer(self) -> dict[str, Any] | None:
        """The answer, the last whole line on the channel; None if there is none or it came too late."""
        lines = bytes(self._answer).rstrip(b"\n").rsplit(b"\n", 1)
        if self._late or len(self._answer) > LONGEST_ANSWER:
            return None
        try:
            answer = json.loads(lines[-1])
        except ValueError:
            return None
        return answer if isinstance(answer, dict) and "detail" in answer else None

    def _explain(self, plugin: Installed) -> dict[str, str]:
        words = self._words.decode(errors="replace")
        if self._failure is not None:
            return {"detail": f"the probe cannot be started: {self._failure}", "remedy": "see the error's text"}
        if self._late:
            at = _where_it_hangs(words, plugin)
            more = "allow it longer with [worker] probe_seconds in ua-vp.toml"
            return {
                "detail": f"did not answer within {self._request.seconds:g} s{f'; it is at {at}' if at else ''}",
                "remedy": f"{fix(plugin)}; or {more}",
            }
        if len(self._answer) > LONGEST_ANSWER:
            return {"detail": f"its manifest is longer than {LONGEST_ANSWER} bytes", "remedy": fix(plugin)}
        code = "unknown" if self._exit is None else self._exit.code
        last = next((line.strip() for line in reversed(words.splitlines()) if line.strip()), "")
        said = f"; its last words: {last[:300]}" if last else ""
        return {"detail": f"ended the probe (exit code {code}) without an answer{said}", "remedy": fix(plugin)}


def _exit_of(child: Child, timeout: float | None = TURN) -> Exit | None:
    """How it ended, None if it does not in time; without its launcher it was killed, too."""
    try:
        return child.wait(timeout)
    except WorkspaceError:
        return Exit(code=-signal.SIGKILL)


def _where_it_hangs(words: str, plugin: Installed) -> str | None:
    """The plugin's innermost line in the stack that the probe wrote, else the innermost of all."""
    frames = FRAME.findall(words)
    own = [frame for frame in frames if plugin.package in Path(frame[0]).with_suffix("").parts]
    return next((f"{short_path(filename)}:{line}" for filename, line in (*own, *frames)), None)
