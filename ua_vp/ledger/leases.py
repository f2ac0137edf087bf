"""Whether a lease is over: by the machine's own boot clock or, where several machines share the ledger, by the database's.

The database's clock can step, so there it alone decides nothing. A worker that looks at others' leases notes when, on its
own boot clock, it first saw each as it is. A lease is over once nobody has renewed it for the time that was left of it then
and a quarter lease more; but for half a lease at least, since renewals come each third, and for one lease at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import BigInteger, func, select

Judge: TypeAlias = Callable[[str, str, int], bool]
"""Whether the lease of somebody (a mission's or a session's id) under a boot id, with this deadline, is over."""

DATABASE = "database"
"""Stands for the boot id where leases are deadlines on the database's clock."""
CLOCK = select(func.vp_clock(type_=BigInteger))


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseTime:
    """What the clock of the leases reads: `now` µs under `boot_id`. `steady`: it never steps, so it can be trusted."""

    boot_id: str
    now: int
    steady: bool


def by_the_clock(boot_id: str, now: int) -> Judge:
    """A lease of an earlier boot is over, and one whose deadline has passed."""
    return lambda _whose, boot, deadline: boot != boot_id or deadline < now


class Sightings:
    """What one worker has seen of others' leases. `lease` in µs."""

    def __init__(self, lease: int) -> None:
        self._lease = lease
        self._over_at: dict[tuple[str, int], int] = {}

    def judge(self, leases: LeaseTime, *, own: int) -> Judge:
        """For one look, at `own` on the boot clock of this machine; may be asked twice about the same."""
        if leases.steady:
            return by_the_clock(leases.boot_id, leases.now)
        self._over_at = {seen: at for seen, at in self._over_at.items() if at > own - self._lease}

        def is_over(whose: str, _boot: str, deadline: int) -> bool:
            left = min(max(deadline - leases.now, 0), self._lease)
            watch = min(max(left + self._lease // 4, self._lease // 2), self._lease)
            return own >= self._over_at.setdefault((whose, deadline), own + watch)

        return is_over
