"""Buffers, threads and timeouts that follow from the cluster, and what Elasticsearch needs for the volume.

Symbols: N agents (one per node), T flush threads, C chunk bytes, e growth of a chunk as a bulk request,
W seconds per bulk, b burst interval, H heap of an Elasticsearch node, r bytes per second of an agent, D seconds
of outage. The setpoint for N·T·C·e is 5 % of H per coordinating node, half of the 10 % above which
Elasticsearch rejects: https://www.elastic.co/docs/reference/elasticsearch/index-settings/pressure

Rates are the declared ones, which are ceilings, so what does not fit because of them is a warning.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pilothouse.collectors.logging.content import Settings
from pilothouse.collectors.logging.services import Treated
from pilothouse.collectors.logging.units import in_words as _size
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Pod
from pilothouse.platform.model import Service
from pilothouse.problems import Problem, error, info, warning
from pilothouse.reports import plural

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class ClassSize:
    """What one retention class takes. Bytes, bytes per second, seconds; `shards` include replicas."""

    name: str
    days: int
    rate: float
    primaries: int
    rollover_seconds: float
    storage: int
    shards: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One derived number: its name, value and unit in words, and the formula it follows from."""

    name: str
    value: str
    formula: str


@dataclass(frozen=True)
class Sizing:
    """Sizes in bytes, times in seconds, rates in bytes per second."""

    agents: int
    agent_rate: float
    """Of the busiest agent."""
    total_rate: float
    setpoint: int
    hard_limit: int
    chunk: int
    threads: int
    total_limit: int
    flush_interval: int
    burst_interval: float
    request_timeout: int
    retry_max_interval: int
    ceiling: float
    drain_seconds: float
    in_flight: int
    classes: tuple[ClassSize, ...]
    pods_per_node: Mapping[str, int]
    """Per service: the most pods that one node holds, at least 1."""
    undeclared_per_node: int = 1
    """The most pods of no declared service that one node holds, at least 1."""
    figures: tuple[Figure, ...] = ()


