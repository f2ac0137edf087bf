"""The floor on PostgreSQL: what somebody would write by hand with psycopg, one writer thread and group commit.

Each batch is one statement with arrays: a change and its events in one CTE, `FOR UPDATE SKIP LOCKED` for claiming. Has
and lacks what the floor on SQLite has and lacks; its `seq` is moreover not in the order of commits.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable

import psycopg

from benchmarks.contender import SLOTS, Order, by_threads, main
from benchmarks.floors.sqlite import LANE, SOURCE, TABLES, WORKER

DIALECT = {
    "INTEGER PRIMARY KEY AUTOINCREMENT": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "INTEGER": "BIGINT",
}
DISPATCH = """
WITH given AS (SELECT * FROM unnest(%(ids)s::text[], %(objectives)s::text[]) AS given (mission_id, objective)),
told AS (
  INSERT INTO event (type, at, actor_name, actor_via, payload, mission_id, vp_id, source_session_id)
  SELECT 'dispatched', %(now)s, 'simone', 'api', '{"mission_type":"task","priority":100}', mission_id, %(lane)s,
    %(source)s FROM given RETURNING seq, mission_id
)
INSERT INTO mission (mission_id, vp_id, mission_type, objective, constraints, budget, inputs, priority, max_tries,
  source_session_id, reply_mode, created_by, created_via, created_at, due_order, dispatched_seq, status, due, due_at,
  attempt, usage, updated_at)
SELECT mission_id, %(lane)s, 'task', objective, '{}', '{}', '[]', 100, 3, %(source)s, 'async', 'simone', 'api',
  %(now)s, %(now)s + 60000000000, seq, 'queued', 1, %(now)s, 0, '{}', %(now)s
FROM given JOIN told USING (mission_id)"""
CLAIM = """
WITH first AS (
  SELECT mission_id FROM mission WHERE vp_id = %(lane)s AND due = 1 ORDER BY due_order, dispatched_seq
  LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE mission SET status = 'running', due = 0, attempt = attempt + 1, worker_id = %(worker)s,
    deadline = %(now)s + 30000000, started_at = %(now)s, updated_at = %(now)s
  FROM first WHERE mission.mission_id = first.mission_id
  RETURNING mission.mission_id, attempt, source_session_id, objective
), told AS (
  INSERT INTO event (type, at, actor_name, actor_via, payload, mission_id, vp_id, source_session_id, attempt)
  SELECT 'started', %(now)s, %(worker)s, 'worker', '{"worker_id":"bench:1"}', mission_id, %(lane)s, source_session_id,
    attempt FROM taken
)
SELECT mission_id, attempt, objective FROM taken"""
END = """
WITH given AS (SELECT * FROM unnest(%(ids)s::text[], %(attempts)s::bigint[]) AS given (mission_id, attempt)),
ended AS (
  UPDATE mission SET status = 'completed', summary = 'done', result_ref = 'workspace:///srv/' || mission.mission_id,
    completed_at = %(now)s, updated_at = %(now)s
  FROM given WHERE mission.mission_id = given.mission_id AND mission.attempt = given.attempt AND status = 'running'
  RETURNING mission.mission_id, mission.attempt, source_session_id, result_ref
)
INSERT INTO event (type, at, actor_name, actor_via, payload, mission_id, vp_id, source_session_id, attempt)
SELECT 'completed', %(now)s, %(worker)s, 'worker', '{"status":"completed","result_ref":"' || result_ref || '"}',
  mission_id, %(lane)s, source_session_id, attempt FROM ended"""
MARK = """
WITH given AS (SELECT * FROM unnest(%(ids)s::text[], %(attempts)s::bigint[]) AS given (mission_id, attempt)),
marked AS (
  UPDATE mission SET published_at = %(now)s, marked_at = %(now)s, worker_id = NULL, deadline = NULL
  FROM given WHERE mission.mission_id = given.mission_id AND mission.attempt = given.attempt AND marked_at IS NULL
  RETURNING mission.mission_id, mission.attempt, source_session_id
)
INSERT INTO event (type, at, actor_name, actor_via, payload, mission_id, vp_id, source_session_id, attempt)
SELECT 'ready', %(now)s, %(worker)s, 'worker', '{"receipt_sha256":"' || repeat('0', 64) || '"}', mission_id, %(lane)s,
  source_session_id, attempt FROM marked"""

Held = tuple[str, int, str]


class Floor:
    """The whole life of a mission in four statements, each for many at once."""

    def __init__(self, order: Order) -> None:
        self._dsn = order.dsn
        self._connection = psycopg.connect(order.dsn, autocommit=True)
        if order.role != "worker":
            self._make_tables()
        self._waiting: queue.SimpleQueue[tuple[str, str, threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def _make_tables(self) -> None:
        tables = TABLES
        for sqlite, postgresql in DIALECT.items():
            tables = tables.replace(sqlite, postgresql)
        self._connection.execute(tables.encode())

    def _write(self) -> None:
        """The writer's thread: everything that waits is one statement, and one commit."""
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            given = {"ids": [item[0] for item in batch], "objectives": [item[1] for item in batch]}
            with self._connection.transaction():
                self._connection.execute(DISPATCH, given | parameters(), prepare=True)
                self._connection.execute("NOTIFY missions")
            for _, _, done in batch:
                done.set()

    def dispatch(self, order: Order) -> None:
        by_threads(order, self.hand_over)

    def hand_over(self) -> None:
        done = threading.Event()
        self._waiting.put((f"vp-mission-{uuid.uuid4().hex}", "Write a summary of the report", done))
        done.wait()

    def prepare(self, order: Order) -> None:
        """Nothing."""

    def work(self, order: Order) -> None:
        claimed: list[Held] = []
        ended: list[Held] = []
        settled = 0
        while settled < order.missions:
            taken = self._tick(claimed, ended)
            settled, ended, claimed = settled + len(ended), claimed, taken

    def _tick(self, claimed: list[Held], ended: list[Held]) -> list[Held]:
        """End what was claimed before, stamp what had ended before, claim up to SLOTS; one commit."""
        with self._connection.transaction():
            for statement, held in ((END, claimed), (MARK, ended)):
                if held:
                    given = {"ids": [item[0] for item in held], "attempts": [item[1] for item in held]}
                    self._connection.execute(statement.encode(), given | parameters(), prepare=True)
            return self._connection.execute(CLAIM, parameters(), prepare=True).fetchall()

    def serve(self, started: Callable[[], None]) -> None:
        ear = psycopg.connect(self._dsn, autocommit=True)
        ear.execute("LISTEN missions")
        started()
        claimed: list[Held] = []
        ended: list[Held] = []
        while True:
            taken = self._tick(claimed, ended)
            if taken:
                started()
            ended, claimed = claimed, taken
            if not claimed and not ended:
                next(ear.notifies(stop_after=1), None)

    def close(self) -> None:
        """The connection ends with the process."""


def parameters() -> dict[str, object]:
    """What every statement may name."""
    return {"now": time.time_ns() // 1000, "lane": LANE, "source": SOURCE, "worker": WORKER, "limit": SLOTS}


if __name__ == "__main__":
    main(Floor)
