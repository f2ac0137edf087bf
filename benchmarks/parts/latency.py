"""From handing over a mission to its start in another process, both at rest before."""

from __future__ import annotations

import math

from benchmarks.arena import (
    OURS,
    POSTGRESQL_FLOOR,
    POSTGRESQL_PEERS,
    SQLITE_FLOOR,
    SQLITE_PEERS,
    Arena,
    Contender,
    say,
)
from benchmarks.figures import Figures


def measure(arena: Arena, figures: Figures, *, quick: bool) -> None:
    """Medians and 99th percentiles in ms, over turns that alternate."""
    missions, turns = (20, 2) if quick else (40, 2)
    peers = () if quick else SQLITE_PEERS
    _race(arena, figures, "start/sqlite", (SQLITE_FLOOR, OURS, *peers), missions=missions, turns=turns)
    if arena.cluster is not None and not quick:
        contenders = (POSTGRESQL_FLOOR, OURS, *POSTGRESQL_PEERS)
        _race(arena, figures, "start/postgresql", contenders, missions=missions, turns=turns)


def _race(
    arena: Arena, figures: Figures, prefix: str, contenders: tuple[Contender, ...], *, missions: int, turns: int
) -> None:
    """The median of the best turn of each, and the 99th percentile over all its turns."""
    found: dict[str, list[list[float]]] = {}
    for _ in range(turns):
        for contender in filter(arena.present, contenders):
            say(f"  {prefix} {contender.name}")
            if turn := arena.latencies(contender, postgresql="postgresql" in prefix, missions=missions):
                found.setdefault(contender.name, []).append(turn)
    for name, every in found.items():
        figures.put(f"{prefix}/{name}/p50", min(rank(turn, 0.5) for turn in every))
        figures.put(f"{prefix}/{name}/p99", rank([value for turn in every for value in turn], 0.99))


def rank(values: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
