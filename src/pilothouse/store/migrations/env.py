"""Runs the migrations on the connection that `Store.migrate` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from pilothouse.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
