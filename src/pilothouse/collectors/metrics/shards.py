"""Targets on leaves: hash, buckets, and what each leaf is expected to carry.

A target's key is hashed into one of 64 fixed buckets, and buckets are dealt to leaves by a keep-regex. Going from N to
N+1 leaves moves only the buckets that the new leaf receives (about 1/(N+1) of the targets), where a
plain `hashmod` by N moves most of them. The hash is that of Prometheus: the last 8 bytes of the MD5 sum, big-endian
(https://github.com/prometheus/prometheus/blob/main/model/relabel/relabel.go).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pilothouse.collectors.metrics.model import Job, ShardBy
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Pod
from pilothouse.platform.model import Service

BUCKETS = 64
HASH_LABEL = "__tmp_bucket"
SERIES_BYTES = (5_000, 8_000)
"""Memory per series in the head: what to expect, and what to give as a limit."""
NODE_SERIES = 3_000
"""Series of one node's kubelet, cadvisor (without its pods) and exporter, for the estimate."""
POD_SERIES = 60
"""Series of one pod in cadvisor, for the estimate."""
OBJECT_SERIES = 50
"""Series of one pod in kube-state-metrics, for the estimate."""


def hashmod(values: Iterable[str], modulus: int) -> int:
    """What the relabel action `hashmod` computes for these source labels (joined by `;`)."""
    digest = hashlib.md5(";".join(values).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "big") % modulus


@lru_cache(maxsize=256)
def buckets(shards: int) -> tuple[tuple[int, ...], ...]:
    """The buckets of each of N leaves: each leaf that joins takes one at a time from whoever then has most.

    Loads differ by one bucket at most. Raises `ValueError` where there are more leaves than buckets.
    """
    if not 1 <= shards <= BUCKETS:
        raise ValueError(f"{shards} leaves: between 1 and {BUCKETS} are possible")
    owned: list[list[int]] = [list(range(BUCKETS))]
    for _ in range(1, shards):
        joining: list[int] = []
        while len(joining) < BUCKETS // (len(owned) + 1):
            richest = max(owned, key=len)
            joining.append(richest.pop())
        owned.append(joining)
    return tuple(tuple(sorted(numbers)) for numbers in owned)


def leaf_of(key: str, shards: int) -> int:
    """The leaf that scrapes the targets with that key (a node's name, or an address)."""
    bucket = hashmod((key,), BUCKETS)
    return next(leaf for leaf, numbers in enumerate(buckets(shards)) if bucket in numbers)


def keep_bucket(leaf: int, shards: int) -> dict[str, Any]:
    """The relabel rule that keeps a leaf's own buckets."""
    return {
        "source_labels": [HASH_LABEL],
        "regex": "|".join(map(str, buckets(shards)[leaf])),
        "action": "keep",
    }


def into_bucket(label: str) -> dict[str, Any]:
    """The relabel rule that hashes a label into a bucket."""
    return {"source_labels": [label], "modulus": BUCKETS, "target_label": HASH_LABEL, "action": "hashmod"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """What one leaf is expected to carry, estimated from the snapshot and the declared budgets.

    `memory` is (expected, limit) in bytes.
    """

    number: int
    buckets: int
    nodes: int
    pods: int
    series: int

    @property
    def memory(self) -> tuple[int, int]:
        expected, limit = SERIES_BYTES
        return self.series * expected, self.series * limit


def scraped_pods(inputs: Inputs, service: Service) -> list[Pod]:
    """The pods of the snapshot that a service's job finds, once they have a node."""
    return [pod for pod in inputs.snapshot.select(service.namespace, service.pod_selector) if pod.node]


def plan(inputs: Inputs, jobs: Iterable[Job]) -> tuple[Leaf, ...]:
    """The leaves with their load; all zero where the snapshot is empty."""
    shards = inputs.cluster.shards
    nodes = {node.name for node in inputs.snapshot.nodes} | {pod.node for pod in inputs.snapshot.pods if pod.node}
    home = {node: leaf_of(node, shards) for node in sorted(nodes)}
    node_count, pod_count, series = [0] * shards, [0] * shards, [0] * shards
    for leaf in home.values():
        node_count[leaf] += 1
        series[leaf] += NODE_SERIES
    running = [pod for pod in inputs.snapshot.pods if pod.node and not pod.is_finished]
    for pod in running:
        series[home[pod.node]] += POD_SERIES
    if any(job.shard_by is ShardBy.ONCE for job in jobs):
        series[0] += OBJECT_SERIES * len(running)
    for service in inputs.platform.services_on(inputs.cluster.name):
        if service.metrics is None:
            continue
        for pod in scraped_pods(inputs, service):
            pod_count[home[pod.node]] += 1
            series[home[pod.node]] += service.metrics.series_per_pod
    return tuple(
        Leaf(number, len(numbers), node_count[number], pod_count[number], series[number])
        for number, numbers in enumerate(buckets(shards))
    )
