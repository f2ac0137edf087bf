"""What a run found out: for a terminal, and as the generated part of a page with a plot beside it."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.arena import Arena
from benchmarks.figures import Figures, Goal
from benchmarks.goals import judged
from tests import postgres

PAGE = Path("docs/reference/benchmarks.md")
PLOT = PAGE.with_suffix(".svg")
BEGIN, END = "<!-- begin: generated -->", "<!-- end: generated -->"
RACES = {
    "lifecycle/sqlite/64": "SQLite, 64 dispatchers",
    "lifecycle/sqlite/1": "SQLite, 1 dispatcher",
    "lifecycle/postgresql/64": "PostgreSQL, 64 dispatchers",
    "lifecycle/postgresql/1": "PostgreSQL, 1 dispatcher",
}
STARTS = {"start/sqlite": "SQLite", "start/postgresql": "PostgreSQL"}
OTHERS = {
    "product/rate": ("whole product, API and one worker, echo lane", "missions/s"),
    "product/worker_cpu": ("whole product, CPU of the worker", "µs a mission"),
    "idle/worker": ("idle worker", "% of a core"),
    "idle/api": ("idle API", "% of a core"),
    "memory/worker/at_rest": ("worker at rest", "MiB"),
    "memory/worker/after": ("worker after 2,000 missions, 100,000 more in the ledger", "MiB"),
    "memory/api/at_rest": ("API at rest", "MiB"),
    "memory/api/after": ("API after 2,000 missions, 100,000 more in the ledger", "MiB"),
    "memory/procrastinate": ("procrastinate's worker at rest", "MiB"),
    "command/help": ("`ua-vp --help`", "ms"),
    "command/version": ("`ua-vp version`", "ms"),
    "command/bare": ("`--help` of a cyclopts application that does nothing", "ms"),
}


def lines(figures: Figures, arena: Arena) -> Iterator[str]:
    """The page's generated part, as Markdown that a terminal shows well enough."""
    yield f"Measured on {machine(arena)}."
    yield ""
    yield from table(("goal", "bound", "figure", ""), map(verdict, judged(figures)))
    for prefix, title in RACES.items():
        rows = sorted(_contenders(figures, prefix, "rate"), key=lambda row: -row[1])
        if rows:
            columns = (f"lifecycle on {title}", "missions/s", "dispatch/s", "work/s", "CPU µs a mission")
            yield ""
            yield from table(columns, (_lifecycle(figures, prefix, name) for name, _ in rows))
    for prefix, title in STARTS.items():
        rows = sorted(_contenders(figures, prefix, "p50"), key=lambda row: row[1])
        if rows:
            yield ""
            names = (f"idle to start on {title}", "p50 ms", "p99 ms")
            yield from table(
                names, ((name, f"{p50:.2f}", f"{figures.values[f'{prefix}/{name}/p99']:.2f}") for name, p50 in rows)
            )
    if sizes := list(_sizes(figures)):
        yield ""
        yield from table(("finished missions", "claim µs", "first page of missions µs", "page of events µs"), sizes)
    if others := [
        (title, figures.values[name], unit) for name, (title, unit) in OTHERS.items() if name in figures.values
    ]:
        yield ""
        yield from table(("also", "", ""), ((title, f"{value:.3g}", unit) for title, value, unit in others))
    for note in dict.fromkeys([*figures.notes, *arena.failed]):
        yield ""
        yield f"Left out: {note}."


def verdict(found: tuple[Goal, float], slack: float = 1.0) -> tuple[str, ...]:
    """A row of the table of goals."""
    goal, value = found
    return goal.name, goal.text, f"{value:.3g}", "met" if goal.met(value, slack=slack) else "**not met**"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def write(root: Path, figures: Figures, arena: Arena) -> None:
    """Renew the generated part of the page, and the plot."""
    page = root / PAGE
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    generated = "\n".join([f"![Missions a second]({PLOT.name})", "", *lines(figures, arena)])
    page.write_text(f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}", encoding="utf-8")
    (root / PLOT).write_text(plot(figures), encoding="utf-8")


def plot(figures: Figures) -> str:
    """Bars of missions a second, a group for each race with 64 dispatchers."""
    bars: list[tuple[str, float, str]] = []
    for prefix, colour in (("lifecycle/sqlite/64", "#3b7dd8"), ("lifecycle/postgresql/64", "#7a5fb0")):
        store = "SQLite" if "sqlite" in prefix else "PostgreSQL"
        rows = sorted(_contenders(figures, prefix, "rate"), key=lambda row: -row[1])
        bars += [(f"{name}, {store}", rate, colour if name == "ua-vp" else "#a9b4c2") for name, rate in rows]
    longest = max((rate for _, rate, _ in bars), default=1.0)
    height = 24 * len(bars) + 34
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif" font-size="13">',
        "<title>Missions a second, from dispatch to mark, 64 dispatchers</title>",
        '<text x="8" y="18" font-weight="bold">Missions a second, 64 dispatchers, longer is better</text>',
    ]
    for number, (name, rate, colour) in enumerate(bars):
        y = 30 + 24 * number
        svg += [
            f'<text x="180" y="{y + 14}" text-anchor="end">{name}</text>',
            f'<rect x="188" y="{y + 2}" width="{440 * rate / longest:.1f}" height="16" fill="{colour}"/>',
            f'<text x="{194 + 440 * rate / longest:.1f}" y="{y + 14}">{rate:,.0f}</text>',
        ]
    return "\n".join([*svg, "</svg>", ""])


def machine(arena: Arena) -> str:
    """What it ran on, without names."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    kernel = ".".join(platform.release().split(".")[:2])
    server = f", PostgreSQL {postgres.version_of(postgres.programs())}" if arena.cluster else ""
    return (
        f"{os.cpu_count()} cores ({cpu[1] if cpu else platform.machine()}), Linux {kernel}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}{server}"
    )


def _contenders(figures: Figures, prefix: str, what: str) -> Iterator[tuple[str, float]]:
    for name, value in figures.under(f"{prefix}/").items():
        contender, _, measure = name.partition("/")
        if measure == what:
            yield contender, value


def _lifecycle(figures: Figures, prefix: str, name: str) -> tuple[str, ...]:
    return name, *(f"{figures.values[f'{prefix}/{name}/{what}']:,.0f}" for what in ("rate", "dispatch", "work", "cpu"))


def _sizes(figures: Figures) -> Iterator[tuple[str, ...]]:
    sizes = sorted({int(name.split("/")[0]) for name in figures.under("size/")})
    for size in sizes:
        yield f"{size:,}", *(f"{figures.values[f'size/{size}/{what}']:,.0f}" for what in ("claim", "list", "events"))
