"""What people and workloads did by the hour and day, from the lines of audit logs; kept once a day is over.

A day is made from its lines once, and read as one value from then on. `store.audit.add` forgets the day of every line
that it adds, in the same transaction, so that a line that comes late makes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, case, distinct, func, insert, select

from pilothouse.store.audit import in_microseconds
from pilothouse.store.database import Store
from pilothouse.store.schema import EPOCH, MICROSECOND, audit_cluster, audit_days, audit_vault

DAY = timedelta(days=1)
_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Use:
    """Requests of one hour with one certificate from one address; `at` is the first of them."""

    at: datetime
    user: str
    cluster: str
    address: str
    agent: str
    fingerprint: str
    count: int
    refused: int


@dataclass(frozen=True, slots=True)
class Read:
    """Reads of one path within a day by one workload from one address; `at` is the first of them."""

    at: datetime
    workload: str
    cluster: str
    address: str
    path: str
    count: int
    refused: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What was done in a time, unordered."""

    uses: tuple[Use, ...]
    reads: tuple[Read, ...]


def of_lines(store: Store, since: datetime, until: datetime) -> Activity:
    """From the lines themselves; both ends at the begin of a day, else an hour or day that they cut counts in part."""
    with store.read() as connection:
        return Activity(tuple(_uses(connection, since, until)), tuple(_reads(connection, since, until)))


def kept(store: Store, since: datetime, today: datetime) -> Iterator[Activity]:
    """Every day from `since` to the one before `today`, both at their begin; days that are not kept yet are made."""
    there = _days(store, since, today)
    day = since
    while day < today:
        yield _read(there[day]) if day in there else _make(store, day)
        day += DAY


def _days(store: Store, since: datetime, until: datetime) -> dict[datetime, Any]:
    d = audit_days.c
    with store.read() as connection:
        rows = connection.execute(select(d.day, d.activity).where(d.day >= since, d.day < until))
        return {row.day: row.activity for row in rows}


def _make(store: Store, day: datetime) -> Activity:
    """In the transaction that keeps it, so that no line is added in between."""
    with store.write() as connection:
        known = connection.execute(select(audit_days.c.activity).where(audit_days.c.day == day)).first()
        if known is not None:
            return _read(known.activity)
        uses, reads = _uses(connection, day, day + DAY), _reads(connection, day, day + DAY)
        found = Activity(tuple(uses), tuple(reads))
        connection.execute(insert(audit_days).values(day=day, activity=_written(found)))
    return found


def _written(activity: Activity) -> dict[str, Any]:
    uses = [
        [(i.at - EPOCH) // MICROSECOND, i.user, i.cluster, i.address, i.agent, i.fingerprint, i.count, i.refused]
        for i in activity.uses
    ]
    reads = [
        [(i.at - EPOCH) // MICROSECOND, i.workload, i.cluster, i.address, i.path, i.count, i.refused]
        for i in activity.reads
    ]
    return {"uses": uses, "reads": reads}


def _read(value: Any) -> Activity:
    return Activity(
        tuple(Use(EPOCH + at * MICROSECOND, *rest) for at, *rest in value["uses"]),
        tuple(Read(EPOCH + at * MICROSECOND, *rest) for at, *rest in value["reads"]),
    )


def _uses(connection: Connection, since: datetime, until: datetime) -> Iterator[Use]:
    c = audit_cluster.c
    rows = connection.execute(
        select(
            func.min(c.at),
            c.user,
            c.cluster,
            c.address,
            c.agent,
            c.fingerprint,
            func.count(),
            func.sum(case((c.code.in_((401, 403)), 1), else_=0)),
        )
        .where(c.ours, c.at >= since, c.at < until)
        .group_by(in_microseconds(c.at) // _HOUR, c.user, c.cluster, c.address, c.agent, c.fingerprint)
    )
    for row in rows:
        yield Use(*row)


def _reads(connection: Connection, since: datetime, until: datetime) -> Iterator[Read]:
    v = audit_vault.c
    rows = connection.execute(
        select(
            func.min(v.at),
            v.user,
            v.cluster,
            v.address,
            v.path,
            func.count(distinct(v.request_id)),
            func.count(distinct(case((v.error != "", v.request_id)))),
        )
        .where(v.workload, v.operation == "read", v.at >= since, v.at < until)
        .group_by(in_microseconds(v.at) // (24 * _HOUR), v.user, v.cluster, v.address, v.path)
    )
    for row in rows:
        yield Read(*row)
