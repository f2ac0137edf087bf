"""A mission's folder from the first file to the marker, on real files."""

import hashlib
import json
import os
import shutil
import stat
import threading
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from tests.workspaces import (
    COMPLETED_AT,
    FILES,
    MISSION_ID,
    NOBODY,
    REPORT,
    VP_ID,
    HandClock,
    fill,
    finished,
    hand_over,
    in_child,
    put,
    receipt_of,
    show,
    tree,
    workspace,
)  # fmt: skip
from ua_vp.errors import DiskFullError, NotFoundError, ValidationError, WorkspaceError
from ua_vp.mission import Category, Status
from ua_vp.runtime.files import DurableFiles
from ua_vp.workspace import (
    InputSource,
    RunLog,
    Workspace,
    clear_up,
    copy_log,
    discover,
    fresh_folder,
    keep_late,
    keep_log,
    list_artifacts,
    mark,
    open_artifact,
    open_log,
    prepare,
    publish,
    put_in_place,
    read_log,
    read_receipt,
    receipt_schema,
    stage,
    sync_ready_schema,
    verify,
)  # fmt: skip

IN_ORDER = ["work_products/data/a.csv", "work_products/report.md", "supporting/notes.txt", "run.log"]
MARKERS = ["mission_receipt.json", "sync_ready.json"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def read(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


def test_from_staging_to_marker(tmp_path: Path) -> None:
    ws = finished(tmp_path)
    assert sorted(os.listdir(ws.root)) == [
        "mission_receipt.json",
        "run.log",
        "supporting",
        "sync_ready.json",
        "work_products",
    ]
    assert {path: data for path, data in tree(ws.root).items() if path in REPORT} == REPORT
    receipt, marker = (json.loads((ws.root / name).read_bytes()) for name in MARKERS)
    jsonschema.validate(receipt, receipt_schema())
    jsonschema.validate(marker, sync_ready_schema())
    assert marker["receipt_sha256"] == hashlib.sha256(ws.receipt.read_bytes()).hexdigest()
    assert [one["path"] for one in receipt["artifacts"]] == IN_ORDER
    assert verify(ws) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask_nor_on_what_the_mission_did(tmp_path: Path, umask: int) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"in")
    ws = workspace(tmp_path / "lane")
    before = os.umask(umask)
    try:
        folders = prepare(ws, 1, files=FILES, inputs=[InputSource(path="a/in.txt", source=source)])
        assert [mode(path) for path in (ws.root, ws.attempts, folders.staging, folders.work_products)] == [0o2750] * 4
        assert [mode(path) for path in (folders.scratch, folders.home, folders.tmp)] == [0o700] * 3
        assert [mode(path) for path in (folders.inputs, folders.inputs / "a")] == [0o550] * 2
        assert mode(folders.inputs / "a" / "in.txt") == 0o440
        put(folders.staging, REPORT)
        (folders.work_products / "report.md").chmod(0o4777)
        (folders.work_products / "data" / "a.csv").chmod(0o000)
        (folders.work_products / "data").chmod(0o000)
        (folders.supporting).chmod(0o500)
        show(ws, 1, hand_over(ws, 1))
    finally:
        os.umask(before)
    files = {path: mode(ws.root / path) for path in REPORT}
    assert files == {**dict.fromkeys(REPORT, 0o640), "work_products/report.md": 0o750}
    assert [mode(ws.root / path) for path in ("work_products", "work_products/data", "supporting")] == [0o2750] * 3
    assert {mode(ws.root / name) for name in MARKERS} == {0o640}


def test_inputs_are_laid_in_read_only_hashed_and_in_the_receipt(tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"data")
    sha256 = hashlib.sha256(b"data").hexdigest()
    ws = workspace(tmp_path / "lane")
    folders = prepare(ws, 1, files=FILES, inputs=[InputSource(path="x/y.txt", source=tmp_path / "up", sha256=sha256)])
    assert [(one.path, one.sha256) for one in folders.laid] == [("x/y.txt", sha256)]
    assert (folders.inputs / "x" / "y.txt").read_bytes() == b"data"
    put(folders.staging, REPORT)
    show(ws, 1, stage(ws, 1, replace(receipt_of(ws, 1), inputs=folders.laid), files=FILES))
    assert json.loads(ws.receipt.read_bytes())["inputs"] == [{"path": "x/y.txt", "sha256": sha256}]
    assert verify(ws) == []


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", ".", "a\0b"])
def test_an_input_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "up").write_bytes(b"data")
    with pytest.raises(WorkspaceError):
        prepare(workspace(tmp_path), 1, files=FILES, inputs=[InputSource(path=path, source=tmp_path / "up")])
    assert sorted(os.listdir(tmp_path)) == sorted(["up", MISSION_ID])


