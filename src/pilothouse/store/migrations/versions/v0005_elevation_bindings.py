"""Which requests for elevated profiles are bound on their cluster, and what became of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pilothouse.store.schema import Moment

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "elevation_bindings",
        sa.Column("grant_id", sa.String(length=20), nullable=False),
        sa.Column("cluster", sa.String(length=63), nullable=False),
        sa.Column("serial", sa.String(length=50), nullable=False),
        sa.Column("teams", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("bound_at", Moment, nullable=True),
        sa.Column("gone_at", Moment, nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("grant_id", name=op.f("pk_elevation_bindings")),
    )
    op.create_index(op.f("ix_elevation_bindings_state"), "elevation_bindings", ["state"])
