"""A lane's manifest: what it says of itself, checked, with the host's own additions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jsonschema
import jsonschema.exceptions

from ua_vp.guardrails import PathPolicy
from ua_vp.host.installed import Installed, Request
from ua_vp.host.plugin import DegradedError, fix, guarded
from ua_vp.lane import API_VERSION, Availability, Lane, LaneInfo, Manifest, MissionType
from ua_vp.mission import Budget, lane_name

TYPE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
UNSET = "unset"
"""`Manifest.sandbox` of a lane whose configuration names no sandbox: it takes no missions."""


def manifests_of(lanes: Sequence[Lane], request: Request) -> tuple[Manifest, ...]:
    """The manifest of each lane, checked.

    Raises:
        DegradedError: a lane breaks the lane API; says what and where.
    """
    manifests: list[Manifest] = []
    for lane in lanes:
        manifest = _manifest_of(lane, request)
        if any(manifest.info.vp_id == other.info.vp_id for other in manifests):
            raise DegradedError(f"two lanes with one id, {manifest.info.vp_id}", fix(request.plugin))
        manifests.append(manifest)
    return tuple(manifests)


def settle(availability: Availability, info: LaneInfo, sandbox: str | None) -> Availability:
    """What the lane says, and what the configuration and its types make of it."""
    if sandbox in {None, UNSET}:
        return replace(
            availability,
            available=False,
            reason="no sandbox is configured, and missions run without walls only where that was asked for",
            remedy=f'set sandbox = "none" in [lanes.{lane_name(info.vp_id)}] of ua-vp.toml',
        )
    if availability.available and set(info.mission_types) <= set(availability.types):
        remedies = dict.fromkeys(availability.types[name] for name in info.mission_types)
        return replace(
            availability, available=False, reason="none of its mission types can be taken", remedy="; ".join(remedies)
        )
    return availability


def ask_availability(lane: Lane, info: LaneInfo, request: Request) -> Availability:
    """What the lane answers, settled.

    Raises:
        DegradedError: it raised, or answered something else.
    """
    answer = guarded(request.plugin, "availability()", lane.availability)
    _expect(isinstance(answer, Availability), f"availability() returned {type(answer).__name__}", request.plugin)
    strange = sorted(set(answer.types) - set(info.mission_types))
    _expect(not strange, f"availability() names unknown mission types: {', '.join(strange)}", request.plugin)
    return settle(answer, info, request.sandbox)


def _manifest_of(lane: Lane, request: Request) -> Manifest:
    plugin = request.plugin
    info = guarded(plugin, "info", lambda: lane.info)
    _check_api(info, plugin)
    guarded(plugin, "info", lambda: _check_info(info, plugin))
    for method in ("run", "availability"):
        _expect(callable(getattr(lane, method, None)), f"{type(lane).__name__} has no {method}()", plugin)
    merged = replace(
        info,
        capacity=request.capacity or info.capacity,
        path_policy=replace(info.path_policy, refused=(*info.path_policy.refused, *request.refused)),
    )
    manifest = Manifest(
        info=merged,
        availability=ask_availability(lane, merged, request),
        distribution=plugin.distribution,
        version=plugin.version,
        workspace_base=request.workspace_base,
        sandbox=request.sandbox or UNSET,
    )
    return guarded(plugin, "manifest", lambda: _as_stored(manifest))


def _check_api(info: Any, plugin: Installed) -> None:
    spoken = getattr(info, "api_version", None)
    if spoken == API_VERSION:
        return
    newer = isinstance(spoken, int) and spoken > API_VERSION
    what = "ua-vp" if newer else plugin.distribution
    raise DegradedError(
        f"{plugin.distribution} {plugin.version} speaks lane API {spoken!r}; this ua-vp speaks {API_VERSION}",
        f"`pip install -U {what}`, or `pip uninstall {plugin.distribution}`",
    )


def _check_info(info: Any, plugin: Installed) -> None:
    _expect(isinstance(info, LaneInfo), f"info is {type(info).__name__}, not ua_vp.LaneInfo", plugin)
    name = lane_name(info.vp_id) if isinstance(info.vp_id, str) else None
    _expect(name is not None, f"lane id {info.vp_id!r} is not of the form vp.<name>.primary", plugin)
    _expect(
        name == plugin.entry_point,
        f"lane {info.vp_id} is registered under entry point {plugin.entry_point!r}, which must be {name!r}",
        plugin,
    )
    _expect(_text(info.display_name), "display_name must be a text that is not empty", plugin)
    for field in ("aliases", "credentials", "accepted_sandbox_gaps", "measures"):
        _expect(_texts(getattr(info, field)), f"{field} must be a tuple of texts", plugin)
    unknown = set(info.measures) - set(Budget.__dataclass_fields__)
    _expect(not unknown, f"measures names no budget limit: {', '.join(sorted(unknown))}", plugin)
    sound = isinstance(info.capacity, int) and not isinstance(info.capacity, bool) and info.capacity >= 1
    _expect(sound, f"capacity must be at least 1, not {info.capacity!r}", plugin)
    _expect(isinstance(info.path_policy, PathPolicy), "path_policy must be a ua_vp.PathPolicy", plugin)
    _check_types(info.mission_types, plugin)


def _check_types(types: Any, plugin: Installed) -> None:
    _expect(isinstance(types, Mapping) and bool(types), "mission_types must hold at least one type", plugin)
    for name, kind in types.items():
        named = isinstance(name, str) and TYPE_NAME.fullmatch(name) is not None
        _expect(named, f"mission type {name!r} must be named like {TYPE_NAME.pattern}", plugin)
        _expect(isinstance(kind, MissionType), f"mission type {name!r} is not a ua_vp.MissionType", plugin)
        _expect(_texts(kind.owes), f"mission type {name!r}: owes must be a tuple of patterns", plugin)
        _expect(isinstance(kind.default_budget, Budget), f"mission type {name!r}: default_budget is no Budget", plugin)
        try:
            jsonschema.Draft202012Validator.check_schema(_plain(kind.schema))
        except jsonschema.exceptions.SchemaError as error:
            at = "/".join(map(str, error.absolute_path)) or "its root"
            raise DegradedError(
                f"mission type {name!r}: schema is no JSON Schema: {error.message} (at {at})", fix(plugin)
            ) from error


def _as_stored(manifest: Manifest) -> Manifest:
    """The manifest as it comes out of the ledger, so that probe and worker see the same."""
    return Manifest.from_json(json.loads(json.dumps(_plain(manifest.to_json()), allow_nan=False)))


def _plain(value: Any) -> Any:
    """Mappings and sequences of any kind as dict and list, for JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value


def _expect(sound: bool, found: str, plugin: Installed) -> None:
    if not sound:
        raise DegradedError(found, fix(plugin))


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and all(map(_text, value))
