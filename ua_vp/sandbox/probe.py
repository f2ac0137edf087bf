"""Which walls a lane can have on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from ua_vp.sandbox.spec import NO_WALLS, Walls


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a lane may not run missions, and what to change."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


def walls_for(setting: str | None, *, lane: str) -> Walls | Refusal:
    """The walls for lane `lane` under `sandbox = setting` of its table; without the setting it gets walls or refuses."""
    if setting == "none":
        return NO_WALLS
    remedy = f'set sandbox = "none" in [lanes.{lane}] of ua-vp.toml to run missions unconfined'
    if setting is None:
        return Refusal(reason="no kernel walls are available yet", remedy=remedy)
    return Refusal(reason=f"sandbox {setting!r} is not known", remedy=remedy)
