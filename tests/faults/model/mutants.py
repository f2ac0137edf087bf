"""Faults planted in the Steps, one at a time: the model must find each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import bindparam, false, literal_column, select

from ua_vp.events import EventType, NewEvent
from ua_vp.ledger import (
    claims,
    events,
    finishing,
    holding,
    missions,
    operating,
    reconciling,
    rows,
    sessions,
    tables,
    transaction,
)
from ua_vp.ledger.engine import Driver
from ua_vp.ledger.leases import Judge
from ua_vp.ledger.rows import new
from ua_vp.ledger.tables import attempts, is_due, is_waiting
from ua_vp.ledger.tables import missions as table
from ua_vp.ledger.transaction import Transaction
from ua_vp.mission import NewMission, RequeueReason

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]

_of_lane = table.c.vp_id == bindparam("vp_id")
_attempt = (attempts.c.mission_id == bindparam("mission_id"), attempts.c.attempt == bindparam("attempt"))
_append = Transaction.append
"""As it was, for those that break it."""


def no_fence(patch: Patch) -> None:
    """An old attempt may end what a newer one runs."""

    def current(claim: Any, running: finishing.Running) -> Any:
        return next((row for (mission_id, _), row in running.items() if mission_id == claim.mission_id), None)

    patch.setattr(finishing, "_current", current)


def one_try_too_many(patch: Patch) -> None:
    """`max_tries` allows one more."""
    _bend_current(patch, lambda row: {"max_tries": row["max_tries"] + 1})


def drained_counts(patch: Patch) -> None:
    """A drained attempt uses up a try."""
    patch.setattr(RequeueReason, "counts", property(lambda reason: reason is not RequeueReason.OPERATOR))


def finish_beats_cancel(patch: Patch) -> None:
    """A cancel that was committed before the finish does not win."""
    _bend_current(patch, lambda _row: {"cancel_requested": False})


def requeue_keeps_the_claim(patch: Patch) -> None:
    """Whoever lost a mission goes on renewing it."""
    patch.setattr(finishing, "DROP_CLAIM", holding.DROP_CLAIM.where(false()))


def priority_is_ignored(patch: Patch) -> None:
    """First come, first served."""
    order = select(table).where(_of_lane, is_due).order_by(table.c.dispatched_seq).limit(bindparam("limit"))
    patch.setattr(claims, "FIRST_DUE", order)


def nothing_ages(patch: Patch) -> None:
    """Priority alone decides."""
    patch.setattr(missions, "due_order", lambda *, created, ledger_last, priority: priority)


def newcomers_overtake(patch: Patch) -> None:
    """A wall clock that was set back lets newer missions go first."""
    patch.setattr(missions, "due_order", lambda *, created, ledger_last, priority: created + priority * 600 * 10**6)


def keys_never_conflict(patch: Patch) -> None:
    """Same key, other request: the old mission is returned."""
    patch.setattr(NewMission, "fingerprint", lambda _mission: "same")


def keys_count_in_all_lanes(patch: Patch) -> None:
    """A key finds a mission of another lane."""
    patch.setattr(missions, "BY_KEY", rows.WITH_CLAIM.where(table.c.idempotency_key == bindparam("key")))


def an_event_is_missing(patch: Patch) -> None:
    """A request to cancel a running mission is not told."""

    def append(tx: Transaction, event: NewEvent) -> None:
        if event.type is not EventType.CANCEL_REQUESTED:
            _append(tx, event)

    patch.setattr(Transaction, "append", append)


def events_name_another_attempt(patch: Patch) -> None:
    """`started` names the attempt before."""

    def append(tx: Transaction, event: NewEvent) -> None:
        started = event.type is EventType.STARTED and event.attempt is not None
        _append(tx, replace(event, attempt=event.attempt - 1) if started and event.attempt else event)

    patch.setattr(Transaction, "append", append)


def a_tally_stands_still(patch: Patch) -> None:
    """Events are counted once a type."""
    patch.setattr(transaction, "COUNT_EVENTS", transaction.COUNT_EVENTS.values(total=literal_column("1")))


def late_outcomes_overwrite(patch: Patch) -> None:
    """The last late outcome stands, not the first."""
    patch.setattr(finishing, "LATE", attempts.update().where(*_attempt).values(**new("late_outcome")))


def engaged_is_overwritten(patch: Patch) -> None:
    """The lane's last sign of life is kept as its first."""
    patch.setattr(claims, "ENGAGE", attempts.update().where(*_attempt).values(**new("engaged_at")))


def stamps_are_overwritten(patch: Patch) -> None:
    """A second mirror's instant replaces the first one's."""
    unguarded = table.update().where(table.c.mission_id == bindparam("mission_id"))
    patch.setattr(operating, "MIRROR", unguarded.values(**new("mirrored_at")))


