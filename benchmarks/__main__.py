"""`python -m benchmarks [quick|full]`: one run, side by side, as ratios.

`quick` holds half of each goal that needs no peers, and fails below; `full` meets the peers and writes the page.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import report
from benchmarks.arena import Arena, say, settle
from benchmarks.environment import ROOT, make_peers
from benchmarks.figures import Figures
from benchmarks.goals import judged
from benchmarks.parts import latency, lifecycle, product, size
from tests.postgres import Cluster, NoServerError

Part = Callable[..., None]
PARTS: dict[str, Part] = {
    "lifecycle": lifecycle.measure,
    "latency": latency.measure,
    "size": size.measure,
    "product": product.measure,
}
USAGE = f"usage: ./dev bench [quick|full] [PART…]   parts: {' '.join(PARTS)}"


def main(arguments: list[str]) -> int:
    """Measure, print, and (full) write; the exit code says whether the floors (quick) hold."""
    mode, *parts = arguments or ["quick"]
    if mode not in {"quick", "full"} or not set(parts) <= PARTS.keys():
        say(USAGE)
        return 2
    quick, figures = mode == "quick", Figures()
    with ExitStack() as everything:
        folder = everything.enter_context(tempfile.TemporaryDirectory(prefix="ua-vp-bench-"))
        arena = Arena(folder=Path(folder))
        if not quick:
            figures.notes += make_peers()
            arena.cluster = cluster(everything, figures)
        for name in parts or PARTS:
            settle()
            start = time.monotonic()
            PARTS[name](arena, figures, quick=quick)
            say(f"{name}: {time.monotonic() - start:.0f} s")
        print("\n".join(report.lines(figures, arena)))
        if not quick and not parts:
            report.write(ROOT, figures, arena)
    below = [goal.name for goal, _ in judged(figures) if quick and not goal.held(figures)]
    for name in below:
        say(f"below half its goal: {name}")
    return 1 if below or arena.failed else 0


def cluster(everything: ExitStack, figures: Figures) -> Cluster | None:
    """A PostgreSQL that looks after its statistics as often as one under steady load would."""
    try:
        return everything.enter_context(Cluster(autovacuum_naptime="2s"))
    except NoServerError as error:
        figures.notes.append(f"PostgreSQL: {error}")
        return None


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
