"""Small values that outlive a restart: the port that was chosen, a generation that fences writers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update

from pilothouse.store.database import Store
from pilothouse.store.schema import settings


def get(store: Store, key: str, default: Any = None) -> Any:
    """The value (anything JSON can hold), or the default."""
    with store.read() as connection:
        row = connection.execute(select(settings.c.value).where(settings.c.key == key)).first()
    return default if row is None else row.value


def put(store: Store, key: str, value: Any, now: datetime) -> None:
    with store.write() as connection:
        changed = connection.execute(update(settings).where(settings.c.key == key).values(value=value, updated_at=now))
        if not changed.rowcount:
            connection.execute(insert(settings).values(key=key, value=value, updated_at=now))


def once(store: Store, key: str, make: Callable[[], Any], now: datetime) -> Any:
    """The value; made where there is none. Of several processes that ask at once, one makes it for all."""
    with store.write() as connection:
        row = connection.execute(select(settings.c.value).where(settings.c.key == key)).first()
        if row is not None:
            return row.value
        value = make()
        connection.execute(insert(settings).values(key=key, value=value, updated_at=now))
        return value
