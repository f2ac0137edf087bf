"""Durable steps on real files."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ua_vp.errors import DiskFullError
from ua_vp.runtime.files import DurableFiles

FILES = DurableFiles()


class BrokenDisk(DurableFiles):
    """Fails with `number` at the n-th fsync."""

    def __init__(self, number: int, at: int) -> None:
        super().__init__()
        self.number, self.left = number, at

    def _fsync(self, descriptor: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.number, os.strerror(self.number))
        super()._fsync(descriptor)


class Recording(DurableFiles):
    """Notes the names of what is forced to the disk."""

    def __init__(self) -> None:
        super().__init__(unique=lambda: "random")
        self.synced: list[str] = []

    def _fsync(self, descriptor: int) -> None:
        self.synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_has_its_bytes_and_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        FILES.write(tmp_path / "a", b"x" * 3_000_000, mode=0o664)
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"x" * 3_000_000
    assert mode_of(tmp_path / "a") == 0o664
    assert os.listdir(tmp_path) == ["a"]


def test_every_step_forces_the_file_and_each_folder_that_changed_to_the_disk(tmp_path: Path) -> None:
    files, here = Recording(), tmp_path.name
    files.make_folder(tmp_path / "a/b")
    files.write(tmp_path / "a/file", b"")
    files.rename(tmp_path / "a/file", tmp_path / "a/b/file")
    files.remove_tree(tmp_path / "a")
    assert files.synced == ["a", here, "b", "a", ".file.random.tmp", "a", "b", "a", here]


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path: Path) -> None:
    FILES.write(tmp_path / ("é" * 127), b"long")
    assert [len(os.fsencode(name)) for name in os.listdir(tmp_path)] == [254]


def test_a_write_replaces_a_link_and_never_follows_it(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("precious")
    FILES.write(tmp_path / "link", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "link").is_symlink()


def test_a_full_disk_is_named_and_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(DiskFullError, match=str(tmp_path / "a")):
        BrokenDisk(errno.ENOSPC, at=1).write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_failed_disk_is_not_a_full_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        BrokenDisk(errno.EIO, at=1).write(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == []


def test_a_rename_that_was_done_before_counts_as_done(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/a").write_bytes(b"a")
    for _ in range(2):
        FILES.rename(tmp_path / "from/a", tmp_path / "b")
    (tmp_path / "from").rmdir()
    FILES.rename(tmp_path / "from/a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"a"


def test_a_rename_of_nothing_to_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FILES.rename(tmp_path / "a", tmp_path / "b")


def test_a_rename_onto_a_filled_folder_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    with pytest.raises(OSError, match="not empty"):
        FILES.rename(tmp_path / "a", tmp_path / "b")


def test_a_folder_is_made_with_its_parents_and_keeps_the_group_bit_it_inherits(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    FILES.make_folder(tmp_path / "a/b", mode=0o750)
    FILES.make_folder(tmp_path / "a/b", mode=0o700)
    assert [mode_of(tmp_path / "a"), mode_of(tmp_path / "a/b")] == [0o2750, 0o2750]


def test_a_file_where_a_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError):
        FILES.make_folder(tmp_path / "a")


def test_a_tree_is_removed_and_what_its_links_point_to_is_not(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "tree/link").symlink_to(tmp_path / "precious")
    (tmp_path / "tree/below/link").symlink_to("../../precious/file")
    os.mkfifo(tmp_path / "tree/fifo")
    FILES.remove_tree(tmp_path / "tree")
    FILES.remove_tree(tmp_path / "tree")
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["precious", "file"]


def test_a_link_in_place_of_the_tree_is_removed_itself(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "tree").symlink_to("precious")
    FILES.remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == ["precious"]


def test_a_tree_of_two_thousand_levels_is_removed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(
        lambda: subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)
    )  # pytest itself could not
    here = os.open(tmp_path, os.O_RDONLY)
    for name in ["tree", *["d"] * 2000]:
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    FILES.remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_a_tree_that_shuts_its_owner_out_is_removed(tmp_path: Path) -> None:
    """Root is never shut out, so root becomes an ordinary user, who cannot walk to `tmp_path` but starts in it."""
    tmp_path.chmod(0o777)
    script = (
        "import os; from pathlib import Path; from ua_vp.runtime.files import DurableFiles\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "tree = Path('tree'); (tree / 'a/b').mkdir(parents=True); (tree / 'a/b/file').touch()\n"
        "for folder, mode in ((tree / 'a/b', 0o500), (tree / 'a', 0), (tree, 0o400)): folder.chmod(mode)\n"
        "DurableFiles().remove_tree(tree); assert not tree.exists()\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30, cwd=tmp_path, env=environment)
