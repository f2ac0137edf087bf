"""A mission as its events tell it, and what a committed state may look like beside them: rules of the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.worlds.promises import Promise

Row = dict[str, Any]
Fault = tuple[Promise, str]
ENDS = {"completed", "failed", "cancelled"}
STAMPS = {"published_at", "blocked_at", "released_at", "marked_at", "mirrored_at", "purged_at"}


@dataclass
class Life:
    """Where a mission stands by its events; `order` and `seq` are its place in the queue."""

    name: str
    order: int
    seq: int
    status: str = "queued"
    attempt: int = 0
    cancelled: bool = False
    """A cancel was requested while it ran."""
    ended_by_worker: bool = False
    ready: bool = False

    def refuses(self, kind: str, event: Row) -> bool:
        """Whether this event cannot be the next one."""
        attempt, running = event["attempt"], self.status == "running"
        same = attempt == self.attempt
        match kind:
            case "started":
                return self.status != "queued" or attempt != self.attempt + 1
            case "progress":
                return not (running and same)
            case "cancel_requested":
                return not (running and not self.cancelled)
            case "requeued":
                return not (running and same and not self.cancelled)
            case "ready":
                return not (self.status in ENDS and same and not self.ready)
            case "completed" | "failed" | "cancelled" if running:
                return attempt < self.attempt or (self.cancelled and kind != "cancelled")
            case "completed" | "failed" | "cancelled":
                return self.status != "queued" or attempt != self.attempt + 1 or event["session_id"] is not None
            case _:
                return True

    def live_on(self, kind: str, event: Row) -> None:
        """Take the event for what happened next."""
        self.attempt = event["attempt"]
        match kind:
            case "started":
                self.status = "running"
            case "requeued":
                self.status = "queued"
            case "cancel_requested":
                self.cancelled = True
            case "ready":
                self.ready = True
            case "completed" | "failed" | "cancelled":
                self.status, self.ended_by_worker = kind, event["session_id"] is not None
            case _:
                pass


def row_faults(row: Row, life: Life, claims: Mapping[str, Row], lost: Mapping[str, int]) -> Iterator[Fault]:
    """What is wrong with one committed mission beside its events, its claim and its attempts."""
    taken_over = row["status"] == "running" and row["attempt"] > life.attempt
    if row["status"] != life.status or not (row["attempt"] == life.attempt or taken_over):
        state = f"{row['status']} at attempt {row['attempt']}"
        yield Promise.TOGETHER, f"{life.name} is {state}, by its events {life.status} at attempt {life.attempt}"
    tries = lost.get(row["mission_id"], 0)
    if row["tries"] != tries:
        yield Promise.TRIES, f"{life.name} has {row['tries']} tries, {tries} attempts were lost"
    if tries > row["max_tries"] or (row["status"] == "queued" and tries == row["max_tries"]):
        yield Promise.TRIES, f"{life.name} is {row['status']} with {tries} of {row['max_tries']} tries"
    claim = claims.get(row["mission_id"])
    if claim is not None and (claim["attempt"] != row["attempt"] or row["status"] == "queued" or row["marked_at"]):
        yield Promise.HELD, f"{life.name}, {row['status']}, has a claim on attempt {claim['attempt']}"
    owed = row["status"] == "running" or (life.ended_by_worker and row["marked_at"] is None)
    if claim is None and owed:
        yield Promise.HELD, f"{life.name}, {row['status']} and not marked, is held by nobody"


def change_faults(before: Row | None, row: Row, life: Life) -> Iterator[Fault]:
    """What may not have happened to an ended mission's row."""
    if before is None or before["status"] not in ENDS:
        return
    for column, value in row.items():
        if value != before[column] and not (column in STAMPS and before[column] is None):
            yield Promise.FROZEN, f"{column} of {life.name} was {before[column]!r} and is {value!r}"


def said(event: Row) -> str:
    """What an event adds to its type."""
    payload = json.loads(event["payload"])
    return str(payload.get("reason") or payload.get("summary") or payload.get("worker_id") or "")
