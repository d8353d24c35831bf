"""Rate limits that hold across threads, processes and replicas: one atomic upsert per attempt."""

from __future__ import annotations

import threading
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
    count, expires_at = _count(store, limit, key, now, 1)
    return Allowance(count <= limit.count, max(0, limit.count - count), _seconds(expires_at - now))


def _count(store: Store, limit: Limit, key: str, now: datetime, times: int) -> tuple[int, datetime]:
    """(attempts in the window, these among them; its end)."""
    make = sqlite.insert if store.is_sqlite else postgresql.insert
    over = rate_limits.c.expires_at <= now
    values = {"key": _key(limit, key), "started_at": now, "count": times, "expires_at": now + limit.window}
    upsert = (
        make(rate_limits)
        .values(values)
        .on_conflict_do_update(
            index_elements=[rate_limits.c.key],
            set_={
                "count": case((over, times), else_=rate_limits.c.count + times),
                "started_at": case((over, literal(now, Moment)), else_=rate_limits.c.started_at),
                "expires_at": case((over, literal(now + limit.window, Moment)), else_=rate_limits.c.expires_at),
            },
        )
        .returning(rate_limits.c.count, rate_limits.c.expires_at)
    )
    with store.write(alone=False) as connection:
        count, expires_at = connection.execute(upsert).one()
    return count, expires_at


def _seconds(left: timedelta) -> int:
    return max(1, -(-int(left.total_seconds() * 1000) // 1000))


class Portions:
    """A limit on what is done often: attempts are taken from the shared count several at a time, and given out here.

    Never more than the limit is given out within a window, by however many processes; where several of them serve one
    key, what is left of a portion in one can be missing in another. For a limit on load, not on guesses.
    """

    def __init__(self, limit: Limit, portion: int, most: int = 10_000) -> None:
        """`most` is how many keys are remembered at once."""
        self._limit, self._portion, self._most = limit, portion, most
        self._lock = threading.Lock()
        self._left: dict[str, tuple[int, datetime]] = {}

    def hit(self, store: Store, key: str, now: datetime) -> Allowance:
        """Count one attempt, as `limits.hit` does."""
        with self._lock:
            left, until = self._left.get(key, (0, now))
            if left > 0 and now < until:
                self._left[key] = left - 1, until
                return Allowance(True, left - 1, _seconds(until - now))
        count, until = _count(store, self._limit, key, now, self._portion)
        given = self._portion - max(0, count - self._limit.count)
        if given <= 0:
            return Allowance(False, 0, _seconds(until - now))
        with self._lock:
            if len(self._left) >= self._most:
                self._left = {name: kept for name, kept in self._left.items() if now < kept[1]}
            if len(self._left) < self._most:
                before, since = self._left.get(key, (0, until))
                self._left[key] = given - 1 + (before if since == until else 0), until
        return Allowance(True, max(0, self._limit.count - count), _seconds(until - now))


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
