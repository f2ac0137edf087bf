"""The tables of the ledger, as the code reads and writes them; `migrations` makes them (a test holds both equal).

Instants are wall µs unless a name says otherwise; JSON is text, written by `canonical_json`, so that both stores hold
the same bytes and a hash can cover them. Nothing here is particular to one store.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
    literal_column,
    true,
)
from sqlalchemy.sql import ColumnElement

Instant = BigInteger
Serial = BigInteger().with_variant(Integer, "sqlite")
"""On SQLite, where only a plain INTEGER is the table's own order."""

STAMPS = ("published_at", "blocked_at", "released_at", "marked_at", "mirrored_at", "purged_at")
"""What an ended mission may still get, each once."""

metadata = MetaData()

ledger = Table(
    "vp_ledger",
    metadata,
    Column("singleton", Integer, primary_key=True, autoincrement=False),
    Column("ledger_id", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("revision", Text, nullable=False),
    Column("min_code_revision", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("singleton = 1", name="vp_ledger_is_one_row"),
)

missions = Table(
    "vp_missions",
    metadata,
    # What dispatch wrote; never changes again, and `row_hash` covers it.
    Column("mission_id", Text, primary_key=True),
    Column("vp_id", Text, nullable=False),
    Column("mission_type", Text, nullable=False),
    Column("objective", Text, nullable=False),
    Column("constraints", Text, nullable=False),
    Column("budget", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("max_tries", Integer, nullable=False),
    Column("not_before", Instant),
    Column("idempotency_key", Text),
    Column("fingerprint", Text, nullable=False),
    Column("source_session_id", Text),
    Column("source_turn_id", Text),
    Column("turn_id", Text),
    Column("reply_mode", Text, nullable=False),
    Column("retry_of", Text),
    Column("continues", Text),
    Column("group_id", Text),
    Column("concurrency_key", Text),
    Column("after", Text),
    Column("created_by", Text, nullable=False),
    Column("created_via", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_order", BigInteger, nullable=False),
    Column("dispatched_seq", BigInteger, nullable=False),
    Column("row_hash", Text, nullable=False),
    Column("row_hash_version", Integer, nullable=False),
    # What its life writes; final with the terminal commit, and `final_hash` covers it.
    Column("status", Text, nullable=False),
    Column("due", Boolean, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("cancel_reason", Text),
    Column("cancelled_by", Text),
    Column("requeue_reason", Text),
    Column("awaiting", Text),
    Column("result_ref", Text),
    Column("summary", Text),
    Column("failure_mode", Text),
    Column("failure_detail", Text),
    Column("usage", Text, nullable=False),
    Column("started_at", Instant),
    Column("last_progress_at", Instant),
    Column("completed_at", Instant),
    Column("updated_at", Instant, nullable=False),
    Column("final_hash", Text),
    Column("final_hash_version", Integer),
    # The stamps: from nothing to a value, once, after the end.
    *(Column(stamp, Instant) for stamp in STAMPS),
    CheckConstraint(
        "status IN ('queued', 'running', 'completed', 'failed', 'cancelled')", name="vp_missions_status_is_known"
    ),
    CheckConstraint(
        "(status IN ('queued', 'running')) = (completed_at IS NULL)", name="vp_missions_end_has_an_instant"
    ),
    CheckConstraint("status <> 'failed' OR failure_mode IS NOT NULL", name="vp_missions_failure_has_a_mode"),
    CheckConstraint("status <> 'cancelled' OR cancel_reason IS NOT NULL", name="vp_missions_cancel_has_a_reason"),
    CheckConstraint("completed_at IS NULL OR final_hash IS NOT NULL", name="vp_missions_end_has_a_hash"),
    CheckConstraint(
        "completed_at IS NOT NULL OR (" + " AND ".join(f"{stamp} IS NULL" for stamp in STAMPS) + ")",
        name="vp_missions_stamps_follow_the_end",
    ),
)


m = missions.c
is_due = m.due == true()
is_waiting = (m.status == literal_column("'queued'")) & (m.due == false())
is_open = m.completed_at.is_(None)
is_finished = m.completed_at.is_not(None)
is_unmarked = is_finished & m.marked_at.is_(None)
"""The conditions of the partial indexes: a statement that repeats one word for word is served by its index."""
is_passed = m.blocked_at.is_(None) | m.released_at.is_not(None)
"""Whether a mission may have its marker: nothing blocks it, or no longer."""


def _partial(name: str, *columns: ColumnElement[Any], where: ColumnElement[bool], unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_partial("vp_missions_by_key", m.vp_id, m.idempotency_key, where=m.idempotency_key.is_not(None), unique=True)
_partial("vp_missions_due", m.vp_id, m.due_order, m.dispatched_seq, where=is_due)
_partial("vp_missions_waiting", m.vp_id, m.due_at, where=is_waiting)
_partial("vp_missions_open", m.vp_id, m.status, m.created_at, where=is_open)
_partial("vp_missions_finished", m.vp_id, m.completed_at, m.started_at, where=is_finished)
_partial("vp_missions_unmarked", m.vp_id, m.completed_at, where=is_unmarked)
_partial("vp_missions_retries", m.retry_of, where=m.retry_of.is_not(None))
Index("vp_missions_newest", m.created_at, m.mission_id)
Index("vp_missions_newest_of_lane", m.vp_id, m.created_at, m.mission_id)
_partial(
    "vp_missions_newest_of_source",
    m.source_session_id,
    m.created_at,
    m.mission_id,
    where=m.source_session_id.is_not(None),
)

attempts = Table(
    "vp_attempts",
    metadata,
    Column("mission_id", Text, ForeignKey("vp_missions.mission_id"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("worker_id", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("claimed_at", Instant, nullable=False),
    Column("engaged_at", Instant),
    Column("ended_at", Instant),
    Column("end_reason", Text),
    Column("late_outcome", Text),
    Column("usage", Text, nullable=False),
    Column("usage_source", Text, nullable=False),
)

claims = Table(
    "vp_claims",
    metadata,
    Column("mission_id", Text, ForeignKey("vp_missions.mission_id"), primary_key=True),
    Column("vp_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("deadline", BigInteger, nullable=False),  # µs on the boot clock of `boot`
    Column("closing", Boolean, nullable=False),
    Index("vp_claims_of_session", "session_id"),
    Index("vp_claims_of_lane", "vp_id"),
)

sessions = Table(
    "vp_sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("vp_id", Text, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("build", Text, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("last_heartbeat_at", Instant, nullable=False),
    Column("lease_boot", Text, nullable=False),
    Column("lease_deadline", BigInteger, nullable=False),  # µs on the boot clock of `lease_boot`
    Column("closed_at", Instant),
    Column("lost_at", Instant),
    Index("vp_sessions_of_lane", "vp_id", "opened_at"),
)

events = Table(
    "vp_events",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("actor_via", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("mission_id", Text),
    Column("vp_id", Text),
    Column("session_id", Text),
    Column("source_session_id", Text),
    Column("attempt", Integer),
)
"""Each `seq` is one more than the newest, given out under the write lock. Events are never deleted, the newest least
of all: so no `seq` is given twice.
"""
e = events.c
_partial("vp_events_of_mission", e.mission_id, e.seq, where=e.mission_id.is_not(None))
_partial("vp_events_of_lane", e.vp_id, e.seq, where=e.vp_id.is_not(None))
_partial("vp_events_of_source", e.source_session_id, e.seq, where=e.source_session_id.is_not(None))

tallies = Table(
    "vp_tallies",
    metadata,
    Column("vp_id", Text, primary_key=True),  # empty: events of no lane
    Column("type", Text, primary_key=True),
    Column("total", BigInteger, nullable=False),
)
"""How many events of each type there were: metrics do not count millions of rows."""

plugins = Table(
    "vp_plugins",
    metadata,
    Column("entry_point", Text, primary_key=True),
    Column("distribution", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),  # `ok` or `degraded`
    Column("detail", Text, nullable=False),
    Column("remedy", Text),
    Column("manifests", Text, nullable=False),
    Column("probed_at", Instant, nullable=False),
)

lanes = Table(
    "vp_lanes",
    metadata,
    Column("vp_id", Text, primary_key=True),
    Column("entry_point", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("availability", Text, nullable=False),
    Column("registered_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("paused", Boolean, nullable=False),  # the operator's: workers never write these two
    Column("draining", Boolean, nullable=False),
)

tokens = Table(
    "vp_tokens",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_sha256", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("lanes", Text, nullable=False),
    Column("sources", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("last_used_at", Instant),
    Column("revoked_at", Instant),
    Index("vp_tokens_by_secret", "secret_sha256", unique=True),
)
