"""Requests that stay open: a watch, a shell, a forwarded port. Begun in time, they outlive the right to begin them.

Rights are looked at when a request comes, and never again while it is open
(https://kubernetes.io/docs/reference/access-authn-authz/authorization/). The API server's log has one line when it
answers, at stage ResponseStarted, and one when it ends, at ResponseComplete or Panic, both under one auditID
(https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pilothouse.access.audit.certain import Found, found
from pilothouse.access.audit.model import ClusterRecord

KINDS = {
    "exec": "a shell",
    "attach": "an attached terminal",
    "portforward": "a forwarded port",
    "proxy": "a connection through the proxy",
    "log": "a log that is followed",
    "watch": "a watch",
}
"""What stays open, the gravest first: what does something stands before what reads."""
_VERBS = ("watch", "watchlist")
_ENDED_BY_POD = ("exec", "attach", "portforward")
STARTED = "ResponseStarted"
ENDED = ("ResponseComplete", "Panic")


def kind_of(record: ClusterRecord) -> str:
    """Of `KINDS`, or "" for a request that is answered at once."""
    if record.verb in _VERBS:
        return "watch"
    subresource = record.resource.partition("/")[2]
    return subresource if subresource in KINDS else ""


@dataclass(frozen=True, slots=True)
class Stream:
    """`record` is its first or only line; `closed` when it ended, None where the log has no end of it."""

    record: ClusterRecord
    closed: datetime | None


@dataclass(frozen=True, slots=True)
class End:
    """When somebody's right ended and why; `certificate` and `request` name what it hung on, where that is known."""

    at: datetime
    why: str
    user: str
    certificate: str
    request: str = ""


def open_late(cluster: str, streams: Iterable[tuple[Stream, End]]) -> Iterator[Found]:
    """One finding for each right that ended, whatever number of requests outlived it; it names the gravest of them.

    The message changes once more when the last of them is closed, and not while the log is read on otherwise.
    """
    by_end: dict[tuple[str, str, str], list[tuple[Stream, End]]] = defaultdict(list)
    for stream, end in streams:
        by_end[end.certificate, end.user, end.why].append((stream, end))
    for (certificate, user, why), same in sorted(by_end.items()):
        yield _finding(cluster, f"{certificate}\0{user}\0{why}", same)


def _finding(cluster: str, subject: str, same: list[tuple[Stream, End]]) -> Found:
    order = list(KINDS)
    same.sort(key=lambda item: (order.index(kind_of(item[0].record)), item[0].record.at, item[0].record.audit_id))
    (first, end), more = same[0], len(same) - 1
    record = first.record
    ends = [stream.closed for stream, _ in same]
    closed = [moment for moment in ends if moment is not None]
    until = (
        f"until {max(closed):%Y-%m-%d %H:%M:%S} UTC" if len(closed) == len(ends) else "and the log shows no end of it"
    )
    held = f" with the certificate {end.certificate}" if end.certificate else ""
    asked = f" of request {end.request}" if end.request else ""
    others = f"; {more} more like it" if more else ""
    return found(
        "access/open-past-end",
        cluster,
        subject,
        f"{KINDS[kind_of(record)]} of {end.user} on {cluster}, {_what(record)}, was opened at"
        f" {record.at:%Y-%m-%d %H:%M:%S} UTC{held}{asked} and stayed open after {end.why} at"
        f" {end.at:%Y-%m-%d %H:%M:%S} UTC, {until}: audit {record.audit_id}{others}",
        f"{_way_out(first, len(closed) == len(ends))}, then see `pilothouse access audit show {record.audit_id}`",
        end.user,
    )


def _what(record: ClusterRecord) -> str:
    where = f"{record.namespace}/" if record.namespace else ""
    return f"{record.verb} of {record.resource} {where}{record.name}".rstrip()


def _way_out(stream: Stream, over: bool) -> str:
    record = stream.record
    if over:
        return "it is closed; ask what it was for, and close what is open before a right ends"
    if kind_of(record) in _ENDED_BY_POD and record.name:
        return f"delete the pod, which ends it: `kubectl delete pod -n {record.namespace} {record.name}`"
    return (
        "restart the API server that holds the connection, which ends it; a watch ends by itself within twice"
        " --min-request-timeout (an hour by default)"
    )
