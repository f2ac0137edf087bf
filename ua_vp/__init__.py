"""ua-vp: missions handed to independent worker lanes.

What stands here is the API for authors of lanes; with `ua_vp.guardrails`, `ua_vp.executors` and, in tests,
`ua_vp.testing` it is all that a lane imports.
"""

from ua_vp.errors import ConfigurationError, CredentialError, GuardrailViolationError, MissionStoppedError, VpError
from ua_vp.events import Event
from ua_vp.guardrails import PathPolicy
from ua_vp.hookspecs import hookimpl
from ua_vp.lane import (
    API_VERSION,
    Availability,
    Finished,
    Health,
    Lane,
    LaneInfo,
    MissionContext,
    MissionType,
    Outcome,
    Secret,
)
from ua_vp.mission import Budget, FailureMode, Mission, Status

__version__ = "0.1.0"

__all__ = [
    "API_VERSION",
    "Availability",
    "Budget",
    "ConfigurationError",
    "CredentialError",
    "Event",
    "FailureMode",
    "Finished",
    "GuardrailViolationError",
    "Health",
    "Lane",
    "LaneInfo",
    "Mission",
    "MissionContext",
    "MissionStoppedError",
    "MissionType",
    "Outcome",
    "PathPolicy",
    "Secret",
    "Status",
    "VpError",
    "hookimpl",
]
