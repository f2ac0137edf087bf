"""What a mission may leave behind to make us read, serve or remove something else."""

import ctypes
import errno
import hashlib
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workspaces import FILES, fill, finished, hand_over, put, receipt_of, show, tree, workspace
from ua_vp.errors import ConfigurationError, NotFoundError, VpError, WorkspaceError
from ua_vp.workspace import (
    Workspace,
    discover,
    keep_log,
    list_artifacts,
    mark,
    open_artifact,
    open_beneath,
    openat2,
    prepare,
    read_log,
    read_receipt,
    verify,
)

SECRET = b"secret: " + b"s" * 100
TRIES = 4000
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder outside the workspace with a file that must never be read."""
    put(tmp_path / "outside", {"file": SECRET, "report.md": SECRET})
    return tmp_path / "outside"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace in whose first attempt a mission has worked."""
    ws = workspace(tmp_path)
    fill(ws, 1)
    return ws


def left_out(ws: Workspace) -> dict[str, str]:
    return {one.path: one.reason for one in discover(ws, 1).left_out}


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(path.parent)  # a socket's path is short
        listening.bind(path.name)


KINDS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "symbolic link to a file": ("symbolic link", lambda path, secret: path.symlink_to(secret / "file")),
    "symbolic link to a folder": ("symbolic link", lambda path, secret: path.symlink_to(secret)),
    "dangling link": ("symbolic link", lambda path, _: path.symlink_to("nowhere")),
    "link to itself": ("symbolic link", lambda path, _: path.symlink_to(path.name)),
    "magic link": ("symbolic link", lambda path, _: path.symlink_to("/proc/self/exe")),
    "hard link": ("hard link (2 names)", lambda path, secret: os.link(secret / "file", path)),
    "FIFO": ("FIFO", lambda path, _: os.mkfifo(path)),
    "socket": ("socket", lambda path, _: make_socket(path)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["work_products/thing", "supporting/deep/thing"])
