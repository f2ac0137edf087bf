"""Missions with files, for tests of the workspace: a real folder, real durable steps, no ledger."""

import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ua_vp.mission import Budget, Claim, Ending, Mission, ReplyMode, Status
from ua_vp.ports import Files
from ua_vp.runtime.files import DurableFiles
from ua_vp.workspace import Receipt, Workspace, discover, mark, prepare, publish, receipt_for, stage


class QuickFiles(DurableFiles):
    """The real files without fsync: a process that is killed loses nothing it wrote, only a power cut does."""

    def _fsync(self, descriptor: int) -> None:
        pass


FILES = QuickFiles()
MISSION_ID = "vp-mission-" + "0123456789abcdef" * 2
VP_ID = "vp.general.primary"
COMPLETED_AT = 1_767_225_600_123_456
"""2026-01-01T00:00:00.123456Z"""
NOBODY = 65534
REPORT = {
    "work_products/report.md": b"# Report\n",
    "work_products/data/a.csv": b"1,2\n",
    "supporting/notes.txt": b"notes\n",
}


def mission(**values: object) -> Mission:
    base = Mission(
        mission_id=MISSION_ID, vp_id=VP_ID, status=Status.RUNNING, mission_type="task", objective="Write a report",
        constraints={}, budget=Budget(), inputs=(), priority=100, attempt=1, tries=0, max_tries=3,
        cancel_requested=False, cancel_reason=None, cancelled_by=None, result_ref=None, summary=None, failure_mode=None,
        failure_detail=None, source_session_id="s1", source_turn_id=None, turn_id=None, reply_mode=ReplyMode.ASYNC,
        retry_of=None, continues=None, group_id=None, created_by="tester", not_before=None, due_at=0,
        requeue_reason=None, created_at=COMPLETED_AT - 60_000_000, started_at=COMPLETED_AT - 30_000_000,
        last_progress_at=None, completed_at=None, updated_at=COMPLETED_AT,
    )  # fmt: skip
    return replace(base, **values)  # type: ignore[arg-type]  # names and types are checked by the tests that use them


def claim(attempt: int) -> Claim:
    return Claim(mission=mission(attempt=attempt), attempt=attempt, session_id="s", worker_id="w1", deadline=0)


def workspace(folder: Path) -> Workspace:
    return Workspace(folder / MISSION_ID)


def put(folder: Path, contents: Mapping[str, bytes]) -> None:
    for path, data in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def fill(ws: Workspace, attempt: int, contents: Mapping[str, bytes] = REPORT, *, files: Files = FILES) -> None:
    """Prepare an attempt and do a lane's work in it."""
    put(prepare(ws, attempt, files=files).staging, {**contents, "run.log": b"ran\n"})


def receipt_of(ws: Workspace, attempt: int, *, status: Status = Status.COMPLETED) -> Receipt:
    found = discover(ws, attempt)
    return receipt_for(
        claim(attempt), Ending(status=status, summary="done", artifacts=found.artifacts),
        completed_at=COMPLETED_AT, host="host", build="0.1.0", result_ref=ws.result_ref, left_out=found.left_out,
    )  # fmt: skip


def hand_over(ws: Workspace, attempt: int, *, files: Files = FILES) -> str:
    """Stage what a lane left; returns the receipt's hash."""
    return stage(ws, attempt, receipt_of(ws, attempt), files=files)


def show(ws: Workspace, attempt: int, sha256: str, *, files: Files = FILES) -> None:
    """Publish and mark, as a worker does after the commit."""
    publish(ws, attempt, files=files)
    mark(
        ws, mission_id=MISSION_ID, vp_id=VP_ID, state=Status.COMPLETED, completed_at=COMPLETED_AT,
        receipt_sha256=sha256, files=files,
    )  # fmt: skip


def finished(folder: Path, contents: Mapping[str, bytes] = REPORT) -> Workspace:
    """A workspace that is published and marked."""
    ws = workspace(folder)
    fill(ws, 1, contents)
    show(ws, 1, hand_over(ws, 1))
    return ws


def tree(root: Path) -> dict[str, bytes]:
    """Every regular file below `root`, by its path, hidden ones too."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def in_child(work: Callable[[], object], *, uid: int | None = None) -> int:
    """Run `work` in a forked process, as user `uid`; 0 if it went well, minus the signal that ended it, else 1."""
    pid = os.fork()
    if pid == 0:
        try:
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@dataclass
class HandClock:
    """A clock that tests set; wall µs."""

    wall: int = COMPLETED_AT
    boot_id: str = "boot"

    def now(self) -> int:
        return self.wall

    def boot(self) -> int:
        return self.wall

    def monotonic(self) -> int:
        return self.wall

    def sleep(self, seconds: float) -> None:
        self.wall += int(seconds * 1_000_000)
