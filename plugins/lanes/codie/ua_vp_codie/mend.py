"""The recipe that mends a Python repository: `python -P -m ua_vp_codie.mend`, started at the top of a clone.

It lets ruff apply its safe fixes and its formatting to the Python files git tracks, by the repository's own
configuration, and says what it did and what is left. The exit status is 0 when it ran, whatever is left, and 2 when it
could not run. `-P` keeps a `json.py` of the repository from standing in for Python's own.
"""

import argparse
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruff import find_ruff_bin  # type: ignore[import-untyped]  # ruff ships no types

CANNOT_RUN = 2
PYTHON_FILES = (".py", ".pyi", ".ipynb")
_BATCH_BYTES = 100_000  # of file names; a command line holds more everywhere


class CannotRunError(Exception):
    """The mending cannot be done; the message names the cause and the remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One finding of ruff."""

    file: str
    line: int
    column: int
    code: str
    message: str
    is_mendable: bool
    """Whether ruff has a safe fix for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruff:
    """Ruff on one clone; it leaves no cache there."""

    program: str
    clone: Path
    files: tuple[str, ...]
    environment: Mapping[str, str]

    def findings(self) -> list[Finding]:
        """Look without mending."""
        options = ("--no-fix", "--no-fix-only", "--exit-zero", "--output-format=json")
        answers = self._run("check", *options)
        return [_finding(self.clone, row) for answer in answers for row in json.loads(answer.stdout)]

    def fix(self) -> None:
        """Apply the safe fixes, or those the repository's configuration calls for."""
        for _ in self._run("check", "--fix", "--exit-zero"):
            pass

    def format(self) -> list[str]:
        """Format the files; gives what ruff says about those it cannot parse."""
        answers = self._run("format", fails_on_broken_files=True)
        return [line for answer in answers for line in answer.stderr.decode(errors="replace").splitlines() if line]

    def _run(
        self, *arguments: str, fails_on_broken_files: bool = False
    ) -> Iterator[subprocess.CompletedProcess[bytes]]:
        for batch in _batches(self.files):
            answer = subprocess.run(
                (self.program, *arguments, "--no-cache", "--force-exclude", "--", *batch),
                cwd=self.clone,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if answer.returncode and not fails_on_broken_files:
                said = answer.stderr.decode(errors="replace").strip()
                raise CannotRunError(f"ruff {arguments[0]} gave up; if it names a configuration, mend that:\n{said}")
            yield answer


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Mend the repository in the working directory and give the exit status."""
    argparse.ArgumentParser(prog="python -P -m ua_vp_codie.mend", description="Mend a clone.").parse_args(arguments)
    clean = {name: value for name, value in environment.items() if not name.startswith(("GIT_", "RUFF_"))}
    clone = Path.cwd()
    try:
        mend(Ruff(program=_ruff_program(), clone=clone, files=_tracked_files(clone, clean), environment=clean))
    except CannotRunError as error:
        sys.stderr.write(f"mend: {error}\n")
        return CANNOT_RUN
    return 0


def mend(ruff: Ruff) -> None:
    """Fix, format, and say on standard output what was there, what changed and what is left.

    Raises:
        CannotRunError: ruff gave up, as it does on a configuration that it cannot read.
    """
    _say(f"tracked Python files: {len(ruff.files)}")
    found, start = ruff.findings(), _digests(ruff)
    mendable = sum(finding.is_mendable for finding in found)
    _say(f"findings before: {len(found)}, of them with a safe fix: {mendable}{_by_code(found)}")
    ruff.fix()
    fixed = _digests(ruff)
    _say(f"files changed by fixes: {_changed(start, fixed)}")
    not_formatted = ruff.format()
    formatted = _digests(ruff)
    _say(f"files changed by formatting: {_changed(fixed, formatted)}")
    for line in not_formatted:
        _say(f"  {line}")
    _say(f"files changed in all: {_changed(start, formatted)}")
    left = ruff.findings()
    _say(f"findings left: {len(left)}{_by_code(left)}")
    for finding in left:
        _say(f"  {finding.file}:{finding.line}:{finding.column}: {finding.code} {finding.message}")


def _ruff_program() -> str:
    """Find the ruff installed beside this package, not one that happens to be on the PATH.

    Raises:
        CannotRunError: it is not there.
    """
    try:
        program: str = find_ruff_bin()
    except FileNotFoundError:
        raise CannotRunError("ruff is not installed with this lane: install ua-vp-codie again") from None
    return program


def _tracked_files(clone: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Give the Python files git tracks; symbolic links are left out, they may lead elsewhere.

    Raises:
        CannotRunError: the folder is not the top of a git work tree.
    """
    inside = _git(clone, environment, "rev-parse", "--is-inside-work-tree", "--show-prefix")
    if inside.split() != [b"true"]:
        raise CannotRunError(f"{clone} is not the top of a git work tree: start this in the clone to be mended")
    names = (os.fsdecode(name) for name in _git(clone, environment, "ls-files", "-z").split(b"\0"))
    return tuple(sorted({name for name in names if name.endswith(PYTHON_FILES) and _is_regular(clone / name)}))


def _git(clone: Path, environment: Mapping[str, str], *arguments: str) -> bytes:
    """Ask git; gives nothing where it refuses. The clone's owner does not matter, its configuration starts nothing.

    Raises:
        CannotRunError: git is not installed.
    """
    settings = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")
    try:
        return subprocess.run(
            ("git", *settings, *arguments),
            cwd=clone,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        ).stdout
    except FileNotFoundError:
        raise CannotRunError("git is not installed: install it") from None


def _is_regular(file: Path) -> bool:
    """Whether the file is there, and no part of its path is a symbolic link."""
    try:
        return os.path.realpath(file, strict=True) == str(file) and stat.S_ISREG(file.lstat().st_mode)
    except OSError:  # tracked, but not in the work tree
        return False


def _batches(files: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for file in files:
        if batch and size + len(file) > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += len(os.fsencode(file)) + 1
    if batch:
        yield batch


def _finding(clone: Path, row: Mapping[str, object]) -> Finding:
    """Read one finding of ruff's JSON."""
    place, fix = row.get("location"), row.get("fix")
    line, column = (place.get("row", 1), place.get("column", 1)) if isinstance(place, dict) else (1, 1)
    return Finding(
        file=os.path.relpath(str(row.get("filename")), clone),
        line=line,
        column=column,
        code=str(row.get("code") or "invalid-syntax"),
        message=str(row.get("message")),
        is_mendable=isinstance(fix, dict) and fix.get("applicability") == "safe",
    )


def _digests(ruff: Ruff) -> dict[str, bytes]:
    return {file: hashlib.sha256((ruff.clone / file).read_bytes()).digest() for file in ruff.files}


def _changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> int:
    return sum(before[file] != after[file] for file in before)


def _by_code(findings: Sequence[Finding]) -> str:
    """Give the counts by code, the largest first; nothing where nothing was found."""
    counts = Counter(finding.code for finding in findings)
    parts = [f"{code} {number}" for code, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return f" ({', '.join(parts)})" if parts else ""


def _say(line: str) -> None:
    """Write one line, whatever a file is called."""
    sys.stdout.write("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
