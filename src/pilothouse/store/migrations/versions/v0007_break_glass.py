"""Requests that were a break-glass, and what a third person wrote about them afterwards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pilothouse.store.schema import Moment

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("grants", sa.Column("break_glass", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("grants", sa.Column("reviewed_by", sa.String(length=100), server_default="", nullable=False))
    op.add_column("grants", sa.Column("reviewed_at", Moment, nullable=True))
    op.add_column("grants", sa.Column("review", sa.Text(), server_default="", nullable=False))
    op.create_index(op.f("ix_grants_break_glass"), "grants", ["break_glass"], unique=False)
