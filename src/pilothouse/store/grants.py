"""Requests for elevated profiles as rows of `access.grants.Grant`.

A step is read, decided by `access.grants` and written in one transaction, so that of two people who act
at once the second sees what the first did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, true, update

from pilothouse.access import grants as machine
from pilothouse.access.grants import Grant, State
from pilothouse.access.ledger import Entry
from pilothouse.problems import Invalid
from pilothouse.store import ledger
from pilothouse.store.database import Store
from pilothouse.store.schema import grants

_FIELDS = tuple(field.name for field in dataclasses.fields(Grant))


def add(store: Store, grant: Grant) -> None:
    """A new request, with its entry in the ledger. A second open one of the same kind is refused."""
    with store.write() as connection:
        condition = (
            (grants.c.user == grant.user) & (grants.c.profile == grant.profile) & (grants.c.cluster == grant.cluster)
        )
        for row in connection.execute(select(grants).where(condition & _open())).mappings():
            other = machine.settle(_grant(row), grant.requested_at)
            if other.state.is_open:
                raise Invalid(
                    f"your request {other.id} for {grant.profile} on {grant.cluster} is still {other.state}",
                    f"see `pilothouse access status`, or end it with `pilothouse access give-back {other.id}`",
                )
        put(connection, grant)
        data: dict[str, Any] = {"profile": grant.profile, "reason": grant.reason, "seconds": grant.seconds}
        data |= {"ticket": grant.ticket} if grant.ticket else {}
        ledger.append(
            connection,
            Entry(_kind(grant, "elevation.requested"), grant.user, grant.id, grant.cluster, data),
            grant.requested_at,
        )
        if grant.state is State.APPROVED:
            why = {"why": "the profile needs no approval"}
            ledger.append(
                connection, Entry("elevation.approved", grant.user, grant.id, grant.cluster, why), grant.requested_at
            )


def change(store: Store, id: str, step: Callable[[Grant], Grant], actor: str, kind: str, now: datetime) -> Grant:
    """Apply a step of `access.grants` and record it; what the step raises leaves everything as it was."""
    with store.write() as connection:
        changed = step(locked(connection, id))
        save(connection, changed)
        data = {"user": changed.user, "profile": changed.profile, "comment": changed.comment}
        data |= {"review": changed.review} if changed.review else {}
        ledger.append(connection, Entry(_kind(changed, kind), actor, changed.id, changed.cluster, data), now)
    return changed


def locked(connection: Connection, id: str) -> Grant:
    """The grant, not to be changed by anyone else before this transaction ends. `Invalid` where there is none."""
    query = select(grants).where(grants.c.id == id)
    row = connection.execute(query.with_for_update()).mappings().first()
    if row is None:
        raise Invalid(f"there is no request `{id}`", "see `pilothouse access status`")
    return _grant(row)


def put(connection: Connection, grant: Grant) -> None:
    """The row of a new grant, and nothing else: `add` also records it."""
    connection.execute(insert(grants).values(**_values(grant)))


def save(connection: Connection, grant: Grant) -> None:
    connection.execute(update(grants).where(grants.c.id == grant.id).values(**_values(grant)))


def get(store: Store, id: str) -> Grant | None:
    with store.read() as connection:
        row = connection.execute(select(grants).where(grants.c.id == id)).mappings().first()
    return _grant(row) if row else None


def broken_glass(store: Store, limit: int = 200) -> tuple[Grant, ...]:
    """Every break-glass that is open or not reviewed, the newest first; deadlines are for the caller to settle."""
    wanted = grants.c.break_glass & grants.c.reviewed_at.is_(None)
    unfinished = _open() | ((grants.c.decided_by != "") & (grants.c.state != State.DENIED.value))
    query = select(grants).where(wanted & unfinished).order_by(grants.c.requested_at.desc()).limit(limit)
    with store.read() as connection:
        return tuple(_grant(row) for row in connection.execute(query).mappings())


def find(store: Store, user: str = "", only_open: bool = False, limit: int = 200) -> tuple[Grant, ...]:
    """Requests, the newest first; deadlines that have passed are for the caller to settle."""
    condition: ColumnElement[bool] = true()
    if user:
        condition &= grants.c.user == user
    if only_open:
        condition &= _open()
    with store.read() as connection:
        rows = connection.execute(
            select(grants).where(condition).order_by(grants.c.requested_at.desc()).limit(limit)
        ).mappings()
        return tuple(_grant(row) for row in rows)


def settle(store: Store, now: datetime) -> tuple[Grant, ...]:
    """Write down which requests have lapsed or expired, each with an entry; those that did."""
    ended = []
    with store.write() as connection:
        due = select(grants).where(_open() & (grants.c.deadline <= now)).order_by(grants.c.deadline)
        for row in connection.execute(due).mappings().all():
            grant = machine.settle(_grant(row), now)
            save(connection, grant)
            data = {"user": grant.user, "profile": grant.profile, "serial": grant.serial}
            kind = "elevation.expired" if grant.state is State.EXPIRED else "elevation.lapsed"
            ledger.append(connection, Entry(_kind(grant, kind), "pilothouse", grant.id, grant.cluster, data), now)
            ended.append(grant)
    return tuple(ended)


def _kind(grant: Grant, kind: str) -> str:
    """The steps of a break-glass have kinds of their own, so that they stand out in the ledger."""
    return kind.replace("elevation.", "break-glass.", 1) if grant.break_glass else kind


def _open() -> ColumnElement[bool]:
    return grants.c.state.in_([state.value for state in State if state.is_open])


def _values(grant: Grant) -> dict[str, Any]:
    return {name: getattr(grant, name) for name in _FIELDS} | {"state": grant.state.value}


def _grant(row: Any) -> Grant:
    return Grant(**{name: row[name] for name in _FIELDS} | {"state": State(row["state"])})
