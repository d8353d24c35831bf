"""Rows of other programs' audit logs: each line once, whatever is read again; and the candidates for findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Subquery,
    Table,
    and_,
    case,
    delete,
    distinct,
    exists,
    func,
    insert,
    select,
    tuple_,
    type_coerce,
)

from pilothouse.access.audit import streams
from pilothouse.access.audit.model import ClusterRecord, Kind, Span, VaultRecord
from pilothouse.access.audit.spans import merged
from pilothouse.store.certificates import State
from pilothouse.store.database import Store
from pilothouse.store.schema import audit_cluster, audit_days, audit_spans, audit_vault, certificates

BATCH = 400
"""Of rows that go into one statement; SQLite takes a limited number of parameters."""
_ISSUED = (State.ISSUED.value, State.GIVEN_BACK.value)


@dataclass(frozen=True, slots=True)
class KeptVault:
    """A record of Vault with what was judged when it was read: the cluster it is of, and whether it signs for it."""

    record: VaultRecord
    cluster: str
    signs: bool


@dataclass(frozen=True, slots=True)
class KeptCluster:
    """A record of the API server with what was judged when it was read."""

    record: ClusterRecord
    cluster: str
    ours: bool
    system: bool
    changes: bool


def add(store: Store, vault: Sequence[KeptVault], cluster: Sequence[KeptCluster]) -> int:
    """How many of them were not there yet; one transaction."""
    with store.write() as connection:
        return _add(
            connection, audit_vault, ("request_id", "type"), {(i.record.request_id, i.record.type): i for i in vault}
        ) + _add(connection, audit_cluster, ("cluster", "key"), {(i.cluster, i.record.key): i for i in cluster})


def _add(
    connection: Connection, table: Table, keys: tuple[str, str], rows: Mapping[tuple[str, str], KeptVault | KeptCluster]
) -> int:
    columns = [table.c[key] for key in keys]
    added = 0
    wanted = list(rows)
    for start in range(0, len(wanted), BATCH):
        some = wanted[start : start + BATCH]
        there = {tuple(row) for row in connection.execute(select(*columns).where(tuple_(*columns).in_(some)))}
        fresh = [_values(rows[key]) for key in some if key not in there]
        if fresh:
            connection.execute(insert(table), fresh)
            _forget_days(connection, {row["at"] for row in fresh})
            added += len(fresh)
    return added


def _forget_days(connection: Connection, moments: Iterable[datetime]) -> None:
    """What was kept of a day that a line came late of is made anew (`store.audit_days`)."""
    days = {moment.replace(hour=0, minute=0, second=0, microsecond=0) for moment in moments}
    connection.execute(delete(audit_days).where(audit_days.c.day.in_(days)))


def _values(kept: KeptVault | KeptCluster) -> dict[str, Any]:
    if isinstance(kept, KeptVault):
        item = kept.record
        return {
            "request_id": item.request_id[:64],
            "type": item.type,
            "cluster": kept.cluster,
            "at": item.at,
            "operation": item.operation[:20],
            "path": item.path,
            "mount": item.mount[:200],
            "user": item.user[:200],
            "entity": item.entity[:64],
            "workload": item.workload,
            "address": item.address[:64],
            "error": item.error,
            "common_name": item.common_name[:200],
            "serial": item.serial,
            "fingerprint": item.fingerprint,
            "signs": kept.signs,
            "hidden": item.hidden,
        }
    event = kept.record
    return {
        "cluster": kept.cluster,
        "key": event.key,
        "audit_id": event.audit_id[:64],
        "stage": event.stage,
        "at": event.at,
        "ended": event.ended,
        "user": event.user[:200],
        "groups": list(event.groups),
        "verb": event.verb[:40],
        "resource": event.resource[:300],
        "namespace": event.namespace[:100],
        "name": event.name[:300],
        "address": event.address[:64],
        "agent": event.agent[:200],
        "code": event.code,
        "fingerprint": event.fingerprint,
        "ours": kept.ours,
        "system": kept.system,
        "changes": kept.changes,
        "stream": bool(streams.kind_of(event)),
    }


# ---------------------------------------------------------------- spans


def cover(store: Store, cluster: str, kind: Kind, source: str, spans: Iterable[Span], longest: timedelta) -> None:
    """Add what a log covers to what is known of that source."""
    mine = _of_source(cluster, kind, source)
    with store.write() as connection:
        known = [Span(row.since, row.until) for row in connection.execute(select(audit_spans).where(mine))]
        found = merged([*known, *spans], longest)
        connection.execute(delete(audit_spans).where(mine))
        for span in found:
            connection.execute(
                insert(audit_spans).values(
                    cluster=cluster, kind=kind.value, source=source, since=span.since, until=span.until
                )
            )


def covered(store: Store, cluster: str) -> dict[tuple[Kind, str], tuple[Span, ...]]:
    """What is covered of that cluster, by (program, source)."""
    found: dict[tuple[Kind, str], list[Span]] = {}
    with store.read() as connection:
        rows = connection.execute(
            select(audit_spans).where(audit_spans.c.cluster == cluster).order_by(audit_spans.c.since)
        )
        for row in rows:
            found.setdefault((Kind(row.kind), row.source), []).append(Span(row.since, row.until))
    return {key: tuple(spans) for key, spans in found.items()}


def _of_source(cluster: str, kind: Kind, source: str) -> ColumnElement[bool]:
    return and_(audit_spans.c.cluster == cluster, audit_spans.c.kind == kind.value, audit_spans.c.source == source)


# ---------------------------------------------------------------- candidates for findings


def unknown_certificates(store: Store, cluster: str) -> tuple[ClusterRecord, ...]:
    """The first use of each certificate with groups of ours whose fingerprint no certificate of that cluster has."""
    c = audit_cluster.c
    known = select(certificates.c.fingerprint).where(certificates.c.cluster == cluster)
    used = select(c.fingerprint).where((c.cluster == cluster) & c.ours & (c.fingerprint != "")).distinct().subquery()
    found: list[ClusterRecord] = []
    with store.read() as connection:
        for (print_,) in connection.execute(select(used.c.fingerprint).where(used.c.fingerprint.not_in(known))).all():
            first = select(audit_cluster).where(c.cluster == cluster, c.ours, c.fingerprint == print_)
            row = connection.execute(first.order_by(c.at, c.key).limit(1)).mappings().one()
            found.append(cluster_record(row))
    return tuple(sorted(found, key=lambda item: (item.at, item.key)))


def system_names(store: Store, cluster: str) -> tuple[ClusterRecord, ...]:
    c = audit_cluster.c
    return _first(store, (c.cluster == cluster) & c.system, (c.fingerprint, c.user))


def rbac_changes(store: Store, cluster: str) -> tuple[ClusterRecord, ...]:
    c = audit_cluster.c
    return _first(store, (c.cluster == cluster) & c.changes, (c.user, c.verb, c.resource, c.namespace, c.name))


def late_uses(store: Store, cluster: str, skew: timedelta) -> tuple[tuple[ClusterRecord, str, str, datetime], ...]:
    """(the first use after its end, serial, user, end) of each certificate that was given back."""
    c, own = audit_cluster.c, certificates.c
    joined = (own.cluster == c.cluster) & (own.fingerprint == c.fingerprint) & (own.fingerprint != "")
    with store.read() as connection:
        ended = connection.execute(
            select(own.serial, own.user, own.fingerprint, own.ended_at).where(
                own.cluster == cluster, own.state == State.GIVEN_BACK.value, exists().where(joined, c.at > own.ended_at)
            )
        ).all()
    found = []
    for row in ended:
        late = _first(
            store,
            (c.cluster == cluster) & (c.fingerprint == row.fingerprint) & (c.at > row.ended_at + skew),
            (c.fingerprint,),
        )
        found += [(use, row.serial, row.user, row.ended_at) for use in late]
    return tuple(found)


def uses_of(store: Store, cluster: str, user: str, after: datetime) -> tuple[ClusterRecord, ...]:
    """The first use after that moment of each certificate of ours that bears that name."""
    c = audit_cluster.c
    return _first(store, (c.cluster == cluster) & (c.user == user) & c.ours & (c.at > after), (c.fingerprint,))


def _first(store: Store, where: ColumnElement[bool], by: tuple[Any, ...]) -> tuple[ClusterRecord, ...]:
    """The earliest record of each group."""
    c = audit_cluster.c
    number = func.row_number().over(partition_by=by, order_by=(c.at, c.key)).label("number")
    ranked: Subquery = select(audit_cluster, number).where(where).subquery()
    with store.read() as connection:
        rows = connection.execute(select(ranked).where(ranked.c.number == 1).order_by(ranked.c.at)).mappings()
        return tuple(cluster_record(row) for row in rows)


def unknown_signatures(store: Store, cluster: str, before: datetime) -> tuple[VaultRecord, ...]:
    """What Vault signed for the cluster before that moment, and no certificate of ours is."""
    v, own = audit_vault.c, certificates.c
    known = exists().where(own.cluster == v.cluster, own.serial == v.serial, own.state.in_(_ISSUED))
    return _vault(store, (v.cluster == cluster) & v.signs & (v.at < before) & ~v.hidden & ~known)


def hidden_mounts(store: Store, cluster: str) -> tuple[str, ...]:
    """Mounts whose signatures the log shows as an HMAC only, in the newest line of each."""
    v = audit_vault.c
    newest = select(v.mount, func.max(v.at).label("at")).where(v.cluster == cluster, v.signs).group_by(v.mount)
    last = newest.subquery()
    with store.read() as connection:
        rows = connection.execute(
            select(v.mount).distinct().where(v.signs, v.hidden, v.mount == last.c.mount, v.at == last.c.at)
        )
        return tuple(sorted(row[0] for row in rows))


def signatures(store: Store, cluster: str) -> tuple[VaultRecord, ...]:
    """What Vault signed under a name of Kubernetes' own."""
    v = audit_vault.c
    return _vault(store, (v.cluster == cluster) & v.signs & func.lower(v.common_name).like("%system:%"))


