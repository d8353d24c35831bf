"""People with a password of their own (the embedded default; a directory's people have no row here).

Passwords are kept as argon2id hashes with the library's defaults, which follow RFC 9106's
second recommended option: https://www.rfc-editor.org/rfc/rfc9106.html#section-4
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from pilothouse.problems import Conflict, Invalid
from pilothouse.store.database import Store
from pilothouse.store.schema import sessions, users

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?\Z")
MINIMUM = 12
"""Fewest characters of a password: https://pages.nist.gov/800-63-4/sp800-63b.html#passwordver asks for at least 8."""
MAXIMUM = 200
_hasher = PasswordHasher()
PERSON, MACHINE = "person", "machine"
_OF_NAME = select(users).where(users.c.name == bindparam("name"))  # made once: it runs for every request


@dataclass(frozen=True, slots=True)
class User:
    """A person: `name` is what certificates and documents call them; `groups` are directory groups."""

    name: str
    display_name: str = ""
    email: str = ""
    groups: frozenset[str] = frozenset()
    disabled: bool = False
    kind: str = PERSON
    profiles: tuple[str, ...] = ()
    team: str = ""
    """What a machine may have, and for which team."""

    @property
    def is_machine(self) -> bool:
        return self.kind == MACHINE


@cache
def _dummy() -> str:
    """A hash that no password matches in practice: what an unknown name is held against."""
    return _hasher.hash("no such person")


def normalised(password: str) -> str:
    """NFKC, so that one password typed on two keyboards is the same."""
    return unicodedata.normalize("NFKC", password)


def add(
    store: Store,
    name: str,
    password: str,
    now: datetime,
    *,
    display_name: str = "",
    email: str = "",
    groups: Iterable[str] = (),
) -> User:
    """Add a person. `Invalid` for a bad name or a short password, `Conflict` when the name is taken."""
    check_name(name)
    hashed = _hash(password)
    user = User(name, display_name, email, frozenset(groups))
    with store.write() as connection:
        if connection.execute(select(users.c.name).where(users.c.name == name)).first():
            raise Conflict(f"there is a user `{name}` already", "choose another name, or set a new password")
        connection.execute(
            insert(users).values(
                name=name,
                display_name=display_name,
                email=email,
                groups=sorted(user.groups),
                password_hash=hashed,
                created_at=now,
                changed_at=now,
            )
        )
        # A directory's person of that name must not go on with the rights of the new account.
        _end_sessions(connection, name, now)
    return user


def check_name(name: str) -> None:
    """`Invalid` for what cannot be the name of an account."""
    if not _NAME.match(name) or name.startswith("system"):
        raise Invalid(f"{name!r} is no user name", "use lower-case letters, digits, dots and dashes; up to 64")


def _hash(password: str) -> str:
    if not MINIMUM <= len(password) <= MAXIMUM:
        raise Invalid(f"a password has {MINIMUM} to {MAXIMUM} characters", "several words make a good one")
    return _hasher.hash(normalised(password))


def set_password(store: Store, name: str, password: str, now: datetime) -> None:
    """A new password; every session of that person ends. A machine has none."""
    hashed = _hash(password)
    with store.write() as connection:
        changed = connection.execute(
            update(users)
            .where(users.c.name == name, users.c.kind == PERSON)
            .values(password_hash=hashed, changed_at=now)
        )
        if not changed.rowcount:
            raise Invalid(f"there is no user `{name}` with a password")
        _end_sessions(connection, name, now)


def set_groups(store: Store, name: str, groups: Iterable[str], now: datetime) -> None:
    """Other directory groups. Every session of that person ends: a session keeps those of its login."""
    with store.write() as connection:
        changed = connection.execute(
            update(users).where(users.c.name == name).values(groups=sorted(set(groups)), changed_at=now)
        )
        if not changed.rowcount:
            raise Invalid(f"there is no user `{name}`")
        _end_sessions(connection, name, now)


def set_disabled(store: Store, name: str, disabled: bool, now: datetime) -> None:
    """Close or reopen an account; closing it ends every session."""
    with store.write() as connection:
        changed = connection.execute(
            update(users).where(users.c.name == name).values(disabled=disabled, changed_at=now)
        )
        if not changed.rowcount:
            raise Invalid(f"there is no user `{name}`")
        if disabled:
            _end_sessions(connection, name, now)


def _end_sessions(connection: Connection, name: str, now: datetime) -> None:
    connection.execute(
        update(sessions).where(sessions.c.user == name, sessions.c.revoked_at.is_(None)).values(revoked_at=now)
    )


def remove(store: Store, name: str, now: datetime) -> None:
    """Remove an account and end its sessions; what it did stays in the ledger."""
    with store.write() as connection:
        connection.execute(delete(users).where(users.c.name == name))
        _end_sessions(connection, name, now)


def get(store: Store, name: str) -> User | None:
    with store.read() as connection:
        return get_in(connection, name)


def get_in(connection: Connection, name: str) -> User | None:
    """`get` within what is being read."""
    row = connection.execute(_OF_NAME, {"name": name}).mappings().first()
    return _user(row) if row else None


def everyone(store: Store) -> tuple[User, ...]:
    """All people, by name."""
    with store.read() as connection:
        return tuple(_user(row) for row in connection.execute(select(users).order_by(users.c.name)).mappings())


def closed(store: Store) -> dict[str, datetime]:
    """The accounts that are closed, each with when it was last changed: at the latest then it was closed."""
    with store.read() as connection:
        return {
            row.name: row.changed_at
            for row in connection.execute(select(users.c.name, users.c.changed_at).where(users.c.disabled))
        }


def verify(store: Store, name: str, password: str) -> User | None:
    """The person, or None for a wrong password, an unknown or a closed account: the same work in each case."""
    with store.read() as connection:
        row = connection.execute(select(users).where(users.c.name == name)).mappings().first()
    hashed: str = row["password_hash"] if row and row["kind"] == PERSON else _dummy()
    try:
        _hasher.verify(hashed, normalised(password)[:MAXIMUM])
    except (VerificationError, InvalidHashError):
        return None
    if row is None or row["disabled"] or row["kind"] != PERSON:
        return None
    if _hasher.check_needs_rehash(hashed):
        with store.write() as connection:
            connection.execute(
                update(users)
                .where(users.c.name == name, users.c.password_hash == hashed)
                .values(password_hash=_hasher.hash(normalised(password)))
            )
    return _user(row)


def _user(row: Mapping[Any, Any]) -> User:
    return User(
        row["name"],
        row["display_name"],
        row["email"],
        frozenset(row["groups"]),
        bool(row["disabled"]),
        row["kind"],
        tuple(row["profiles"] or ()),
        row["team"],
    )
