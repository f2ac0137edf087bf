"""What a lane's `run` works with: the folders, the log, and the processes of one attempt."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ua_vp.errors import CredentialError, MissionStoppedError
from ua_vp.lane import Finished, Secret
from ua_vp.mission import Json, JsonObject, Mission, canonical_json
from ua_vp.ports import MICROS, Child, Command, Ports, Signal
from ua_vp.sandbox.spec import Walls, wrap
from ua_vp.worker.running import Running
from ua_vp.workspace import AttemptFolders, RunLog, fresh_folder

CAPTURE_LIMIT = 64 * 1024 * 1024
"""Bytes of standard output kept for the lane when it asks for them."""
TAIL_LIMIT = 64 * 1024
"""Bytes of the end of its output kept for the lane in any case."""
PROGRESS_INTERVAL = 1.0
"""Seconds between two progress events of one mission."""
LARGEST_COUNT = 2**63 - 1
POLL = 0.1
"""Seconds between looks at time limits while a process is silent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What the loop writes to the ledger for a lane: a sign of life, and an event if there is a summary."""

    running: Running
    summary: str | None = None
    data: JsonObject | None = None


class Context:
    """The `MissionContext` of one attempt; methods may be called from any thread until the lane has returned."""

    def __init__(
        self,
        running: Running,
        folders: AttemptFolders,
        log: RunLog,
        *,
        ports: Ports,
        walls: Walls,
        environment: Mapping[str, str],
        report: Callable[[Progress], None],
    ) -> None:
        self._running = running
        self._folders = folders
        self._log = log
        self._ports = ports
        self._walls = walls
        self._report = report
        self._lock = ports.threads.lock()
        self._last_event: int | None = None
        self._engaged = False
        self._variables = self._lay_out(environment)

    @property
    def mission(self) -> Mission:
        """The mission as it was claimed."""
        return self._running.claim.mission

    @property
    def work_products(self) -> Path:
        """Folder for deliverables."""
        return self._folders.work_products

    @property
    def supporting(self) -> Path:
        """Folder for diagnostics and notes."""
        return self._folders.supporting

    @property
    def scratch(self) -> Path:
        """Private folder, removed at the end."""
        return self._folders.scratch

    @property
    def inputs(self) -> Path:
        """Folder with the mission's input files."""
        return self._folders.inputs

    @property
    def cancelled(self) -> Signal:
        """Raised when the lane should stop."""
        return self._running.cancelled

    @property
    def deadline(self) -> float | None:
        """Seconds left of the mission's time; None without a limit."""
        return self._running.seconds_left()

    def log(self, text: str) -> None:
        """Write lines to `run.log`."""
        self._write("lane", (text if text.endswith("\n") else text + "\n").encode("utf-8", "replace"))

    def progress(self, summary: str, **data: Json) -> None:
        """A sign of life, and an event at most once a second.

        Raises:
            TypeError, ValueError: `data` is not JSON.
        """
        summary = str(summary).encode("utf-8", "replace").decode("utf-8")
        reported: JsonObject = json.loads(canonical_json(data))  # a copy: the lane may change what it gave
        self._running.sign_of_life()
        self._write("lane", f"progress: {summary}\n".encode("utf-8", "replace"))
        with self._lock:
            now = self._ports.clock.monotonic()
            due = self._last_event is None or now - self._last_event >= PROGRESS_INTERVAL * MICROS
            if due:
                self._last_event = now
        if due:
            self._report(Progress(running=self._running, summary=summary, data=reported))

    def usage(self, **counts: int) -> None:
        """Totals so far; limits of the mission's budget are enforced on them.

        Raises:
            TypeError, ValueError: a count is no integer from 0 to 2^63 - 1, or its name is no text.
        """
        given: Mapping[str, object] = counts  # a lane without a type checker may give anything
        for name, count in given.items():
            if not isinstance(count, int) or isinstance(count, bool):
                raise TypeError(f"usage({name}=…) takes an integer, not {type(count).__name__}")
            if not 0 <= count <= LARGEST_COUNT:
                raise ValueError(f"usage({name}=…) takes an integer from 0 to {LARGEST_COUNT}")
            name.encode()  # a name that is no text cannot be kept
        self._running.add_usage(counts)

    def credential(self, name: str) -> Secret:
        """A credential that the configuration grants this lane."""
        raise CredentialError(
            f"credential {name!r} is not granted to {self.mission.vp_id}; "
            "no lane holds credentials until the configuration can grant them"
        )

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        capture: bool = False,
        timeout: float | None = None,
    ) -> Finished:
        """Run a program in the mission's walls and wait for its whole process tree (see `MissionContext.run`)."""
        if self.cancelled.is_set():
            raise MissionStoppedError(f"the mission is stopping ({self._running.stop}); {command[0]} was not started")
        whole = Command(
            argv=tuple(command),
            cwd=cwd or fresh_folder(self._folders),
            env={**self._variables, **(env or {})},
            stdin=stdin,
        )
        child = self._running.start(lambda: self._ports.processes.launch(wrap(self._walls, whole)))
        try:
            finished, timed_out = self._follow(child, capture=capture, timeout=timeout)
            ended = child.wait()
        finally:
            self._end(child)
        if self.cancelled.is_set():
            raise MissionStoppedError(f"{command[0]} was stopped with its mission ({self._running.stop})")
        if timed_out:
            raise TimeoutError(f"{command[0]} ran longer than {timeout:g} s and was stopped")
        if ended is None:  # wait() without a limit returns only at the end
            raise MissionStoppedError(f"{command[0]} ended unseen")
        return replace(finished, code=ended.code)

    def say(self, text: str) -> None:
        """A line of the worker's own in `run.log`."""
        self._log.write("worker", text.encode("utf-8", "replace") + b"\n")

    def _follow(self, child: Child, *, capture: bool, timeout: float | None) -> tuple[Finished, bool]:
        """Copy the output into the log until it ends; returns what was kept of it and whether time ran out."""
        start, captured, tail, timed_out = self._ports.clock.monotonic(), bytearray(), bytearray(), False
        while True:
            chunk = child.read(POLL if timeout is not None else None)
            late = timeout is not None and self._ports.clock.monotonic() - start >= timeout * MICROS
            if late and not timed_out:
                timed_out = True
                child.kill()
            if chunk is None:
                continue
            stream, data = chunk
            if not stream:
                return Finished(code=0, stdout=bytes(captured), tail=bytes(tail)), timed_out
            self._write("stdout" if stream == "stdout" else "stderr", data)
            tail += data
            del tail[:-TAIL_LIMIT]
            if capture and stream == "stdout":
                captured += data[: CAPTURE_LIMIT - len(captured)]

    def _end(self, child: Child) -> None:
        if child.wait(0) is None:
            child.kill()
            child.wait()
        self._running.leave(child)

    def _write(self, stream: Literal["stdout", "stderr", "lane"], data: bytes) -> None:
        self._running.sign_of_life(output=len(data))
        if not self._engaged:
            self._engaged = True
            self._report(Progress(running=self._running))
        self._log.write(stream, data)

    def _lay_out(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Write objective and constraints where a program can read them; the variables that say where."""
        folders, files = self._folders, self._ports.files
        objective, constraints = folders.scratch / "objective.txt", folders.scratch / "constraints.json"
        files.write(objective, self.mission.objective.encode("utf-8"))
        files.write(constraints, canonical_json(self.mission.constraints))
        return {
            **environment,
            "HOME": str(folders.home),
            "TMPDIR": str(folders.tmp),
            "UA_VP_MISSION_ID": self.mission.mission_id,
            "UA_VP_WORK_PRODUCTS": str(folders.work_products),
            "UA_VP_SUPPORTING": str(folders.supporting),
            "UA_VP_INPUTS": str(folders.inputs),
            "UA_VP_OBJECTIVE_FILE": str(objective),
            "UA_VP_CONSTRAINTS_FILE": str(constraints),
        }
