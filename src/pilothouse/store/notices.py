"""Notices as rows: kept before the first attempt, until each was delivered or given up.

Each is claimed by one process at a time, for so long as an attempt can take. A process that ends between an attempt and
its record leaves one that is tried again: somebody may be told twice, and is never not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, or_, select, update

from pilothouse.store.database import Store
from pilothouse.store.schema import notices

CLAIM = timedelta(seconds=60)
FIRST, LONGEST = timedelta(seconds=30), timedelta(hours=1)
GIVE_UP = timedelta(hours=24)
KEEP = timedelta(days=7)
"""How long one that was given up is shown."""


@dataclass(frozen=True, slots=True)
class Notice:
    """`channel` is a key of `clients.notify.channels`, `to` mail addresses. It holds no secret.

    `error` is why the last of `tries` attempts failed, `claimed_until` how long it is its holder's to try.
    """

    channel: str
    to: tuple[str, ...]
    subject: str
    text: str
    made_at: datetime
    due_at: datetime
    tries: int = 0
    error: str = ""
    given_up_at: datetime | None = None
    id: int = 0
    claimed_until: datetime | None = None


def keep(store: Store, wanted: Sequence[Notice]) -> None:
    """All of them, or none."""
    rows = [
        {
            "channel": item.channel,
            "to": list(item.to),
            "subject": item.subject.replace("\0", "\ufffd"),  # PostgreSQL cannot hold a NUL
            "text": item.text.replace("\0", "\ufffd"),
            "made_at": item.made_at,
            "due_at": item.due_at,
        }
        for item in wanted
    ]
    with store.write() as connection:
        connection.execute(insert(notices), rows)


def claim(store: Store, now: datetime) -> Notice | None:
    """The one that has been due for longest and that nobody else tries now; it is this caller's for a while."""
    free = or_(notices.c.claimed_until.is_(None), notices.c.claimed_until <= now)
    waiting = (
        select(notices)
        .where(notices.c.given_up_at.is_(None), notices.c.due_at <= now, free)
        .order_by(notices.c.due_at, notices.c.id)
        .limit(1)
    )
    with store.write() as connection:
        row = connection.execute(waiting).mappings().first()
        if row is None:
            return None
        claimed = {"claimed_until": now + CLAIM}
        connection.execute(update(notices).where(notices.c.id == row["id"]).values(**claimed))
        return _notice({**row, **claimed})


def delivered(store: Store, notice: Notice) -> None:
    with store.write() as connection:
        connection.execute(delete(notices).where(notices.c.id == notice.id))


def failed(store: Store, notice: Notice, error: str, now: datetime) -> None:
    """It is due again, after twice the time of the last pause, or is given up a day after it was made.

    Where this caller's claim has run out meanwhile and somebody else tries, or has delivered it, nothing is written:
    what they write counts.
    """
    tries = notice.tries + 1
    pause = min(LONGEST, FIRST * 2 ** min(tries - 1, 20))
    given_up = now if now - notice.made_at >= GIVE_UP else None
    after: dict[str, Any] = {
        "tries": tries,
        "error": error,
        "due_at": now + pause,
        "claimed_until": None,
        "given_up_at": given_up,
    }
    mine = (notices.c.id == notice.id) & (notices.c.claimed_until == notice.claimed_until)
    with store.write() as connection:
        connection.execute(update(notices).where(mine).values(**after))


def undelivered(store: Store, limit: int = 1000) -> tuple[Notice, ...]:
    """Those that were tried in vain, the oldest first, given up or not."""
    with store.read() as connection:
        rows = connection.execute(
            select(notices).where(notices.c.tries > 0).order_by(notices.c.made_at, notices.c.id).limit(limit)
        ).mappings()
        return tuple(_notice(row) for row in rows)


def purge(store: Store, now: datetime) -> int:
    """Forget those that were given up some time ago."""
    with store.write() as connection:
        return connection.execute(delete(notices).where(notices.c.given_up_at < now - KEEP)).rowcount


def _notice(row: Any) -> Notice:
    return Notice(
        row["channel"],
        tuple(row["to"]),
        row["subject"],
        row["text"],
        row["made_at"],
        row["due_at"],
        row["tries"],
        row["error"],
        row["given_up_at"],
        row["id"],
        row["claimed_until"],
    )
