"""Codes and numbers in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ua_vp.wire import MissionView, from_iso

QUEUED: Mapping[str, str] = MappingProxyType(
    {
        "waiting_for_worker": "its turn comes with the next free worker",
        "lane_paused": "the lane is paused; it goes on after `resume`",
        "lane_draining": "the lane is draining: it takes nothing new",
        "lane_at_capacity": "every worker of the lane is busy",
        "no_live_worker": "no worker of this lane is alive; start one with `ua-vp worker LANE` or `ua-vp up`",
        "not_before": "it was asked not to start before a time that lies ahead",
        "retry_backoff": "an attempt failed; it waits a little before the next",
        "provider_hold": "the provider asked to wait",
    }
)
"""Each `queued_reason` as an answer to: why is it not moving?"""


def why_queued(mission: MissionView) -> str:
    """Why a queued mission does not run, in words; a newer server's reason as it is."""
    reason = mission.queued_reason or "waiting_for_worker"
    words = QUEUED.get(reason, reason).replace("LANE", mission.vp_id)
    return f"{words} ({mission.not_before})" if reason == "not_before" and mission.not_before else words


def state(mission: MissionView) -> str:
    """One short phrase: where the mission stands."""
    if mission.status == "queued":
        return f"queued: {why_queued(mission)}"
    if mission.status == "running" and mission.cancel_requested:
        return "running, to be cancelled: its processes are being stopped"
    if mission.status == "failed":
        return f"failed: {mission.failure_mode}"
    if mission.status == "cancelled":
        return f"cancelled: {mission.cancel_reason}"
    return mission.status


def seconds(value: float | None) -> str:
    """A length of time, short: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`; `-` for none."""
    if value is None:
        return "-"
    if value < 10:
        return f"{value:.1f} s"
    whole = int(value)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def size(count: int) -> str:
    """A number of bytes, short: `17 B`, `2.1 kB`, `3.0 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def ago(instant: str | None, now: int) -> str:
    """How long before `now` (wall µs) an instant of the wire lies; `-` for none."""
    if instant is None:
        return "-"
    distance = (now - from_iso(instant)) / 1_000_000
    return f"{seconds(distance)} ago" if distance >= 0 else f"in {seconds(-distance)}"
