"""The vocabulary that the reference and the real ledger share: steps, moments, and the names of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from ua_vp.ports import MICROS

Row: TypeAlias = dict[str, Any]

LEASE = 30 * MICROS
SOMEBODY = ("simone", "api")
OPERATOR = ("ops", "cli")
FOLDER = "/srv/workspaces"
"""Where the lanes of the model keep their missions' folders."""


class Held(NamedTuple):
    """What a worker knows of a claim that it was given, even long after it lost it."""

    mission: str
    attempt: int
    session: str

    @property
    def worker(self) -> str:
        """The worker of the session."""
        return worker_of(self.session)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """The clocks as a step sees them: wall µs, and µs on the boot clock of `boot`."""

    now: int
    boot: str
    boot_now: int

    def later(self, micros: int) -> Moment:
        """Time goes by."""
        return replace(self, now=self.now + micros, boot_now=self.boot_now + micros)


@dataclass(frozen=True, slots=True)
class Step:
    """One transition: the name of a method of `Reference` and of `Real`, and its arguments."""

    verb: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{self.verb}({said})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """The ids of one run, told apart from those of all others on the same ledger."""

    run: int

    def lane(self, number: int) -> str:
        """A lane's id."""
        return f"vp.m{self.run:x}-{'ab'[number]}.primary"

    def mission(self, number: int) -> str:
        """A mission's id."""
        return f"vp-mission-{self.run:016x}{number:016x}"

    def session(self, number: int) -> str:
        """A session's id."""
        return f"vp-session-{self.run:x}-{number}"


def worker_of(session: str) -> str:
    """The worker whose session it is."""
    return f"worker-of-{session}"


def result_ref(mission: str) -> str:
    """Where a mission's results stand."""
    return f"workspace://{FOLDER}/{mission}"


def receipt_sha256(mission: str, attempt: int) -> str:
    """The hash of the receipt that an attempt staged."""
    return f"sha256-of-{mission}-{attempt}"


def artifacts(count: int) -> list[Row]:
    """What a terminal event says of `count` artifacts."""
    return [
        {"path": f"work_products/{n}", "category": "primary", "bytes": n, "sha256": f"{n:064x}"} for n in range(count)
    ]
