"""The two files a documentation check leaves: a summary to read and the findings as data."""

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ua_vp_general.findings import Finding, Tally

LONGEST_TABLE = 500
LONGEST_TEXT = 160
_MARKUP = re.compile(r"([\\`*_\[\]<>~#$&])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything a check came to; `root` is the checkout's name, never its place on this machine."""

    root: str
    how_listed: str
    pages: int
    tallies: tuple[Tally, ...]

    @property
    def findings(self) -> list[Finding]:
        """All findings by file and line."""
        every = (finding for tally in self.tallies for finding in tally.findings)
        return sorted(every, key=lambda finding: (finding.file, finding.line or 0, finding.check))


def write_report(report: Report, *, work_products: Path, supporting: Path) -> None:
    """Write `supporting/findings.json` and `work_products/summary.md`.

    Raises:
        OSError: a file cannot be written.
    """
    supporting.joinpath("findings.json").write_text(_as_json(report), encoding="utf-8")
    work_products.joinpath("summary.md").write_text(_as_markdown(report), encoding="utf-8")


def verdict(report: Report) -> str:
    """Say in one line what came out."""
    findings = report.findings
    if not report.pages and not findings:
        return "Nothing to check: there is no Markdown here."
    pages = _count(report.pages, "page")
    if not findings:
        return f"No findings in {pages}."
    files = len({finding.file for finding in findings})
    return f"{_count(len(findings), 'finding')} in {_count(files, 'file')}, {pages} looked at."


def visible(text: str) -> str:
    """Show control characters, invisible ones, bytes that are no text and backslashes as Python's escapes."""
    return "".join(map(_visible_character, text))


def code(text: str) -> str:
    """Put foreign text into a code span that fits into a cell of a table, whatever it holds."""
    shown = _shortened(visible(text).replace("|", "\\|"))
    if not shown.strip():
        return "(empty)"
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if "`" in {shown[0], shown[-1]} else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def plain(text: str) -> str:
    """Put foreign text into a cell of a table as words."""
    return _MARKUP.sub(r"\\\1", _shortened(visible(text))).replace("|", "&#124;")


def _visible_character(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character == "\\" or unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return character.encode("unicode_escape").decode("ascii")
    return character


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT].rstrip(chr(92))}… ({len(text)} characters)"


def _as_markdown(report: Report) -> str:
    lines = [
        f"# Documentation check: {plain(report.root)}",
        "",
        f"**Verdict: {verdict(report)}**",
        "",
        "## What was looked at",
        "",
        f"{_count(report.pages, 'Markdown page')}, taken from {report.how_listed}.",
        "",
        *_table(("Check", ">Looked at", ">Passed", ">Findings", ">Not checked"), map(_tally_row, report.tallies)),
        "",
        *_left_out(report.tallies),
        "## Findings",
        "",
        *_findings(report.findings),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _tally_row(tally: Tally) -> tuple[str, ...]:
    numbers = (tally.looked_at, tally.passed, len(tally.findings), tally.left_out.total())
    return (tally.check.value[0].upper() + tally.check.value[1:], *map(str, numbers))


def _left_out(tallies: Sequence[Tally]) -> list[str]:
    lines = [
        f"- {tally.check}: {number} {plain(reason)}"
        for tally in tallies
        for reason, number in sorted(tally.left_out.items())
    ]
    return ["Not checked:", "", *lines, ""] if lines else []


def _findings(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return ["None."]
    rows = (
        (_where(finding), finding.check.value, code(finding.subject), plain(finding.message))
        for finding in findings[:LONGEST_TABLE]
    )
    lines = _table(("Where", "Check", "What", "Why"), rows)
    if len(findings) > LONGEST_TABLE:
        rest = len(findings) - LONGEST_TABLE
        lines += ["", f"{rest} more stand in `supporting/findings.json`, which holds all {len(findings)}."]
    return lines


def _where(finding: Finding) -> str:
    return code(finding.file if finding.line is None else f"{finding.file}:{finding.line}")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Write a table padded to its columns, so that it also reads well unrendered; `>` sets a column to the right."""
    names = tuple(name.lstrip(">") for name in head)
    every = [names, *rows]
    widths = [max(3, *(len(row[column]) for row in every)) for column in range(len(head))]
    rule = [
        ("-" * (width - 1) + ":") if name[0] == ">" else "-" * width for name, width in zip(head, widths, strict=True)
    ]
    padded = [
        [
            cell.rjust(width) if name[0] == ">" else cell.ljust(width)
            for cell, width, name in zip(row, widths, head, strict=True)
        ]
        for row in every
    ]
    return [f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:])]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _as_json(report: Report) -> str:
    """Give the findings as JSON in plain ASCII; bytes of a file name that are no UTF-8 stand as escapes."""
    content = {
        "schema": 1,
        "root": _text(report.root),
        "listed": report.how_listed,
        "pages": report.pages,
        "verdict": verdict(report),
        "checks": [
            {
                "check": tally.check.name.lower(),
                "looked_at": tally.looked_at,
                "passed": tally.passed,
                "findings": len(tally.findings),
                "not_checked": dict(sorted(tally.left_out.items())),
            }
            for tally in report.tallies
        ],
        "findings": [
            {
                "check": finding.check.name.lower(),
                "file": _text(finding.file),
                "line": finding.line,
                "subject": _text(finding.subject),
                "message": _text(finding.message),
            }
            for finding in report.findings
        ],
    }
    return json.dumps(content, indent=2) + "\n"


def _text(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")
