"""Machines, such as a pipeline that deploys: an account without a password, with a token that ends.

The token is a session of kind `machine`: random, kept hashed, ended with the account. A machine gets certificates for
the standing profiles on its own list, and does nothing else (`access.permissions`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import insert, select, update

from pilothouse.problems import Conflict, Invalid
from pilothouse.store import sessions
from pilothouse.store import users as accounts
from pilothouse.store.database import Store
from pilothouse.store.schema import sessions as session_rows
from pilothouse.store.schema import users
from pilothouse.store.users import MACHINE, User

LONGEST = timedelta(days=90)
"""A token that is in a file somewhere ends at last after that time."""


def add(store: Store, name: str, profiles: Iterable[str], team: str, lasts: timedelta, now: datetime) -> str:
    """A new machine; its token, which is nowhere kept. `Invalid`, or `Conflict` where the name is taken."""
    accounts.check_name(name)
    wanted = tuple(dict.fromkeys(profiles))
    if not wanted:
        raise Invalid(f"machine {name} could do nothing", "name its profiles with --profile")
    _check(lasts)
    with store.write() as connection:
        if connection.execute(select(users.c.name).where(users.c.name == name)).first():
            raise Conflict(f"there is a user `{name}` already", "choose another name")
        connection.execute(
            insert(users).values(
                name=name,
                groups=[],
                password_hash="",
                created_at=now,
                changed_at=now,
                kind=MACHINE,
                profiles=list(wanted),
                team=team,
            )
        )
        # A directory's person of that name must not go on under the machine's.
        connection.execute(
            update(session_rows)
            .where(session_rows.c.user == name, session_rows.c.revoked_at.is_(None))
            .values(revoked_at=now)
        )
    return _token(store, name, lasts, now)


def new_token(store: Store, name: str, lasts: timedelta, now: datetime) -> str:
    """A new token; every one of before ends. `Invalid` where there is no such machine, or it is closed."""
    _check(lasts)
    found = accounts.get(store, name)
    if found is None or not found.is_machine:
        raise Invalid(f"there is no machine `{name}`", "see `pilothouse users list`")
    if found.disabled:
        raise Invalid(f"machine {name} is closed", f"open it first: pilothouse users reopen {name}")
    for held in sessions.living(store, name, now):
        sessions.revoke(store, held.id, now)
    return _token(store, name, lasts, now)


def _check(lasts: timedelta) -> None:
    if not timedelta() < lasts <= LONGEST:
        raise Invalid(f"a token lasts at most {LONGEST.days} days", "give fewer --days, and a new token in time")


def _token(store: Store, name: str, lasts: timedelta, now: datetime) -> str:
    token, _ = sessions.start(store, User(name), now, kind=MACHINE, agent="machine", longest=lasts)
    return token
