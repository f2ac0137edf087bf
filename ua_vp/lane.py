"""What a lane is: the values and protocols that a lane's author writes against (contract, section 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from ua_vp.guardrails import PathPolicy
from ua_vp.mission import Budget, FailureMode, Json, JsonObject, Mission, Status
from ua_vp.ports import Signal

API_VERSION = 1
"""The lane API this package speaks; compatible for the whole of 1.x."""

TASK = "task"
COMMAND = "command"
MEASURABLE = frozenset({"seconds", "idle_seconds", "output_bytes"})
"""Budget limits that the worker measures for every lane."""

NO_CONSTRAINTS: JsonObject = MappingProxyType({"type": "object", "additionalProperties": False})


@dataclass(frozen=True, slots=True)
class MissionType:
    """A kind of mission that a lane takes.

    `schema` is the JSON Schema (2020-12) of the whole of `constraints`; unknown keys are refused by it. `owes` are
    glob patterns relative to the workspace, each of which success must leave at least one file for.
    """

    description: str
    schema: JsonObject = field(default_factory=lambda: NO_CONSTRAINTS)
    owes: tuple[str, ...] = ("work_products/**",)
    default_budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneInfo:
    """What a lane says of itself, once, at start."""

    vp_id: str
    display_name: str
    mission_types: Mapping[str, MissionType]
    api_version: int = API_VERSION
    aliases: tuple[str, ...] = ()
    path_policy: PathPolicy = field(default_factory=PathPolicy)
    capacity: int = 1
    credentials: tuple[str, ...] = ()
    accepted_sandbox_gaps: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    """Budget limits that the lane itself reports through `usage`, besides those the worker measures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Availability:
    """Whether a lane can take missions now; `types` holds, per unavailable type, the remedy of what is missing."""

    available: bool = True
    reason: str | None = None
    remedy: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a lane's run ended.

    `primary` ranks deliverables (paths relative to `work_products`), best first. `retryable` asks for another try
    while tries are left; it counts only with status `failed`.
    """

    status: Status
    summary: str
    primary: Sequence[str | Path] = ()
    failure_mode: FailureMode | None = None
    detail: str | None = None
    retryable: bool = False

    @classmethod
    def completed(cls, summary: str, *, primary: Sequence[str | Path] = ()) -> Outcome:
        """The mission is done."""
        return cls(status=Status.COMPLETED, summary=summary, primary=primary)

    @classmethod
    def failed(
        cls,
        summary: str,
        *,
        failure_mode: FailureMode = FailureMode.LANE_ERROR,
        detail: str | None = None,
        retryable: bool = False,
    ) -> Outcome:
        """The mission could not be done."""
        return cls(status=Status.FAILED, summary=summary, failure_mode=failure_mode, detail=detail, retryable=retryable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """How a command ended: exit `code` (minus the signal number if a signal ended it) and, where asked, its output."""

    code: int
    stdout: bytes = b""
    """What it wrote to standard output, if `capture` was asked for; at most 64 MiB."""
    tail: bytes = b""
    """The end of what it wrote to either stream, as it came; at most 64 KiB (all of it is in `run.log`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Secret:
    """A credential's value; its text never shows in logs or `repr`."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What a plugin says of itself for `doctor`."""

    ok: bool
    detail: str = ""
    remedy: str | None = None


class MissionContext(Protocol):
    """What a lane's `run` works with; valid until `run` returns."""

    @property
    def mission(self) -> Mission:
        """The mission as it was claimed."""
        ...

    @property
    def work_products(self) -> Path:
        """Folder for deliverables; becomes visible when the mission has ended."""
        ...

    @property
    def supporting(self) -> Path:
        """Folder for diagnostics and notes; handed over too, ranked behind."""
        ...

    @property
    def scratch(self) -> Path:
        """Private folder with `home/` and `tmp/`; removed at the end, never handed over."""
        ...

    @property
    def inputs(self) -> Path:
        """Folder with the mission's input files, read-only."""
        ...

    @property
    def cancelled(self) -> Signal:
        """Raised when the lane should stop: cancelled, out of time, or the lease was lost."""
        ...

    @property
    def deadline(self) -> float | None:
        """Seconds left of the mission's time; None without a limit."""
        ...

    def log(self, text: str) -> None:
        """Write lines to `run.log`; may be called from any thread."""
        ...

    def progress(self, summary: str, **data: Json) -> None:
        """Report progress: an event at most once a second, and a sign of life for `idle_seconds`."""
        ...

    def usage(self, **counts: int) -> None:
        """Report totals so far (`tokens`, `usd_cents`, …); limits in the mission's budget are enforced on them."""
        ...

    def credential(self, name: str) -> Secret:
        """A credential that the configuration grants this lane.

        Raises:
            CredentialError: not granted, or it cannot be had.
        """
        ...

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        capture: bool = False,
        timeout: float | None = None,
    ) -> Finished:
        """Run a program in the mission's walls and wait for its whole process tree; output goes to `run.log`.

        No shell. `cwd` is by default a fresh folder in which `work_products/`, `supporting/` and `inputs/` are
        reachable by name. `env` is added to the mission's own variables; nothing is inherited but PATH and the locale.

        Raises:
            OSError: the program cannot be started.
            MissionStoppedError: the mission was cancelled, ran out of time, or lost its lease; its processes are gone.
            TimeoutError: `timeout` seconds ran out; its processes are gone.
        """
        ...


