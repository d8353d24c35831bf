"""Buckets, leaves and what they carry."""

from __future__ import annotations

from collections import Counter

import pytest
from support.builders import cluster, inputs, pod, service

from pilothouse.collectors.metrics.model import Job, ShardBy
from pilothouse.collectors.metrics.shards import BUCKETS, buckets, hashmod, leaf_of, plan
from pilothouse.platform.model import Metrics


def test_the_hash_is_that_of_prometheus() -> None:
    # The value of TestRelabel in https://github.com/prometheus/prometheus/blob/main/model/relabel/relabel_test.go
    assert hashmod(["foo\nbar"], 1000) == 734
    assert hashmod(["foo", "bar"], 1000) == hashmod(["foo;bar"], 1000)


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 7, 16, 63, 64])
def test_every_bucket_has_one_leaf_and_loads_differ_by_little(shards: int) -> None:
    owned = buckets(shards)
    assert sorted(number for numbers in owned for number in numbers) == list(range(BUCKETS))
    sizes = [len(numbers) for numbers in owned]
    assert len(sizes) == shards
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shards", [0, 65])
def test_more_leaves_than_buckets_are_refused(shards: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 64"):
        buckets(shards)


@pytest.mark.parametrize("shards", range(1, 12))
def test_a_new_leaf_takes_its_share_and_nothing_else_moves(shards: int) -> None:
    names = [f"node-{number}" for number in range(4000)]
    moved = [(leaf_of(n, shards), leaf_of(n, shards + 1)) for n in names]
    assert all(after in (before, shards) for before, after in moved)
    share = sum(before != after for before, after in moved) / len(names)
    assert share <= 1 / (shards + 1) + 0.03


def test_load_is_spread_evenly_where_no_target_is_a_giant() -> None:
    for shards in (2, 4, 8):
        loads = Counter(leaf_of(f"10.0.{n // 250}.{n % 250}:9100", shards) for n in range(20_000))
        assert max(loads.values()) / (20_000 / shards) <= 1.1


def test_the_plan_counts_nodes_pods_and_series() -> None:
    pods = [pod(f"a/api.{n}", node=f"node-{n % 4}") for n in range(8)]
    pods += [pod("a/api.done", node="node-1", phase="Succeeded"), pod("a/api.new", node="")]
    given = inputs(
        [service("a/api", metrics=Metrics("http", series_per_pod=1000)), service("a/quiet")],
        pods=pods,
        on=cluster(shards=2),
    )
    leaves = plan(given, [])
    assert [leaf.number for leaf in leaves] == [0, 1]
    assert sum(leaf.nodes for leaf in leaves) == 4
    assert sum(leaf.pods for leaf in leaves) == 8
    assert sum(leaf.series for leaf in leaves) == 4 * 3000 + 8 * 60 + 8 * 1000
    assert leaves[0].memory == (leaves[0].series * 5000, leaves[0].series * 8000)
    once = plan(given, [Job("kube-state-metrics", "pod", shard_by=ShardBy.ONCE)])
    assert once[0].series - leaves[0].series == 8 * 50
    assert once[1].series == leaves[1].series


def test_an_empty_snapshot_is_no_load() -> None:
    assert [leaf.series for leaf in plan(inputs([], on=cluster(shards=3)), [])] == [0, 0, 0]
