"""The floor on SQLite: what somebody would write by hand with `sqlite3`, one writer thread and group commit.

It has the durability, the columns a reader needs, every index of the product's missions and events, events with each
change, an order with priorities, and writes fenced by attempt. It has not: hashes over rows, fingerprints, triggers
that refuse to change what has ended, tallies, records of attempts, sessions, a claim's row of its own, leases that
are renewed, cancelling, limits; nor SQLAlchemy, Steps that can be undone one by one, or a look at the file's inode.
"""

from __future__ import annotations

import json
import queue
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contender import SLOTS, Order, by_threads, main

TABLES = """
CREATE TABLE mission (
  mission_id TEXT PRIMARY KEY NOT NULL, vp_id TEXT NOT NULL, mission_type TEXT NOT NULL, objective TEXT NOT NULL,
  constraints TEXT NOT NULL, budget TEXT NOT NULL, inputs TEXT NOT NULL, priority INTEGER NOT NULL,
  max_tries INTEGER NOT NULL, idempotency_key TEXT, source_session_id TEXT, reply_mode TEXT NOT NULL,
  created_by TEXT NOT NULL, created_via TEXT NOT NULL, created_at INTEGER NOT NULL, due_order INTEGER NOT NULL,
  dispatched_seq INTEGER NOT NULL, status TEXT NOT NULL, due INTEGER NOT NULL, due_at INTEGER NOT NULL,
  attempt INTEGER NOT NULL, worker_id TEXT, deadline INTEGER, result_ref TEXT, summary TEXT, usage TEXT NOT NULL,
  started_at INTEGER, completed_at INTEGER, updated_at INTEGER NOT NULL, published_at INTEGER, marked_at INTEGER
);
CREATE UNIQUE INDEX mission_by_key ON mission (vp_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX mission_due ON mission (vp_id, due_order, dispatched_seq) WHERE due = 1;
CREATE INDEX mission_waiting ON mission (vp_id, due_at) WHERE status = 'queued' AND due = 0;
CREATE INDEX mission_open ON mission (vp_id, status, created_at) WHERE completed_at IS NULL;
CREATE INDEX mission_finished ON mission (vp_id, completed_at, started_at) WHERE completed_at IS NOT NULL;
CREATE INDEX mission_unmarked ON mission (vp_id, completed_at) WHERE completed_at IS NOT NULL AND marked_at IS NULL;
CREATE INDEX mission_newest ON mission (created_at, mission_id);
CREATE INDEX mission_newest_of_lane ON mission (vp_id, created_at, mission_id);
CREATE INDEX mission_newest_of_source ON mission (source_session_id, created_at, mission_id)
  WHERE source_session_id IS NOT NULL;
CREATE TABLE event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, at INTEGER NOT NULL, actor_name TEXT NOT NULL,
  actor_via TEXT NOT NULL, payload TEXT NOT NULL, mission_id TEXT, vp_id TEXT, source_session_id TEXT, attempt INTEGER
);
CREATE INDEX event_of_mission ON event (mission_id, seq) WHERE mission_id IS NOT NULL;
CREATE INDEX event_of_lane ON event (vp_id, seq) WHERE vp_id IS NOT NULL;
CREATE INDEX event_of_source ON event (source_session_id, seq) WHERE source_session_id IS NOT NULL;
"""
EVENT = """INSERT INTO event (type, at, actor_name, actor_via, payload, mission_id, vp_id, source_session_id, attempt)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq"""
INSERT = """INSERT INTO mission VALUES
  (?, ?, 'task', ?, '{}', '{}', '[]', 100, 3, NULL, ?, 'async', 'simone', 'api', ?, ?, ?, 'queued', 1, ?, 0, NULL, NULL,
  NULL, NULL, '{}', NULL, NULL, ?, NULL, NULL)"""
FIRST_DUE = """SELECT mission_id, attempt, source_session_id, objective FROM mission WHERE vp_id = ? AND due = 1
  ORDER BY due_order, dispatched_seq LIMIT ?"""
START = """UPDATE mission SET status = 'running', due = 0, attempt = ?, worker_id = ?, deadline = ?, started_at = ?,
  updated_at = ? WHERE mission_id = ? AND attempt = ? AND status = 'queued'"""
END = """UPDATE mission SET status = 'completed', summary = ?, result_ref = ?, completed_at = ?, updated_at = ?
  WHERE mission_id = ? AND attempt = ? AND status = 'running'"""
PUBLISH = "UPDATE mission SET published_at = ? WHERE mission_id = ? AND attempt = ? AND published_at IS NULL"
MARK = """UPDATE mission SET marked_at = ?, worker_id = NULL, deadline = NULL
  WHERE mission_id = ? AND attempt = ? AND marked_at IS NULL"""
LANE, SOURCE, WORKER = "vp.general.primary", "session-bench", "bench:1"

