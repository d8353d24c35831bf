"""Whether a key is of another user is looked up by both, however often its own user came with it."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index("ix_certificates_key_user", "certificates", ["key_sha256", "user"])
    op.drop_index("ix_certificates_key_sha256", "certificates")
