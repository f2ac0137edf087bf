"""Bells between real processes: Unix datagram sockets in a folder that they share."""

from __future__ import annotations

import multiprocessing
import os
import socket
import stat
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import structlog

from ua_vp.ports import Bell
from ua_vp.runtime.bells import DatagramBells

BELLS = DatagramBells()
LONG, NOT_AT_ALL = 20.0, 0.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "wake"


def test_a_ring_reaches_every_bell_of_the_folder_and_no_other(folder: Path, tmp_path: Path) -> None:
    hung = [BELLS.hang(folder) for _ in range(5)]
    with closing(BELLS.hang(tmp_path / "elsewhere")) as other:
        BELLS.ring(folder)
        assert all(bell.wait(LONG) for bell in hung)
        assert not other.wait(NOT_AT_ALL)
    for bell in hung:
        bell.close()
    assert os.listdir(folder) == []


def test_what_was_rung_since_it_was_hung_counts_and_many_rings_are_one(folder: Path) -> None:
    BELLS.ring(folder)  # there is no such folder yet
    with closing(BELLS.hang(folder)) as bell:
        assert not bell.wait(NOT_AT_ALL)
        for _ in range(1000):  # more than a socket keeps: a full one costs its ringer nothing
            BELLS.ring(folder)
        assert bell.wait(NOT_AT_ALL)
        assert not bell.wait(0.001)


def test_folder_and_sockets_are_the_groups_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        bell = BELLS.hang(folder)
    finally:
        os.umask(before)
    (name,) = os.listdir(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2770
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o660
    bell.close()


def test_a_home_whose_path_is_longer_than_a_sockets_may_be_has_bells_too(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*(["a-long-name-of-a-folder"] * 20), "wake")
    folder.parent.mkdir(parents=True)
    assert len(os.fsencode(folder)) > 400
    with closing(BELLS.hang(folder)) as bell:
        BELLS.ring(folder)
        assert bell.wait(LONG)


def _hang_and_wait(folder: Path, hung: Event) -> None:
    bell = DatagramBells().hang(folder)
    hung.set()
    bell.wait(1000.0)


def test_the_bell_of_a_killed_process_is_removed_by_whoever_rings_and_no_other_is(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    mine = BELLS.hang(folder)
    for _ in range(3):
        hung = context.Event()
        process = context.Process(target=_hang_and_wait, args=(folder, hung), daemon=True)
        process.start()
        assert hung.wait(LONG)
        process.kill()
        process.join()
    assert len(os.listdir(folder)) == 4
    BELLS.ring(folder)
    assert len(os.listdir(folder)) == 1
    assert mine.wait(LONG)
    mine.close()


def test_what_is_no_bell_is_never_removed(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("theirs")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as dead:
        dead.bind(os.fspath(folder / "dead"))
    BELLS.ring(folder)
    assert sorted(os.listdir(folder)) == ["dead", "notes.txt"]


@pytest.mark.parametrize("harm", ["a file", "a link to nowhere", "in a folder that is gone"])
def test_where_no_bell_can_be_hung_one_is_given_that_never_rings_and_the_log_says_so_once(
    tmp_path: Path, harm: str
) -> None:
    folder = tmp_path / "wake"
    if harm == "a file":
        folder.touch()
    elif harm == "a link to nowhere":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        folder = tmp_path / "gone" / "wake"
    with structlog.testing.capture_logs() as said, closing(DatagramBells().hang(folder)) as bell:
        BELLS.ring(folder)
        assert not bell.wait(0.001)
    assert [line["event"] for line in said] == ["no_wake_up"]


def test_a_bell_gets_its_name_only_when_it_can_be_reached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux makes the file of a socket a moment before the socket can be reached: a ringer would take it for dead."""
    rename, named = os.rename, []

    def rename_if_reached(source: str, target: str) -> None:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ringer:
            ringer.sendto(b"0", source)
        rename(source, target)
        named.append(target)

    monkeypatch.setattr(os, "rename", rename_if_reached)
    with closing(BELLS.hang(folder)) as bell:
        assert bell.wait(LONG)
        assert [Path(target).name for target in named] == os.listdir(folder)


def test_hanging_and_taking_down_beside_a_ringer_loses_no_live_bell(folder: Path) -> None:
    """A ringer takes a socket for dead that is not bound yet; a live one must never look so."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    ringers = [context.Process(target=_ring_until, args=(folder, stop), daemon=True) for _ in range(2)]
    for ringer in ringers:
        ringer.start()
    try:
        for _ in range(100):
            bell: Bell = BELLS.hang(folder)
            assert bell.wait(LONG), "a bell that hangs is rung by the next who rings"
            assert len(os.listdir(folder)) == 1
            bell.close()
    finally:
        stop.set()
        for ringer in ringers:
            ringer.join()


def _ring_until(folder: Path, stop: Event) -> None:
    while not stop.is_set():
        DatagramBells().ring(folder)
