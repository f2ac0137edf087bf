"""What a run has found out: figures by name, and the goals that are held against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Figures:
    """`values` by name (`lifecycle/sqlite/ua-vp/rate`); `notes` say what was left out, and why."""

    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: float) -> None:
        """Record one figure."""
        self.values[name] = value

    def get(self, name: str) -> float | None:
        """One figure, None if it was not measured."""
        return self.values.get(name)

    def under(self, prefix: str) -> dict[str, float]:
        """The figures whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self.values.items() if name.startswith(prefix)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A bound on a ratio (or another figure without a unit of the machine's)."""

    name: str
    bound: float
    at_least: bool
    """Else: at most."""
    measure: Callable[[Figures], float | None]
    """None if what it needs was not measured."""
    undisturbed: Callable[[Figures], float | None] | None = None
    """The same by CPU time, which neighbours hardly disturb: on a busy machine (`quick`) either will do."""

    def met(self, value: float, *, slack: float = 1.0) -> bool:
        """Whether `value` is good enough; `slack` 2 holds half the goal."""
        return value >= self.bound / slack if self.at_least else value <= self.bound * slack

    def held(self, figures: Figures) -> bool:
        """Whether half the goal is reached, on a machine that may be busy."""
        values = [it(figures) for it in (self.measure, self.undisturbed) if it is not None]
        return any(self.met(value, slack=2) for value in values if value is not None)

    @property
    def text(self) -> str:
        """The bound, for people."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


def ratio(above: str, below: str) -> Callable[[Figures], float | None]:
    """One figure over another."""

    def measure(figures: Figures) -> float | None:
        over, under = figures.get(above), figures.get(below)
        return over / under if over is not None and under else None

    return measure


def over_best(
    ours: str, prefix: str, peers: Mapping[str, str] | tuple[str, ...], measure: str, *, smallest: bool = False
) -> Callable[[Figures], float | None]:
    """A figure of ours over the best that any of the peers has: the largest, or the smallest."""

    def value(figures: Figures) -> float | None:
        mine = figures.get(ours)
        theirs = [it for peer in peers if (it := figures.get(f"{prefix}{peer}/{measure}")) is not None]
        if mine is None or not theirs:
            return None
        return mine / (min(theirs) if smallest else max(theirs))

    return value


def figure(name: str) -> Callable[[Figures], float | None]:
    """A figure as it is."""
    return lambda figures: figures.get(name)
