"""What people and workloads did on a day that is over, kept as one value."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pilothouse.store.schema import Moment

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "audit_days",
        sa.Column("day", Moment, autoincrement=False, nullable=False),
        sa.Column("activity", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_audit_days")),
    )
