"""The ledger, requests for elevated profiles, and certificates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pilothouse.store.schema import Moment

revision = "0002"
down_revision = "0001"

_NEVER = """
CREATE TRIGGER ledger_never_{verb}s BEFORE {event} ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is only ever added to'); END
"""


def upgrade() -> None:
    op.create_table(
        "ledger",
        sa.Column(
            "sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("at", Moment, nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("cluster", sa.String(length=63), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_ledger")),
        sa.UniqueConstraint("hash", name=op.f("uq_ledger_hash")),
    )
    for column in ("at", "kind", "actor", "subject"):
        op.create_index(op.f(f"ix_ledger_{column}"), "ledger", [column], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for verb, event in (("change", "UPDATE"), ("remove", "DELETE")):
            op.execute(_NEVER.format(verb=verb, event=event))
    op.create_table(
        "grants",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("user", sa.String(length=100), nullable=False),
        sa.Column("profile", sa.String(length=100), nullable=False),
        sa.Column("cluster", sa.String(length=63), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("requested_at", Moment, nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("deadline", Moment, nullable=True),
        sa.Column("decided_by", sa.String(length=100), server_default="", nullable=False),
        sa.Column("decided_at", Moment, nullable=True),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.Column("claimed_at", Moment, nullable=True),
        sa.Column("serial", sa.String(length=50), server_default="", nullable=False),
        sa.Column("ended_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    for column in ("user", "state"):
        op.create_index(op.f(f"ix_grants_{column}"), "grants", [column], unique=False)
    op.create_table(
        "certificates",
        sa.Column("cluster", sa.String(length=63), nullable=False),
        sa.Column("serial", sa.String(length=50), nullable=False),
        sa.Column("user", sa.String(length=100), nullable=False),
        sa.Column("profile", sa.String(length=100), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("grant_id", sa.String(length=20), server_default="", nullable=False),
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), server_default="", nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("asked_at", Moment, nullable=False),
        sa.Column("not_after", Moment, nullable=False),
        sa.Column("ended_at", Moment, nullable=True),
        sa.Column("pem", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("cluster", "serial", name=op.f("pk_certificates")),
    )
    for column in ("user", "grant_id", "key_sha256", "fingerprint", "not_after"):
        op.create_index(op.f(f"ix_certificates_{column}"), "certificates", [column], unique=False)
