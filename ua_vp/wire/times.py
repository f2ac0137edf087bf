"""Instants on the wire: ISO 8601, UTC, with `Z` and microseconds; for reading, never for deciding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_iso(wall: int) -> str:
    """`wall` (µs since the epoch) as `2026-01-02T03:04:05.000006Z`: one width, so that text sorts as time does."""
    return (_EPOCH + timedelta(microseconds=wall)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_iso(text: str) -> int:
    """µs since the epoch of an ISO 8601 instant with a zone.

    Raises:
        ValueError: not an instant, without a zone, or outside the years 1 to 9999.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("must be an ISO 8601 date and time, such as 2026-01-02T03:04:05Z") from error
    if instant.tzinfo is None:
        raise ValueError("must say its zone, such as 2026-01-02T03:04:05Z")
    try:
        return (instant.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except OverflowError as error:
        raise ValueError("lies outside the years 1 to 9999") from error
