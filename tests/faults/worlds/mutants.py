"""The product broken on purpose, one promise at a time: a world that does not find these is no witness.

Each mutant is a function that takes a `Patch` and breaks the product through it; it is undone after the world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults.worlds.ground import template
from tests.faults.worlds.play import WorldError, play
from tests.faults.worlds.promises import Promise
from ua_vp.errors import VpError
from ua_vp.events import TERMINAL_EVENT
from ua_vp.ledger import FinishVerdict, Ledger, claims, finishing, missions, wake
from ua_vp.ledger.holding import DROP_CLAIM
from ua_vp.ledger.leases import LeaseTime
from ua_vp.ledger.transaction import Transaction
from ua_vp.ledger.writer import Writer
from ua_vp.mission import Claim, NewMission, RequeueReason, Status, due_order
from ua_vp.runtime.files import DurableFiles
from ua_vp.testing.simulated import EPOCH
from ua_vp.worker import conduct, hands, loop
from ua_vp.worker.conduct import Conductor
from ua_vp.worker.reconcile import Reconciler
from ua_vp.workspace import layout, marker, publish

Patch = Callable[[Any, str, Any], None]


@dataclass(frozen=True)
class Mutant:
    """One fault: what is broken, and which promises it may be caught by."""

    what: str
    found_by: frozenset[Promise]
    apply: Callable[[Patch], None]
    weather: str | None
    """The kind of chaos in which it shows, for those that show seldom."""


@contextmanager
def broken_by(mutant: Mutant) -> Iterator[None]:
    """The product with this fault."""
    with ExitStack() as undo:

        def patch(place: Any, name: str, new: Any) -> None:
            undo.enter_context(mock.patch.object(place, name, new))

        mutant.apply(patch)
        yield


def seeds_until_found(name: str, limit: int) -> int | None:
    """How many worlds it takes to find the mutant `name`; None if `limit` are not enough."""
    template()  # a ledger made by the product as it is
    for seed in range(limit):
        try:
            with broken_by(MUTANTS[name]):
                play(seed, MUTANTS[name].weather)
        except WorldError as error:
            if error.promise in MUTANTS[name].found_by:
                return seed + 1
    return None


MUTANTS: dict[str, Mutant] = {}


def mutant(
    what: str, *found_by: Promise, weather: str | None = None
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Enter a fault into the table."""

    def enter(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS[apply.__name__] = Mutant(what, frozenset(found_by), apply, weather)
        return apply

    return enter


@mutant(
    "finish and requeue go by mission id and `running`, not by attempt",
    Promise.LIFECYCLE,
    Promise.TOGETHER,
    weather="stop_worker",
)
def no_fence_in_the_ledger(patch: Patch) -> None:
    def current(claim: Claim, running: finishing.Running) -> Any:
        return next((row for (mission_id, _), row in running.items() if mission_id == claim.mission_id), None)

    patch(finishing, "_current", current)


@mutant("a worker whose finish was refused publishes all the same", Promise.FENCE, weather="stop_worker")
def no_fence_in_publish(patch: Patch) -> None:
    commit = Conductor._commit

    def commit_or_not(self: Conductor, staged: Any) -> FinishVerdict:
        verdict = commit(self, staged)
        return FinishVerdict.DONE if verdict is FinishVerdict.LEASE_LOST else verdict

    patch(Conductor, "_commit", commit_or_not)


@mutant("what came too late is published", Promise.FENCE, weather="stop_worker")
def late_outcome_published(patch: Patch) -> None:
    late = Conductor._late

    def publish_late(self: Conductor, running: Any, run: Any) -> Any:
        staged = self._stage(running, run)
        publish(self._site.workspace(staged.claim.mission_id), staged.claim.attempt, files=self._ports.files)
        return late(self, running, run)

    patch(Conductor, "_late", publish_late)


@mutant("the claim is given up with the finish, before the marker is there", Promise.HELD)
def claim_dropped_at_finish(patch: Patch) -> None:
    finish = claims.finish

    def finish_and_drop(tx: Transaction, claim: Claim, *args: Any, **kwargs: Any) -> FinishVerdict:
        verdict = finish(tx, claim, *args, **kwargs)
        if verdict is FinishVerdict.DONE:
            tx.write(DROP_CLAIM, mission_id=claim.mission_id, if_any=True)
        return verdict

    patch(claims, "finish", finish_and_drop)


@mutant("a terminal event is written in the transaction after its state's", Promise.TOGETHER)
def event_in_another_transaction(patch: Patch) -> None:
    append, begin = Transaction.append, Transaction.__init__
    owed: list[Any] = []

    def append_later(self: Transaction, event: Any) -> int:
        if event.type in TERMINAL_EVENT.values():
            owed.append(event)
            return 0
        return append(self, event)

    def begin_with_what_is_owed(self: Transaction, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        if self._driver.execute("PRAGMA query_only").fetchone() == (0,):
            while owed:
                append(self, owed.pop(0))

    patch(Transaction, "append", append_later)
    patch(Transaction, "__init__", begin_with_what_is_owed)


@mutant("temporary files of all missions have one name", Promise.MARKER, Promise.LIVE, Promise.RUNS, Promise.SOUND)
def shared_temporary_name(patch: Patch) -> None:
    def write(self: DurableFiles, path: Path, data: bytes, *, mode: int = 0o640) -> None:
        lane = next(folder for folder in path.parents if folder.name.startswith("vp."))
        temporary = lane / ".writing.tmp"
        temporary.write_bytes(data)
        self.sync(temporary)
        self.rename(temporary, path)

    patch(DurableFiles, "write", write)


@mutant("the marker is written before the files are published", Promise.MARKER)
def marker_before_publish(patch: Patch) -> None:
    def make_visible(claim: Claim, state: Status, **given: Any) -> None:
        workspace, files = given["site"].workspace(claim.mission_id), given["files"]
        data = marker.marker_bytes(
            mission_id=claim.mission_id,
            vp_id=claim.mission.vp_id,
            state=state,
            completed_at=given["completed_at"],
            receipt_sha256=given["receipt_sha256"],
        )
        files.write(workspace.attempts / layout.MARKER, data)
        files.rename(workspace.attempts / layout.MARKER, workspace.marker)
        publish(workspace, claim.attempt, files=files)

    patch(conduct, "make_visible", make_visible)


@mutant("files are published before the commit", Promise.FENCE)
def publish_before_commit(patch: Patch) -> None:
    commit = Conductor._commit

    def publish_and_commit(self: Conductor, staged: Any) -> FinishVerdict:
        publish(self._site.workspace(staged.claim.mission_id), staged.claim.attempt, files=self._ports.files)
        return commit(self, staged)

    patch(Conductor, "_commit", publish_and_commit)


@mutant(
    "reconcile does not know its own claims, and takes them when it is late",
    Promise.TAKEN,
    Promise.LIVE,
    weather="stop_workers",
)
def reconcile_takes_its_own(patch: Patch) -> None:
    reconcile = claims.reconcile
    patch(claims, "reconcile", lambda tx, **given: reconcile(tx, **given | {"session_id": "vp-session-nobody"}))


@mutant("reconcile goes by the wall clock", Promise.TAKEN, weather="set_clock")
def reconcile_by_wall_clock(patch: Patch) -> None:
    def wall_time(self: Ledger) -> LeaseTime:
        clock = self._ports.clock
        return LeaseTime(boot_id=clock.boot_id, now=clock.now() - EPOCH, steady=True)

    patch(Ledger, "lease_time", wall_time)


@mutant("the cancel flag that a renewal returns is not read", Promise.LIVE)
def cancel_never_read(patch: Patch) -> None:
    renewed = hands.Hands.renewed

    def renewed_without_cancels(self: Any, ours: Any, before: Any) -> None:
        renewed(self, {key: replace(mine, cancel_requested=False) for key, mine in ours.items()}, before)

    patch(hands.Hands, "renewed", renewed_without_cancels)


@mutant("a requeue forgets that a cancel was committed", Promise.CANCEL, Promise.TOGETHER)
def requeue_forgets_cancel(patch: Patch) -> None:
    current = finishing._current

    def current_without_flag(claim: Claim, running: finishing.Running) -> Any:
        row = current(claim, running)
        return row and row | {"cancel_requested": False}

    patch(finishing, "_current", current_without_flag)


@mutant("lost attempts are not counted", Promise.TRIES, weather="kill_worker")
def tries_not_counted(patch: Patch) -> None:
    patch(RequeueReason, "counts", property(lambda self: False))


@mutant("a drained attempt counts as a try", Promise.TRIES, weather="drain")
def drain_counts_as_a_try(patch: Patch) -> None:
    counted = {RequeueReason.LEASE_LOST, RequeueReason.RETRYABLE, RequeueReason.DRAINED}
    patch(RequeueReason, "counts", property(lambda self: self in counted))


@mutant("a key is enough, whatever the request", Promise.KEY)
def idempotency_by_key_only(patch: Patch) -> None:
    patch(NewMission, "fingerprint", lambda self: "the same")


@mutant("the key is looked up before the transaction, not in it", Promise.RUNS)
def idempotency_outside_the_transaction(patch: Patch) -> None:
    dispatch = missions.dispatch

    def dispatch_unseeing(tx: Transaction, new: NewMission, *, now: int) -> Any:
        with mock.patch.object(missions, "find_by_key", return_value=None):
            return dispatch(tx, new, now=now)

    patch(missions, "dispatch", dispatch_unseeing)


@mutant("a worker that lost its lease lets its lanes run", Promise.STOPPED, weather="lock_ledger")
def no_self_fence(patch: Patch) -> None:
    patch(loop.Worker, "_fence", lambda self: None)


@mutant("a mission is stamped as marked without being published", Promise.STAMPS)
def marked_without_published(patch: Patch) -> None:
    patch(claims, "SETTLE", claims.MARK)


@mutant("the queue goes by the wall clock of the dispatch alone", Promise.QUEUE, weather="set_clock")
def queue_by_wall_clock(patch: Patch) -> None:
    def order(*, created: int, ledger_last: int, priority: int) -> int:
        return due_order(created=created, ledger_last=created, priority=priority)

    patch(missions, "due_order", order)


@mutant("nobody hears of a commit: no bell, no look", Promise.HEARD)
def wake_up_lost(patch: Patch) -> None:
    patch(wake.Watch, "_changed", lambda self: False)


@mutant("what ended and was not marked is nobody's concern", Promise.LIVE, weather="kill_worker")
def unmarked_left_alone(patch: Patch) -> None:
    close = Reconciler.close

    def close_what_runs(self: Reconciler, claim: Claim, ending: Any = None) -> None:
        if not claim.mission.status.terminal:
            close(self, claim, ending)

    patch(Reconciler, "close", close_what_runs)


@mutant("a tick does not know what its process holds, and starts it again", Promise.ONCE)
def held_forgotten(patch: Patch) -> None:
    patch(hands.Hands, "held", property(lambda self: frozenset()))


@mutant(
    "a commit that failed is answered as if it were done",
    Promise.ACKNOWLEDGED,
    Promise.LIVE,
    Promise.RUNS,
    weather="fail_commit",
)
def failed_commit_acknowledged(patch: Patch) -> None:
    finish = Writer._finish

    def finish_in_any_case(self: Writer) -> None:
        with suppress(VpError):
            finish(self)
        self._broken = None

    patch(Writer, "_finish", finish_in_any_case)


@mutant("attempts are left behind after the mark", Promise.CLEAN)
def attempts_not_cleared(patch: Patch) -> None:
    patch(marker, "_clear", lambda *_: None)
