"""The lanes there are, what they take, and how they are; plugins that could not be loaded included."""

from __future__ import annotations

from collections.abc import Mapping

from ua_vp import wire
from ua_vp.control.asking import Asking
from ua_vp.control.constraints import no_lane
from ua_vp.ledger import LaneRecord, PluginRecord, Transaction, lanes, missions
from ua_vp.mission import lane_name, vp_id_of
from ua_vp.wire import to_iso


def list_lanes(asking: Asking) -> wire.LanesAnswer:
    """Every lane that the caller sees, by id, and every installed plugin.

    A degraded plugin that never gave a lane is listed as the lane its entry point names, without mission types.
    """
    caller = asking.caller

    def step(tx: Transaction) -> wire.LanesAnswer:
        counts = missions.counts(tx, None)
        records, plugins = lanes.list_lanes(tx), lanes.list_plugins(tx)
        found = [_lane(record, counts.queued, counts.running) for record in records]
        known = {lane.vp_id for lane in found}
        found += [_missing(plugin) for plugin in plugins if _lacks_lane(plugin, known)]
        return wire.LanesAnswer(
            lanes=sorted((lane for lane in found if caller.sees_lane(lane.vp_id)), key=lambda lane: lane.vp_id),
            plugins=[_plugin(plugin) for plugin in plugins if not caller.lanes or _within(plugin, caller.lanes)],
        )

    return asking.ledger.read(step)


def steer(asking: Asking, vp_id: str, *, paused: bool | None = None, draining: bool | None = None) -> wire.LaneView:
    """Set the switches by which an operator keeps workers from claiming (None: leave it as it is).

    Raises:
        NotFoundError: no such lane within the caller's bounds.
        LedgerBusyError, LedgerGoneError, DiskFullError, OutcomeUnknownError: as of the ledger.
    """
    now, actor = asking.clock.now(), asking.caller.actor

    def step(tx: Transaction) -> wire.LaneView | None:
        record = lanes.steer_lane(tx, vp_id, paused=paused, draining=draining, now=now, actor=actor)
        if record is None:
            return None
        counts = missions.counts(tx, None)
        return _lane(record, counts.queued, counts.running)

    lane = asking.ledger.run(step) if asking.caller.sees_lane(vp_id) else None
    if lane is None:
        raise no_lane(vp_id, [known.vp_id for known in list_lanes(asking).lanes])
    return lane


def _lane(record: LaneRecord, queued: Mapping[str, int], running: Mapping[str, int]) -> wire.LaneView:
    manifest, info = record.manifest, record.manifest.info
    availability = manifest.availability
    return wire.LaneView(
        vp_id=info.vp_id,
        display_name=info.display_name,
        aliases=list(info.aliases),
        available=availability.available,
        reason=availability.reason,
        remedy=availability.remedy,
        paused=record.paused,
        draining=record.draining,
        capacity=info.capacity,
        depth=wire.DepthView(queued=queued.get(info.vp_id, 0), running=running.get(info.vp_id, 0)),
        sandbox=manifest.sandbox,
        plugin=wire.LanePluginView(distribution=manifest.distribution, version=manifest.version),
        mission_types={
            name: wire.MissionTypeView(
                description=kind.description,
                schema=dict(kind.schema),
                available=availability.available and name not in availability.types,
                remedy=availability.types.get(name) or (None if availability.available else availability.remedy),
            )
            for name, kind in sorted(info.mission_types.items())
        },
    )


def _missing(plugin: PluginRecord) -> wire.LaneView:
    verdict = plugin.verdict
    return wire.LaneView(
        vp_id=vp_id_of(verdict.entry_point),
        display_name=verdict.entry_point,
        available=False,
        reason=verdict.detail,
        remedy=verdict.remedy,
        capacity=0,
        depth=wire.DepthView(queued=0, running=0),
        plugin=wire.LanePluginView(distribution=verdict.distribution, version=verdict.version),
    )


def _lacks_lane(plugin: PluginRecord, known: set[str]) -> bool:
    vp_id = vp_id_of(plugin.verdict.entry_point)
    return not plugin.verdict.ok and lane_name(vp_id) is not None and vp_id not in known


def _plugin(plugin: PluginRecord) -> wire.PluginView:
    verdict = plugin.verdict
    return wire.PluginView(
        entry_point=verdict.entry_point,
        distribution=verdict.distribution,
        version=verdict.version,
        state="ok" if verdict.ok else "degraded",
        detail=verdict.detail,
        remedy=verdict.remedy,
        vp_ids=_vp_ids(plugin),
        probed_at=to_iso(plugin.probed_at),
    )


def _vp_ids(plugin: PluginRecord) -> list[str]:
    return [manifest.info.vp_id for manifest in plugin.verdict.manifests]


def _within(plugin: PluginRecord, bound: tuple[str, ...]) -> bool:
    return bool({*_vp_ids(plugin), vp_id_of(plugin.verdict.entry_point)} & set(bound))
