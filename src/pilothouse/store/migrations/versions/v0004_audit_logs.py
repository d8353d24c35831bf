"""Other programs' audit logs, what of them was called expected, and the unusual days that were found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pilothouse.store.schema import Moment

revision = "0004"
down_revision = "0003"


def _text(name: str, length: int, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), server_default=default, nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "audit_vault",
        _text("request_id", 64),
        _text("type", 10),
        _text("cluster", 63),
        sa.Column("at", Moment, nullable=False),
        _text("operation", 20),
        _text("path", 500),
        _text("mount", 200),
        _text("user", 200),
        _text("entity", 64),
        _flag("workload"),
        _text("address", 64),
        sa.Column("error", sa.Text(), nullable=False),
        _text("common_name", 200),
        _text("serial", 50),
        _text("fingerprint", 64),
        _flag("signs"),
        _flag("hidden"),
        sa.PrimaryKeyConstraint("request_id", "type", name=op.f("pk_audit_vault")),
    )
    for column in ("at", "user", "serial"):
        op.create_index(op.f(f"ix_audit_vault_{column}"), "audit_vault", [column], unique=False)
    op.create_table(
        "audit_cluster",
        _text("cluster", 63),
        _text("key", 64),
        _text("audit_id", 64),
        _text("stage", 20),
        sa.Column("at", Moment, nullable=False),
        sa.Column("ended", Moment, nullable=False),
        _text("user", 200),
        sa.Column("groups", sa.JSON(), nullable=False),
        _text("verb", 40),
        _text("resource", 300),
        _text("namespace", 100),
        _text("name", 300),
        _text("address", 64),
        _text("agent", 200),
        sa.Column("code", sa.Integer(), nullable=False),
        _text("fingerprint", 64),
        _flag("ours"),
        _flag("system"),
        _flag("changes"),
        sa.PrimaryKeyConstraint("cluster", "key", name=op.f("pk_audit_cluster")),
    )
    for column in ("audit_id", "at", "user"):
        op.create_index(op.f(f"ix_audit_cluster_{column}"), "audit_cluster", [column], unique=False)
    op.create_index("ix_audit_cluster_fingerprint_at", "audit_cluster", ["fingerprint", "at"], unique=False)
    identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit_spans",
        sa.Column("id", identifier, autoincrement=True, nullable=False),
        _text("cluster", 63),
        _text("kind", 12),
        _text("source", 100),
        sa.Column("since", Moment, nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_spans")),
    )
    op.create_table(
        "audit_expected",
        _text("id", 20),
        _text("who", 200, ""),
        sa.Column("signals", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        _text("by", 100),
        sa.Column("at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_expected")),
    )
    op.create_table(
        "unusual",
        _text("id", 20),
        _text("who", 200),
        sa.Column("day", Moment, nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        _flag("paged"),
        _flag("workload"),
        sa.Column("signals", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unusual")),
    )
    for column in ("who", "day"):
        op.create_index(op.f(f"ix_unusual_{column}"), "unusual", [column], unique=False)
