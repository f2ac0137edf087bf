"""Throughput at backlog: all missions are dispatched, then all are worked off; both halves count."""

from __future__ import annotations

from benchmarks.arena import (
    OURS,
    POSTGRESQL_FLOOR,
    POSTGRESQL_PEERS,
    SQLITE_FLOOR,
    SQLITE_PEERS,
    Arena,
    Contender,
    lax,
    say,
)
from benchmarks.figures import Figures


def measure(arena: Arena, figures: Figures, *, quick: bool) -> None:
    """SQLite, and PostgreSQL if there is one, with 64 dispatchers and with one."""
    sqlite: tuple[Contender, ...] = (SQLITE_FLOOR, OURS, lax(OURS))
    if quick:
        _race(arena, figures, "sqlite", sqlite, dispatchers=64, rounds=4, missions=960)
        return
    sqlite += (lax(SQLITE_FLOOR), *SQLITE_PEERS)
    _race(arena, figures, "sqlite", sqlite, dispatchers=64, rounds=5, missions=6400)
    _race(arena, figures, "sqlite", sqlite, dispatchers=1, rounds=3, missions=1920)
    if arena.cluster is not None:
        postgresql = (POSTGRESQL_FLOOR, OURS, *POSTGRESQL_PEERS)
        _race(arena, figures, "postgresql", postgresql, dispatchers=64, rounds=3, missions=5120)
        _race(arena, figures, "postgresql", postgresql, dispatchers=1, rounds=2, missions=1280)


def _race(
    arena: Arena,
    figures: Figures,
    store: str,
    contenders: tuple[Contender, ...],
    *,
    dispatchers: int,
    rounds: int,
    missions: int,
) -> None:
    say(f"  {store}, {dispatchers} dispatchers")
    best = arena.race(
        contenders, rounds=rounds, missions=missions, dispatchers=dispatchers, postgresql=store == "postgresql"
    )
    for name, mine in best.items():
        prefix = f"lifecycle/{store}/{dispatchers}/{name}"
        figures.put(f"{prefix}/rate", mine.rate)
        figures.put(f"{prefix}/dispatch", mine.dispatch_rate)
        figures.put(f"{prefix}/work", mine.work_rate)
        figures.put(f"{prefix}/cpu", mine.cpu * 1e6)