class Lane(Protocol):
    """A VP lane; one object per worker process."""

    @property
    def info(self) -> LaneInfo:
        """What the lane says of itself."""
        ...

    def availability(self) -> Availability:
        """Whether it can work now; asked at start and every minute, must answer within seconds."""
        ...

    def run(self, ctx: MissionContext) -> Outcome:
        """Do the mission, on a thread of its own; whatever it raises becomes `lane_error`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A lane as the ledger holds it: all that dispatch, routing and people need, without importing the plugin."""

    info: LaneInfo
    availability: Availability
    distribution: str
    version: str
    workspace_base: str
    """`workspace://…` of the folder in which this lane's missions get theirs."""
    sandbox: str
    """Name of the sandbox backend, `none` if the configuration said so."""

    def to_json(self) -> dict[str, Json]:
        """As stored."""
        info = self.info
        return {
            "api_version": info.api_version,
            "vp_id": info.vp_id,
            "display_name": info.display_name,
            "aliases": list(info.aliases),
            "mission_types": {name: _type_to_json(kind) for name, kind in info.mission_types.items()},
            "path_policy": info.path_policy.to_json(),
            "capacity": info.capacity,
            "credentials": list(info.credentials),
            "accepted_sandbox_gaps": list(info.accepted_sandbox_gaps),
            "measures": list(info.measures),
            "availability": {
                "available": self.availability.available,
                "reason": self.availability.reason,
                "remedy": self.availability.remedy,
                "types": dict(self.availability.types),
            },
            "distribution": self.distribution,
            "version": self.version,
            "workspace_base": self.workspace_base,
            "sandbox": self.sandbox,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Manifest:
        """The inverse of `to_json`; the ledger holds only what `to_json` wrote."""
        data: dict = dict(value)  # type: ignore[type-arg]  # our own JSON, read back at the edge
        availability = data["availability"]
        return cls(
            info=LaneInfo(
                api_version=data["api_version"],
                vp_id=data["vp_id"],
                display_name=data["display_name"],
                aliases=tuple(data["aliases"]),
                mission_types={name: _type_from_json(kind) for name, kind in data["mission_types"].items()},
                path_policy=PathPolicy.from_json(data["path_policy"]),
                capacity=data["capacity"],
                credentials=tuple(data["credentials"]),
                accepted_sandbox_gaps=tuple(data["accepted_sandbox_gaps"]),
                measures=tuple(data["measures"]),
            ),
            availability=Availability(**availability),
            distribution=data["distribution"],
            version=data["version"],
            workspace_base=data["workspace_base"],
            sandbox=data["sandbox"],
        )


def _type_to_json(kind: MissionType) -> dict[str, Json]:
    return {
        "description": kind.description,
        "schema": dict(kind.schema),
        "owes": list(kind.owes),
        "default_budget": kind.default_budget.to_json(),
    }


def _type_from_json(value: Mapping[str, object]) -> MissionType:
    data: dict = dict(value)  # type: ignore[type-arg]  # our own JSON, read back at the edge
    return MissionType(
        description=data["description"],
        schema=data["schema"],
        owes=tuple(data["owes"]),
        default_budget=Budget(**data["default_budget"]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the probe found out about one entry point: every installed plugin gets one before the first dispatch."""

    entry_point: str
    distribution: str
    version: str
    ok: bool
    detail: str
    """What was found; for a degraded plugin what went wrong, in its own words."""
    remedy: str | None = None
    manifests: tuple[Manifest, ...] = ()
    """One per lane that the plugin provides; empty if it is degraded."""
    hooks: tuple[str, ...] = ()
    """Names of the hooks that the plugin implements; empty if it is degraded."""

    @property
    def plugin_id(self) -> str:
        """Names the plugin among all that are installed."""
        return plugin_id(self.entry_point, self.distribution)


def plugin_id(entry_point: str, distribution: str) -> str:
    """`distribution:entry_point`: two distributions may register one name."""
    return f"{distribution}:{entry_point}"
