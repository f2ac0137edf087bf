"""The page that tells what a mission did to a repository."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ua_vp_codie.checks import Check, verdict
from ua_vp_codie.clone import Changes, Clone


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Everything there is to tell."""

    objective: str
    kind: str
    """The mission's type."""
    clone: Clone
    changes: Changes
    before: tuple[Check, ...]
    after: tuple[Check, ...]
    said: str
    """The last lines that the recipe wrote."""


def headline(result: Result) -> str:
    """All of it in a line."""
    checks = verdict(result.before, result.after)
    return f"{result.changes.short or f'Nothing to change: {result.kind} left every file as it was'}; {checks}"


def page(result: Result) -> str:
    """The text of `summary.md`."""
    parts = [f"# {headline(result)}", _quoted(result.objective), _facts(result)]
    if result.changes.stat:
        parts += ["## Changes", _fenced(result.changes.stat)]
    if result.before:
        parts += ["## Checks", _table(result.before, result.after)]
    for when, checks in (("before", result.before), ("after", result.after)):
        for check in checks:
            if not check.passed:
                parts += [f"Last lines of {_code(check.argv)} {when}:", _fenced(check.said or "(it wrote nothing)")]
    if result.said:
        parts += [f"## What {result.kind} said last", _fenced(result.said)]
    return "\n\n".join(parts) + "\n"


def _facts(result: Result) -> str:
    lines = [
        f"- repository: {_code([str(result.clone.repository)])}",
        f"- base commit: `{result.clone.base}`",
        f"- recipe: `{result.kind}`",
    ]
    if result.changes.short:
        lines.append("- patch: `changes.patch`; it was applied to a fresh checkout of the base commit, in which the")
        lines.append("  checks ran; apply it with `git apply --index changes.patch`")
    else:
        lines.append("- patch: `changes.patch` is empty, because nothing was changed")
    return "\n".join(lines)


def _table(before: Sequence[Check], after: Sequence[Check]) -> str:
    rows = [
        f"| {_code(then.argv).replace('|', chr(92) + '|')} | {then.result} | {now.result} |"
        for then, now in zip(before, after, strict=True)
    ]
    return "\n".join(["| check | before | after |", "|---|---|---|", *rows])


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines()) or ">"


def _code(argv: Sequence[str]) -> str:
    """A command as Markdown code on one line, whatever it holds."""
    text = " ".join(" ".join(argv).split())
    ticks = _ticks(text, at_least=1)
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _fenced(text: str) -> str:
    ticks = _ticks(text, at_least=3)
    return f"{ticks}text\n{text}\n{ticks}"


def _ticks(text: str, *, at_least: int) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(at_least, longest + 1)
