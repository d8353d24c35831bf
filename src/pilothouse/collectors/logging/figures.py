"""Figures of the log store, and what they mean: health, pressure against the setpoint, who writes how much.

Counters restart with their node, so a difference counts from zero where a node has started anew between two readings:
https://www.elastic.co/docs/api/doc/elasticsearch/v8/operation/operation-nodes-stats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from pilothouse.collectors.logging.content import Settings
from pilothouse.collectors.logging.services import Treated, part
from pilothouse.collectors.logging.sizing import writers
from pilothouse.inputs import Inputs

RECENT_SECONDS = 300
"""What "lately" means for a rate."""


@dataclass(frozen=True, slots=True)
class Health:
    """`status` is green, yellow (a copy is missing) or red (records are missing)."""

    status: str
    nodes: int
    data_nodes: int
    unassigned_shards: int
    pending_tasks: int


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One node. Bytes; `started` in milliseconds since 1970; counters since then.

    `active`, `queued`, `completed` and `rejected` are tasks of the write thread pool; `in_flight` are the bytes of bulk
    requests that it coordinates or writes now, of at most `in_flight_limit`.
    """

    identity: str
    name: str
    roles: tuple[str, ...]
    started: int
    active: int
    queued: int
    completed: int
    rejected: int
    in_flight: int
    in_flight_limit: int
    pressure_rejections: int
    heap_used: int
    heap_most: int
    tripped: int
    disk_free: int
    disk_total: int
    indexed: int

    @property
    def heap_share(self) -> float:
        return self.heap_used / self.heap_most if self.heap_most else 0.0

    @property
    def disk_share(self) -> float:
        """Of the disk that is used."""
        return 1 - self.disk_free / self.disk_total if self.disk_total else 0.0


@dataclass(frozen=True, slots=True)
class IndexFigures:
    """One index of `target` (a data stream or alias). `size` is in bytes with its copies; `indexed` since its start."""

    name: str
    target: str
    documents: int
    size: int
    indexed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a service wrote in the last day, and lately: `rate` is bytes of its lines per second."""

    service: str
    documents: int
    bytes: int
    recent_documents: int
    rate: float


class LogFigures(Protocol):
    """The server that is read. Every method may raise the exceptions of `problems`."""

    def health(self) -> Health: ...
    def nodes(self) -> tuple[NodeFigures, ...]: ...
    def indices(self, prefix: str) -> tuple[IndexFigures, ...]: ...
    def written(self, prefix: str, recent_seconds: int) -> tuple[Written, ...]: ...


@dataclass(frozen=True)
class Reading:
    """All figures of one moment (aware, UTC)."""

    at: datetime
    health: Health
    nodes: tuple[NodeFigures, ...]
    indices: tuple[IndexFigures, ...]
    written: tuple[Written, ...]


def read(store: LogFigures, prefix: str, at: datetime) -> Reading:
    """One reading. Raises what the server's client raises."""
    return Reading(at, store.health(), store.nodes(), store.indices(prefix), store.written(prefix, RECENT_SECONDS))


# ---------------------------------------------------------------- what two readings say


@dataclass(frozen=True, slots=True)
class Pressure:
    """Bytes of bulk requests in flight, against what the pipeline is sized to and what is rejected above.

    `rejections` (tasks and requests) and `indexed` (records a second, copies included) are those between two readings,
    None where there was but one.
    """

    in_flight: int
    setpoint: int
    limit: int
    queued: int
    rejections: int | None
    indexed: float | None
    seconds: float

    @property
    def share(self) -> float:
        """Of the setpoint."""
        return self.in_flight / self.setpoint if self.setpoint else 0.0


