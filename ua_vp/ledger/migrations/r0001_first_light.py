"""Everything a ledger has: tables, indexes, and the triggers that keep ended missions and events as they are.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

DISPATCHED = tuple(
    """mission_id vp_id mission_type objective constraints budget inputs priority
    max_tries not_before idempotency_key fingerprint source_session_id source_turn_id turn_id reply_mode
    retry_of continues group_id concurrency_key after created_by created_via created_at
    due_order dispatched_seq row_hash row_hash_version""".split()
)
"""What dispatch writes; never changes again."""
LIFE = tuple(
    """status due due_at attempt tries cancel_requested cancel_reason cancelled_by requeue_reason
    awaiting result_ref summary failure_mode failure_detail usage started_at last_progress_at completed_at
    updated_at final_hash final_hash_version""".split()
)
"""What a mission's life writes; final with its end."""
STAMPS = ("published_at", "blocked_at", "released_at", "marked_at", "mirrored_at", "purged_at")
"""What an ended mission may still get, each once."""
ROWID = ("rowid", "oid", "_rowid_")
"""The names that SQLite has for one thing."""
ENDED = "('completed', 'failed', 'cancelled')"
REFUSE = """
CREATE FUNCTION vp_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$"""
DATABASE_CLOCK = """
CREATE FUNCTION vp_clock() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$"""
"""What leases on PostgreSQL are deadlines on, µs."""


def upgrade() -> None:
    for make in (ledger, missions, attempts, claims, sessions, events, tallies, plugins, lanes, tokens):
        make()
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in sqlite_refusals() if sqlite else [DATABASE_CLOCK, *postgresql_refusals()]:
        op.execute(sa.text(statement))


def partial(condition: str) -> dict[str, Any]:
    """The condition of a partial index in the words of each store."""
    return {
        "sqlite_where": sa.text(condition.format(true="1", false="0")),
        "postgresql_where": sa.text(condition.format(true="true", false="false")),
    }


def ledger() -> None:
    op.create_table(
        "vp_ledger",
        sa.Column("singleton", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("ledger_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("min_code_revision", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("singleton = 1", name="vp_ledger_is_one_row"),
    )


def missions() -> None:
    op.create_table(
        "vp_missions",
        *dispatched_columns(),
        *life_columns(),
        *(sa.Column(stamp, sa.BigInteger()) for stamp in STAMPS),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'completed', 'failed', 'cancelled')", name="vp_missions_status_is_known"
        ),
        sa.CheckConstraint(
            "(status IN ('queued', 'running')) = (completed_at IS NULL)", name="vp_missions_end_has_an_instant"
        ),
        sa.CheckConstraint("status <> 'failed' OR failure_mode IS NOT NULL", name="vp_missions_failure_has_a_mode"),
        sa.CheckConstraint(
            "status <> 'cancelled' OR cancel_reason IS NOT NULL", name="vp_missions_cancel_has_a_reason"
        ),
        sa.CheckConstraint("completed_at IS NULL OR final_hash IS NOT NULL", name="vp_missions_end_has_a_hash"),
        sa.CheckConstraint(
            "completed_at IS NOT NULL OR (published_at IS NULL AND blocked_at IS NULL AND released_at IS NULL AND marked_at IS NULL AND mirrored_at IS NULL AND purged_at IS NULL)",
            name="vp_missions_stamps_follow_the_end",
        ),
    )
    mission_indexes()


