"""The hooks of the plugin system: few, typed, prefixed `ua_vp_` (contract, section 10).

A distribution registers an entry point in group `ua_vp`; the object it names (a module or an instance) implements
hooks marked with `ua_vp.hookimpl`. Plugins are probed in a subprocess and imported only in worker processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from ua_vp.events import Event
from ua_vp.lane import Health, Lane, Secret

GROUP = "ua_vp"
"""The entry-point group, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def ua_vp_lanes(config: Mapping[str, Any]) -> Sequence[Lane]:  # type: ignore[empty-body]
    """The lanes this plugin provides.

    Called once in the probe and once in each worker process, on the main thread, before any claim. `config` is the
    table `[lanes.<name>]` of `ua-vp.toml`, `<name>` being the entry point's; the lane checks it and raises
    `ua_vp.ConfigurationError` for what it cannot use. A plugin may leave the argument out.
    """


@hookspec(firstresult=True)
def ua_vp_credential_source(ref: str, vp_id: str) -> Secret | None:
    """Resolve a credential reference for a lane; the first result that is not None wins.

    Called in the worker when a mission is claimed, on the mission's own thread.
    """


@hookspec
def ua_vp_mission_event(event: Event) -> None:
    """Observe an event of a mission of this worker, after it was committed.

    Called in the worker, one event at a time; an exception is logged and stops nothing.
    """


@hookspec(firstresult=True)
def ua_vp_health(vp_id: str) -> Health | None:
    """Say how the plugin is, for `doctor`; called in the probe and in the worker, must answer within seconds."""