def pressure(now: Reading, before: Reading | None, setpoint: int) -> Pressure:
    """How hard the store is pressed, from the last reading and the one before."""
    known = {} if before is None else {(node.identity, node.started // 10_000): node for node in before.nodes}
    rejections = indexed = 0
    for node in now.nodes:
        # The start is computed from two clocks, so that it may differ by some milliseconds between readings.
        start = node.started // 10_000
        old = known.get((node.identity, start)) or known.get((node.identity, start - 1))
        old = old or known.get((node.identity, start + 1))
        rejections += node.rejected + node.pressure_rejections
        indexed += node.indexed
        if old is not None:
            rejections -= old.rejected + old.pressure_rejections
            indexed -= old.indexed
    seconds = (now.at - before.at).total_seconds() if before is not None else 0.0
    both = before is not None and seconds > 0
    return Pressure(
        in_flight=sum(node.in_flight for node in now.nodes),
        setpoint=setpoint,
        limit=sum(node.in_flight_limit for node in now.nodes),
        queued=sum(node.queued for node in now.nodes),
        rejections=max(rejections, 0) if both else None,
        indexed=max(indexed, 0) / seconds if both else None,
        seconds=seconds,
    )


@dataclass(frozen=True, slots=True)
class Writer:
    """A service's logs: what it wrote, against what it declared. Bytes, bytes per second, days.

    `declared` is for all its pods that write; `target` is the data stream that its records go to.
    """

    service: str
    team: str
    documents: int
    bytes: int
    rate: float
    declared: float
    pods: int
    days: int
    target: str

    @property
    def share(self) -> float:
        """Of the declared rate."""
        return self.rate / self.declared if self.declared else 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """A data stream or alias: its indices, documents and bytes, and records a second between two readings."""

    name: str
    indices: int
    documents: int
    size: int
    failed: int
    rate: float | None


def declared(inputs: Inputs, settings: Settings, treated: Iterable[Treated]) -> tuple[Writer, ...]:
    """Every declared service of the cluster with what it declared, before anything is known of what it wrote."""
    classes = {item.name: item for item in settings.retention.classes}
    found = []
    for item in treated:
        service, kept = item.service, classes[item.retention]
        pods = len(writers(inputs, service))
        target = settings.retention.index(item.retention)
        rate = float(item.rate * max(1, pods))
        found.append(Writer(service.key, service.team, 0, 0, 0.0, rate, pods, kept.days, target))
    return tuple(found)


def writers_of(services: Iterable[Writer], written: Iterable[Written]) -> tuple[Writer, ...]:
    """The declared services, and whoever else wrote, with what each did; the loudest first."""
    by_service = {item.service: item for item in written}
    found: list[Writer] = []
    for item in services:
        wrote = by_service.pop("/".join(part(name) for name in item.service.split("/")), None)
        if wrote is not None:
            item = replace(item, documents=wrote.documents, bytes=wrote.bytes, rate=wrote.rate)
        found.append(item)
    for wrote in by_service.values():
        # Pods of no declared service: `_/_`, or their namespace with `_`.
        found.append(Writer(wrote.service, "", wrote.documents, wrote.bytes, wrote.rate, 0.0, 0, 0, ""))
    return tuple(sorted(found, key=lambda item: (-item.rate, -item.bytes, item.service)))


def targets(now: Reading, before: Reading | None = None) -> tuple[Target, ...]:
    """The indices of each data stream or alias together, the largest first."""
    old: Mapping[str, IndexFigures] = {} if before is None else {item.name: item for item in before.indices}
    seconds = (now.at - before.at).total_seconds() if before is not None else 0.0
    found = []
    for name in sorted({item.target for item in now.indices}):
        here = [item for item in now.indices if item.target == name]
        fresh = sum(max(item.documents - (old[item.name].documents if item.name in old else 0), 0) for item in here)
        found.append(
            Target(
                name,
                len(here),
                sum(item.documents for item in here),
                sum(item.size for item in here),
                sum(item.failed for item in here),
                fresh / seconds if seconds > 0 else None,
            )
        )
    return tuple(sorted(found, key=lambda item: (-item.size, item.name)))
