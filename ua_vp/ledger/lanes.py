"""Plugins and lanes as the last probe found them; dispatch, routing and people read these and import no plugin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import bindparam, select

from ua_vp.events import EventType, NewEvent
from ua_vp.lane import Availability, Manifest, Verdict, plugin_id
from ua_vp.ledger.registry import settle_conflicts
from ua_vp.ledger.rows import new, text_of
from ua_vp.ledger.tables import lanes, plugins
from ua_vp.ledger.transaction import Row, Transaction, insert_all
from ua_vp.mission import Actor, Json, JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneRecord:
    """A lane that was registered once; `manifest.availability` is as of now. The two switches are the operator's."""

    manifest: Manifest
    paused: bool
    draining: bool
    registered_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginRecord:
    """What the last probe found out about an installed plugin."""

    verdict: Verdict
    probed_at: int


def publish_verdicts(tx: Transaction, verdicts: Sequence[Verdict], *, now: int, actor: Actor) -> None:
    """Make the plugins' table say what a probe of all of them found, and the lanes' table follow.

    Lanes are never forgotten: those of plugins that are gone or degraded become unavailable with the plugin's remedy.
    A lane id or alias that two plugins claim stays with the one recorded first; the other is degraded. Events are
    written for what changed only.
    """
    known = {row["vp_id"]: row for row in tx.rows(ALL_LANES)}
    manifests = {vp_id: _manifest_of(row) for vp_id, row in known.items()}
    holders = {vp_id: plugin_id(str(known[vp_id]["entry_point"]), it.distribution) for vp_id, it in manifests.items()}
    aliases = {vp_id: it.info.aliases for vp_id, it in manifests.items()}
    settled = settle_conflicts(verdicts, holders, aliases)
    tx.run(FORGET_PLUGINS)
    for verdict in settled:
        tx.run(INSERT_PLUGIN, **_plugin_row(verdict, now))
    offered: set[str] = set()
    for verdict in settled:
        for manifest in verdict.manifests:
            offered.add(manifest.info.vp_id)
            _record(tx, manifest, verdict.entry_point, known.get(manifest.info.vp_id), now=now, actor=actor)
    by_name = {verdict.plugin_id: verdict for verdict in settled}
    for vp_id in known.keys() - offered:
        gone = _unavailable(by_name.get(holders[vp_id]), holders[vp_id], vp_id)
        _set_availability(tx, known[vp_id], gone, now=now, actor=actor)


def get_lane(tx: Transaction, vp_id: str) -> LaneRecord | None:
    """One lane, available or not; None if nothing ever named it."""
    row = tx.first(ONE_LANE, vp_id=vp_id)
    return _lane_of(row) if row else None


def list_lanes(tx: Transaction) -> list[LaneRecord]:
    """All lanes by id, unavailable ones too."""
    return [_lane_of(row) for row in tx.rows(ALL_LANES)]


def list_plugins(tx: Transaction) -> list[PluginRecord]:
    """All installed plugins by entry point, degraded ones too."""
    return [_plugin_of(row) for row in tx.rows(ALL_PLUGINS)]


def update_availability(tx: Transaction, vp_id: str, availability: Availability, now: int) -> None:
    """Record what a lane says in its worker; an event only when it becomes available or ceases to be."""
    row = tx.first(ONE_LANE, vp_id=vp_id)
    if row is not None:
        _set_availability(tx, row, availability, now=now, actor=Actor(name=vp_id, via="worker"))


def steer_lane(
    tx: Transaction, vp_id: str, *, paused: bool | None = None, draining: bool | None = None, now: int, actor: Actor
) -> LaneRecord | None:
    """Set the operator's switches (None: leave as it is), with an event for what changed; None for an unknown lane."""
    row = tx.first(ONE_LANE, vp_id=vp_id)
    if row is None:
        return None
    was = bool(row["paused"]), bool(row["draining"])
    wanted = was[0] if paused is None else paused, was[1] if draining is None else draining
    if wanted != was:
        tx.run(STEER, vp_id=vp_id, new_paused=wanted[0], new_draining=wanted[1])
        kind = EventType.LANE_RESUMED
        if wanted[1] and not was[1]:
            kind = EventType.LANE_DRAINING
        elif wanted[0] and not was[0]:
            kind = EventType.LANE_PAUSED
        _report(tx, kind, vp_id, {"paused": wanted[0], "draining": wanted[1]}, now=now, actor=actor)
    return get_lane(tx, vp_id)


def takes_missions(tx: Transaction, vp_id: str) -> bool:
    """Whether workers may claim: neither paused nor draining."""
    row = tx.first(SWITCHES, vp_id=vp_id)
    return row is None or not (row["paused"] or row["draining"])


def result_ref_in(tx: Transaction, vp_id: str, mission_id: str) -> str | None:
    """Where the lane's workers will put a mission that never ran; None if nothing ever named the lane."""
    lane = get_lane(tx, vp_id)
    return f"{lane.manifest.workspace_base.rstrip('/')}/{mission_id}" if lane else None


