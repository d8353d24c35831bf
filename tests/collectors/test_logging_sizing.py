"""The sizes that follow from a cluster, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import bundle_content, cluster, inputs, pod, service, snapshot

from pilothouse.collectors.logging import Analysis, analyse
from pilothouse.collectors.logging.sizing import Sizing
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Node
from pilothouse.platform.model import LoggingCapacity, Logs

GIB = 1024**3
MIB = 1024**2


def given_cluster(nodes: int, rate: int = 50 * 1024, pods: int = 1, retention: int = 30, **capacity: int) -> Inputs:
    """One service with so many pods spread over so many nodes."""
    names = [f"node-{n}" for n in range(nodes)]
    running = [pod(f"a/api-{n}", {"app": "api"}, node=names[n % nodes]) for n in range(pods)]
    made = inputs(
        [service("a/api", logs=Logs("json", rate, retention))], on=cluster(logging=LoggingCapacity(**capacity))
    )
    return replace(made, snapshot=snapshot(running, nodes=tuple(map(Node, names))))


def sized(analysis: Analysis) -> Sizing:
    assert analysis.sizing is not None
    return analysis.sizing


def codes(analysis: Analysis) -> list[str]:
    return [problem.code for problem in analysis.problems]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1024, 4 * MIB),
    st.sampled_from([1, 2, 4, 16, 30]),
    st.integers(1, 6),
    st.integers(60, 4 * 3600),
)
def test_in_flight_stays_below_the_setpoint_or_says_so(
    nodes: int, rate: int, heap: int, coordinating: int, outage: int
) -> None:
    analysis = analyse(
        given_cluster(
            nodes, rate, pods=nodes, heap_bytes=heap * GIB, coordinating_nodes=coordinating, outage_seconds=outage
        )
    )
    sizes = sized(analysis)
    assert sizes.in_flight <= sizes.setpoint or "logging/overloads-elasticsearch" in codes(analysis)
    assert sizes.chunk * 1.35 < 100 * MIB  # http.max_content_length
    assert 1 <= sizes.threads <= 8
    assert sizes.total_limit >= sizes.agent_rate * outage * 1.15 or "logging/buffer-exceeds-disk" in codes(analysis)
    assert sizes.total_limit > sizes.chunk
    assert sizes.ceiling > sizes.agent_rate or "logging/cannot-keep-up" in codes(analysis)
    assert sizes.request_timeout >= 30


def test_a_small_cluster() -> None:
    sizes = sized(analyse(given_cluster(3, heap_bytes=4 * GIB, coordinating_nodes=2)))
    assert (sizes.agents, sizes.threads) == (3, 1)
    assert sizes.setpoint == int(0.05 * 4 * GIB * 2)
    assert sizes.chunk == 6016 * 1024  # 8 MiB ÷ 1.35, in steps of 64 KiB
    assert sizes.in_flight <= sizes.setpoint


def test_busy_agents_get_more_threads() -> None:
    sizes = sized(analyse(given_cluster(1, rate=40 * MIB, heap_bytes=30 * GIB, outage_seconds=60)))
    assert sizes.threads == 3  # 40 MiB/s × 1.5 × 0.25 s ÷ 5.9 MiB
    assert sizes.drain_seconds < 2 * 60 * 1.05


def test_many_agents_get_smaller_chunks() -> None:
    small = sized(analyse(given_cluster(200, heap_bytes=4 * GIB, coordinating_nodes=2)))
    large = sized(analyse(given_cluster(10, heap_bytes=4 * GIB, coordinating_nodes=2)))
    assert small.chunk < large.chunk


def test_too_many_agents_for_the_heap() -> None:
    analysis = analyse(given_cluster(200, heap_bytes=GIB, coordinating_nodes=1))
    problem = next(item for item in analysis.problems if item.code == "logging/overloads-elasticsearch")
    assert problem.severity == "warning"
    assert "2 coordinating nodes" in problem.hint
    analysis = analyse(given_cluster(400, heap_bytes=GIB, coordinating_nodes=1))
    problem = next(item for item in analysis.problems if item.code == "logging/overloads-elasticsearch")
    assert problem.severity == "error"


def test_rates_that_cannot_be_carried() -> None:
    analysis = analyse(given_cluster(1, rate=500 * MIB, heap_bytes=GIB, coordinating_nodes=1))
    assert "logging/cannot-keep-up" in codes(analysis)
    assert ("backlog gone after", "never") in [(item.name, item.value) for item in sized(analysis).figures]


def test_a_buffer_larger_than_the_disk() -> None:
    analysis = analyse(given_cluster(1, rate=5 * MIB, outage_seconds=100_000))
    assert "logging/buffer-exceeds-disk" in codes(analysis)
    assert sized(analysis).total_limit == 20 * GIB


def test_rollover_and_shards() -> None:
    analysis = analyse(given_cluster(4, rate=20 * MIB, pods=8, retention=365, heap_bytes=30 * GIB, data_nodes=1))
    assert {"logging/rollover-too-fast", "logging/too-many-shards"} <= set(codes(analysis))
    busy = next(item for item in sized(analysis).classes if item.name == "365d")
    assert busy.primaries == 1
    assert busy.rollover_seconds < 3600


def test_undeclared_and_silent_pods() -> None:
    one = given_cluster(2)
    running = [
        *one.snapshot.pods,
        pod("b/x", node="node-0"),
        pod("b/y", node="node-0"),
        pod("b/z", node=""),
        pod("b/finished", node="node-0", phase="Succeeded"),
        pod("b/pending", node="node-0", phase="Pending"),
    ]
    sizes = sized(analyse(replace(one, snapshot=replace(one.snapshot, pods=tuple(running)))))
    assert sizes.undeclared_per_node == 2
    assert sizes.agent_rate == 3 * 50 * 1024
    assert next(item.rate for item in sizes.classes if item.name == "7d") == 3 * 50 * 1024


def test_nodes_are_taken_from_the_pods_or_said_to_be_unknown() -> None:
    assert codes(analyse(inputs([service("a/api")]))) == ["logging/no-nodes"]
    analysis = analyse(inputs([service("a/api")], pods=[pod("a/api-1", node="x"), pod("a/api-2", node="y")]))
    assert codes(analysis) == []
    assert sized(analysis).agents == 2


def test_the_setpoint_is_content() -> None:
    path = "collectors/fluentd/sizing.yaml"
    content = bundle_content()
    lower = bundle_content({path: content.files[path].text.replace("percent: 5", "percent: 2", 1)})
    before, after = sized(analyse(inputs([], content=content))), sized(analyse(inputs([], content=lower)))
    assert after.setpoint == int(before.setpoint * 2 / 5)
