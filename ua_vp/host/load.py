"""Loads one lane's plugin into a worker process, with the hooks of other plugins that a worker calls.

The lane's own plugin is always loaded. Of the others, those are loaded that a probe found sound and whose hooks a
worker calls (observers and credential sources); one that fails to load even so is logged and left out, because
another's plugin must not stop this lane.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import pluggy

from ua_vp.errors import ConfigurationError, CredentialError, LaneUnavailableError
from ua_vp.events import Event
from ua_vp.host.installed import Installed, Request, find_installed, request_for
from ua_vp.host.manifest import UNSET, ask_availability, manifests_of
from ua_vp.host.plugin import DegradedError, blame, lanes_of, open_plugin
from ua_vp.lane import Availability, Health, Lane, LaneInfo, Secret, Verdict
from ua_vp.mission import VP_ID, lane_name
from ua_vp.settings import Settings

WORKER_HOOKS = frozenset({"ua_vp_mission_event", "ua_vp_credential_source"})
"""Hooks that a worker calls on plugins other than its lane's."""


class Hooks:
    """The hooks of the plugins in this worker; no exception of a plugin leaves it as such."""

    def __init__(self, manager: pluggy.PluginManager, plugins: dict[str, Installed]) -> None:
        self._manager = manager
        self._plugins = plugins

    def mission_event(self, event: Event) -> None:
        """Show a committed event to every observer; what an observer raises is logged and stops nothing."""
        for name, plugin in self._manager.list_name_plugin():
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            call = self._manager.subset_hook_caller("ua_vp_mission_event", remove_plugins=others)
            try:
                call(event=event)
            except Exception as error:
                _log().warning("observer %s failed on %s: %s", name, event.event_id, self._blame(name, error))

    def credential(self, ref: str, vp_id: str) -> Secret | None:
        """The secret that the first source with an answer gives; None if no source knows `ref`.

        Raises:
            CredentialError: a source refused or failed; the text never holds what the source said.
        """
        try:
            secret: Secret | None = self._manager.hook.ua_vp_credential_source(ref=ref, vp_id=vp_id)
        except CredentialError:
            raise
        except Exception as error:
            raise CredentialError(f"a credential source failed with {type(error).__name__} on {ref!r}") from None
        return secret

    def health(self, vp_id: str) -> Health | None:
        """What the first plugin with an answer says of its health; one that raises is not well."""
        try:
            health: Health | None = self._manager.hook.ua_vp_health(vp_id=vp_id)
        except Exception as error:
            return Health(ok=False, detail=f"ua_vp_health raised {type(error).__name__}: {error}")
        return health

    def _blame(self, name: str, error: Exception) -> str:
        return blame(error, self._plugins[name])


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedLane:
    """A lane that this process works for."""

    lane: Lane
    info: LaneInfo
    """As published: the lane's own, with the configured capacity and the product's roots refused."""
    hooks: Hooks
    verdict: Verdict
    request: Request

    def availability(self) -> Availability:
        """Ask the lane and settle its answer with the configuration; a lane that raises is unavailable."""
        try:
            return ask_availability(self.lane, self.info, self.request)
        except DegradedError as error:
            return Availability(available=False, reason=error.found, remedy=error.remedy)


def load_lane(
    settings: Settings, vp_id: str, *, verdicts: Iterable[Verdict] = (), distribution: str | None = None
) -> LoadedLane:
    """Import the plugin of lane `vp_id`, and the plugins of `verdicts` whose hooks a worker calls.

    `verdicts` are what `probe_all` found in this process's start; a lane that it found degraded is not imported.
    `distribution` says whose lane is meant if two distributions provide one (the ledger knows which was first).

    Raises:
        ConfigurationError: `vp_id` names no lane, or two distributions provide it.
        LaneUnavailableError: the plugin is degraded, or the lane has no sandbox configured; says the remedy.
    """
    verdicts = list(verdicts)
    installed = _choose(vp_id, distribution)
    for verdict in verdicts:
        if _same(verdict, installed) and not verdict.ok:
            raise DegradedError(f"{vp_id} ({installed.distribution}): {verdict.detail}", verdict.remedy or "")
    request = request_for(installed, settings)
    opened = open_plugin(installed)
    lanes = lanes_of(opened, request)
    manifests = manifests_of(lanes, request)
    if not lanes:
        raise DegradedError(f"{installed.distribution} provides no lane {vp_id}", "look at its documentation")
    manifest = manifests[0]
    if manifest.sandbox == UNSET:
        raise LaneUnavailableError(f"{vp_id}: {manifest.availability.reason}; {manifest.availability.remedy}")
    verdict = Verdict(
        entry_point=installed.entry_point,
        distribution=installed.distribution,
        version=installed.version,
        ok=True,
        detail=f"{vp_id} ({manifest.info.display_name})",
        manifests=manifests,
        hooks=opened.hooks,
    )
    hooks = _hooks(opened.manager, installed, verdicts)
    return LoadedLane(lane=lanes[0], info=manifest.info, hooks=hooks, verdict=verdict, request=request)


def _choose(vp_id: str, distribution: str | None) -> Installed:
    """The installed entry point of the lane."""
    everything = find_installed()
    name = lane_name(vp_id)
    names = sorted({plugin.entry_point for plugin in everything})
    if name is None:
        raise ConfigurationError(f"{vp_id!r} is no lane id ({VP_ID.pattern}); installed: {', '.join(names) or 'none'}")
    found = [plugin for plugin in everything if plugin.entry_point == name]
    if distribution is not None:
        found = [plugin for plugin in found if plugin.distribution == distribution]
    if not found:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean vp.{near[0]}.primary?" if near else f"installed: {', '.join(names) or 'none'}"
        raise DegradedError(f"no installed plugin provides {vp_id}; {hint}", "install the lane's distribution")
    if len(found) > 1:
        owners = [plugin.distribution for plugin in found]
        raise ConfigurationError(f"{vp_id} is provided by {' and '.join(owners)}; `pip uninstall {owners[-1]}`")
    return found[0]


def _hooks(manager: pluggy.PluginManager, lane: Installed, verdicts: list[Verdict]) -> Hooks:
    """The lane's hooks and those of other sound plugins."""
    plugins = {lane.entry_point: lane}
    for other in find_installed():
        verdict = next((verdict for verdict in verdicts if _same(verdict, other)), None)
        if other == lane or verdict is None or not verdict.ok or not WORKER_HOOKS & set(verdict.hooks):
            continue
        name = other.entry_point if other.entry_point not in plugins else f"{other.distribution}:{other.entry_point}"
        try:
            manager.register(open_plugin(other).plugin, name=name)
        except (DegradedError, ValueError) as error:
            _log().warning("plugin %s of %s is left out: %s", other.entry_point, other.distribution, error)
        else:
            plugins[name] = other
    return Hooks(manager, plugins)


def _same(verdict: Verdict, plugin: Installed) -> bool:
    return (verdict.entry_point, verdict.distribution) == (plugin.entry_point, plugin.distribution)


def _log() -> logging.Logger:
    return logging.getLogger("ua_vp.host")
