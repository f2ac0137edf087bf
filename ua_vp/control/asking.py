"""Who asks what of which ledger at which moment: what every verb here works with."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from ua_vp.access import Caller
from ua_vp.errors import FieldFault, NotFoundError, ValidationError
from ua_vp.ledger import Ledger
from ua_vp.ports import Clock, Ids


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One reading of the clocks, taken before a transaction begins. µs; `boot` is on the clock of the ledger's leases."""

    now: int
    boot_id: str
    boot: int

    def wall_of(self, deadline: int | None, boot_id: str | None) -> int | None:
        """A deadline of a lease as wall µs; None under another boot, where it means nothing here."""
        if deadline is None or boot_id != self.boot_id:
            return None
        return self.now + deadline - self.boot


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """A caller at the ledger."""

    ledger: Ledger
    clock: Clock
    ids: Ids
    caller: Caller

    def moment(self) -> Moment:
        """The clocks now."""
        leases = self.ledger.lease_time()
        return Moment(now=self.clock.now(), boot_id=leases.boot_id, boot=leases.now)


def refuse(pointer: str, detail: str) -> ValidationError:
    """The error for one wrong field."""
    return ValidationError(
        f"{pointer.removeprefix('#/')}: {detail}", faults=[FieldFault(pointer=pointer, detail=detail)]
    )


def lanes_to_read(caller: Caller, vp_id: str | None) -> tuple[str, ...] | None:
    """The lanes that a listing may cover (None: all); `vp_id` narrows it.

    Raises:
        NotFoundError: `vp_id` lies outside the caller's bounds.
    """
    if vp_id is not None:
        if not caller.sees_lane(vp_id):
            raise NotFoundError(f"no lane {vp_id!r}")
        return (vp_id,)
    return caller.lanes or None


def sources_to_read(caller: Caller, source: str | None) -> tuple[str | None, ...]:
    """The source sessions that a listing must be read for, one by one; `(None,)` is one reading without that filter.

    Raises:
        NotFoundError: `source` lies outside the caller's bounds.
    """
    if source is not None:
        if not caller.sees_source(source):
            raise NotFoundError(f"no source session {source!r}")
        return (source,)
    return caller.sources or (None,)


def seal(*parts: str | int) -> str:
    """Parts of a key as an opaque cursor."""
    return base64.urlsafe_b64encode("\n".join(map(str, parts)).encode()).decode().rstrip("=")


def unseal(cursor: str, parts: int) -> list[str]:
    """The parts that `seal` took.

    Raises:
        ValidationError: the cursor is none of ours.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    found = text.split("\n")
    if len(found) != parts or not found[0].isascii() or not found[0].isdigit() or len(found[0]) > 18:
        raise refuse("#/cursor", "is not a cursor of this listing; start again without one")
    return found
