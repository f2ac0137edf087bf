"""What a command's end says to the program that called it (contract, section 9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType

from ua_vp.errors import VpError


class Exit(IntEnum):
    """The exit codes of `ua-vp`."""

    DONE = 0
    MISSION_FAILED = 1
    USAGE = 2
    CANCELLED = 3
    NOT_FOUND = 4
    CONFLICT = 5
    AUTH = 6
    UNREACHABLE = 7
    DOCTOR_FAULT = 8
    REFUSED = 9
    DIFFERENCE = 10
    TIMED_OUT = 124
    INTERRUPTED = 130


OF_CODE: Mapping[str, Exit] = MappingProxyType(
    {
        "validation_error": Exit.USAGE,
        "configuration_error": Exit.USAGE,
        "method_not_allowed": Exit.USAGE,
        "not_acceptable": Exit.USAGE,
        "too_large": Exit.USAGE,
        "unsupported_media_type": Exit.USAGE,
        "not_found": Exit.NOT_FOUND,
        "cursor_expired": Exit.NOT_FOUND,
        "idempotency_conflict": Exit.CONFLICT,
        "already_terminal": Exit.CONFLICT,
        "invalid_state": Exit.CONFLICT,
        "route_mismatch": Exit.CONFLICT,
        "turn_closed": Exit.CONFLICT,
        "retry_limit": Exit.CONFLICT,
        "precondition_failed": Exit.CONFLICT,
        "unauthorized": Exit.AUTH,
        "forbidden": Exit.AUTH,
        "unreachable": Exit.UNREACHABLE,
        "host_refused": Exit.UNREACHABLE,
        "internal_error": Exit.UNREACHABLE,
        "guardrail_violation": Exit.REFUSED,
        "rate_limited": Exit.REFUSED,
        "ledger_busy": Exit.REFUSED,
        "ledger_gone": Exit.REFUSED,
        "lane_unavailable": Exit.REFUSED,
        "disk_full": Exit.REFUSED,
        "difference": Exit.DIFFERENCE,
    }
)
"""The exit code of each error code; what is not listed (newer than this command) ends as `UNREACHABLE`: no answer."""


def of_error(error: VpError) -> Exit:
    """The exit code for an error."""
    return OF_CODE.get(error.code, Exit.UNREACHABLE)


def of_missions(statuses: Iterable[str | None]) -> Exit:
    """The exit code of waiting for missions; None stands for one that had not ended when the time was up."""
    ended = list(statuses)
    if any(status not in {"completed", "failed", "cancelled"} for status in ended):
        return Exit.TIMED_OUT
    if "failed" in ended:
        return Exit.MISSION_FAILED
    return Exit.CANCELLED if "cancelled" in ended else Exit.DONE
