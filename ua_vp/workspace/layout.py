"""Where a mission's files lie, and making an attempt's folders (contract, section 4).

<mission_id>/
  work_products/  supporting/  run.log  mission_receipt.json  sync_ready.json      what is published
  .attempts/<n>/staging/{work_products,supporting,run.log,mission_receipt.json}    what attempt n hands over
  .attempts/<n>/inputs/  .attempts/<n>/scratch/{home,tmp,repo}                     what attempt n works with
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ua_vp.errors import DiskFullError, VpError, WorkspaceError
from ua_vp.ports import Files

WORK_PRODUCTS = "work_products"
SUPPORTING = "supporting"
RUN_LOG = "run.log"
RECEIPT = "mission_receipt.json"
MARKER = "sync_ready.json"
ATTEMPTS = ".attempts"
LATE = "late"
"""A file of this name in `.attempts/<n>/` says that a late outcome was staged there: it is kept until retention."""

SHARED_FOLDER, SHARED_FILE = 0o2750, 0o640
"""Modes of what is handed over: the folder's group (ops, mirror) reads; new entries inherit the group."""
PRIVATE_FOLDER = 0o700
INPUT_FOLDER, INPUT_FILE = 0o550, 0o440
CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSource:
    """A file to lay into the attempt at `path` (relative to `inputs/`); `sha256`, if given, must be that of `source`."""

    path: str
    source: Path
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LaidInput:
    """A file that was laid into the attempt, hashed while it was copied."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptFolders:
    """The folders of one attempt; `laid` lists its inputs, and only `prepare` knows them."""

    root: Path
    laid: tuple[LaidInput, ...] = ()

    @property
    def staging(self) -> Path:
        """What the attempt hands over."""
        return self.root / "staging"

    @property
    def work_products(self) -> Path:
        """Deliverables."""
        return self.staging / WORK_PRODUCTS

    @property
    def supporting(self) -> Path:
        """Diagnostics and notes."""
        return self.staging / SUPPORTING

    @property
    def run_log(self) -> Path:
        """The worker's log of the run."""
        return self.staging / RUN_LOG

    @property
    def receipt(self) -> Path:
        """The staged receipt."""
        return self.staging / RECEIPT

    @property
    def inputs(self) -> Path:
        """The mission's inputs, read-only."""
        return self.root / "inputs"

    @property
    def scratch(self) -> Path:
        """Private; removed at the end."""
        return self.root / "scratch"

    @property
    def home(self) -> Path:
        """HOME of the mission's processes."""
        return self.scratch / "home"

    @property
    def tmp(self) -> Path:
        """TMPDIR of the mission's processes."""
        return self.scratch / "tmp"

    @property
    def repo(self) -> Path:
        """Where a clone goes; not made beforehand."""
        return self.scratch / "repo"


@dataclass(frozen=True, slots=True)
class Workspace:
    """One mission's folder: `<workspaces>/<lane folder>/<mission_id>`, absolute."""

    root: Path
    draft: tuple[int, str] | None = None
    """An attempt that this view knows under another name; see `drafting`."""

    def __post_init__(self) -> None:
        if not self.root.is_absolute():
            raise WorkspaceError(f"the workspace {self.root} must be named by its whole path from /")

    @property
    def result_ref(self) -> str:
        """`workspace://` and the absolute path."""
        return f"workspace://{self.root}"

    @property
    def receipt(self) -> Path:
        """The published receipt."""
        return self.root / RECEIPT

    @property
    def marker(self) -> Path:
        """The marker, always last."""
        return self.root / MARKER

    @property
    def attempts(self) -> Path:
        """The private folder of all attempts."""
        return self.root / ATTEMPTS

    def attempt(self, number: int) -> AttemptFolders:
        """The folders of attempt `number`, whether they are there or not."""
        return AttemptFolders(root=self.attempts / self._name(number))

    def staged(self, number: int, name: str) -> str:
        """The path, relative to the workspace, of what attempt `number` staged under `name`."""
        return f"{ATTEMPTS}/{self._name(number)}/staging/{name}"

    def drafting(self, number: int, by: str) -> Workspace:
        """A view in which attempt `number` lies in a folder that only `by` works in, until `put_in_place`."""
        return replace(self, draft=(number, f"draft-{by}"))

    def _name(self, number: int) -> str:
        return self.draft[1] if self.draft is not None and self.draft[0] == number else str(number)

    def attempt_numbers(self) -> tuple[int, ...]:
        """The attempts that have a folder, oldest first."""
        try:
            names = os.listdir(self.attempts)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit()))


def prepare(ws: Workspace, attempt: int, *, files: Files, inputs: Sequence[InputSource] = ()) -> AttemptFolders:
    """Fresh folders for `attempt`, inputs laid in; what an earlier `prepare` of the same attempt left is removed.

    Nothing here needs to survive a power cut: that begins with `stage`.

    Raises:
        WorkspaceError: the workspace is a link or somebody else's, is already published (in part), or an input is missing
            or not what was uploaded.
        DiskFullError: no room.
    """
    folders = ws.attempt(attempt)
    with explained("prepare", ws.root):
        _make_own(ws.root, files)
        _refuse_published(ws)
        _make_own(ws.attempts, files)
        files.remove_tree(folders.root)
        for folder in (folders.root, folders.staging, folders.work_products, folders.supporting):
            make_folder(folder, SHARED_FOLDER)
        for folder in (folders.scratch, folders.home, folders.tmp):
            make_folder(folder, PRIVATE_FOLDER)
        return replace(folders, laid=_lay(folders.inputs, inputs))