def live_claims_are_taken(patch: Patch) -> None:
    """Reconcile takes every claim of another for dead."""
    patch.setattr(reconciling, "by_the_clock", lambda _boot, _now: lambda _whose, _held, _deadline: True)


def the_last_instant_is_dead(patch: Patch) -> None:
    """A lease is over at its deadline, not behind it."""

    def too_early(boot_id: str, now: int) -> Judge:
        return lambda _whose, boot, deadline: boot != boot_id or deadline <= now

    patch.setattr(reconciling, "by_the_clock", too_early)


def a_reboot_changes_nothing(patch: Patch) -> None:
    """A deadline of an earlier boot is compared with this boot's clock."""
    patch.setattr(reconciling, "by_the_clock", lambda _boot, now: lambda _whose, _held, deadline: deadline < now)


def reconcile_does_not_renew_first(patch: Patch) -> None:
    """A worker that looks after others forgets its own claims."""
    patch.setattr(reconciling, "RENEW_OWN", reconciling.RENEW_OWN.where(false()))


def not_before_is_ignored(patch: Patch) -> None:
    """Whatever waits for its time is due."""
    patch.setattr(claims, "MOVE_IN", table.update().where(_of_lane, is_waiting).values(due=True))


def paused_lanes_work(patch: Patch) -> None:
    """Workers claim from a paused lane."""
    patch.setattr(claims, "takes_missions", lambda _tx, _lane: True)


def lost_sessions_stay_lost(patch: Patch) -> None:
    """A session that comes back is not told to be open again."""
    patch.setattr(sessions, "_report", _without(sessions._report, {"after": "lost"}))


def blocked_missions_are_marked(patch: Patch) -> None:
    """A worker that knows nothing of the block marks the mission."""
    marked = table.update().where(table.c.mission_id == bindparam("mission_id"))
    patch.setattr(claims, "MARK", marked.values(**new("marked_at")))
    ended = claims._all_ended

    def unblocked(tx: Transaction, ours: Any) -> Any:
        return {key: {**row, "blocked_at": None} for key, row in ended(tx, ours).items()}

    patch.setattr(claims, "_all_ended", unblocked)


def retries_have_no_end(patch: Patch) -> None:
    """Retries are not counted."""
    patch.setattr(operating, "_retries", lambda _tx, _mission_id: 0)


def failed_missions_keep_their_worker(patch: Patch) -> None:
    """An operator fails a mission, and its worker goes on holding it."""
    patch.setattr(operating, "DROP_CLAIM", holding.DROP_CLAIM.where(false()))


def pages_begin_twice(patch: Patch) -> None:
    """The events behind a cursor begin with the one that was seen."""
    real = events.page_events

    def page(tx: Transaction, *, after: int | None, **asked: Any) -> Any:
        return real(tx, after=after and after - 1, **asked)

    patch.setattr(events, "page_events", page)


def a_lease_of_others_is_renewed(patch: Patch) -> None:
    """A renewal moves every claim of every lane."""
    patch.setattr(claims, "EXTEND_CLAIMS", tables.claims.update().values(**new("boot", "deadline")))


def begin_without_lock(_store: object, driver: Driver) -> bool:
    """For PostgreSQL: two writers are in the ledger at once."""
    driver.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    return True


def _bend_current(patch: Patch, bent: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Have finish and requeue decide on a row that differs from the stored one."""
    real = finishing._current

    def current(claim: Any, running: finishing.Running) -> Any:
        row = real(claim, running)
        return row and {**row, **bent(row)}

    patch.setattr(finishing, "_current", current)


def _without(report: Any, payload: Mapping[str, Any]) -> Any:
    """A function that writes events, but not those that say this."""
    return lambda *args, **more: None if more.get("payload") == payload else report(*args, **more)


MUTANTS: tuple[Plant, ...] = (
    no_fence, one_try_too_many, drained_counts, finish_beats_cancel, requeue_keeps_the_claim, priority_is_ignored,
    nothing_ages, newcomers_overtake, keys_never_conflict, keys_count_in_all_lanes, an_event_is_missing,
    events_name_another_attempt, a_tally_stands_still, late_outcomes_overwrite, engaged_is_overwritten,
    stamps_are_overwritten, live_claims_are_taken, the_last_instant_is_dead, a_reboot_changes_nothing,
    reconcile_does_not_renew_first, not_before_is_ignored, paused_lanes_work, lost_sessions_stay_lost,
    blocked_missions_are_marked, retries_have_no_end, failed_missions_keep_their_worker, pages_begin_twice,
    a_lease_of_others_is_renewed,
)  # fmt: skip
