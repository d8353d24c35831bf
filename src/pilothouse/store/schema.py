"""The tables, as SQLAlchemy Core metadata. Every change here comes with a migration of `store/migrations`.

Moments are aware UTC datetimes in Python and microseconds since 1970 in the database, the same on SQLite
and PostgreSQL. Columns of type JSON hold small lists and mappings that are never searched.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept as microseconds since 1970; naive ones are refused."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        return (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + int(value) * MICROSECOND


# Names of constraints are fixed, so that a migration can name what it changes.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts up by itself only on INTEGER PRIMARY KEY; PostgreSQL wants the wide type.
Identifier = BigInteger().with_variant(Integer(), "sqlite")


users = Table(
    "users",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("display_name", String(200), nullable=False, server_default=""),
    Column("email", String(254), nullable=False, server_default=""),
    Column("groups", JSON, nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", Moment, nullable=False),
    Column("changed_at", Moment, nullable=False),
    # `person`, or `machine`: that one has no password, and of the profiles those that are listed.
    Column("kind", String(10), nullable=False, server_default="person"),
    Column("profiles", JSON),
    Column("team", String(100), nullable=False, server_default=""),
)

# The name, groups and address are those of the moment of login: a directory's people have no row in `users`.
sessions = Table(
    "sessions",
    metadata,
    Column("id_hash", String(64), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("user", String(100), nullable=False, index=True),
    Column("display_name", String(200), nullable=False, server_default=""),
    Column("email", String(254), nullable=False, server_default=""),
    Column("groups", JSON, nullable=False),
    Column("address", String(64), nullable=False, server_default=""),
    Column("agent", String(200), nullable=False, server_default=""),
    Column("created_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
    Column("revoked_at", Moment),
)

# Where a person has logged in from before: a stranger cannot lock them out there.
known_addresses = Table(
    "known_addresses",
    metadata,
    Column("user", String(100), primary_key=True),
    Column("address", String(64), primary_key=True),
    Column("seen_at", Moment, nullable=False),
)

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("started_at", Moment, nullable=False),
    Column("count", Integer, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
)

# `fence` goes up with every claim of the job: what an earlier holder would still record is refused.
jobs = Table(
    "jobs",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("title", String(200), nullable=False, server_default=""),
    Column("schedule", String(100), nullable=False, server_default=""),
    Column("state", String(12), nullable=False),
    Column("message", Text, nullable=False, server_default=""),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("seconds", Float),
    Column("next_run_at", Moment),
    Column("requested_at", Moment),
    Column("requested_by", String(100), nullable=False, server_default=""),
    Column("holder", String(100), nullable=False, server_default=""),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    Column("lease_until", Moment),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("failing_since", Moment),
)

proposals = Table(
    "proposals",
    metadata,
    Column("id", Identifier, primary_key=True, autoincrement=True),
    Column("kind", String(30), nullable=False),
    Column("subject", String(200), nullable=False, index=True),
    Column("team", String(100), nullable=False, index=True),
    Column("title", String(200), nullable=False, server_default=""),
    Column("state", String(12), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("author", String(100), nullable=False, index=True),
    Column("reason", Text, nullable=False, server_default=""),
    Column("base", String(64), nullable=False, server_default=""),
    Column("path", String(500), nullable=False, server_default=""),
    Column("before", Text, nullable=False, server_default=""),
    Column("document", Text, nullable=False, server_default=""),
    Column("required", JSON, nullable=False),
    Column("data", JSON, nullable=False),
    Column("commit", String(64), nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

proposal_reviews = Table(
    "proposal_reviews",
    metadata,
    Column("proposal_id", Identifier, ForeignKey("proposals.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(120), primary_key=True),
    Column("reviewer", String(100), nullable=False),
    Column("decision", String(10), nullable=False),
    Column("comment", Text, nullable=False, server_default=""),
    Column("at", Moment, nullable=False),
)

proposal_history = Table(
    "proposal_history",
    metadata,
    Column("id", Identifier, primary_key=True, autoincrement=True),
    Column("proposal_id", Identifier, ForeignKey("proposals.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("step", String(20), nullable=False),
    Column("state", String(12), nullable=False),
    Column("comment", Text, nullable=False, server_default=""),
    Column("document", Text, nullable=False, server_default=""),
)

settings = Table(
    "settings",
    metadata,
    Column("key", String(100), primary_key=True),
    Column("value", JSON, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

findings = Table(
    "findings",
    metadata,
    Column("id", Identifier, primary_key=True, autoincrement=True),
    Column("source", String(60), nullable=False),
    Column("cluster", String(63), nullable=False, server_default=""),
    Column("fingerprint", String(64), nullable=False),
    Column("code", String(100), nullable=False, index=True),
    Column("severity", String(10), nullable=False),
    Column("message", Text, nullable=False),
    Column("hint", Text, nullable=False, server_default=""),
    Column("path", String(500), nullable=False, server_default=""),
    Column("line", Integer, nullable=False, server_default=text("0")),
    Column("column", Integer, nullable=False, server_default=text("0")),
    Column("teams", JSON, nullable=False),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("resolved_at", Moment),
    UniqueConstraint("source", "cluster", "fingerprint", name="uq_findings_source"),
)

events = Table(
    "events",
    metadata,
    Column("id", Identifier, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False, index=True),
    Column("kind", String(60), nullable=False, index=True),
    Column("actor", String(100), nullable=False, server_default=""),
    Column("subject", String(200), nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("address", String(64), nullable=False, server_default=""),
    Column("data", JSON, nullable=False),
)
Index("ix_events_actor_at", events.c.actor, events.c.at)

# The hash chain of `access.ledger`: `text` is what was hashed, the other columns are for finding it again.
# Rows are only ever added; a trigger refuses anything else.
ledger = Table(
    "ledger",
    metadata,
    Column("sequence", Identifier, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False, index=True),
    Column("kind", String(60), nullable=False, index=True),
    Column("actor", String(100), nullable=False, index=True),
    Column("subject", String(200), nullable=False, index=True),
    Column("cluster", String(63), nullable=False),
    Column("text", Text, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
)

grants = Table(
    "grants",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("user", String(100), nullable=False, index=True),
    Column("profile", String(100), nullable=False),
    Column("cluster", String(63), nullable=False),
    Column("reason", Text, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("requested_at", Moment, nullable=False),
    Column("state", String(12), nullable=False, index=True),
    Column("deadline", Moment),
    Column("decided_by", String(100), nullable=False, server_default=""),
    Column("decided_at", Moment),
    Column("comment", Text, nullable=False, server_default=""),
    Column("claimed_at", Moment),
    Column("serial", String(50), nullable=False, server_default=""),
    Column("ended_at", Moment),
    Column("break_glass", Boolean, nullable=False, server_default=false(), index=True),
    Column("reviewed_by", String(100), nullable=False, server_default=""),
    Column("reviewed_at", Moment),
    Column("review", Text, nullable=False, server_default=""),
    Column("ticket", String(100), nullable=False, server_default=""),
)

# One row for each claim that the worker binds on its cluster, written in the claim's own transaction.
elevation_bindings = Table(
    "elevation_bindings",
    metadata,
    Column("grant_id", String(20), primary_key=True),
    Column("cluster", String(63), nullable=False),
    Column("serial", String(50), nullable=False),
    Column("teams", JSON, nullable=False),
    Column("state", String(12), nullable=False, index=True),
    Column("bound_at", Moment),
    Column("gone_at", Moment),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("error", Text, nullable=False, server_default=""),
)

# A row is there before the signature: `state` is intent, then issued or failed; given-back where the holder said so.
certificates = Table(
    "certificates",
    metadata,
    Column("cluster", String(63), primary_key=True),
    Column("serial", String(50), primary_key=True),
    Column("user", String(100), nullable=False, index=True),
    Column("profile", String(100), nullable=False),
    Column("groups", JSON, nullable=False),
    Column("grant_id", String(20), nullable=False, server_default="", index=True),
    Column("key_sha256", String(64), nullable=False),
    Column("fingerprint", String(64), nullable=False, server_default="", index=True),
    Column("state", String(12), nullable=False),
    Column("asked_at", Moment, nullable=False),
    Column("not_after", Moment, nullable=False, index=True),
    Column("ended_at", Moment),
    Column("pem", Text, nullable=False, server_default=""),
    Column("session", String(64), nullable=False, server_default="", index=True),
    Column("address", String(64), nullable=False, server_default=""),
)

Index("ix_certificates_key_user", certificates.c.key_sha256, certificates.c.user)

# `subject` is a user's name or a certificate's serial; a lock holds while `lifted_at` is empty and `until` not reached.
locks = Table(
    "locks",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("kind", String(12), nullable=False),
    Column("subject", String(100), nullable=False, index=True),
    Column("user", String(100), nullable=False, index=True),
    Column("cluster", String(63), nullable=False, server_default=""),
    Column("fingerprint", String(64), nullable=False, server_default=""),
    Column("by", String(100), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("until", Moment),
    Column("lifted_at", Moment, index=True),
    Column("lifted_by", String(100), nullable=False, server_default=""),
    Column("lifted_why", Text, nullable=False, server_default=""),
)

# What is kept of other programs' audit logs (`access.audit`). `key` names a line, so that it is there once.
audit_vault = Table(
    "audit_vault",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("type", String(10), primary_key=True),
    Column("cluster", String(63), nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("operation", String(20), nullable=False),
    Column("path", String(500), nullable=False),
    Column("mount", String(200), nullable=False),
    Column("user", String(200), nullable=False, index=True),
    Column("entity", String(64), nullable=False),
    Column("workload", Boolean, nullable=False),
    Column("address", String(64), nullable=False),
    Column("error", Text, nullable=False),
    Column("common_name", String(200), nullable=False),
    Column("serial", String(50), nullable=False, index=True),
    Column("fingerprint", String(64), nullable=False),
    Column("signs", Boolean, nullable=False),
    Column("hidden", Boolean, nullable=False),
)

audit_cluster = Table(
    "audit_cluster",
    metadata,
    Column("cluster", String(63), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("audit_id", String(64), nullable=False, index=True),
    Column("stage", String(20), nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("ended", Moment, nullable=False),
    Column("user", String(200), nullable=False, index=True),
    Column("groups", JSON, nullable=False),
    Column("verb", String(40), nullable=False),
    Column("resource", String(300), nullable=False),
    Column("namespace", String(100), nullable=False),
    Column("name", String(300), nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(200), nullable=False),
    Column("code", Integer, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("ours", Boolean, nullable=False),
    Column("system", Boolean, nullable=False),
    Column("changes", Boolean, nullable=False),
    Column("stream", Boolean, nullable=False, server_default=false()),
)
Index(
    "ix_audit_cluster_stream",
    audit_cluster.c.cluster,
    audit_cluster.c.fingerprint,
    sqlite_where=text("stream = 1"),
    postgresql_where=text("stream"),
)
Index("ix_audit_cluster_fingerprint_at", audit_cluster.c.fingerprint, audit_cluster.c.at)

# What was done on a day that is over, by `store.audit_days`: one value, always read whole.
audit_days = Table(
    "audit_days",
    metadata,
    Column("day", Moment, primary_key=True, autoincrement=False),
    Column("activity", JSON, nullable=False),
)

audit_spans = Table(
    "audit_spans",
    metadata,
    Column("id", Identifier, primary_key=True, autoincrement=True),
    Column("cluster", String(63), nullable=False),
    Column("kind", String(12), nullable=False),
    Column("source", String(100), nullable=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment, nullable=False),
)

# What somebody called expected: a finding by its id, and what a rule had not seen of somebody.
audit_expected = Table(
    "audit_expected",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("who", String(200), nullable=False, server_default=""),
    Column("signals", JSON, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("by", String(100), nullable=False),
    Column("at", Moment, nullable=False),
)

# Unusual days as they were judged: kept with their evidence, whatever becomes of the logs.
unusual = Table(
    "unusual",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("who", String(200), nullable=False, index=True),
    Column("day", Moment, nullable=False, index=True),
    Column("score", Integer, nullable=False),
    Column("paged", Boolean, nullable=False),
    Column("workload", Boolean, nullable=False),
    Column("signals", JSON, nullable=False),
)

# What people are to be told: one row for each channel and recipient, until it was delivered or given up.
notices = Table(
    "notices",
    metadata,
    Column("id", Identifier, primary_key=True, autoincrement=True),
    Column("channel", String(20), nullable=False),
    Column("to", JSON, nullable=False),
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("made_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False, index=True),
    Column("claimed_until", Moment),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("error", Text, nullable=False, server_default=""),
    Column("given_up_at", Moment),
)
