"""Killed between, and within, any two durable steps of stage, publish and mark: whoever comes next makes it whole."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.workspaces import REPORT, QuickFiles, fill, hand_over, in_child, show, tree, workspace
from ua_vp.ports import Files
from ua_vp.workspace import Workspace, list_artifacts, open_artifact, read_log, verify

OTHERS = {"work_products/report.md": b"of another attempt", "work_products/other.md": b"other", "supporting/x": b"x"}
WINNER = 2
STEPS = 8
"""Fewer durable steps than this and the loops have not seen what they are for."""
ROUNDS = 100
Death = Callable[[], None]


class Died(BaseException):
    """The process is gone: nothing that stands behind this line has happened."""


def raise_died() -> None:
    raise Died


def die_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class MortalFiles(QuickFiles):
    """The real files until step `at`, then death: before the step, or half way through it."""

    def __init__(self, at: int, death: Death, *, half_way: bool = False) -> None:
        super().__init__()
        self.at, self.death, self.half_way, self.steps = at, death, half_way, 0

    def _step(self, half: Callable[[], object] = lambda: None) -> None:
        self.steps += 1
        if self.steps == self.at:
            if self.half_way:
                half()
            self.death()

    def write(self, path: Path, data: bytes, *, mode: int = 0o640) -> None:
        self._step(lambda: path.with_name(f".{path.name}.torn.tmp").write_bytes(data[: len(data) // 2]))
        super().write(path, data, mode=mode)

    def rename(self, source: Path, target: Path) -> None:
        self._step(lambda: os.rename(source, target))
        super().rename(source, target)

    def make_folder(self, path: Path, *, mode: int = 0o750) -> None:
        self._step(lambda: path.mkdir(mode=0o700, parents=True, exist_ok=True))
        super().make_folder(path, mode=mode)

    def sync(self, path: Path) -> None:
        self._step()
        super().sync(path)

    def remove_tree(self, path: Path) -> None:
        self._step(lambda: lose_half(path))
        super().remove_tree(path)


def lose_half(path: Path) -> None:
    if not path.is_dir():
        return
    for number, entry in enumerate(sorted(path.rglob("*"), reverse=True)):
        if number % 2 and entry.is_file():
            entry.unlink()


def committed(folder: Path) -> tuple[Workspace, str]:
    """Attempt 2 is staged and won; attempts 1 and 3 left other files."""
    ws = workspace(folder)
    for attempt in (1, 3):
        fill(ws, attempt, OTHERS)
        hand_over(ws, attempt)
    fill(ws, WINNER)
    return ws, hand_over(ws, WINNER)


def assert_whole(ws: Workspace) -> None:
    """Exactly what the winner handed over, receipt and marker, and nothing else, hidden or not."""
    assert verify(ws) == []
    published = tree(ws.root)
    marks = {name: published.pop(name) for name in ("mission_receipt.json", "sync_ready.json")}
    assert published == {**REPORT, "run.log": b"ran\n"}
    assert json.loads(marks["mission_receipt.json"])["attempt"] == WINNER
    assert not os.path.lexists(ws.attempts)


def assert_readable(ws: Workspace) -> None:
    """What holds at every moment from the commit on: all that is listed can be read."""
    page = list_artifacts(ws, WINNER)
    assert len([one for one in page.artifacts if one.path in REPORT]) == len(REPORT)
    for path, data in REPORT.items():
        fd, _ = open_artifact(ws, WINNER, path)
        with os.fdopen(fd, "rb") as file:
            assert file.read() == data
    assert read_log(ws, WINNER, offset=0, limit=100).data == b"ran\n"


def assert_readable_and_never_wrong(ws: Workspace) -> None:
    """The same, and a marker is never a lie."""
    assert_readable(ws)
    assert (verify(ws) == []) is ws.marker.exists()


def dies(work: Callable[[], object], death: str) -> bool:
    """Whether `work` was ended by its mortal files: in this process, or in one of its own by SIGKILL."""
    if death == "signal":
        ended = in_child(work)
        assert ended in {0, -signal.SIGKILL}
        return ended != 0
    try:
        work()
    except Died:
        return True
    return False


DEATHS = {"exception": raise_died, "signal": die_by_signal}


@pytest.mark.parametrize("half_way", [False, True], ids=["before", "half way"])
@pytest.mark.parametrize("death", DEATHS)
def test_whoever_comes_next_makes_it_whole_wherever_publishing_was_cut_short(
    tmp_path: Path, death: str, half_way: bool
) -> None:
    for at in count(1):
        ws, sha256 = committed(tmp_path / str(at))
        mortal = MortalFiles(at, DEATHS[death], half_way=half_way)
        died = dies(partial(show, ws, WINNER, sha256, files=mortal), death)
        assert_readable_and_never_wrong(ws)
        if not died:
            assert_whole(ws)
            break
        assert in_child(partial(show, ws, WINNER, sha256)) == 0
        assert_whole(ws)
    assert at > STEPS


def test_death_after_death_changes_nothing(tmp_path: Path) -> None:
    pairs = 0
    for first in count(1):
        for second in count(1):
            ws, sha256 = committed(tmp_path / f"{first}-{second}")
            dies(partial(show, ws, WINNER, sha256, files=MortalFiles(first, raise_died, half_way=True)), "exception")
            mortal = MortalFiles(second, raise_died, half_way=True)
            died = dies(partial(show, ws, WINNER, sha256, files=mortal), "exception")
            assert_readable_and_never_wrong(ws)
            show(ws, WINNER, sha256)
            assert_whole(ws)
            shutil.rmtree(ws.root.parent)
            pairs += 1
            if not died:
                break
        if second == 1:  # the first ran through, and left nothing to do
            break
    assert pairs > STEPS * STEPS // 2


@pytest.mark.parametrize("half_way", [False, True], ids=["before", "half way"])
def test_what_is_cut_short_before_the_commit_is_never_visible_and_the_next_attempt_stands_alone(
    tmp_path: Path, half_way: bool
) -> None:
    def work(ws: Workspace, files: Files) -> None:
        fill(ws, 1, OTHERS, files=files)
        hand_over(ws, 1, files=files)

    for at in count(1):
        ws = workspace(tmp_path / str(at))
        died = dies(partial(work, ws, MortalFiles(at, raise_died, half_way=half_way)), "exception")
        assert set(os.listdir(ws.root) if ws.root.exists() else ()) <= {".attempts"}
        assert verify(ws) != []
        fill(ws, WINNER)
        show(ws, WINNER, hand_over(ws, WINNER))
        assert_whole(ws)
        if not died:
            break
    assert at > STEPS


def test_staging_again_in_the_same_attempt_gives_the_same(tmp_path: Path) -> None:
    for at in count(1):
        ws = workspace(tmp_path / str(at))
        fill(ws, WINNER)
        died = dies(partial(hand_over, ws, WINNER, files=MortalFiles(at, raise_died, half_way=True)), "exception")
        show(ws, WINNER, hand_over(ws, WINNER))
        assert_whole(ws)
        if not died:
            break
    assert at > STEPS


def test_two_processes_publish_and_mark_at_once_while_a_third_reads(tmp_path: Path) -> None:
    looks = 0
    for number in range(ROUNDS):
        ws, sha256 = committed(tmp_path / str(number))
        gate = os.pipe()
        pids = [begin(partial(show, ws, WINNER, sha256), gate) for _ in range(2)]
        for end in gate:
            os.close(end)
        while pids:
            assert_readable(ws)
            looks += 1
            for pid in list(pids):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    pids.remove(pid)
                    assert os.waitstatus_to_exitcode(status) == 0
        assert_whole(ws)
    assert looks >= ROUNDS


def begin(work: Callable[[], None], gate: tuple[int, int]) -> int:
    """A forked process that does `work` once nobody else holds the gate's writing end."""
    pid = os.fork()
    if pid == 0:
        reading, writing = gate
        os.close(writing)
        os.read(reading, 1)
        os._exit(in_child(work))
    return pid


