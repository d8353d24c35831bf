"""Rate limits that hold across threads, processes and replicas: one atomic upsert per attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, delete, literal, update
from sqlalchemy.dialects import postgresql, sqlite

from pilothouse.store.database import Store
from pilothouse.store.schema import Moment, rate_limits


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` attempts within `window`, counted from the first of them."""

    name: str
    count: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Allowance:
    """`retry_after` is seconds until the window ends, at least 1."""

    allowed: bool
    remaining: int
    retry_after: int


def hit(store: Store, limit: Limit, key: str, now: datetime) -> Allowance:
    """Count one attempt by `key` (a user, an address) and say whether it is within the limit.

    The attempt is counted before it is made, so that attempts at the same moment cannot slip through.
    """
    make = sqlite.insert if store.is_sqlite else postgresql.insert
    over = rate_limits.c.expires_at <= now
    statement = make(rate_limits).values(key=_key(limit, key), started_at=now, count=1, expires_at=now + limit.window)
    upsert = statement.on_conflict_do_update(
        index_elements=[rate_limits.c.key],
        set_={
            "count": case((over, 1), else_=rate_limits.c.count + 1),
            "started_at": case((over, literal(now, Moment)), else_=rate_limits.c.started_at),
            "expires_at": case((over, literal(now + limit.window, Moment)), else_=rate_limits.c.expires_at),
        },
    ).returning(rate_limits.c.count, rate_limits.c.expires_at)
    with store.write(alone=False) as connection:
        count, expires_at = connection.execute(upsert).one()
    wait = max(1, -(-int((expires_at - now).total_seconds() * 1000) // 1000))
    return Allowance(count <= limit.count, max(0, limit.count - count), wait)


def _key(limit: Limit, key: str) -> str:
    """What the attempts are counted under; a NUL, which PostgreSQL cannot hold, is shown as what it is."""
    return f"{limit.name}:{key}".replace("\0", "\ufffd")[:200]


def give_back(store: Store, limit: Limit, key: str) -> None:
    """Take one attempt back: it was no guess. Others that were counted stay."""
    with store.write(alone=False) as connection:
        connection.execute(
            update(rate_limits)
            .where(rate_limits.c.key == _key(limit, key), rate_limits.c.count > 0)
            .values(count=rate_limits.c.count - 1)
        )


def clear(store: Store, limit: Limit, key: str) -> None:
    """Forget the attempts of a key, after a success."""
    with store.write(alone=False) as connection:
        connection.execute(delete(rate_limits).where(rate_limits.c.key == _key(limit, key)))


def purge(store: Store, now: datetime) -> int:
    """Remove windows that are over."""
    with store.write() as connection:
        return connection.execute(delete(rate_limits).where(rate_limits.c.expires_at <= now)).rowcount