def unseen(store: Store, cluster: str, span: Span) -> tuple[tuple[str, str, datetime], ...]:
    """(serial, user, when) of what was issued within the span, and is not in Vault's log, which shows serials."""
    v, own = audit_vault.c, certificates.c
    shown = exists().where(v.serial == own.serial, v.cluster == own.cluster)
    with store.read() as connection:
        rows = connection.execute(
            select(own.serial, own.user, own.asked_at).where(
                own.cluster == cluster,
                own.state.in_(_ISSUED),
                own.asked_at > span.since,
                own.asked_at < span.until - timedelta(minutes=1),
                ~shown,
            )
        )
        return tuple((row.serial, row.user, row.asked_at) for row in rows)


# ---------------------------------------------------------------- one thread


@dataclass(frozen=True, slots=True)
class Summary:
    """What was done with a certificate, of one kind: how often, how often refused, when first and last."""

    verb: str
    resource: str
    namespace: str
    count: int
    refused: int
    first: datetime
    last: datetime


def summary(store: Store, cluster: str, fingerprint: str, limit: int = 200) -> tuple[Summary, ...]:
    """What a certificate was used for, the most frequent first."""
    c = audit_cluster.c
    times = func.count(distinct(c.audit_id))
    refused = func.sum(case((c.code == 403, 1), else_=0))
    with store.read() as connection:
        rows = connection.execute(
            select(c.verb, c.resource, c.namespace, times, refused, func.min(c.at), func.max(c.at))
            .where(c.fingerprint == fingerprint, c.cluster == cluster)
            .group_by(c.verb, c.resource, c.namespace)
            .order_by(times.desc(), c.verb, c.resource, c.namespace)
            .limit(limit)
        )
        return tuple(Summary(*row) for row in rows)