def fresh_folder(folders: AttemptFolders) -> Path:
    """A new folder in scratch to start a command in: `work_products`, `supporting`, `inputs` are reachable by name.

    Raises:
        WorkspaceError: scratch is gone.
        DiskFullError: no room.
    """
    with explained("make a folder to start a command in", folders.scratch):
        number = 1
        while True:
            folder = folders.scratch / f"run-{number}"
            try:
                make_folder(folder, PRIVATE_FOLDER)
            except FileExistsError:
                number += 1
                continue
            for target in (folders.work_products, folders.supporting, folders.inputs):
                (folder / target.name).symlink_to(target)
            return folder


def make_folder(path: Path, mode: int) -> None:
    """Make one folder with exactly `mode`, whatever the umask."""
    path.mkdir(mode=mode & 0o777)
    set_mode(path, mode)


def set_mode(target: Path | int, mode: int) -> None:
    """Give a path that is ours, or a descriptor, exactly `mode`.

    Nothing is done where nothing differs: a setgid bit that was inherited is lost to a chmod by one outside the group.
    """
    now = stat.S_IMODE(os.stat(target).st_mode)
    if now != mode:
        os.chmod(target, mode)


def own_staging(ws: Workspace, attempt: int) -> AttemptFolders:
    """The folders of an attempt, after a look that none on the way to its staging was replaced.

    Raises:
        WorkspaceError: one is a link, or somebody else's.
        OSError: one is missing.
    """
    folders = ws.attempt(attempt)
    for folder in (ws.root, ws.attempts, folders.root, folders.staging):
        own_folder(folder)
    return folders


def own_folder(path: Path) -> None:
    """Refuse a link, a file, and what belongs to somebody else; then give it its mode.

    Raises:
        WorkspaceError: it is refused.
        OSError: it is not there, or the machine does not let us.
    """
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise WorkspaceError(f"{path} is not a folder but {_kind(found)}; move it away")
    if found.st_uid != os.geteuid():
        raise WorkspaceError(
            f"{path} belongs to user {found.st_uid}, this worker runs as {os.geteuid()}: "
            "give the folder to the worker's user (chown), or move it away"
        )
    set_mode(path, SHARED_FOLDER)


def is_folder(path: Path) -> bool:
    """Whether `path` itself is a folder; a link to one is not."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def exists(path: Path) -> bool:
    """Whether anything has this name, a dangling link too."""
    return os.path.lexists(path)


@contextmanager
def explained(doing: str, where: Path) -> Iterator[None]:
    """Turn the machine's errors into ours, with what to do.

    Raises:
        DiskFullError: no room, or the quota is used up.
        WorkspaceError: everything else that the machine refused.
    """
    try:
        yield
    except OSError as error:
        raise named(error, doing, where) from error


def named(error: OSError, doing: str, where: Path) -> VpError:
    """The machine's `error` as one of ours."""
    place = error.filename if isinstance(error.filename, str) else where
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(f"no room to {doing} {where}: free space on its file system, then it goes on by itself")
    remedies = {
        errno.EACCES: "; give the worker's user the right to write there",
        errno.EPERM: "; give the worker's user the right to write there",
        errno.EROFS: "; the file system is read-only",
        errno.EIO: "; the disk reports a fault: look at the kernel's log",
        errno.EMFILE: "; raise the limit of open files (LimitNOFILE)",
    }
    remedy = remedies.get(error.errno or 0, "")
    return WorkspaceError(f"cannot {doing} {where}: {place}: {error.strerror or error}{remedy}")


def _make_own(path: Path, files: Files) -> None:
    if not exists(path):
        files.make_folder(path, mode=SHARED_FOLDER)
    own_folder(path)


def _kind(found: os.stat_result) -> str:
    return "a symbolic link" if stat.S_ISLNK(found.st_mode) else "a file"


def _refuse_published(ws: Workspace) -> None:
    for name in (RECEIPT, WORK_PRODUCTS, SUPPORTING, RUN_LOG):
        if exists(ws.root / name):
            raise WorkspaceError(
                f"{ws.root} already holds {name}: an attempt was published there; nothing may start anew"
            )


def _lay(folder: Path, inputs: Sequence[InputSource]) -> tuple[LaidInput, ...]:
    """Copy the inputs below `folder` and make all of it read-only."""
    make_folder(folder, PRIVATE_FOLDER)
    laid = tuple(_lay_one(folder, given) for given in inputs)
    for below, _, _ in os.walk(folder, topdown=False):
        set_mode(Path(below), INPUT_FOLDER)
    return laid


def _lay_one(folder: Path, given: InputSource) -> LaidInput:
    parts = PurePosixPath(given.path).parts
    if not parts or given.path.startswith("/") or ".." in parts or "\0" in given.path:
        raise WorkspaceError(
            f"input path {given.path!r} does not lie in the inputs folder; name it relative, without .."
        )
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    if exists(target):
        raise WorkspaceError(f"input path {given.path!r} is given twice")
    digest = _copy(given.source, target)
    if given.sha256 not in {None, digest}:
        raise WorkspaceError(f"input {given.path!r} is not what was uploaded (SHA-256 differs); upload it again")
    return LaidInput(path="/".join(parts), sha256=digest)


def _copy(source: Path, target: Path) -> str:
    """Copy a regular file; returns its SHA-256."""
    digest = hashlib.sha256()
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(reading, "rb") as file, target.open("xb") as copy:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise WorkspaceError(f"input {source} is not a regular file")
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        set_mode(copy.fileno(), INPUT_FILE)
    return digest.hexdigest()