Step = Callable[[sqlite3.Connection], Any]
Held = tuple[str, int, str | None, str]


class Pipeline:
    """One thread that takes every waiting step into one transaction and answers after the commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[tuple[Step, list[Any], threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def run(self, step: Step) -> Any:
        result: list[Any] = []
        done = threading.Event()
        self._waiting.put((step, result, done))
        done.wait()
        return result[0]

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            self._connection.execute("BEGIN IMMEDIATE")
            for step, result, _ in batch:
                result.append(step(self._connection))
            self._connection.execute("COMMIT")
            for _, _, done in batch:
                done.set()


class Floor:
    """The whole life of a mission in ten statements."""

    def __init__(self, order: Order) -> None:
        self._connection = connect(order.database, order.synchronous)
        self._pipeline = Pipeline(self._connection)
        self._wake = Path(order.folder, "wake")
        self._mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._number = 0

    def dispatch(self, order: Order) -> None:
        by_threads(order, lambda: self._pipeline.run(self._insert))

    def hand_over(self) -> None:
        commit(self._connection, self._insert)
        self._mouth.sendto(b"1", str(self._wake))

    def _insert(self, connection: sqlite3.Connection) -> None:
        self._number += 1
        mission_id, now = f"vp-mission-{uuid.uuid4().hex}", time.time_ns() // 1000
        payload = json.dumps({"mission_type": "task", "priority": 100})
        values = ("dispatched", now, "simone", "api", payload, mission_id, LANE, SOURCE, None)
        ((seq,),) = connection.execute(EVENT, values)
        objective, due_order = f"Write a summary of report {self._number}", now + 100 * 600_000_000
        connection.execute(INSERT, (mission_id, LANE, objective, SOURCE, now, due_order, seq, now, now))

    def prepare(self, order: Order) -> None:
        """Nothing."""

    def work(self, order: Order) -> None:
        claimed: list[Held] = []
        ended: list[Held] = []
        settled = 0
        while settled < order.missions:
            taken = self._pipeline.run(lambda connection: tick(connection, claimed, ended))  # noqa: B023  # it is run here
            settled, ended, claimed = settled + len(ended), claimed, taken

    def serve(self, started: Callable[[], None]) -> None:
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ear.bind(str(self._wake))
        started()
        claimed: list[Held] = []
        ended: list[Held] = []
        while True:
            if not claimed and not ended:
                ear.recv(1)
            taken = commit(self._connection, lambda connection: tick(connection, claimed, ended))  # noqa: B023  # it is run here
            if taken:
                started()
            ended, claimed = claimed, taken

    def close(self) -> None:
        self._mouth.close()


def commit(connection: sqlite3.Connection, step: Step) -> Any:
    """One durable step, without the pipeline."""
    connection.execute("BEGIN IMMEDIATE")
    result = step(connection)
    connection.execute("COMMIT")
    return result


def tick(connection: sqlite3.Connection, claimed: list[Held], ended: list[Held]) -> list[Held]:
    """End what was claimed before, stamp what had ended before, claim up to SLOTS."""
    now = time.time_ns() // 1000
    for mission_id, attempt, source, _ in claimed:
        folder = f"workspace:///srv/ua-vp/workspaces/vp_general_primary_external/{mission_id}"
        connection.execute(END, ("done", folder, now, now, mission_id, attempt))
        payload = json.dumps({"status": "completed", "summary": "done", "result_ref": folder, "artifacts": []})
        connection.execute(EVENT, event("completed", now, payload, mission_id, source, attempt)).fetchone()
    for mission_id, attempt, source, _ in ended:
        connection.execute(PUBLISH, (now, mission_id, attempt))
        connection.execute(MARK, (now, mission_id, attempt))
        payload = json.dumps({"receipt_sha256": "0" * 64})
        connection.execute(EVENT, event("ready", now, payload, mission_id, source, attempt)).fetchone()
    taken = []
    for mission_id, attempt, source, objective in connection.execute(FIRST_DUE, (LANE, SLOTS)).fetchall():
        connection.execute(START, (attempt + 1, WORKER, now + 30_000_000, now, now, mission_id, attempt))
        payload = json.dumps({"worker_id": WORKER})
        connection.execute(EVENT, event("started", now, payload, mission_id, source, attempt + 1)).fetchone()
        taken.append((mission_id, attempt + 1, source, objective))
    return taken


def event(kind: str, now: int, payload: str, mission_id: str, source: str | None, attempt: int) -> tuple[object, ...]:
    """The values of EVENT, by the worker."""
    return (kind, now, WORKER, "worker", payload, mission_id, LANE, source, attempt)


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """A connection to the file, made if need be."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'mission'").fetchone():
        connection.executescript(TABLES)
    return connection


if __name__ == "__main__":
    main(Floor)
