"""Run the parts of the test suite in order, all of them even if one fails, and say what ran and what was left out.

A part is a list of commands, or of arguments of pytest. With `CI=true` what a part needs from the
system is installed by apt, and a test left out counts as a failure.
"""

import glob
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import soak

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"
CHECKS = {
    "lint": (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("lint-imports",)),
    "types": (("mypy", "ua_vp", "plugins", "tests", "benchmarks"),),
}
LAST = {"bench": (("python", "-m", "benchmarks", "quick"),)}
TESTS = {  # what pytest is given
    "unit": ("tests/unit",),
    "integration": ("tests/integration", "-m", "not postgresql"),
    "postgresql": ("tests/integration", "tests/faults", "-m", "postgresql"),
    "acceptance": ("tests/acceptance",),
    "faults": ("tests/faults", "-m", "not postgresql"),
    "docs": ("tests/docs",),
}
SYSTEM_NEEDS = {  # Debian's packages, and what tells that one is there
    "acceptance": {"mmdebstrap": "/usr/bin/mmdebstrap"},
    "postgresql": {"postgresql": "/usr/lib/postgresql/*/bin/postgres"},
    "faults": {"gcc": "/usr/bin/cc", "libc6-dev": "/usr/include/stdio.h"},
}


@dataclass(kw_only=True)
class Result:
    """What one part came to."""

    part: str
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)
    passed_tests: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failed and not (CI and self.left_out)


def main(arguments: list[str]) -> int:
    """Run the parts named before the first option; the options go to pytest."""
    options_start = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    names, options = arguments[:options_start], arguments[options_start:]
    known = [*CHECKS, *TESTS, *LAST]
    if unknown := set(names) - set(known):
        print(f"no such part: {', '.join(sorted(unknown))}; there are: {' '.join(known)}", file=sys.stderr)
        return 2
    wanted = [part for part in known if part in names or not names]
    results = [run_part(part, options) for part in wanted]
    report(results, not_asked_for=[part for part in known if part not in wanted])
    return 0 if all(result.ok for result in results) else 1


def run_part(part: str, options: list[str]) -> Result:
    """Run every command of a part, stopping at none."""
    result, start = Result(part=part), time.monotonic()
    install_what_is_missing(part, result)
    if part in TESTS:
        run_tests(part, options, result)
    else:
        for command in (CHECKS | LAST)[part]:
            run(command, result)
    result.seconds = time.monotonic() - start
    return result


def install_what_is_missing(part: str, result: Result) -> None:
    """On CI, as root, get what the part needs from the system; elsewhere its tests leave themselves out."""
    missing = [package for package, sign in SYSTEM_NEEDS.get(part, {}).items() if not glob.glob(sign)]
    if missing and CI and os.geteuid() == 0:
        run(("apt-get", "-qq", "update"), result)
        run(("apt-get", "-qq", "install", "--yes", "--no-install-recommends", *missing), result)


def run_tests(part: str, options: list[str], result: Result) -> None:
    """Run the tests of one part; pytest's own record says what was left out and why."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "record.xml")
        run(("pytest", *TESTS[part], f"--junit-xml={record}", *recorded(), *options), result)
        for case in ElementTree.parse(record).iter("testcase") if record.exists() else ():
            skipped = case.find("skipped")
            if skipped is not None:
                result.left_out.append((case.get("name", ""), skipped.get("message", "")))
            elif case.find("failure") is None and case.find("error") is None:
                result.passed_tests += 1


def recorded() -> tuple[str, ...]:
    """What a commit's own tests count goes where the soak's figures are."""
    if (revision := soak.commit()).endswith("+"):
        return ()
    return (f"--record-figures={soak.record_of(revision)}",)


def run(command: tuple[str, ...], result: Result) -> None:
    """Run one command in the root of the repository, showing it and its wall time."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    start = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    print(f"# {command[0]}: exit {code}, {time.monotonic() - start:.1f} s", flush=True)
    if code:
        result.failed.append(command[0])


def report(results: list[Result], *, not_asked_for: list[str]) -> None:
    """Print the closing table."""
    print(f"\n{'part':12} {'seconds':>7}  {'tests':>5}  result")
    for result in results:
        tests = str(result.passed_tests) if result.part in TESTS else ""
        verdict = "passed" if result.ok else f"FAILED ({', '.join(result.failed) or 'left something out'})"
        print(f"{result.part:12} {result.seconds:7.1f}  {tests:>5}  {verdict}")
    for result in results:
        for test, why in result.left_out:
            print(f"left out: {result.part}: {test}: {why}")
    for part in not_asked_for:
        print(f"left out: {part}: not asked for")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
