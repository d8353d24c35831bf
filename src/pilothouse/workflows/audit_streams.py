"""Requests that were open past the end of a right, from the API server's log and what was issued."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from pilothouse.access.audit import streams
from pilothouse.access.audit.certain import SKEW, Found
from pilothouse.access.audit.model import Kind, Span
from pilothouse.access.audit.streams import End, Stream
from pilothouse.access.locks import Kind as Locked
from pilothouse.store import Store, audit_streams, locks, users
from pilothouse.store import audit as rows
from pilothouse.store.audit_streams import Outlived

SETTLE = timedelta(seconds=20)
"""The line of a request that was closed in time may come that much after others of its time."""
Held = dict[str, list[tuple[frozenset[str], datetime, datetime]]]
"""By user, the standing certificates: groups, from when, until when."""


def open_late(store: Store, cluster: str, now: datetime) -> tuple[Found, ...]:
    """What stayed open on that cluster past the end of its certificate, its request, its account, or past a lock."""
    spans = [
        span for (kind, _), spans in rows.covered(store, cluster).items() if kind is Kind.KUBERNETES for span in spans
    ]
    late = [*_of_certificates(store, cluster, now), *_of_people(store, cluster, now)]
    return tuple(streams.open_late(cluster, (item for item in late if _is_known(*item, spans))))


def _is_known(stream: Stream, end: End, spans: list[Span]) -> bool:
    """Whether the log goes far enough past the end to tell. Each API server has a log of its own, and a request stands
    in one of them: the one that ends first is what can be relied on, and nothing beyond a hole."""
    if stream.closed is not None:
        return True
    seen = [span.until for span in spans if span.since <= stream.record.at <= span.until]
    return bool(seen) and min(seen) > end.at + SKEW + SETTLE


def _of_certificates(store: Store, cluster: str, now: datetime) -> Iterator[tuple[Stream, End]]:
    found = audit_streams.outlived(store, cluster, now, SKEW)
    held: Held = defaultdict(list)
    for user, groups, (since, until) in audit_streams.certificates_of(store, cluster, (item.user for item in found)):
        held[user].append((frozenset(groups), since, until))
    for item in found:
        end = item.end
        if item.given_back and end < item.not_after:
            why = "the certificate was given back"
        elif end < item.not_after:
            why = "the request was over"
        else:
            why = "the certificate ended"
            if not item.grant_id:
                end = _renewed(item, held[item.user])
        if end >= now or (item.stream.closed is not None and item.stream.closed <= end + SKEW):
            continue
        yield item.stream, End(end, why, item.user, item.serial, item.grant_id)


def _renewed(item: Outlived, held: list[tuple[frozenset[str], datetime, datetime]]) -> datetime:
    """Until when they had the same right: a short certificate is followed by the next one, and nobody was shut out."""
    end, groups = item.end, frozenset(item.groups)
    for mine, since, until in sorted(held, key=lambda one: one[1]):
        if groups <= mine and since <= end < until:
            end = until
    return end


def _of_people(store: Store, cluster: str, now: datetime) -> Iterator[tuple[Stream, End]]:
    for name, since in users.closed(store).items():
        for stream in audit_streams.of_person(store, cluster, name, since, SKEW):
            yield stream, End(since, "the account was closed", name, "")
    for lock in locks.find(store, since=now):
        target = lock.target
        if target.kind is Locked.USER:
            for stream in audit_streams.of_person(store, cluster, target.user, lock.at, SKEW):
                yield stream, End(lock.at, "the person was locked", target.user, "")
        elif target.cluster == cluster and target.fingerprint:
            for stream in audit_streams.of_person(store, cluster, target.user, lock.at, SKEW, target.fingerprint):
                yield stream, End(lock.at, "the certificate was locked", target.user, target.subject)
