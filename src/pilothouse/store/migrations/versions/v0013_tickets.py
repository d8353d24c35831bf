"""The ticket that a request for an elevated profile names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("grants", sa.Column("ticket", sa.String(length=100), server_default="", nullable=False))