def test_an_input_that_is_not_what_was_uploaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"data")
    (tmp_path / "link").symlink_to("up")
    os.mkfifo(tmp_path / "fifo")
    for given in (
        InputSource(path="a", source=tmp_path / "up", sha256="0" * 64),
        InputSource(path="a", source=tmp_path / "gone"),
        InputSource(path="a", source=tmp_path / "link"),
        InputSource(path="a", source=tmp_path / "fifo"),
    ):
        with pytest.raises(WorkspaceError):
            prepare(workspace(tmp_path), 1, files=FILES, inputs=[given])
    twice = InputSource(path="a", source=tmp_path / "up")
    with pytest.raises(WorkspaceError, match="twice"):
        prepare(workspace(tmp_path), 1, files=FILES, inputs=[twice, twice])


def test_what_an_earlier_preparation_left_is_removed_and_other_attempts_stay(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    fill(ws, 2)
    prepare(ws, 2, files=FILES)
    assert ws.attempt_numbers() == (1, 2)
    assert os.listdir(ws.attempt(2).work_products) == []
    assert (ws.attempt(1).work_products / "report.md").exists()


def test_a_workspace_that_is_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    ws = workspace(tmp_path)
    ws.root.symlink_to("elsewhere")
    with pytest.raises(WorkspaceError, match="symbolic link"):
        prepare(ws, 1, files=FILES)
    ws.root.unlink()
    ws.root.touch()
    with pytest.raises(WorkspaceError, match="not a folder"):
        prepare(ws, 1, files=FILES)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_workspace_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = workspace(tmp_path)
    ws.root.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: ws.root.stat().st_uid + 1)
    with pytest.raises(WorkspaceError, match="chown"):
        prepare(ws, 1, files=FILES)


def test_a_relative_workspace_is_refused_and_the_reference_is_absolute() -> None:
    with pytest.raises(WorkspaceError):
        Workspace(Path("a/b"))
    assert Workspace(Path("/srv/a")).result_ref == "workspace:///srv/a"


def test_a_published_workspace_is_never_prepared_again(tmp_path: Path) -> None:
    ws = finished(tmp_path)
    with pytest.raises(WorkspaceError, match="published"):
        prepare(ws, 2, files=FILES)
    assert verify(ws) == []


def test_a_command_starts_in_a_fresh_folder_from_which_the_others_are_reachable_by_name(tmp_path: Path) -> None:
    folders = prepare(workspace(tmp_path), 1, files=FILES)
    one, two = fresh_folder(folders), fresh_folder(folders)
    assert one != two
    assert {path.name for path in two.iterdir()} == {"work_products", "supporting", "inputs"}
    (two / "work_products" / "a").write_bytes(b"a")
    assert (folders.work_products / "a").read_bytes() == b"a"
    assert one.is_relative_to(folders.scratch)


