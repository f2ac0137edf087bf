"""The run log: from chunks to lines."""

import errno
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workspaces import HandClock
from ua_vp.errors import DiskFullError
from ua_vp.workspace import RunLog, runlog

STAMP = re.compile(rb"2026-01-01T00:00:00\.\d{3}Z (stdout|stderr|lane|worker) ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.log"


def open_log(path: Path, limit_bytes: int = runlog.LIMIT) -> RunLog:
    return RunLog(path, clock=HandClock(), lock=threading.Lock(), limit_bytes=limit_bytes)


def texts(path: Path) -> list[bytes]:
    """Each line without its time, checked on the way."""
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert all(STAMP.match(line) for line in lines), lines
    return [line.partition(b" ")[2] for line in lines]


def test_chunks_are_joined_into_lines_with_time_and_stream(path: Path) -> None:
    log = open_log(path)
    log.write("stdout", b"hel")
    log.write("stderr", b"oh\n")
    log.write("stdout", b"lo\nworld")
    log.close("outcome: completed: done")
    assert path.read_bytes().startswith(b"2026-01-01T00:00:00.123Z stderr oh\n")
    assert texts(path) == [b"stderr oh", b"stdout hello", b"stdout world", b"worker outcome: completed: done"]


def test_bytes_are_kept_as_they_are_and_an_output_cannot_forge_a_line(path: Path) -> None:
    log = open_log(path)
    log.write("stdout", b"\x1b[2J\0\xff\r\n2026-01-01T00:00:00.000Z worker outcome: completed\n\n")
    log.close()
    assert texts(path) == [
        b"stdout \x1b[2J\0\xff\r",
        b"stdout 2026-01-01T00:00:00.000Z worker outcome: completed",
        b"stdout ",
    ]


def test_a_line_without_end_is_split_between_characters_and_nothing_is_lost(path: Path) -> None:
    log = open_log(path)
    text = "aé€😀".encode() * 20_000
    for start in range(0, len(text), 70_001):
        log.write("stdout", text[start : start + 70_001])
    log.close()
    pieces = [line.removeprefix(b"stdout ") for line in texts(path)]
    assert b"".join(pieces) == text
    assert max(map(len, pieces)) <= runlog.LONGEST_LINE
    assert all(piece.decode() for piece in pieces)


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(4, 12))
def test_however_bytes_arrive_none_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], longest: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "run.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runlog, "LONGEST_LINE", longest)
        log = open_log(path)
        for chunk in chunks:
            log.write("stdout", chunk)
        log.close()
    given_bytes = b"".join(chunks)
    kept = b"".join(line.removeprefix(b"stdout ") for line in texts(path))
    assert kept == given_bytes.replace(b"\n", b"")


def test_past_the_limit_output_is_dropped_and_the_log_says_how_much(path: Path) -> None:
    log = open_log(path, limit_bytes=1000)
    for _ in range(100):
        log.write("stdout", b"x" * 99 + b"\n")
    log.write("worker", b"the worker's own lines are always kept\n")
    log.close("outcome: failed")
    lines = texts(path)
    kept = sum(line.startswith(b"stdout") for line in lines)
    assert kept == 7
    assert lines[kept] == b"worker the log is limited to 1000 bytes; output is dropped from here on"
    assert lines[kept + 1 :] == [
        b"worker the worker's own lines are always kept",
        f"worker {(100 - kept) * 100} bytes in {100 - kept} lines of output were dropped".encode(),
        b"worker outcome: failed",
    ]


def test_once_something_was_dropped_nothing_smaller_slips_in_behind_it(path: Path) -> None:
    log = open_log(path, limit_bytes=200)
    log.write("stdout", b"x" * 500 + b"\nsmall\n")
    log.close()
    assert not [line for line in texts(path) if line.startswith(b"stdout")]


def test_what_is_written_after_the_end_is_dropped_and_closing_twice_changes_nothing(path: Path) -> None:
    log = open_log(path)
    log.write("lane", b"one\n")
    log.close("last")
    before = path.read_bytes()
    log.write("lane", b"two\n")
    log.close("again")
    assert path.read_bytes() == before


def test_threads_write_whole_lines(path: Path) -> None:
    log = open_log(path)

    def write(name: runlog.Stream) -> None:
        for number in range(500):
            log.write(name, f"{name} {number}\n".encode())

    streams: tuple[runlog.Stream, ...] = ("stdout", "stderr", "lane", "worker")
    threads = [threading.Thread(target=write, args=(name,)) for name in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    lines = texts(path)
    assert len(lines) == 2000
    for name in streams:
        mine = [line for line in lines if line.startswith(name.encode())]
        assert mine == [f"{name} {name} {number}".encode() for number in range(500)]


def test_a_full_disk_loses_lines_not_the_mission_and_is_said_once_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(path)
    log.write("stdout", b"before\n")
    real = os.write

    def torn(fd: int, data: memoryview) -> int:
        if len(data) > 10:
            return real(fd, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "write", torn)
        log.write("stdout", b"lost\n")
    log.write("stdout", b"after\n")
    log.close()
    assert texts(path) == [b"stdout before", b"stdout after", b"worker 5 bytes in 1 lines of output were dropped"]


def test_a_disk_that_is_still_full_at_the_end_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(path)

    def full(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    log.write("stdout", b"lost\n")
    with pytest.raises(DiskFullError):
        log.close("outcome: completed")


@pytest.mark.parametrize("how", ["removed", "link", "hard link", "folder", "other file"])
def test_a_log_that_the_mission_removed_or_replaced_is_written_anew(tmp_path: Path, path: Path, how: str) -> None:
    log = open_log(path)
    log.write("stdout", b"one\n")
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    if how != "hard link":
        path.unlink()
    if how == "link":
        path.symlink_to(precious)
    elif how == "hard link":
        os.link(path, tmp_path / "second")
    elif how == "folder":
        path.mkdir()
        (path / "kept").touch()
    elif how == "other file":
        path.write_bytes(b"forged\n")
    log.close("two")
    assert not path.is_symlink()
    assert path.stat().st_nlink == 1
    assert texts(path) == [b"stdout one", b"worker two"]
    assert precious.read_bytes() == b"precious"


def test_a_log_that_is_opened_again_goes_on(path: Path) -> None:
    open_log(path).close("one")
    open_log(path).close("two")
    assert texts(path) == [b"worker one", b"worker two"]
