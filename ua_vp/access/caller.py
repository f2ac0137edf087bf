"""The caller of one request: what the token allows, and the bounds outside of which nothing exists for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ua_vp.errors import ForbiddenError
from ua_vp.mission import Actor, Mission


class Scope(StrEnum):
    """What a token may allow; none implies another."""

    MISSIONS_READ = "missions:read"
    MISSIONS_DISPATCH = "missions:dispatch"
    MISSIONS_CONTROL = "missions:control"
    ARTIFACTS_READ = "artifacts:read"
    EVENTS_READ = "events:read"
    TURNS_WRITE = "turns:write"
    LANES_CONTROL = "lanes:control"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who asks. Empty `lanes` or `sources`: no bound of that kind."""

    token_id: str
    actor: Actor
    scopes: frozenset[str]
    lanes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def require(self, scope: Scope) -> None:
        """Let pass who has `scope`.

        Raises:
            ForbiddenError: the token lacks it.
        """
        if scope not in self.scopes:
            raise ForbiddenError(
                f"token {self.actor.name!r} lacks the scope {scope}; make one with `ua-vp token create --scope {scope}`"
            )

    def sees_lane(self, vp_id: str | None) -> bool:
        """Whether the lane lies within the bounds."""
        return not self.lanes or vp_id in self.lanes

    def sees_source(self, source_session_id: str | None) -> bool:
        """Whether the source session lies within the bounds; work without a source lies in no such bound."""
        return not self.sources or source_session_id in self.sources

    def sees(self, mission: Mission) -> bool:
        """Whether the mission lies within the bounds."""
        return self.sees_lane(mission.vp_id) and self.sees_source(mission.source_session_id)
