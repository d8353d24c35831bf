"""Requests in the API server's log that were open past the end of a right: the candidates of `access.audit.streams`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, or_, select

from pilothouse.access.audit.streams import ENDED, STARTED, Stream
from pilothouse.store.audit import cluster_record, in_microseconds
from pilothouse.store.certificates import State
from pilothouse.store.database import Store
from pilothouse.store.schema import EPOCH, MICROSECOND, audit_cluster, certificates, grants

_ISSUED = (State.ISSUED.value, State.GIVEN_BACK.value)


@dataclass(frozen=True, slots=True)
class Outlived:
    """A request that was open when the right of `serial` ended, at `end`: `not_after` of it, or before."""

    stream: Stream
    serial: str
    user: str
    profile: str
    groups: tuple[str, ...]
    grant_id: str
    end: datetime
    not_after: datetime
    given_back: bool


def outlived(store: Store, cluster: str, now: datetime, skew: timedelta) -> tuple[Outlived, ...]:
    """Requests that began before the end of their certificate, and were closed more than `skew` after it, or never."""
    c, own = audit_cluster.c, certificates.c
    its_own = case((own.state == State.GIVEN_BACK.value, own.ended_at), else_=own.not_after)
    end = case((grants.c.ended_at < its_own, grants.c.ended_at), else_=its_own).label("end")
    joined = audit_cluster.join(certificates, and_(own.cluster == c.cluster, own.fingerprint == c.fingerprint)).join(
        grants, grants.c.id == own.grant_id, isouter=True
    )
    query = (
        select(
            audit_cluster,
            own.serial,
            own.user.label("holder"),
            own.profile,
            own.groups.label("held"),
            own.grant_id,
            own.not_after,
            own.state,
            end,
        )
        .select_from(joined)
        .where(
            c.cluster == cluster,
            c.stream,
            c.fingerprint != "",
            own.state.in_(_ISSUED),
            end < now,
            c.at < end,
            _open_after(in_microseconds(end), skew),
        )
        .order_by(c.at, c.key)
    )
    with store.read() as connection:
        return tuple(
            Outlived(
                _stream(row),
                row["serial"],
                row["holder"],
                row["profile"],
                tuple(row["held"]),
                row["grant_id"],
                row["end"],
                row["not_after"],
                row["state"] == State.GIVEN_BACK.value,
            )
            for row in connection.execute(query).mappings()
        )


def of_person(
    store: Store, cluster: str, user: str, end: datetime, skew: timedelta, fingerprint: str = ""
) -> tuple[Stream, ...]:
    """Requests under that name that were open at `end` and for longer than `skew` after it; of one certificate where
    its fingerprint is given."""
    c = audit_cluster.c
    where = and_(c.cluster == cluster, c.user == user, c.ours, c.stream, c.at < end)
    if fingerprint:
        where &= c.fingerprint == fingerprint
    query = select(audit_cluster).where(where, _open_after((end - EPOCH) // MICROSECOND, skew)).order_by(c.at, c.key)
    with store.read() as connection:
        return tuple(_stream(row) for row in connection.execute(query).mappings())


def _open_after(end: Any, skew: timedelta) -> ColumnElement[bool]:
    """Whether it was closed more than `skew` after `end` (microseconds), or no line says that it was closed."""
    c, other = audit_cluster.c, audit_cluster.alias("other").c
    closing = exists().where(
        other.audit_id == c.audit_id,
        other.cluster == c.cluster,
        other.user == c.user,
        other.at == c.at,
        other.stage.in_(ENDED),
    )
    return or_(
        and_(c.stage.in_(ENDED), in_microseconds(c.ended) > end + skew // MICROSECOND),
        and_(c.stage == STARTED, ~closing),
    )


def _stream(row: Any) -> Stream:
    record = cluster_record(row)
    return Stream(record, None if record.stage == STARTED else record.ended)


def certificates_of(store: Store, cluster: str, users: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """(user, groups, (asked at, end)) of every certificate of theirs that is bound to no request."""
    own = certificates.c
    query = select(own.user, own.groups, own.asked_at, own.not_after, own.state, own.ended_at).where(
        own.cluster == cluster, own.user.in_(sorted(set(users))), own.state.in_(_ISSUED), own.grant_id == ""
    )
    with store.read() as connection:
        for row in connection.execute(query):
            end = row.ended_at if row.state == State.GIVEN_BACK.value else row.not_after
            yield row.user, tuple(row.groups), (row.asked_at, end)