def dispatched_columns() -> list[sa.Column[Any]]:
    """What dispatch writes."""
    return [
        sa.Column("mission_id", sa.Text(), primary_key=True),
        sa.Column("vp_id", sa.Text(), nullable=False),
        sa.Column("mission_type", sa.Text(), nullable=False),
        sa.Column("objective", sa.Text(), nullable=False),
        sa.Column("constraints", sa.Text(), nullable=False),
        sa.Column("budget", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("max_tries", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger()),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("source_session_id", sa.Text()),
        sa.Column("source_turn_id", sa.Text()),
        sa.Column("turn_id", sa.Text()),
        sa.Column("reply_mode", sa.Text(), nullable=False),
        sa.Column("retry_of", sa.Text()),
        sa.Column("continues", sa.Text()),
        sa.Column("group_id", sa.Text()),
        sa.Column("concurrency_key", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_via", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_order", sa.BigInteger(), nullable=False),
        sa.Column("dispatched_seq", sa.BigInteger(), nullable=False),
        sa.Column("row_hash", sa.Text(), nullable=False),
        sa.Column("row_hash_version", sa.Integer(), nullable=False),
    ]


def life_columns() -> list[sa.Column[Any]]:
    """What a mission's life writes."""
    return [
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("due", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("cancel_reason", sa.Text()),
        sa.Column("cancelled_by", sa.Text()),
        sa.Column("requeue_reason", sa.Text()),
        sa.Column("awaiting", sa.Text()),
        sa.Column("result_ref", sa.Text()),
        sa.Column("summary", sa.Text()),
        sa.Column("failure_mode", sa.Text()),
        sa.Column("failure_detail", sa.Text()),
        sa.Column("usage", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger()),
        sa.Column("last_progress_at", sa.BigInteger()),
        sa.Column("completed_at", sa.BigInteger()),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("final_hash", sa.Text()),
        sa.Column("final_hash_version", sa.Integer()),
    ]


def mission_indexes() -> None:
    op.create_index(
        "vp_missions_by_key",
        "vp_missions",
        ["vp_id", "idempotency_key"],
        unique=True,
        **partial("idempotency_key IS NOT NULL"),
    )
    op.create_index(
        "vp_missions_due", "vp_missions", ["vp_id", "due_order", "dispatched_seq"], **partial("due = {true}")
    )
    op.create_index(
        "vp_missions_finished",
        "vp_missions",
        ["vp_id", "completed_at", "started_at"],
        **partial("completed_at IS NOT NULL"),
    )
    op.create_index("vp_missions_newest", "vp_missions", ["created_at", "mission_id"])
    op.create_index("vp_missions_newest_of_lane", "vp_missions", ["vp_id", "created_at", "mission_id"])
    op.create_index(
        "vp_missions_newest_of_source",
        "vp_missions",
        ["source_session_id", "created_at", "mission_id"],
        **partial("source_session_id IS NOT NULL"),
    )
    op.create_index(
        "vp_missions_open", "vp_missions", ["vp_id", "status", "created_at"], **partial("completed_at IS NULL")
    )
    op.create_index("vp_missions_retries", "vp_missions", ["retry_of"], **partial("retry_of IS NOT NULL"))
    op.create_index(
        "vp_missions_unmarked",
        "vp_missions",
        ["vp_id", "completed_at"],
        **partial("completed_at IS NOT NULL AND marked_at IS NULL"),
    )
    op.create_index(
        "vp_missions_waiting", "vp_missions", ["vp_id", "due_at"], **partial("status = 'queued' AND due = {false}")
    )


def attempts() -> None:
    op.create_table(
        "vp_attempts",
        sa.Column("mission_id", sa.Text(), sa.ForeignKey("vp_missions.mission_id"), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("engaged_at", sa.BigInteger()),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("end_reason", sa.Text()),
        sa.Column("late_outcome", sa.Text()),
        sa.Column("usage", sa.Text(), nullable=False),
        sa.Column("usage_source", sa.Text(), nullable=False),
    )


def claims() -> None:
    op.create_table(
        "vp_claims",
        sa.Column("mission_id", sa.Text(), sa.ForeignKey("vp_missions.mission_id"), primary_key=True),
        sa.Column("vp_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("closing", sa.Boolean(), nullable=False),
    )
    op.create_index("vp_claims_of_lane", "vp_claims", ["vp_id"])
    op.create_index("vp_claims_of_session", "vp_claims", ["session_id"])


def sessions() -> None:
    op.create_table(
        "vp_sessions",
        sa.Column("session_id", sa.Text(), primary_key=True),
        sa.Column("vp_id", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("build", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("last_heartbeat_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_boot", sa.Text(), nullable=False),
        sa.Column("lease_deadline", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger()),
        sa.Column("lost_at", sa.BigInteger()),
    )
    op.create_index("vp_sessions_of_lane", "vp_sessions", ["vp_id", "opened_at"])


def events() -> None:
    op.create_table(
        "vp_events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("actor_via", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("mission_id", sa.Text()),
        sa.Column("vp_id", sa.Text()),
        sa.Column("session_id", sa.Text()),
        sa.Column("source_session_id", sa.Text()),
        sa.Column("attempt", sa.Integer()),
    )
    op.create_index("vp_events_of_lane", "vp_events", ["vp_id", "seq"], **partial("vp_id IS NOT NULL"))
    op.create_index("vp_events_of_mission", "vp_events", ["mission_id", "seq"], **partial("mission_id IS NOT NULL"))
    op.create_index(
        "vp_events_of_source", "vp_events", ["source_session_id", "seq"], **partial("source_session_id IS NOT NULL")
    )


def tallies() -> None:
    op.create_table(
        "vp_tallies",
        sa.Column("vp_id", sa.Text(), primary_key=True),
        sa.Column("type", sa.Text(), primary_key=True),
        sa.Column("total", sa.BigInteger(), nullable=False),
    )


def plugins() -> None:
    op.create_table(
        "vp_plugins",
        sa.Column("entry_point", sa.Text(), primary_key=True),
        sa.Column("distribution", sa.Text(), primary_key=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text()),
        sa.Column("manifests", sa.Text(), nullable=False),
        sa.Column("probed_at", sa.BigInteger(), nullable=False),
    )


def lanes() -> None:
    op.create_table(
        "vp_lanes",
        sa.Column("vp_id", sa.Text(), primary_key=True),
        sa.Column("entry_point", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("availability", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
    )


def tokens() -> None:
    op.create_table(
        "vp_tokens",
        sa.Column("token_id", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("lanes", sa.Text(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("last_used_at", sa.BigInteger()),
        sa.Column("revoked_at", sa.BigInteger()),
    )
    op.create_index("vp_tokens_by_secret", "vp_tokens", ["secret_sha256"], unique=True)


def refusals(differs: str, fixed: tuple[str, ...], *, always: str) -> list[tuple[str, str, str, str]]:
    """What holds for every connection, also one that knows nothing of this product: name, event, condition, why."""
    moved = " OR ".join(f'NEW."{name}" {differs} OLD."{name}"' for name in fixed)
    ended = " OR ".join(f'NEW."{name}" {differs} OLD."{name}"' for name in LIFE)
    stamped = " OR ".join(f"(OLD.{s} IS NOT NULL AND NEW.{s} {differs} OLD.{s})" for s in STAMPS)
    way = "OLD.status = 'queued' AND NEW.status IN ('running', 'cancelled')"
    way = f"({way}) OR (OLD.status = 'running' AND NEW.status IN ('queued', 'completed', 'failed', 'cancelled'))"
    never = "a mission that has ended never changes"
    return [
        ("vp_missions_dispatched", change_of(fixed), moved, "what dispatch wrote never changes"),
        ("vp_missions_ended", change_of(LIFE), f"OLD.status IN {ENDED} AND ({ended})", never),
        ("vp_missions_stamped", change_of(STAMPS), stamped, "a stamp is given once"),
        (
            "vp_missions_way",
            change_of(("status",)),
            f"NEW.status {differs} OLD.status AND NOT ({way})",
            "no such way between states",
        ),
        ("vp_missions_kept", "DELETE ON vp_missions", always, "missions are kept"),
        ("vp_events_unchanged", "UPDATE ON vp_events", always, "events never change"),
        ("vp_events_kept", "DELETE ON vp_events", always, "events are kept"),
    ]


def change_of(columns: tuple[str, ...]) -> str:
    """An UPDATE that names one of these columns: others need not ask."""
    return "UPDATE OF " + ", ".join(f'"{name}"' for name in columns) + " ON vp_missions"


def sqlite_refusals() -> list[str]:
    """The refusals on SQLite.

    OR REPLACE deletes the row in its way without asking a DELETE trigger (unless `recursive_triggers` is on), so what
    would be in the way is looked for before, by each unique key and by rowid.
    """
    keys = (
        "mission_id = NEW.mission_id",
        "rowid = NEW.rowid",
        "vp_id = NEW.vp_id AND idempotency_key = NEW.idempotency_key",
    )
    met = " OR ".join(f"EXISTS (SELECT 1 FROM vp_missions WHERE {same})" for same in keys)  # noqa: S608
    event = "EXISTS (SELECT 1 FROM vp_events WHERE seq = NEW.seq)"
    all_of_them = [
        *refusals("IS NOT", (*ROWID, *DISPATCHED), always="1"),
        ("vp_missions_replaced", "INSERT ON vp_missions", met, "this mission, or this key, is there already"),
        ("vp_events_replaced", "INSERT ON vp_events", event, "this event is there already"),
    ]
    return [
        f"CREATE TRIGGER {name} BEFORE {before} WHEN {when} BEGIN SELECT RAISE(ABORT, '{why}'); END"
        for name, before, when, why in all_of_them
    ]


def postgresql_refusals() -> list[str]:
    """They hold in a replica's session too (ALWAYS), and for TRUNCATE."""
    statements = [REFUSE]
    for name, before, when, why in refusals("IS DISTINCT FROM", DISPATCHED, always="true"):
        how = f"FOR EACH ROW WHEN ({when})"
        statements += [f"CREATE TRIGGER {name} BEFORE {before} {how} EXECUTE FUNCTION vp_refuse('{why}')"]
        statements += [f"ALTER TABLE {before.split()[-1]} ENABLE ALWAYS TRIGGER {name}"]
    for table in ("vp_missions", "vp_events"):
        how = f"BEFORE TRUNCATE ON {table} EXECUTE FUNCTION vp_refuse('{table.removeprefix('vp_')} are kept')"
        statements += [
            f"CREATE TRIGGER {table}_emptied {how}",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_emptied",
        ]
    return statements