class OvertakenFiles(QuickFiles):
    """Before each rename somebody else has done the rest of the work, and cleared up behind it."""

    def __init__(self, rest: Callable[[], object]) -> None:
        super().__init__()
        self.rest = rest

    def rename(self, source: Path, target: Path) -> None:
        self.rest()
        os.rename(source, target)


def test_who_is_overtaken_by_somebody_quicker_finds_it_done(tmp_path: Path) -> None:
    ws, sha256 = committed(tmp_path)
    show(ws, WINNER, sha256, files=OvertakenFiles(partial(show, ws, WINNER, sha256)))
    assert_whole(ws)


def test_a_half_published_workspace_is_found_unsound_at_every_line(tmp_path: Path) -> None:
    seen = set()
    for at in count(1):
        ws, sha256 = committed(tmp_path / str(at))
        if not dies(partial(show, ws, WINNER, sha256, files=MortalFiles(at, raise_died)), "exception"):
            break
        seen.add((frozenset(os.listdir(ws.root)), bool(verify(ws))))
    sound = {names for names, unsound in seen if not unsound}
    assert sound == {names for names, _ in seen if "sync_ready.json" in names}
    assert len(seen) >= 6


def test_a_marker_that_is_already_right_is_not_written_again(tmp_path: Path) -> None:
    ws, sha256 = committed(tmp_path)
    show(ws, WINNER, sha256)
    before = (ws.marker.stat().st_ino, ws.marker.stat().st_mtime_ns)
    again = MortalFiles(1, raise_died)
    show(ws, WINNER, sha256, files=again)
    assert again.steps == 0
    assert (ws.marker.stat().st_ino, ws.marker.stat().st_mtime_ns) == before