def derive(inputs: Inputs, settings: Settings, treated: tuple[Treated, ...]) -> tuple[Sizing, list[Problem]]:
    """The sizes for that cluster, and what does not fit."""
    problems: list[Problem] = []
    cluster, rules = inputs.cluster, settings.sizing
    capacity = cluster.logging
    nodes = {node.name for node in inputs.snapshot.nodes} or {pod.node for pod in inputs.snapshot.pods if pod.node}
    agents = max(1, len(nodes))
    if not nodes:
        problems.append(
            info(
                "logging/no-nodes",
                f"no node of {cluster.name} is known, so the log pipeline is sized for a single agent",
                cluster.place,
                "give a snapshot that holds the nodes",
                cluster=cluster.name,
            )
        )
    per_node, per_service, others, class_rates = _rates(inputs, settings, treated)
    total = sum(class_rates.values())
    busiest = max([*per_node.values(), total / agents])

    setpoint = int(capacity.heap_bytes * rules.in_flight.percent / 100 * capacity.coordinating_nodes)
    hard = int(capacity.heap_bytes * rules.in_flight.hard_percent / 100 * capacity.coordinating_nodes)
    growth = rules.in_flight.expansion
    share = setpoint / agents / growth  # T·C that one agent may have in flight
    target = rules.bulk.target / growth
    # As many threads as the busiest agent needs to carry its rate and to catch up after an outage, not more.
    cycle = rules.bulk.mean_seconds + rules.burst_interval
    wanted_rate = busiest * (1 + 1 / rules.drain_factor)
    chunk = max(rules.chunk.smallest, _whole(min(target, share)))
    fit = max(1, int(share // chunk))
    threads = max(1, min(rules.threads.most, fit, math.ceil(wanted_rate * cycle / chunk)))
    in_flight = math.ceil(agents * threads * chunk * growth)
    ceiling = threads * chunk / cycle
    if in_flight > setpoint:
        problems.append(_overload(inputs, agents, chunk, growth, in_flight, setpoint, hard))
    outage = capacity.outage_seconds
    total_limit = max(_whole_up(busiest * outage * rules.buffer_margin), chunk * threads * 4)
    if busiest >= ceiling:
        problems.append(
            warning(
                "logging/cannot-keep-up",
                f"the busiest agent of {cluster.name} reads {_rate(busiest)} and can send {_rate(ceiling)}: its buffer "
                "fills until it stops reading",
                cluster.place,
                "lower the declared rates, or give Elasticsearch more heap or coordinating nodes (`logging` of the "
                "Cluster)",
                cluster=cluster.name,
            )
        )
    drain = busiest * outage / (ceiling - busiest) if ceiling > busiest else math.inf
    if total_limit > rules.node_disk:
        fits = int(rules.node_disk / (busiest * rules.buffer_margin))
        problems.append(
            warning(
                "logging/buffer-exceeds-disk",
                f"an outage of {outage} s on {cluster.name} needs a buffer of {_size(total_limit)} on the busiest "
                f"node, and `nodeDisk` allows {_size(rules.node_disk)}",
                cluster.place,
                f"declare an outage of at most {fits} s, lower the rates, or raise `nodeDisk` in "
                "collectors/fluentd/sizing.yaml",
                cluster=cluster.name,
            )
        )
        total_limit = rules.node_disk
    classes = _classes(inputs, settings, class_rates, problems)
    timeout = max(rules.request_timeout, math.ceil(4 * rules.bulk.p99_seconds))
    sizing = Sizing(
        agents=agents,
        agent_rate=busiest,
        total_rate=total,
        setpoint=setpoint,
        hard_limit=hard,
        chunk=chunk,
        threads=threads,
        total_limit=total_limit,
        flush_interval=rules.flush_interval,
        burst_interval=rules.burst_interval,
        request_timeout=timeout,
        retry_max_interval=rules.retry_max_interval,
        ceiling=ceiling,
        drain_seconds=drain,
        in_flight=in_flight,
        classes=classes,
        pods_per_node=per_service,
        undeclared_per_node=others,
    )
    return _explained(sizing, inputs, settings), problems


def _rates(
    inputs: Inputs, settings: Settings, treated: tuple[Treated, ...]
) -> tuple[Counter[str], dict[str, int], int, dict[str, float]]:
    """Bytes per second by node, most pods on a node by service and of no service, bytes per second by class."""
    per_node: Counter[str] = Counter()
    per_service: dict[str, int] = {}
    classes: dict[str, float] = {item.name: 0.0 for item in settings.retention.classes}
    claimed: set[str] = set()
    for item in treated:
        service = item.service
        pods = writers(inputs, service)
        claimed.update(pod.key for pod in pods)
        on_node = Counter(pod.node for pod in pods if pod.node)
        per_service[service.key] = max(on_node.values(), default=1)
        for node, count in on_node.items():
            per_node[node] += item.rate * count
        # A service that is declared and not running yet counts with one pod.
        classes[item.retention] += item.rate * max(1, len(pods))
    undeclared = settings.pipeline.undeclared
    name = settings.retention.class_for(undeclared.retention)
    others: Counter[str] = Counter()
    for pod in inputs.snapshot.pods:
        if pod.key not in claimed and _writes(pod) and name:
            classes[name.name] += undeclared.rate
            if pod.node:
                per_node[pod.node] += undeclared.rate
                others[pod.node] += 1
    return per_node, per_service, max(others.values(), default=1), classes


def writers(inputs: Inputs, service: Service) -> tuple[Pod, ...]:
    """The pods of a service that write lines now."""
    return tuple(pod for pod in inputs.snapshot.select(service.namespace, service.pod_selector) if _writes(pod))


def _writes(pod: Pod) -> bool:
    return not pod.is_finished and pod.phase != "Pending"


def _whole(number: float) -> int:
    """Rounded down to 64 KiB, so that a figure reads well."""
    return int(number // 65536) * 65536


def _whole_up(number: float) -> int:
    return math.ceil(number / MIB) * MIB


def _overload(
    inputs: Inputs, agents: int, chunk: int, growth: float, in_flight: int, setpoint: int, hard: int
) -> Problem:
    capacity = inputs.cluster.logging
    per_coordinator = setpoint / capacity.coordinating_nodes
    needed = math.ceil(in_flight / per_coordinator)
    report = error if in_flight > hard else warning
    return report(
        "logging/overloads-elasticsearch",
        f"{agents:,} agents of {inputs.cluster.name} with one thread and chunks of {_size(chunk)} can have "
        f"{_size(in_flight)} in flight, above {_size(setpoint)}: what {capacity.coordinating_nodes} coordinating nodes "
        f"with {_size(capacity.heap_bytes)} of heap take safely",
        inputs.cluster.place,
        f"declare {needed} coordinating nodes, or the same share of heap, in `logging` of the Cluster",
        cluster=inputs.cluster.name,
    )


def _classes(
    inputs: Inputs, settings: Settings, rates: Mapping[str, float], problems: list[Problem]
) -> tuple[ClassSize, ...]:
    retention, capacity = settings.retention, inputs.cluster.logging
    sizes: list[ClassSize] = []
    for item in retention.classes:
        rate = rates[item.name]
        stored = rate * retention.storage_factor
        primaries = max(1, min(capacity.data_nodes, math.ceil(rate / retention.shards.bytes_per_second)))
        by_size = retention.rollover.bytes * primaries / stored if stored else math.inf
        period = min(by_size, retention.rollover.max_age)
        indices = math.ceil(item.days * 86400 / period) + 1
        sizes.append(
            ClassSize(
                item.name,
                item.days,
                rate,
                primaries,
                period,
                int(stored * 86400 * item.days * (1 + item.replicas)),
                indices * primaries * (1 + item.replicas),
            )
        )
        if period < retention.rollover.min_period:
            problems.append(
                warning(
                    "logging/rollover-too-fast",
                    f"the index of class {item.name} on {inputs.cluster.name} would roll over every {period / 60:.0f} "
                    f"minutes at {_rate(rate)}",
                    inputs.cluster.place,
                    "add data nodes (`logging.dataNodes`), lower the rates, or shorten the retention",
                    cluster=inputs.cluster.name,
                )
            )
    shards = sum(size.shards for size in sizes)
    most = retention.shards.per_data_node * capacity.data_nodes
    if shards > most:
        problems.append(
            warning(
                "logging/too-many-shards",
                f"the declared retention makes {shards:,} shards on {inputs.cluster.name}, and {capacity.data_nodes} "
                f"data nodes hold {most:,}",
                inputs.cluster.place,
                "add data nodes, shorten retentions, or raise `rollover.size` in "
                "collectors/elasticsearch/retention.yaml",
                cluster=inputs.cluster.name,
            )
        )
    return tuple(sizes)


def _explained(sizing: Sizing, inputs: Inputs, settings: Settings) -> Sizing:
    capacity, rules = inputs.cluster.logging, settings.sizing
    cycle = rules.bulk.mean_seconds + rules.burst_interval
    drain = "never" if math.isinf(sizing.drain_seconds) else f"{sizing.drain_seconds:.0f} s"
    figures = [
        Figure("agents", f"{sizing.agents:,}", "N = nodes of the snapshot"),
        Figure("rate, all agents", _rate(sizing.total_rate), "R = Σ rate × pods, undeclared pods included"),
        Figure("rate, busiest agent", _rate(sizing.agent_rate), "r = the largest Σ rate × pods of a node"),
        Figure(
            "setpoint in flight",
            _size(sizing.setpoint),
            f"{rules.in_flight.percent:g} % × {_size(capacity.heap_bytes)} heap × {capacity.coordinating_nodes} "
            f"coordinating nodes (rejection starts at {rules.in_flight.hard_percent:g} %)",
        ),
        Figure(
            "chunk_limit_size",
            _size(sizing.chunk),
            f"C = min({_size(rules.bulk.target)} bulk, setpoint ÷ N) ÷ e, e = {rules.in_flight.expansion:g}, at least "
            f"{_size(rules.chunk.smallest)}",
        ),
        Figure(
            "flush_thread_count",
            str(sizing.threads),
            f"T = ⌈r × (1 + 1 ÷ {rules.drain_factor:g}) × (W + b) ÷ C⌉, W + b = {cycle:g} s, while N·T·C·e ≤ setpoint, "
            f"at most {rules.threads.most}",
        ),
        Figure("worst case in flight", _size(sizing.in_flight), "N·T·C·e"),
        Figure("an agent sends at most", _rate(sizing.ceiling), "T·C ÷ (W + b)"),
        Figure(
            "total_limit_size",
            _size(sizing.total_limit),
            f"r × D × {rules.buffer_margin:g}, D = {capacity.outage_seconds} s, at most {_size(rules.node_disk)}",
        ),
        Figure("backlog gone after", drain, "r × D ÷ (T·C ÷ (W + b) − r)"),
        Figure(
            "request_timeout",
            f"{sizing.request_timeout} s",
            f"max({rules.request_timeout} s, 4 × {rules.bulk.p99_seconds:g} s)",
        ),
    ]
    for item in sizing.classes:
        figures.append(
            Figure(
                f"class {item.name}",
                f"{_size(item.storage)}, {plural(item.primaries, 'primary', 'primaries')}, "
                f"{plural(item.shards, 'shard')}",
                f"{_rate(item.rate)} × {item.days} days × {settings.retention.storage_factor:g} × (1 + replicas); "
                f"rolls over every {item.rollover_seconds / 3600:.0f} h",
            )
        )
    return Sizing(**{name: getattr(sizing, name) for name in sizing.__dataclass_fields__} | {"figures": tuple(figures)})


def _rate(number: float) -> str:
    return f"{_size(number)}/s"
