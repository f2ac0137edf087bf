"""What the product is to reach, side by side with floors and peers."""

from __future__ import annotations

from benchmarks.figures import Figures, Goal, figure, over_best, ratio

SQLITE, POSTGRESQL = "lifecycle/sqlite/64/", "lifecycle/postgresql/64/"
SQLITE_START, POSTGRESQL_START = "start/sqlite/", "start/postgresql/"
ON_SQLITE = ("honker (NORMAL)", "huey", "dbos", "river")
ON_POSTGRESQL = ("procrastinate", "pgqueuer", "dbos", "river")


def _of_peers(ours: str, prefix: str, peers: tuple[str, ...], what: str) -> Goal:
    return Goal(
        name=f"idle to start on {prefix.split('/')[1]}: {what} over the best peer's",
        bound=0.25,
        at_least=False,
        measure=over_best(ours, prefix, peers, what, smallest=True),
    )


def _over(prefix: str, peer: str, *, bound: float) -> Goal:
    return Goal(
        name=f"lifecycle on {'SQLite' if prefix == SQLITE else 'PostgreSQL'} over {peer}",
        bound=bound,
        at_least=True,
        measure=ratio(f"{prefix}ua-vp/rate", f"{prefix}{peer.lower()}/rate"),
    )


def _claim_at(finished: int) -> Goal:
    return Goal(
        name=f"claim at {finished:,} finished missions over empty",
        bound=1.25,
        at_least=False,
        measure=ratio(f"size/{finished}/claim", "size/0/claim"),
    )


GOALS = (
    Goal(
        name="lifecycle on SQLite over the pipelined floor",
        bound=0.45,
        at_least=True,
        measure=ratio(f"{SQLITE}ua-vp/rate", f"{SQLITE}floor/rate"),
        undisturbed=ratio(f"{SQLITE}floor/cpu", f"{SQLITE}ua-vp/cpu"),
    ),
    Goal(
        name="lifecycle on SQLite: FULL over NORMAL",
        bound=0.7,
        at_least=True,
        measure=ratio(f"{SQLITE}ua-vp/rate", f"{SQLITE}ua-vp (NORMAL)/rate"),
    ),
    Goal(
        name="lifecycle on SQLite over the best durable Python peer",
        bound=3,
        at_least=True,
        measure=over_best(f"{SQLITE}ua-vp/rate", SQLITE, ("huey", "dbos"), "rate"),
    ),
    _over(SQLITE, "River", bound=2),
    _over(POSTGRESQL, "dbos", bound=3),
    _over(POSTGRESQL, "procrastinate", bound=3),
    _over(POSTGRESQL, "pgqueuer", bound=1),
    _over(POSTGRESQL, "River", bound=0.8),
    Goal(
        name="idle to start on SQLite: p50 over a hand-written wake-up's",
        bound=3,
        at_least=False,
        measure=ratio(f"{SQLITE_START}ua-vp/p50", f"{SQLITE_START}floor/p50"),
    ),
    _of_peers(f"{SQLITE_START}ua-vp/p50", SQLITE_START, ON_SQLITE, "p50"),
    _of_peers(f"{SQLITE_START}ua-vp/p99", SQLITE_START, ON_SQLITE, "p99"),
    _of_peers(f"{POSTGRESQL_START}ua-vp/p50", POSTGRESQL_START, ON_POSTGRESQL, "p50"),
    _of_peers(f"{POSTGRESQL_START}ua-vp/p99", POSTGRESQL_START, ON_POSTGRESQL, "p99"),
    Goal(name="idle CPU of the worker, % of a core", bound=0.3, at_least=False, measure=figure("idle/worker")),
    Goal(name="idle CPU of the API, % of a core", bound=0.3, at_least=False, measure=figure("idle/api")),
    _claim_at(1000000),
    _claim_at(100000),
    Goal(
        name="memory of the worker over procrastinate's",
        bound=1.2,
        at_least=False,
        measure=ratio("memory/worker", "memory/procrastinate"),
    ),
)


def judged(figures: Figures) -> list[tuple[Goal, float]]:
    """The goals that could be measured, with their values."""
    found = [(goal, goal.measure(figures)) for goal in GOALS]
    return [(goal, value) for goal, value in found if value is not None]
