"""Whether a key is of another user is looked up by both; a certificate keeps the address that asked for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index("ix_certificates_key_user", "certificates", ["key_sha256", "user"])
    op.drop_index("ix_certificates_key_sha256", "certificates")
    op.add_column("certificates", sa.Column("address", sa.String(length=64), server_default="", nullable=False))
