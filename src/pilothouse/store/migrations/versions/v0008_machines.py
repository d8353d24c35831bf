"""Accounts of machines: the profiles that each may have, and the team that it works for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("users", sa.Column("kind", sa.String(length=10), server_default="person", nullable=False))
    op.add_column("users", sa.Column("profiles", sa.JSON(), nullable=True))
    op.add_column("users", sa.Column("team", sa.String(length=100), server_default="", nullable=False))