def _record(tx: Transaction, manifest: Manifest, entry_point: str, row: Row | None, *, now: int, actor: Actor) -> None:
    """Write one offered lane; `row` is how it stood."""
    vp_id, available = manifest.info.vp_id, manifest.availability.available
    values = {
        "entry_point": entry_point,
        "manifest": text_of(manifest.to_json()),
        "availability": text_of(_availability_json(manifest.availability)),
        "updated_at": now,
    }
    if row is None:
        tx.run(INSERT_LANE, vp_id=vp_id, registered_at=now, paused=False, draining=False, **values)
    elif all(row[name] == value for name, value in values.items() if name != "updated_at"):
        return
    else:
        tx.run(UPDATE_LANE, vp_id=vp_id, **{f"new_{name}": value for name, value in values.items()})
    payload: dict[str, Json] = {"distribution": manifest.distribution, "version": manifest.version}
    if available:
        _report(tx, EventType.LANE_REGISTERED, vp_id, payload, now=now, actor=actor)
    else:
        payload |= {"reason": manifest.availability.reason, "remedy": manifest.availability.remedy}
        _report(tx, EventType.LANE_DEGRADED, vp_id, payload, now=now, actor=actor)


def _set_availability(tx: Transaction, row: Row, availability: Availability, *, now: int, actor: Actor) -> None:
    stored = text_of(_availability_json(availability))
    if stored == row["availability"]:
        return
    tx.run(UPDATE_AVAILABILITY, vp_id=row["vp_id"], new_availability=stored, new_updated_at=now)
    if bool(json.loads(row["availability"])["available"]) == availability.available:
        return
    kind = EventType.LANE_REGISTERED if availability.available else EventType.LANE_DEGRADED
    payload = {"reason": availability.reason, "remedy": availability.remedy}
    _report(tx, kind, row["vp_id"], payload, now=now, actor=actor)


def _unavailable(verdict: Verdict | None, entry_point: str, vp_id: str) -> Availability:
    if verdict is None:
        return Availability(
            available=False,
            reason=f"its plugin {entry_point} is not installed any more",
            remedy=f"install the distribution that provides {entry_point} again",
        )
    reason = verdict.detail if not verdict.ok else f"its plugin {entry_point} does not provide {vp_id} any more"
    return Availability(available=False, reason=reason, remedy=verdict.remedy)


def _report(tx: Transaction, kind: EventType, vp_id: str, payload: JsonObject, *, now: int, actor: Actor) -> None:
    tx.append(NewEvent(type=kind, at=now, actor=actor, payload=payload, vp_id=vp_id))


def _availability_json(availability: Availability) -> dict[str, Json]:
    return {
        "available": availability.available,
        "reason": availability.reason,
        "remedy": availability.remedy,
        "types": dict(availability.types),
    }


def _manifest_of(row: Row) -> Manifest:
    availability = Availability(**json.loads(row["availability"]))
    return replace(Manifest.from_json(json.loads(row["manifest"])), availability=availability)


def _lane_of(row: Row) -> LaneRecord:
    return LaneRecord(
        manifest=_manifest_of(row),
        paused=bool(row["paused"]),
        draining=bool(row["draining"]),
        registered_at=row["registered_at"],
    )


def _plugin_row(verdict: Verdict, now: int) -> Row:
    return {
        "entry_point": verdict.entry_point,
        "distribution": verdict.distribution,
        "version": verdict.version,
        "state": "ok" if verdict.ok else "degraded",
        "detail": verdict.detail,
        "remedy": verdict.remedy,
        "manifests": text_of([manifest.to_json() for manifest in verdict.manifests]),
        "probed_at": now,
    }


def _plugin_of(row: Row) -> PluginRecord:
    return PluginRecord(
        verdict=Verdict(
            entry_point=row["entry_point"],
            distribution=row["distribution"],
            version=row["version"],
            ok=row["state"] == "ok",
            detail=row["detail"],
            remedy=row["remedy"],
            manifests=tuple(Manifest.from_json(item) for item in json.loads(row["manifests"])),
        ),
        probed_at=row["probed_at"],
    )


_this = lanes.c.vp_id == bindparam("vp_id")
ALL_LANES = select(lanes).order_by(lanes.c.vp_id)
ONE_LANE = select(lanes).where(_this)
SWITCHES = select(lanes.c.paused, lanes.c.draining).where(_this)
INSERT_LANE = insert_all(lanes)
UPDATE_LANE = lanes.update().where(_this).values(**new("entry_point", "manifest", "availability", "updated_at"))
UPDATE_AVAILABILITY = lanes.update().where(_this).values(**new("availability", "updated_at"))
STEER = lanes.update().where(_this).values(**new("paused", "draining"))
ALL_PLUGINS = select(plugins).order_by(plugins.c.entry_point, plugins.c.distribution)
FORGET_PLUGINS = plugins.delete()
INSERT_PLUGIN = insert_all(plugins)
