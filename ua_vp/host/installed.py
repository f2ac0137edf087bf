"""Which plugins are installed, read from their metadata alone: nothing of them is imported."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ua_vp
from ua_vp.hookspecs import GROUP
from ua_vp.settings import Settings, workspace_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """An entry point of group `ua_vp`, and the distribution that registered it."""

    entry_point: str
    value: str
    """What it names: `module` or `module:object`."""
    distribution: str
    version: str

    @property
    def package(self) -> str:
        """The top-level package of the plugin's code."""
        return self.value.partition(":")[0].partition(".")[0].strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """All that a probe needs to know; it goes to the probe's process as JSON."""

    plugin: Installed
    config: Mapping[str, Any]
    """The table `[lanes.<name>]`."""
    workspace_base: str
    sandbox: str | None
    capacity: int | None
    refused: tuple[str, ...]
    """The product's own roots, which no mission may be pointed at."""
    seconds: float
    """How long the probe may take."""

    def to_json(self) -> dict[str, Any]:
        """As handed to the probe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Request:
        """The inverse of `to_json`."""
        plugin = Installed(**value["plugin"])
        return cls(**{**value, "plugin": plugin, "refused": tuple(value["refused"])})


def find_installed() -> list[Installed]:
    """Every entry point of group `ua_vp` on this interpreter's path, ordered by name and distribution."""
    found = [
        Installed(
            entry_point=point.name,
            value=point.value,
            distribution=point.dist.name if point.dist else "unknown",
            version=point.dist.version if point.dist else "unknown",
        )
        for point in importlib.metadata.entry_points(group=GROUP)
    ]
    return sorted(found, key=lambda plugin: (plugin.entry_point, plugin.distribution))


def request_for(plugin: Installed, settings: Settings) -> Request:
    """What the probe of `plugin` needs from the settings."""
    table = settings.lane(plugin.entry_point)
    return Request(
        plugin=plugin,
        config=table.own(),
        workspace_base=f"workspace://{workspace_folder(settings, plugin.entry_point)}",
        sandbox=table.sandbox,
        capacity=table.capacity,
        refused=own_roots(settings),
        seconds=settings.worker.probe_seconds,
    )


def own_roots(settings: Settings) -> tuple[str, ...]:
    """The product's own roots: its code (the whole checkout, if it runs from one), home and workspaces.

    Ledger and credentials lie in the home.
    """
    package = Path(ua_vp.__file__).resolve().parent
    checkout = package.parent
    code = checkout if any((checkout / name).exists() for name in (".git", "pyproject.toml")) else package
    roots = [code, settings.home, settings.workspace_root]
    return tuple(dict.fromkeys(str(root) for root in roots))


def tables_without_plugin(settings: Settings) -> list[str]:
    """A sentence for each table `[lanes.<name>]` that no installed plugin answers to, with the near name."""
    known = sorted({plugin.entry_point for plugin in find_installed()})
    sentences = []
    for name in sorted(settings.lanes):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean [lanes.{near[0]}]?" if near else f"lanes installed: {', '.join(known) or 'none'}"
            sentences.append(f"{settings.config}: [lanes.{name}] belongs to no installed plugin; {hint}")
    return sentences
