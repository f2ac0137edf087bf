"""A checkout on disk: which Markdown pages it has and where a link from one of them leads."""

import os
import posixpath
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ua_vp_general.findings import Check, Tally

MARKDOWN = (".md", ".markdown")
LARGEST_PAGE = 2 * 1024 * 1024
"""Bytes; a page beyond it is reported, not read."""

_GIT_SECONDS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The Markdown files of a checkout, as found, and how they were found."""

    files: tuple[str, ...]
    how: str
    unreadable_folders: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What a path below the root really is: its path after all symbolic links, still below the root."""

    path: str
    is_folder: bool


class NowhereError(Exception):
    """A path leads to nothing inside the root; the message says why."""


def list_markdown(root: Path) -> Listing:
    """List what git tracks; where git is missing, refuses or tracks nothing here, what lies in the folders."""
    tracked = _tracked(root)
    if tracked:
        return Listing(files=_only_markdown(tracked), how="files that git tracks")
    troubles: list[OSError] = []
    found = _only_markdown(_walk(root, troubles))
    folders = sorted(_below(root, str(trouble.filename)) for trouble in troubles)
    how = "all files outside hidden folders, virtual environments and node_modules"
    return Listing(files=found, how=how, unreadable_folders=tuple(folders))


def locate(root: Path, path: str) -> Place:
    """Say what `path` (below the real path `root`) is.

    Raises:
        NowhereError: nothing is there, or it lies outside the root.
    """
    normal = posixpath.normpath(path)
    if normal == ".." or normal.startswith(("../", "/")):
        raise NowhereError("leads out of the checkout")
    try:
        real = os.path.realpath(root / normal, strict=True)
        mode = os.stat(real, follow_symlinks=False).st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        raise NowhereError("no such file in the checkout") from None
    if not Path(real).is_relative_to(root):
        raise NowhereError("a symbolic link leads out of the checkout")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NowhereError("neither a file nor a folder")
    return Place(path=_below(root, real), is_folder=stat.S_ISDIR(mode))


def read_pages(root: Path, listing: Listing, tally: Tally) -> dict[str, str]:
    """Read every page once, by its real path; symbolic links to one page are that page."""
    texts: dict[str, str] = {}
    for folder in listing.unreadable_folders:
        tally.found(folder, None, subject=folder, message="the folder cannot be read")
    for file in listing.files:
        try:
            place = locate(root, file)
            if place.path not in texts:
                texts[place.path] = _read(root / place.path)
                tally.passed += 1
        except NowhereError as error:
            tally.found(file, None, subject=file, message=f"not read: {error}")
        except UnicodeDecodeError as error:
            tally.found(file, None, subject=file, message=f"not read: not UTF-8 at byte {error.start}")
        except OSError as error:
            tally.found(file, None, subject=file, message=f"not read: {error.strerror}")
    return dict(sorted(texts.items()))


def pages_tally() -> Tally:
    """The count that `read_pages` fills."""
    return Tally(check=Check.PAGES)


def _read(page: Path) -> str:
    """Read one page without following a link or waiting for a pipe.

    Raises:
        NowhereError: it is no regular file, or too large.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    descriptor = os.open(page, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NowhereError("not a file")
        content = file.read(LARGEST_PAGE + 1)
    if len(content) > LARGEST_PAGE:
        raise NowhereError(f"larger than {LARGEST_PAGE // 1024 // 1024} MiB")
    return content.decode("utf-8-sig")


def _tracked(root: Path) -> tuple[str, ...]:
    """Give all paths that git tracks below `root`; nothing if git cannot say.

    The checkout may belong to someone else (`safe.directory`), and its own configuration must start no program
    (`core.fsmonitor`); variables such as GIT_DIR would point at another repository.
    """
    settings = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(
            ("git", *settings, "ls-files", "-z"),
            cwd=root,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    if answer.returncode:
        return ()
    return tuple(os.fsdecode(name) for name in answer.stdout.split(b"\0") if name)


def _walk(root: Path, troubles: list[OSError]) -> Iterator[str]:
    for folder, folders, files in os.walk(root, onerror=troubles.append):
        folders[:] = sorted(name for name in folders if not _is_passed_over(Path(folder, name)))
        for name in files:
            yield _below(root, str(Path(folder, name)))


def _is_passed_over(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in {"node_modules", "venv"} or (folder / "pyvenv.cfg").exists()


def _only_markdown(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(path for path in set(paths) if path.lower().endswith(MARKDOWN)))


def _below(root: Path, path: str) -> str:
    return Path(path).relative_to(root).as_posix()