def event(store: Store, audit_id: str) -> tuple[tuple[str, ClusterRecord], ...]:
    """(cluster, record) of that auditID, which a client may have chosen: there can be several."""
    c = audit_cluster.c
    with store.read() as connection:
        rows = connection.execute(select(audit_cluster).where(c.audit_id == audit_id).order_by(c.at).limit(20))
        return tuple((row["cluster"], cluster_record(row)) for row in rows.mappings())


def vault_thread(store: Store, request_id: str = "", serial: str = "") -> tuple[VaultRecord, ...]:
    """Vault's records of that request, or of that serial."""
    v = audit_vault.c
    return _vault(store, v.request_id == request_id if request_id else (v.serial == serial) & (v.serial != ""))


def vault_cluster(store: Store, request_id: str) -> str:
    with store.read() as connection:
        found = connection.execute(select(audit_vault.c.cluster).where(audit_vault.c.request_id == request_id)).first()
    return found.cluster if found else ""


def _vault(store: Store, where: ColumnElement[bool]) -> tuple[VaultRecord, ...]:
    with store.read() as connection:
        rows = connection.execute(
            select(audit_vault).where(where).order_by(audit_vault.c.at, audit_vault.c.request_id).limit(1000)
        ).mappings()
        return tuple(
            VaultRecord(
                **{
                    key: row[key]
                    for key in (
                        "request_id type at operation path mount user entity workload address error common_name"
                        " serial fingerprint hidden"
                    ).split()
                }
            )
            for row in rows
        )


def in_microseconds(column: Any) -> Any:
    """The moment as the number that it is kept as."""
    return type_coerce(column, BigInteger)


def purge(store: Store, now: datetime, keep: timedelta = timedelta(days=90)) -> int:
    """Remove lines, and what was covered, from longer ago than `keep`."""
    with store.write() as connection:
        gone = connection.execute(delete(audit_vault).where(audit_vault.c.at < now - keep)).rowcount
        gone += connection.execute(delete(audit_cluster).where(audit_cluster.c.at < now - keep)).rowcount
        connection.execute(delete(audit_spans).where(audit_spans.c.until < now - keep))
        connection.execute(delete(audit_days).where(audit_days.c.day < now - keep))
        return gone


def cluster_record(row: Any) -> ClusterRecord:
    """The record that a row is of."""
    return ClusterRecord(
        audit_id=row["audit_id"],
        stage=row["stage"],
        at=row["at"],
        ended=row["ended"],
        user=row["user"],
        groups=tuple(row["groups"]),
        verb=row["verb"],
        resource=row["resource"],
        namespace=row["namespace"],
        name=row["name"],
        address=row["address"],
        agent=row["agent"],
        code=row["code"],
        fingerprint=row["fingerprint"],
    )
