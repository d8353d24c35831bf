"""Who runs a job, until when, and how often it has failed; PostgreSQL refuses changes of the ledger as SQLite does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pilothouse.store.schema import Moment

revision = "0003"
down_revision = "0002"

_FUNCTION = """
CREATE FUNCTION ledger_never_changes() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the ledger is only ever added to'; END $$
"""
_TRIGGER = """
CREATE TRIGGER ledger_never_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
FOR EACH STATEMENT EXECUTE FUNCTION ledger_never_changes()
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("holder", sa.String(length=100), server_default="", nullable=False))
    op.add_column("jobs", sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("lease_until", Moment, nullable=True))
    op.add_column("jobs", sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("failing_since", Moment, nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        op.execute(_TRIGGER)
