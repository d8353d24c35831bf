"""Lines of requests that stay open are marked, so that they are found among all others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_KINDS = ("exec", "attach", "portforward", "proxy", "log")


def upgrade() -> None:
    op.add_column("audit_cluster", sa.Column("stream", sa.Boolean(), server_default=sa.false(), nullable=False))
    rows = sa.table("audit_cluster", sa.column("verb"), sa.column("resource"), sa.column("stream", sa.Boolean()))
    stays_open = sa.or_(
        rows.c.verb.in_(("watch", "watchlist")), *(rows.c.resource.like(f"%/{kind}") for kind in _KINDS)
    )
    op.execute(sa.update(rows).where(stays_open).values(stream=True))
    op.create_index(
        "ix_audit_cluster_stream",
        "audit_cluster",
        ["cluster", "fingerprint"],
        unique=False,
        sqlite_where=sa.text("stream = 1"),
        postgresql_where=sa.text("stream"),
    )
