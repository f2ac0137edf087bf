"""Faults planted in the product, in a fork of the driver: each harness must find those that it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ua_vp.ledger import sqlite
from ua_vp.ledger.sqlite import SqliteStore
from ua_vp.ledger.writer import Writer
from ua_vp.mission import Claim, Ending, Status
from ua_vp.ports import Files
from ua_vp.runtime.files import DurableFiles
from ua_vp.worker import finalize
from ua_vp.worker.reconcile import Reconciler
from ua_vp.workspace import Workspace, publish
from ua_vp.workspace.marker import marker_bytes
from ua_vp.workspace.receipt import read_receipt


def commits_are_not_synced() -> None:
    """`synchronous=NORMAL`: a commit is in the page cache when it is acknowledged."""
    sqlite.PRAGMAS = tuple(pragma.replace("FULL", "NORMAL") for pragma in sqlite.PRAGMAS)  # type: ignore[assignment]


def folders_are_not_synced() -> None:
    """A rename is not made durable."""
    DurableFiles._sync_folder = lambda *_: None  # type: ignore[method-assign]


def files_are_not_synced() -> None:
    """What is handed over is hashed, and not made durable."""
    DurableFiles.sync = lambda *_: None  # type: ignore[method-assign]


def marked_before_published() -> None:
    """The marker is written first."""

    def mark_first(ws: Workspace, attempt: int, *, files: Files) -> None:
        receipt = read_receipt(ws, attempt)
        if receipt is not None:
            marker = marker_bytes(
                mission_id=receipt.mission_id, vp_id=receipt.vp_id, state=Status(receipt.status),
                completed_at=receipt.completed_at, receipt_sha256=receipt.sha256,
            )  # fmt: skip
            files.write(ws.marker, marker)
        publish(ws, attempt, files=files)

    finalize.publish = mark_first  # type: ignore[attr-defined]


def answered_before_committed() -> None:
    """The writer answers when it has the Step, not when it is durable."""
    commit = Writer._commit

    def answer_first(writer: Writer, batch: list[Any]) -> None:
        for job in batch:
            job.answer()
        commit(writer, batch)

    Writer._commit = answer_first  # type: ignore[method-assign, assignment]


def failed_commits_are_passed_over() -> None:
    """An error of COMMIT is taken for success."""
    commit = SqliteStore.commit

    def hopeful(store: SqliteStore, driver: Any) -> None:
        try:
            commit(store, driver)
        except store.errors:
            if store.in_transaction(driver):
                driver.execute("ROLLBACK")

    SqliteStore.commit = hopeful  # type: ignore[method-assign, assignment]


def ended_ones_are_passed_over() -> None:
    """Reconcile takes up running missions alone, not those that ended without a marker."""
    close = Reconciler.close

    def close_running(reconciler: Reconciler, claim: Claim, ending: Ending | None = None) -> None:
        if not claim.mission.status.terminal:
            close(reconciler, claim, ending)

    Reconciler.close = close_running  # type: ignore[method-assign, assignment]


MUTANTS: Mapping[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (
        commits_are_not_synced,
        folders_are_not_synced,
        files_are_not_synced,
        marked_before_published,
        answered_before_committed,
        failed_commits_are_passed_over,
        ended_ones_are_passed_over,
    )
}
