"""Run the fault tests with as many rounds as promised, and keep what they counted for the reliability page.

Figures of one commit add up over runs in `.soak/COMMIT.jsonl`. `--write [COMMIT…]` puts those of this commit, and of others that
are named, into the page and runs nothing.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "tests" / "faults"
PAGE = ROOT / "docs" / "explanation" / "reliability.md"
BEGIN, END = "<!-- figures: ./dev soak --write -->", "<!-- end of figures -->"
COUNTS = ("tried", "lost", "double", "orphaned")
SECTIONS = {
    "The whole life, at random": "model worlds several_writers",
    "Processes": """crash_points storms killed_worker killed_api zombies stopped_worker clock_steps ledger_away bad_lanes
        sqlite_migrations postgresql_migrations checkpoints""",
    "Ledger and disk": """power_cut real_disk disk_errors disk_full ledger_replaced terminal_rows sqlite_final_rows
        database_away postgresql_connections""",
    "API and events": "consumers hundred_dispatches",
    "Plugins": "bad_plugins plugin_host lanes",
}
"""Which tests' figures stand where, by module."""


def main(arguments: list[str]) -> int:
    """Run the harnesses named before the first option, all without any; the options go to pytest."""
    if arguments[:1] == ["--write"]:
        return write([*arguments[1:], commit()])
    options_start = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    names, options = arguments[:options_start], arguments[options_start:]
    known = sorted(path.stem.removeprefix("test_") for path in FAULTS.glob("test_*.py"))
    if unknown := set(names) - set(known):
        print(f"no such harness: {', '.join(sorted(unknown))}; there are: {' '.join(known)}", file=sys.stderr)
        return 2
    record = record_of(commit())
    files = [f"tests/faults/test_{name}.py" for name in names] or ["tests/faults", "tests/integration/ledger"]
    ran = subprocess.run(("pytest", *files, "--soak", "--record-figures", str(record), *options), cwd=ROOT, check=False)
    print(table([commit()]))
    return ran.returncode


def write(commits: list[str]) -> int:
    """Put the figures of these commits between the marks of the page."""
    missing = [revision for revision in commits if not record_of(revision).exists()]
    if missing == commits or missing[:-1]:
        print(f"nothing was counted at {', '.join(missing)}; run ./dev soak there first", file=sys.stderr)
        return 1
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    PAGE.write_text(
        f"{head}{BEGIN}\n{table([one for one in commits if one not in missing])}{END}{tail}", encoding="utf-8"
    )
    return 0


def table(commits: list[str]) -> str:
    """The figures of these commits as a table, summed by fault and test."""
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    records = [record_of(revision) for revision in commits]
    for line in "".join(record.read_text(encoding="utf-8") for record in records if record.exists()).splitlines():
        figure = json.loads(line)
        row = sums[figure["test"].partition("[")[0].removeprefix("tests/"), figure["fault"]]
        for count in COUNTS:
            row[count] += figure[count]
    lines = [f"Counted at {', '.join(f'`{one}`' for one in commits)}.", "", f"| fault | {' | '.join(COUNTS)} | test |"]
    lines.append(f"|---|{'---:|' * len(COUNTS)}---|")
    for section in SECTIONS:
        found = [(fault, test, counts) for (test, fault), counts in sorted(sums.items()) if section_of(test) == section]
        lines += [f"| **{section}** |{' |' * (len(COUNTS) + 1)}"] if found else []
        lines += (
            f"| {fault} | {' | '.join(f'{counts[count]:,}' for count in COUNTS)} | `{test}` |"
            for fault, test, counts in found
        )
    return "\n".join(lines) + "\n"


def section_of(test: str) -> str:
    """Where the figures of a test stand.

    Raises:
        KeyError: SECTIONS does not name its module.
    """
    module = Path(test.partition("::")[0]).stem.removeprefix("test_")
    return {name: section for section, names in SECTIONS.items() for name in names.split()}[module]


def record_of(revision: str) -> Path:
    """Where the figures of a commit are kept."""
    folder = ROOT / ".soak"
    folder.mkdir(exist_ok=True)
    return folder / f"{revision}.jsonl"


def commit() -> str:
    """The commit that is checked out, short; `+` if the tree differs from it."""
    git = ("git", "describe", "--always", "--dirty=+", "--exclude=*")
    return subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
