"""What is wrong with the log store as its figures show it, as findings with the way out.

Messages hold no figure that moves from reading to reading, so that a finding that stays is one finding: those stand in
its hint.
"""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.collectors.logging.figures import Pressure, Reading, Writer
from pilothouse.collectors.logging.store import Abilities
from pilothouse.collectors.logging.units import in_words
from pilothouse.platform.model import Cluster
from pilothouse.problems import Problem, error, warning
from pilothouse.reports import plural

DISK_FULL = 0.85
"""Above that the server gives a node no more shards:
https://www.elastic.co/docs/reference/elasticsearch/configuration-reference/cluster-level-shard-allocation-routing-settings."""
TOO_MUCH = 1.1
"""A rate so much above the declared one is no rounding."""
HEAP_TOLERANCE = 0.95


def judge(
    cluster: Cluster, reading: Reading, press: Pressure, writers: tuple[Writer, ...], able: Abilities | None = None
) -> tuple[Problem, ...]:
    """Everything that is wrong now."""
    found = (
        *_health(cluster, reading),
        *_pressed(cluster, reading, press),
        *_writers(cluster, writers),
        *(_lifecycle(cluster) if able is not None and not able.lifecycle else ()),
    )
    return tuple(found)


def _health(cluster: Cluster, reading: Reading) -> Iterator[Problem]:
    health = reading.health
    if health.status == "red":
        yield error(
            "logging/store-unhealthy",
            f"the log store of {cluster.name} is red: records cannot be read, and some not be written",
            cluster.place,
            "`GET _cluster/allocation/explain` names the first shard without a node; the agents keep what "
            "they cannot send",
            cluster=cluster.name,
        )
    elif health.status == "yellow":
        yield warning(
            "logging/store-unhealthy",
            f"the log store of {cluster.name} is yellow: copies of records have no node",
            cluster.place,
            f"{plural(health.unassigned_shards, 'shard')}; a copy needs a second data node, and "
            "until then the loss of one node loses records",
            cluster=cluster.name,
        )
    for node in reading.nodes:
        if node.disk_share > DISK_FULL:
            yield warning(
                "logging/disk-almost-full",
                f"the disk of {node.name} in the log store of {cluster.name} is almost full",
                cluster.place,
                f"{node.disk_share:.0%} are used, and at 95 % its indices become read-only: shorten retentions, "
                "lower rates, or add data nodes",
                cluster=cluster.name,
            )


def _pressed(cluster: Cluster, reading: Reading, press: Pressure) -> Iterator[Problem]:
    if press.rejections:
        yield warning(
            "logging/store-rejects",
            f"the log store of {cluster.name} rejects writes",
            cluster.place,
            f"{press.rejections:,} within {press.seconds:.0f} s; the agents send them again, and where it "
            "lasts, `pilothouse logs sizing` shows what the store should take",
            cluster=cluster.name,
        )
    if press.in_flight > press.setpoint:
        yield warning(
            "logging/above-setpoint",
            f"more is in flight to the log store of {cluster.name} than the pipeline is sized to",
            cluster.place,
            f"{in_words(press.in_flight)} of {in_words(press.setpoint)}; the agents alone stay below: who else writes?",
            cluster=cluster.name,
        )
    declared = cluster.logging.heap_bytes
    smallest = min((node.heap_most for node in reading.nodes), default=declared)
    if smallest < declared * HEAP_TOLERANCE:
        yield warning(
            "logging/heap-smaller",
            f"a node of the log store of {cluster.name} has {in_words(smallest)} of heap, not {in_words(declared)}",
            cluster.place,
            "declare the smallest node's heap in `logging.heap` of the Cluster: what may be in flight follows from it",
            cluster=cluster.name,
        )


def _writers(cluster: Cluster, writers: tuple[Writer, ...]) -> Iterator[Problem]:
    for item in writers:
        if item.declared and item.share > TOO_MUCH:
            yield warning(
                "logging/writes-too-much",
                f"{item.service} writes more on {cluster.name} than its pods declare together",
                cluster.place,
                f"{in_words(item.rate)}/s of {in_words(item.declared)}/s; declare what it needs in `logs.rate`, or "
                "write less: what is above is read later and may be lost",
                teams=(item.team,),
                cluster=cluster.name,
            )


def _lifecycle(cluster: Cluster) -> Iterator[Problem]:
    yield warning(
        "logging/no-lifecycle",
        f"the log store of {cluster.name} has no lifecycle management, so nothing is deleted when its days are over",
        cluster.place,
        "use a distribution that has it, or delete old indices yourself before the disk is full",
        cluster=cluster.name,
    )