def test_only_regular_files_with_one_name_are_handed_over_and_the_rest_is_named(
    ws: Workspace, secret: Path, kind: str, place: str
) -> None:
    reason, make = KINDS[kind]
    path = ws.attempt(1).staging / place
    path.parent.mkdir(exist_ok=True)
    here = Path.cwd()
    try:
        make(path, secret)
    finally:
        os.chdir(here)
    assert left_out(ws) == {place: reason}
    show(ws, 1, hand_over(ws, 1))
    assert verify(ws) == []
    assert [one.path for one in list_artifacts(ws, 1).artifacts if one.path == place] == []
    with pytest.raises(NotFoundError):
        open_artifact(ws, 1, place)
    with pytest.raises(WorkspaceError):
        open_beneath(ws.root, place)
    assert (secret / "file").read_bytes() == SECRET
    receipt = read_receipt(ws, 1)
    assert receipt
    assert [(one.path, one.reason) for one in receipt.left_out] == [(place, reason)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_left_out(ws: Workspace) -> None:
    try:
        os.mknod(ws.attempt(1).work_products / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    assert left_out(ws) == {"work_products/null": "device"}


NAMES = [
    "a" * 255,
    "é" * 127,
    "new\nline",
    "tab\tand\rreturn",
    "\x1b[2J",
    "invoice\u202efdp.exe",
    "..hidden",
    "...",
    " ",
    "-rf",
    "data:text/html,x",
    "a?b#c%2e%2e",
    "\\..\\x",
    "\u200b",
    "*",
    "'\"$(id)`",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_strange_name_is_handed_over_as_it_is(ws: Workspace, name: str) -> None:
    put(ws.attempt(1).work_products, {name: b"odd", f"folder {name[:60]}/{name}": b"odd"})
    assert discover(ws, 1, declared=[name]).artifacts[0].path == f"work_products/{name}"
    show(ws, 1, hand_over(ws, 1))
    assert verify(ws) == []
    fd, listed = open_artifact(ws, 1, f"work_products/{name}")
    with os.fdopen(fd, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == listed.sha256


@pytest.mark.parametrize("name", [b"latin-\xe9", b"\xed\xa0\x80", b"\xff" * 255])
def test_a_name_that_is_no_utf8_is_left_out_and_can_be_written_down(ws: Workspace, name: bytes) -> None:
    top = os.fsencode(ws.attempt(1).work_products)
    Path(os.fsdecode(top + b"/" + name)).write_bytes(b"odd")
    folder = Path(os.fsdecode(top + b"/d-" + name[:200]))
    folder.mkdir()
    (folder / "inner").write_bytes(b"odd")
    found = left_out(ws)
    assert len(found) == 2
    assert set(found.values()) == {"the name is not valid UTF-8"}
    assert all(path.encode() for path in found)
    show(ws, 1, hand_over(ws, 1))
    assert verify(ws) == []


@pytest.fixture
def deep(ws: Workspace) -> Iterator[Workspace]:
    """A workspace in which a mission made a tree so deep that no path leads to its end."""
    top = os.open(ws.attempt(1).work_products, os.O_RDONLY)
    for _ in range(2100):
        os.mkdir("d", dir_fd=top)
        below = os.open("d", os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = below
    os.close(os.open("file", os.O_CREAT, dir_fd=top))
    os.close(top)
    yield ws
    FILES.remove_tree(ws.root)  # pytest cannot


def test_a_tree_that_is_too_deep_is_left_out_walked_in_bounded_space_and_can_be_removed(deep: Workspace) -> None:
    (reason,) = left_out(deep).values()
    assert "longer than" in reason
    show(deep, 1, hand_over(deep, 1))
    assert verify(deep) == []
    FILES.remove_tree(deep.root)
    assert not deep.root.exists()


def test_what_lies_beside_the_folders_is_not_handed_over_and_named(ws: Workspace, secret: Path) -> None:
    staging = ws.attempt(1).staging
    put(staging, {"sync_ready.json": b"{}", "extra/file": b"x"})
    (staging / "mission_receipt.json").mkdir()
    (staging / "mission_receipt.json" / "file").touch()
    assert set(left_out(ws)) == {"sync_ready.json", "extra"}
    show(ws, 1, hand_over(ws, 1))
    assert verify(ws) == []
    assert not (ws.root / "extra").exists()
    assert (secret / "file").read_bytes() == SECRET


@pytest.mark.parametrize("name", ["work_products", "supporting", "run.log", "mission_receipt.json"])
@pytest.mark.parametrize("how", ["link to a folder", "link to a file", "file", "gone", "FIFO", "folder", "hard link"])
def test_a_mission_that_replaces_the_folders_it_was_given_gains_nothing(
    ws: Workspace, secret: Path, name: str, how: str
) -> None:
    path = ws.attempt(1).staging / name
    if path.exists():
        path.rename(ws.attempt(1).scratch / name)
    if how == "link to a folder":
        path.symlink_to(secret)
    elif how == "link to a file":
        path.symlink_to(secret / "file")
    elif how == "file":
        path.write_bytes(b"mine")
    elif how == "FIFO":
        os.mkfifo(path)
    elif how == "folder":
        put(path, {"file": b"mine"})
    elif how == "hard link":
        os.link(secret / "file", path)
    before = tree(secret)
    prepare(ws, 2, files=FILES)
    assert keep_log(ws, 1, 2, files=FILES) is (name != "run.log" or how != "gone")
    show(ws, 1, hand_over(ws, 1))
    assert tree(secret) == before
    assert verify(ws) == []
    published = tree(ws.root)
    assert not [path for path, data in published.items() if data == SECRET]
    assert not [path for path in (ws.root, *ws.root.iterdir()) if path.is_symlink()]


@pytest.mark.parametrize("place", ["supporting", "supporting/attempts", "supporting/attempts/1.log"])
@pytest.mark.parametrize("how", ["link", "file", "folder"])
def test_an_earlier_log_is_kept_whatever_the_mission_put_in_its_way(
    ws: Workspace, secret: Path, place: str, how: str
) -> None:
    staging = prepare(ws, 2, files=FILES).staging
    path = staging / place
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        path.rmdir()
    if how == "link":
        path.symlink_to(secret / "file" if place.endswith("log") else secret)
    elif how == "file":
        path.write_bytes(b"mine")
    else:
        put(path, {"mine": b"mine"})
    before = tree(secret)
    assert keep_log(ws, 1, 2, files=FILES)
    assert tree(secret) == before
    assert (staging / "supporting" / "attempts" / "1.log").read_bytes() == b"ran\n"
    show(ws, 2, hand_over(ws, 2))
    assert verify(ws) == []


def test_a_folder_of_attempts_that_became_a_link_is_never_worked_in(ws: Workspace, tmp_path: Path) -> None:
    away = tmp_path / "away"
    receipt = receipt_of(ws, 1)
    sha256 = hand_over(ws, 1)
    ws.attempts.rename(away)
    ws.attempts.symlink_to(away)
    before = tree(away)
    doings: list[Callable[[], object]] = [
        lambda: prepare(ws, 2, files=FILES),
        lambda: discover(ws, 1),
        lambda: show(ws, 1, sha256),
        lambda: keep_log(ws, 1, 1, files=FILES),
        lambda: read_receipt(ws, 1),
        lambda: read_log(ws, 1, offset=0, limit=9),
    ]
    for doing in doings:
        with pytest.raises(VpError):
            doing()
    assert tree(away) == before
    assert receipt.artifacts


def test_a_link_in_the_place_of_the_attempts_is_removed_by_the_mark_and_what_it_points_to_is_not(
    tmp_path: Path, secret: Path
) -> None:
    ws = finished(tmp_path)
    ws.attempts.symlink_to(secret)
    before = tree(secret)
    receipt = read_receipt(ws, 1)
    assert receipt
    mark(
        ws, mission_id=receipt.mission_id, vp_id=receipt.vp_id, state=receipt.status,
        completed_at=receipt.completed_at, receipt_sha256=receipt.sha256, files=FILES,
    )  # fmt: skip
    assert not ws.attempts.is_symlink()
    assert tree(secret) == before


@pytest.mark.parametrize(
    "path",
    ["../outside/file", "work_products/../../outside/file", "/etc/passwd", "", ".", "work_products", "work_products/",
     "work_products/report.md/x", "a" * 5000, "a\0b", "\ud800", "work_products//../../../etc/passwd"],
)  # fmt: skip
def test_no_path_leads_out(tmp_path: Path, secret: Path, path: str) -> None:
    ws = finished(tmp_path)
    with pytest.raises((WorkspaceError, NotFoundError)):
        open_beneath(ws.root, path)
    with pytest.raises((WorkspaceError, NotFoundError)):
        open_beneath(tmp_path / "nowhere", path)
    assert secret.exists()


def test_a_root_that_is_a_link_is_not_entered(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "link").symlink_to(secret)
    with pytest.raises(WorkspaceError):
        open_beneath(tmp_path / "link", "file")


@pytest.mark.parametrize("number", [999_999, -1])
def test_without_openat2_nothing_is_opened(ws: Workspace, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(openat2, "NUMBER", number)
    for doing in (lambda: open_beneath(ws.attempt(1).staging, "run.log"), lambda: discover(ws, 1)):
        with pytest.raises(ConfigurationError, match=r"Linux 5\.6"):
            doing()


def test_a_machine_out_of_descriptors_is_an_error_and_nothing_is_left_out_for_it(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = openat2.openat2

    def out(folder: int, relative: str, flags: int) -> int:
        if relative.endswith(".csv"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(folder, relative, flags)

    monkeypatch.setattr("ua_vp.workspace.walk.openat2", out)
    with pytest.raises(WorkspaceError, match="LimitNOFILE"):
        discover(ws, 1)


def test_a_file_that_is_replaced_while_it_is_opened_is_opened_again(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real, replaced = ws.attempt(1).run_log, openat2.openat2, list[int]()

    def overtaken(folder: int, relative: str, flags: int) -> int:
        fd = real(folder, relative, flags)
        if not replaced:
            replaced.append(fd)
            FILES.write(log, b"new")
        return fd

    monkeypatch.setattr(openat2, "openat2", overtaken)
    with os.fdopen(open_beneath(log.parent, "run.log"), "rb") as file:
        assert file.read() == b"new"
    assert replaced


def test_a_second_name_in_scratch_stays_left_out_when_the_mark_has_removed_it(ws: Workspace) -> None:
    put(ws.attempt(1).scratch, {"file": b"two names"})
    os.link(ws.attempt(1).scratch / "file", ws.attempt(1).work_products / "file")
    show(ws, 1, hand_over(ws, 1))
    assert (ws.root / "work_products" / "file").stat().st_nlink == 1
    assert verify(ws) == []
    with pytest.raises(NotFoundError):
        open_artifact(ws, 1, "work_products/file")


@contextmanager
def swapping(folder: Path, secret: Path) -> Iterator[None]:
    """Another process that exchanges `folder` and a link to `secret`, again and again, as fast as it can."""
    link = folder.with_name("link")
    link.symlink_to(secret)
    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    one, other = os.fsencode(folder), os.fsencode(link)
    assert exchange(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0
    pid = os.fork()
    if pid == 0:
        while True:
            exchange(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_no_swap_of_a_folder_for_a_link_ever_lets_a_read_out(ws: Workspace, secret: Path) -> None:
    put(ws.attempt(1).work_products, {"sub/file": b"inside"})
    root, inside, refused = ws.attempt(1).staging, 0, 0
    with swapping(root / "work_products" / "sub", secret):
        while inside + refused < TRIES or min(inside, refused) < TRIES // 20:
            try:
                fd = open_beneath(root, "work_products/sub/file")
            except WorkspaceError:
                refused += 1
            else:
                with os.fdopen(fd, "rb") as file:
                    assert file.read() == b"inside", "an escape"
                inside += 1


def test_no_swap_during_discovery_lets_a_file_from_outside_in(ws: Workspace, secret: Path) -> None:
    put(ws.attempt(1).work_products, {"sub/file": b"inside"})
    inside, seen, mode = hashlib.sha256(b"inside").hexdigest(), 0, (secret / "file").stat().st_mode
    with swapping(ws.attempt(1).work_products / "sub", secret):
        for _ in range(TRIES // 10):
            for artifact in discover(ws, 1).artifacts:
                if artifact.path.endswith("/file"):
                    assert artifact.sha256 == inside, "an escape"
                    seen += 1
    assert seen > 0
    assert (secret / "file").stat().st_mode == mode