def test_declared_files_come_first_and_what_was_declared_in_vain_is_named(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    folders = ws.attempt(1)
    declared: list[str | Path] = [
        "report.md",
        folders.work_products / "data" / "a.csv",
        "gone",
        "../supporting/notes.txt",
        "/etc/passwd",
    ]
    found = discover(ws, 1, declared=declared)
    assert [one.path for one in found.artifacts][:2] == ["work_products/report.md", "work_products/data/a.csv"]
    assert found.not_found == ("gone", "../supporting/notes.txt", "/etc/passwd")
    assert found.artifacts[0].sha256 == hashlib.sha256(b"# Report\n").hexdigest()


def test_an_empty_attempt_hands_over_nothing_and_is_sound(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    prepare(ws, 1, files=FILES)
    show(ws, 1, hand_over(ws, 1))
    assert verify(ws) == []
    assert [one.path for one in list_artifacts(ws, 1).artifacts] == MARKERS


def test_nothing_is_visible_before_it_is_published_and_all_can_be_read_from_the_commit_on(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    with pytest.raises(NotFoundError):
        list_artifacts(ws, 1)
    sha256 = hand_over(ws, 1)
    assert os.listdir(ws.root) == [".attempts"]
    for step in ("staged", "published", "marked"):
        if step == "published":
            publish(ws, 1, files=FILES)
        if step == "marked":
            show(ws, 1, sha256)
        assert [one.path for one in list_artifacts(ws, 1).artifacts][:4] == IN_ORDER
        for path, data in REPORT.items():
            fd, listed = open_artifact(ws, 1, path)
            assert read(fd) == data
            assert listed.sha256 == hashlib.sha256(data).hexdigest()


def test_only_what_is_listed_can_be_opened(tmp_path: Path) -> None:
    ws = finished(tmp_path)
    (ws.root / "work_products" / "late.txt").write_bytes(b"not handed over")
    for path in (
        "work_products/late.txt",
        "work_products",
        "../x",
        "/etc/passwd",
        "",
        ".",
        "work_products/./report.md",
    ):
        with pytest.raises(NotFoundError):
            open_artifact(ws, 1, path)
    for path in MARKERS:
        fd, listed = open_artifact(ws, 1, path)
        assert (listed.category, listed.bytes) == (Category.MARKER, len(read(fd)))


def test_a_file_that_changed_its_size_is_not_handed_out(tmp_path: Path) -> None:
    ws = finished(tmp_path)
    (ws.root / "work_products" / "report.md").write_bytes(b"other")
    with pytest.raises(WorkspaceError, match="5 bytes"):
        open_artifact(ws, 1, "work_products/report.md")


def test_pages_hold_every_artifact_once_in_order(tmp_path: Path) -> None:
    ws = finished(tmp_path)
    paths, after = [], None
    while True:
        page = list_artifacts(ws, 1, limit=2, after=after)
        assert page.total == 6
        paths += [one.path for one in page.artifacts]
        after = page.next_after
        if after is None:
            break
    assert paths == IN_ORDER + MARKERS
    assert [one.path for one in list_artifacts(ws, 1, category=Category.SUPPORTING).artifacts] == IN_ORDER[2:]
    assert list_artifacts(ws, 1, category=Category.PRIMARY, limit=2).next_after is None
    with pytest.raises(ValidationError):
        list_artifacts(ws, 1, after="nothing")


def test_another_attempt_is_never_read_or_published_over(tmp_path: Path) -> None:
    ws = finished(tmp_path)
    with pytest.raises(WorkspaceError, match="attempt 1"):
        read_receipt(ws, 2)
    with pytest.raises(WorkspaceError, match="attempt 2 is not published over"):
        publish(ws, 2, files=FILES)


@pytest.mark.parametrize("name", ["work_products", "supporting", "run.log"])
def test_publishing_overwrites_nothing(tmp_path: Path, name: str) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    hand_over(ws, 1)
    put(ws.root, {f"{name}/foreign" if name != "run.log" else name: b"foreign"})
    before = tree(ws.root / name) if name != "run.log" else (ws.root / name).read_bytes()
    with pytest.raises(WorkspaceError, match="in the way"):
        publish(ws, 1, files=FILES)
    assert (tree(ws.root / name) if name != "run.log" else (ws.root / name).read_bytes()) == before
    assert not ws.receipt.exists()
    assert verify(ws) != []


def test_publishing_what_was_never_staged_is_an_error_that_says_so(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    with pytest.raises(WorkspaceError, match="nothing staged"):
        publish(ws, 1, files=FILES)
    assert os.listdir(ws.root) == [".attempts"]


def test_a_file_that_changed_between_hashing_and_staging_is_not_staged(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    receipt = receipt_of(ws, 1)
    (ws.attempt(1).work_products / "report.md").write_bytes(b"more than was hashed")
    with pytest.raises(WorkspaceError, match=r"report\.md"):
        stage(ws, 1, receipt, files=FILES)
    assert not ws.attempt(1).receipt.exists()


@pytest.mark.parametrize("harm", ["no receipt", "other receipt", "file gone", "file cut"])
def test_no_marker_stands_on_a_workspace_that_is_not_whole(tmp_path: Path, harm: str) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    sha256 = hand_over(ws, 1)
    if harm != "no receipt":
        publish(ws, 1, files=FILES)
    if harm == "file gone":
        (ws.root / "work_products" / "report.md").unlink()
    if harm == "file cut":
        os.truncate(ws.root / "work_products" / "report.md", 1)
    with pytest.raises((WorkspaceError, NotFoundError)):
        mark(
            ws, mission_id=MISSION_ID, vp_id=VP_ID, state=Status.COMPLETED, completed_at=COMPLETED_AT,
            receipt_sha256="0" * 64 if harm == "other receipt" else sha256, files=FILES,
        )  # fmt: skip
    assert not ws.marker.exists()
    assert ws.attempts.exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("path", [*IN_ORDER, *MARKERS])
@pytest.mark.parametrize("harm", ["flipped bit", "gone", "link", "hard link", "folder"])
def test_verification_finds_every_harm_done_to_any_file(tmp_path: Path, path: str, harm: str) -> None:
    ws = finished(tmp_path)
    victim = ws.root / path
    if harm == "flipped bit":
        flip(victim)
    elif harm == "hard link":
        os.link(victim, tmp_path / "second")
    else:
        shutil.move(victim, tmp_path / "moved")
        if harm == "link":
            victim.symlink_to(tmp_path / "moved")
        if harm == "folder":
            victim.mkdir()
    assert verify(ws), f"{harm} of {path} was not found"


def test_verification_finds_a_file_that_nobody_listed_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    ws = finished(tmp_path)
    (ws.root / "supporting" / "extra").touch()
    assert [(one.path, one.detail) for one in verify(ws)] == [("supporting/extra", "is not in the receipt")]
    assert verify(workspace(tmp_path / "nowhere")) != []


def test_what_a_late_outcome_staged_outlives_the_mark_and_nothing_else_does(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    for attempt in (1, 2, 3):
        fill(ws, attempt)
    assert keep_late(ws, 2, files=FILES)
    show(ws, 3, hand_over(ws, 3))
    assert ws.attempt_numbers() == (2,)
    assert (ws.attempt(2).work_products / "report.md").exists()
    assert not ws.attempt(2).scratch.exists()
    assert verify(ws) == []
    assert not keep_late(ws, 1, files=FILES)
    assert b"ran\n" in read_log(ws, 2, offset=0, limit=100).data


def test_of_two_drafts_the_first_in_place_stands_and_is_published_whoever_goes_on(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    drafts = [ws.drafting(1, by) for by in ("a", "b")]
    hashes = []
    for number, draft in enumerate(drafts):
        folders = prepare(draft, 1, files=FILES)
        (folders.work_products / "report.md").write_text(f"{number}")
        hashes.append(hand_over(draft, 1))
    assert ws.attempt_numbers() == (), "nobody sees a draft"

    found = [put_in_place(draft, 1, files=FILES).sha256 for draft in drafts]

    assert found == [hashes[0], hashes[0]] != hashes[1:] * 2
    assert sorted(path.name for path in ws.attempts.iterdir()) == ["1"], "the second draft is gone"
    publish(ws, 1, files=FILES)
    assert put_in_place_again(drafts[1], ws) == hashes[0], "published, too"
    show(ws, 1, hashes[0])
    assert (ws.root / "work_products" / "report.md").read_text() == "0"
    assert verify(ws) == []


def put_in_place_again(draft: Workspace, ws: Workspace) -> str:
    """As a worker does that slept since it looked whether anything was published."""
    own = draft.attempt(1).root
    (own / "staging").mkdir(parents=True)
    return put_in_place(draft, 1, files=FILES).sha256


def test_what_is_made_after_the_marker_is_cleared_up_and_nothing_before_it(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    for attempt in (1, 2):
        fill(ws, attempt)
    clear_up(ws, files=FILES)
    assert ws.attempt_numbers() == (1, 2), "nobody has marked it"
    assert keep_late(ws, 1, files=FILES)
    show(ws, 2, hand_over(ws, 2))
    (ws.attempt(2).staging / "work_products").mkdir(parents=True)
    clear_up(ws, files=FILES)
    assert ws.attempt_numbers() == (1,), "what came late is kept"
    assert verify(ws) == []


def test_a_log_is_read_while_it_grows_while_it_is_published_and_after(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    folders = prepare(ws, 1, files=FILES)
    log = RunLog(folders.run_log, clock=HandClock(), lock=threading.Lock())
    with pytest.raises(NotFoundError):
        read_log(ws, 2, offset=0, limit=10)
    seen, offset = b"", 0

    def follow() -> bool:
        nonlocal seen, offset
        chunk = read_log(ws, 1, offset=offset, limit=7)
        seen, offset = seen + chunk.data, chunk.next_offset
        return chunk.complete and offset == chunk.total

    log.write("stdout", b"one\ntwo\n")
    assert not follow()
    descriptor, complete = open_log(ws, None)
    assert not complete
    log.close("outcome: completed")
    sha256 = hand_over(ws, 1)
    assert not follow()
    publish(ws, 1, files=FILES)
    assert not follow()
    show(ws, 1, sha256)
    while not follow():
        pass
    assert seen == (ws.root / "run.log").read_bytes() == read(descriptor)
    assert read_log(ws, None, offset=10_000, limit=5).data == b""


def test_a_log_is_found_between_the_move_of_the_log_and_that_of_the_receipt(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    hand_over(ws, 1)
    ws.attempt(1).run_log.rename(ws.root / "run.log")
    chunk = read_log(ws, 1, offset=0, limit=100)
    assert (chunk.data, chunk.complete) == (b"ran\n", True)


def test_logs_of_earlier_attempts_are_handed_over_and_read_by_their_number(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    for attempt in (1, 2, 3):
        put(prepare(ws, attempt, files=FILES).staging, {"run.log": f"attempt {attempt}\n".encode()})
    assert keep_log(ws, 1, 3, files=FILES)
    assert keep_log(ws, 2, 3, files=FILES)
    assert not keep_log(ws, 7, 3, files=FILES)
    show(ws, 3, hand_over(ws, 3))
    for attempt in (1, 2, 3):
        chunk = read_log(ws, attempt, offset=0, limit=100)
        assert (chunk.data, chunk.complete) == (f"attempt {attempt}\n".encode(), True)
    assert read_log(ws, None, offset=0, limit=100).data == b"attempt 3\n"
    assert verify(ws) == []


def test_an_abandoned_attempts_log_goes_on_in_the_next(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    fill(ws, 1)
    folders = prepare(ws, 2, files=FILES)
    assert copy_log(ws, 1, 2, files=FILES)
    RunLog(folders.run_log, clock=HandClock(), lock=threading.Lock()).close("abandoned")
    assert folders.run_log.read_bytes() == b"ran\n2026-01-01T00:00:00.123Z worker abandoned\n"
    show(ws, 2, hand_over(ws, 2))
    assert [one.path for one in list_artifacts(ws, 2).artifacts] == ["run.log", *MARKERS]


class FullDisk(DurableFiles):
    """Has no room at the n-th durable write."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def _fsync(self, descriptor: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(28, os.strerror(28))
        super()._fsync(descriptor)


def test_a_full_disk_at_any_step_is_named_and_leaves_a_workspace_that_can_go_on(tmp_path: Path) -> None:
    at, failures = 1, 0
    while True:
        ws = workspace(tmp_path / str(at))
        fill(ws, 1)
        disk = FullDisk(at)
        try:
            show(ws, 1, hand_over(ws, 1, files=disk), files=disk)
        except DiskFullError:
            failures += 1
        show(ws, 1, hand_over(ws, 1) if not ws.receipt.exists() and ws.attempt(1).work_products.exists() else
             _sha256(ws))  # fmt: skip
        assert verify(ws) == []
        if disk.left > 0:
            break
        at += 1
    assert failures == at - 1 > 10


def _sha256(ws: Workspace) -> str:
    receipt = read_receipt(ws, 1)
    assert receipt
    return receipt.sha256


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_a_user_without_privileges_hands_over_files_that_its_mission_made_unreadable(tmp_path: Path) -> None:
    home = tmp_path / "lane"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    for folder in (tmp_path, *tmp_path.parents):
        if not os.access(folder, os.X_OK) or not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)

    def work() -> None:
        ws = workspace(home)
        fill(ws, 1)
        top = ws.attempt(1).work_products
        for path, mode in ((top / "report.md", 0), (top / "data", 0), (top, 0o500), (ws.root, 0o500)):
            path.chmod(mode)
        show(ws, 1, hand_over(ws, 1))
        assert verify(ws) == []
        assert len(tree(ws.root)) == 6

    assert in_child(work, uid=NOBODY) == 0
