"""Sessions as rows: a random token in the cookie, its SHA-256 in the database, revocable at once.

A session ends when it is older than `longest` or when it is revoked; a browser's also when it was idle for
`idle`. The command line's lasts the working day, so that a 16 h login is one: its token lies in a file of mode 0600,
not in a browser that somebody left open. Whoever reads the database cannot use what they find: the token
itself is nowhere stored.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from pilothouse.store.database import Store
from pilothouse.store.schema import known_addresses, sessions
from pilothouse.store.users import User

IDLE = timedelta(hours=2)
LONGEST = timedelta(hours=16)
TOUCH = timedelta(seconds=60)
"""`seen_at` is written at most this often, so that a page view is no write."""
_OF_TOKEN = select(sessions).where(sessions.c.id_hash == bindparam("id"))  # made once: it runs for every request


@dataclass(frozen=True, slots=True)
class Session:
    """`id` is the hash: fit to be shown and named when one is revoked, useless as a token.

    `kind` is `web` (a browser's cookie) or `token` (the command line's bearer token).
    """

    id: str
    kind: str
    user: User
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def start(
    store: Store,
    user: User,
    now: datetime,
    *,
    kind: str = "web",
    address: str = "",
    agent: str = "",
    longest: timedelta = LONGEST,
    replaces: str = "",
) -> tuple[str, Session]:
    """A new session and its token. The session of the token `replaces` ends in the same transaction."""
    token = secrets.token_urlsafe(32)
    session = Session(hashed(token), kind, user, address[:64], printable(agent)[:200], now, now, now + longest)
    with store.write() as connection:
        if replaces:
            connection.execute(
                update(sessions)
                .where(sessions.c.id_hash == hashed(replaces), sessions.c.revoked_at.is_(None))
                .values(revoked_at=now)
            )
        connection.execute(
            insert(sessions).values(
                id_hash=session.id,
                kind=kind,
                user=user.name,
                display_name=user.display_name,
                email=user.email,
                groups=sorted(user.groups),
                address=session.address,
                agent=session.agent,
                created_at=now,
                seen_at=now,
                expires_at=session.expires_at,
            )
        )
        known = (known_addresses.c.user == user.name) & (known_addresses.c.address == session.address)
        if not connection.execute(update(known_addresses).where(known).values(seen_at=now)).rowcount:
            connection.execute(insert(known_addresses).values(user=user.name, address=session.address, seen_at=now))
    return token, session


def printable(text: str) -> str:
    """The text without control characters: it comes from outside and is shown on terminals."""
    return "".join(char if char.isprintable() else "�" for char in text)


def find(store: Store, token: str, now: datetime, idle: timedelta = IDLE) -> Session | None:
    """The living session of a token, or None."""
    with store.read() as connection:
        found = find_in(connection, token, now, idle)
    if found is not None:
        touch(store, found, now)
    return found


def find_in(connection: Connection, token: str, now: datetime, idle: timedelta = IDLE) -> Session | None:
    """`find` within what is being read; `touch` it afterwards."""
    if not 20 <= len(token) <= 100:
        return None
    row = connection.execute(_OF_TOKEN, {"id": hashed(token)}).mappings().first()
    if row is None or row["revoked_at"] is not None or now >= row["expires_at"]:
        return None
    if row["kind"] == "web" and now >= row["seen_at"] + idle:
        return None
    return _session(row)


def touch(store: Store, session: Session, now: datetime) -> None:
    """Remember that it was used, now and then."""
    if now - session.seen_at >= TOUCH:
        with store.write(alone=False) as connection:
            connection.execute(update(sessions).where(sessions.c.id_hash == session.id).values(seen_at=now))


def _session(row: Mapping[Any, Any]) -> Session:
    user = User(row["user"], row["display_name"], row["email"], frozenset(row["groups"]))
    return Session(
        row["id_hash"],
        row["kind"],
        user,
        row["address"],
        row["agent"],
        row["created_at"],
        row["seen_at"],
        row["expires_at"],
    )


def end(store: Store, token: str, now: datetime) -> bool:
    """Log out. False when there was no living session."""
    return revoke(store, hashed(token), now)


def revoke(store: Store, session_id: str, now: datetime, user: str = "") -> bool:
    """End one session by its id; with `user`, only where it is that person's."""
    condition = (sessions.c.id_hash == session_id) & sessions.c.revoked_at.is_(None)
    if user:
        condition &= sessions.c.user == user
    with store.write() as connection:
        return bool(connection.execute(update(sessions).where(condition).values(revoked_at=now)).rowcount)


def living(store: Store, user: str, now: datetime, idle: timedelta = IDLE) -> tuple[Session, ...]:
    """A person's sessions that are still good, the newest first."""
    with store.read() as connection:
        rows = connection.execute(
            select(sessions)
            .where(
                sessions.c.user == user,
                sessions.c.revoked_at.is_(None),
                sessions.c.expires_at > now,
                or_(sessions.c.kind != "web", sessions.c.seen_at > now - idle),
            )
            .order_by(sessions.c.created_at.desc())
        ).mappings()
        return tuple(_session(row) for row in rows)


def groups_of_living(store: Store, now: datetime) -> dict[str, frozenset[str]]:
    """The groups of everybody who is logged in, as of their latest login."""
    with store.read() as connection:
        rows = connection.execute(
            select(sessions.c.user, sessions.c.groups)
            .where(sessions.c.revoked_at.is_(None), sessions.c.expires_at > now)
            .order_by(sessions.c.created_at)
        )
        return {row.user: frozenset(row.groups) for row in rows}


def is_known(store: Store, user: str, address: str) -> bool:
    """Whether that person has logged in from that address before."""
    with store.read() as connection:
        return bool(
            connection.execute(
                select(known_addresses.c.user).where(
                    known_addresses.c.user == user, known_addresses.c.address == address
                )
            ).first()
        )


def purge(store: Store, now: datetime, keep: timedelta = timedelta(days=7)) -> int:
    """Remove sessions that ended longer ago than `keep`."""
    with store.write() as connection:
        return connection.execute(
            delete(sessions).where(or_(sessions.c.expires_at < now - keep, sessions.c.revoked_at < now - keep))
        ).rowcount
