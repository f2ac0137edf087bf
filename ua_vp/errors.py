"""Every error the product raises on purpose: one tree, a stable `code` per class, a text that names the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldFault:
    """One fault in a request: where it is (a JSON pointer such as `#/objective`) and what is wrong there."""

    pointer: str
    detail: str


class VpError(Exception):
    """Base of every error that reaches a person.

    `code` is stable and public (contract, section 5); `detail` names the thing and what to do about it and is the
    same text in API, CLI and dashboard; `retryable` says whether the same call may succeed later, unchanged.
    """

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, faults: Sequence[FieldFault] = (), mission_id: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.mission_id = mission_id


class ValidationError(VpError):
    """The request itself is wrong; `faults` point at the fields."""

    code = "validation_error"


class UnauthorizedError(VpError):
    """No token, or one that nobody issued, or an expired one."""

    code = "unauthorized"


class ForbiddenError(VpError):
    """The token is good but lacks the scope."""

    code = "forbidden"


class NotFoundError(VpError):
    """The named thing does not exist, or lies outside the caller's bounds."""

    code = "not_found"


class MethodNotAllowedError(VpError):
    """The path exists, but not for this method."""

    code = "method_not_allowed"


class NotAcceptableError(VpError):
    """The caller accepts none of the media types that this call can give."""

    code = "not_acceptable"


class IdempotencyConflictError(VpError):
    """The key was used before, for another request."""

    code = "idempotency_conflict"


class AlreadyTerminalError(VpError):
    """The mission has ended; ended missions never change."""

    code = "already_terminal"


class InvalidStateError(VpError):
    """The action is not among the mission's `actions` now."""

    code = "invalid_state"


class RetryLimitError(VpError):
    """The mission, with those that it repeats, has been repeated as often as a mission may be."""

    code = "retry_limit"


class PreconditionFailedError(VpError):
    """A condition in the request (`If-Match`) does not hold."""

    code = "precondition_failed"


class TooLargeError(VpError):
    """The body or a file is larger than the stated limit."""

    code = "too_large"


class UnsupportedMediaTypeError(VpError):
    """The body is not JSON."""

    code = "unsupported_media_type"


class GuardrailViolationError(VpError):
    """A path or a value that the lane's guardrails refuse."""

    code = "guardrail_violation"


class CursorExpiredError(VpError):
    """The cursor is older than what is kept."""

    code = "cursor_expired"


class RateLimitedError(VpError):
    """Too many dispatches; try again after the stated time."""

    code = "rate_limited"
    retryable = True


class HostRefusedError(VpError):
    """The Host header is not on the allow-list."""

    code = "host_refused"


class LaneUnavailableError(VpError):
    """The lane, or this type of mission, cannot be taken now; the remedy is in the text."""

    code = "lane_unavailable"
    retryable = True


class LedgerBusyError(VpError):
    """The ledger stayed locked by somebody else for longer than we wait."""

    code = "ledger_busy"
    retryable = True


class LedgerGoneError(VpError):
    """The ledger's file was deleted, replaced, or cannot be opened."""

    code = "ledger_gone"
    retryable = True


class DiskFullError(VpError):
    """No room for the ledger or the workspace; nothing was recorded."""

    code = "disk_full"
    retryable = True


class OutcomeUnknownError(VpError):
    """The commit may or may not have happened: read again by key before doing it again."""

    code = "ledger_busy"
    retryable = True


class ConfigurationError(VpError):
    """Settings, the TOML file, or the machine make it impossible to start; the text says what to change."""

    code = "configuration_error"


class WorkspaceError(VpError):
    """The workspace cannot be made, read or published safely."""

    code = "workspace_error"


class DifferenceError(VpError):
    """What came is not what receipt or list say; nothing was kept of it."""

    code = "difference"


class UnreachableError(VpError):
    """The API did not answer."""

    code = "unreachable"
    retryable = True


class CredentialError(VpError):
    """A credential is not granted to the lane, or cannot be had."""

    code = "credential_error"


class MissionStoppedError(VpError):
    """The mission must stop (cancelled, out of time, lease lost); a lane lets it pass."""

    code = "invalid_state"
