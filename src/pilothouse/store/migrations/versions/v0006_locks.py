"""Locks of people and certificates; the session that a certificate was signed for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pilothouse.store.schema import Moment

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "locks",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("subject", sa.String(length=100), nullable=False),
        sa.Column("user", sa.String(length=100), nullable=False),
        sa.Column("cluster", sa.String(length=63), server_default="", nullable=False),
        sa.Column("fingerprint", sa.String(length=64), server_default="", nullable=False),
        sa.Column("by", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("until", Moment, nullable=True),
        sa.Column("lifted_at", Moment, nullable=True),
        sa.Column("lifted_by", sa.String(length=100), server_default="", nullable=False),
        sa.Column("lifted_why", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locks")),
    )
    for column in ("subject", "user", "lifted_at"):
        op.create_index(op.f(f"ix_locks_{column}"), "locks", [column], unique=False)
    op.add_column("certificates", sa.Column("session", sa.String(length=64), server_default="", nullable=False))
    op.create_index(op.f("ix_certificates_session"), "certificates", ["session"], unique=False)
