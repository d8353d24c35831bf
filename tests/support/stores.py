"""Stores for tests that hold for every database: SQLite in a folder, and a database of a real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pilothouse.store import Store

_templates: dict[int, str] = {}


@contextmanager
def migrated(postgresql: Any) -> Iterator[str]:
    """The address of a new database with its tables: a copy of one that was migrated once for each server."""
    template = _templates.get(postgresql.pid)
    if template is None:
        template = f"template_{secrets.token_hex(4)}"
        with postgresql.connect() as connection:
            connection.execute(f'CREATE DATABASE "{template}"')
        made = Store(postgresql.url(template))
        made.migrate()
        made.close()
        _templates[postgresql.pid] = template
    name = f"copy_{secrets.token_hex(4)}"
    with postgresql.connect() as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield postgresql.url(name)
    finally:
        if postgresql.alive:
            with postgresql.connect() as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
