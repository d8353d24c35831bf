"""Requests whose binding the worker makes and removes on their cluster, and what became of it.

The signer writes that a request is wanted, in the transaction of its claim; the worker writes the rest. What is made or
removed on a cluster is an entry of the ledger, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from pilothouse.access.ledger import Entry
from pilothouse.store import ledger
from pilothouse.store.database import Store
from pilothouse.store.schema import elevation_bindings as rows


class State(StrEnum):
    WANTED = "wanted"
    BOUND = "bound"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Elevation:
    """`serial` is that of the claim: a request whose claim failed may be claimed again. `teams` are those of the holder
    in whose namespaces it holds. `error` says why the last try failed, of `tries` in a row; "" where it did not."""

    grant_id: str
    cluster: str
    serial: str = ""
    teams: tuple[str, ...] = ()
    state: State = State.WANTED
    bound_at: datetime | None = None
    gone_at: datetime | None = None
    tries: int = 0
    error: str = ""


def want(connection: Connection, grant_id: str, cluster: str, serial: str, teams: Iterable[str]) -> None:
    """The request was claimed: it is to be bound. An earlier claim of it that failed is forgotten."""
    connection.execute(delete(rows).where(rows.c.grant_id == grant_id))
    connection.execute(
        insert(rows).values(
            grant_id=grant_id, cluster=cluster, serial=serial, teams=list(teams), state=State.WANTED.value
        )
    )


def get(store: Store, grant_id: str) -> Elevation | None:
    with store.read() as connection:
        row = connection.execute(select(rows).where(rows.c.grant_id == grant_id)).mappings().first()
    return _elevation(row) if row else None


def of(store: Store, grant_ids: Iterable[str]) -> dict[str, Elevation]:
    """Those of these requests that are bound by the worker, by their id."""
    wanted = list(grant_ids)
    with store.read() as connection:
        found = connection.execute(select(rows).where(rows.c.grant_id.in_(wanted))).mappings()
        return {row["grant_id"]: _elevation(row) for row in found}


def unfinished(store: Store) -> tuple[Elevation, ...]:
    """All whose binding is there or may be."""
    with store.read() as connection:
        query = select(rows).where(rows.c.state != State.GONE.value).order_by(rows.c.grant_id)
        return tuple(_elevation(row) for row in connection.execute(query).mappings())


def bound(store: Store, item: Elevation, entry: Entry, now: datetime) -> None:
    """Its binding was made."""
    with store.write() as connection:
        _set(connection, item, state=State.BOUND.value, bound_at=now, gone_at=None, tries=0, error="")
        ledger.append(connection, entry, now)


def gone(store: Store, item: Elevation, entry: Entry | None, now: datetime, said: str = "") -> None:
    """Its binding is there no more; without an entry none ever was. `said` is why, where it was not the request's
    end."""
    with store.write() as connection:
        _set(connection, item, state=State.GONE.value, gone_at=now, tries=0, error=said)
        if entry is not None:
            ledger.append(connection, entry, now)


def failed(store: Store, item: Elevation, why: str) -> None:
    """It could not be made or removed this time."""
    with store.write() as connection:
        _set(connection, item, tries=item.tries + 1, error=why[:1000])


def again(store: Store, item: Elevation) -> None:
    """Its binding was not as made, and was deleted: it is wanted anew."""
    with store.write() as connection:
        _set(connection, item, state=State.WANTED.value, bound_at=None, tries=0, error="")


def _set(connection: Connection, item: Elevation, **values: Any) -> None:
    """What came of an earlier claim says nothing about the one of now."""
    mine = (rows.c.grant_id == item.grant_id) & (rows.c.serial == item.serial)
    connection.execute(update(rows).where(mine).values(**values))


def _elevation(row: Mapping[Any, Any]) -> Elevation:
    return Elevation(**{**row, "teams": tuple(row["teams"]), "state": State(row["state"])})
