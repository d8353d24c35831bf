"""What is learnt from flows is what is missing, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from pilothouse.inputs import Inputs
from pilothouse.platform.model import CidrPeer, Edge, Service, ServicePeer
from pilothouse.policies import edges
from pilothouse.policies.edges import Origin
from pilothouse.policies.engine.connections import PROTOCOLS
from pilothouse.policies.flows.learn import learn
from pilothouse.policies.flows.model import EndKind, Flow, FlowEnd, Observed
from pilothouse.policies.matching import Directory
from pilothouse.policies.rules import Direction
from pilothouse.workflows.policy_sites import open_site

BANK = Path(__file__).parents[3] / "examples" / "bank"
TODAY = date(2026, 11, 21)


@cache
def bank() -> Inputs:
    inputs = open_site(BANK, "prod", TODAY).site.inputs
    assert inputs is not None
    return inputs


def pod(key: str) -> FlowEnd:
    namespace, name = key.split("/")
    return FlowEnd(EndKind.POD, namespace, name)


def running(inputs: Inputs, service: str) -> FlowEnd:
    """The first pod of a service; a canary may mean another number by the same port name."""
    found = inputs.platform.services[service]
    pods = inputs.snapshot.select(found.namespace, found.pod_selector)
    return pod(next(item.key for item in pods if item.is_endpoint and "canary" not in item.name))


def flows_of_edges(inputs: Inputs) -> Iterator[Flow]:
    """One flow for each declared edge to a service or an address, DNS and the scrapes."""
    services = {item.key: item for item in inputs.platform.services_on(inputs.cluster.name)}
    directory = Directory(services, inputs.snapshot)
    for edge in edges.of(inputs):
        if edge.direction is Direction.INGRESS or not edge.needs_rule:
            continue
        source = running(inputs, edge.service)
        ends: list[tuple[FlowEnd, Service | None]] = [(running(inputs, key), services[key]) for key in edge.others]
        if isinstance(edge.peer, CidrPeer):
            address = edge.peer.network.network_address + (edge.peer.network.num_addresses > 1)
            ends.append((FlowEnd(EndKind.ADDRESS, address=str(address)), None))
        if edge.origin is Origin.DNS and not isinstance(edge.peer, CidrPeer):
            ends += [(pod(item.key), None) for item in directory.pods_of(edge.peer, "")][:1]
        for end, target in ends:
            for port in edge.ports:
                for protocol, number, _ in directory.numbers(port, target or services[edge.service]):
                    yield Flow(source, end, PROTOCOLS[protocol.value], number, count=2, bytes=9, action=Observed.ALLOW)


def without(inputs: Inputs, service: str, direction: Direction, peer: str) -> tuple[Inputs, Edge]:
    """The same, less the one edge of that service to that peer."""
    found = inputs.platform.services[service]
    listed = found.egress if direction is Direction.EGRESS else found.ingress or ()
    (gone,) = [edge for edge in listed if str(edge.peer) == peer]
    kept = tuple(edge for edge in listed if edge is not gone)
    less = replace(found, egress=kept) if direction is Direction.EGRESS else replace(found, ingress=kept)
    services = {**inputs.platform.services, service: less}
    return replace(inputs, platform=replace(inputs.platform, services=services)), gone


def test_what_is_declared_teaches_nothing() -> None:
    flows = list(flows_of_edges(bank()))
    assert len(flows) > 60
    found = learn(flows, bank())
    assert found.is_empty
    assert found.left == ()
    assert found.unknown.flows == 0


@pytest.mark.parametrize(
    ("service", "direction", "peer"),
    [
        ("payments/payments", Direction.EGRESS, "ledger/ledger"),
        ("channels/web-bff", Direction.EGRESS, "accounts/statements"),
        ("ledger/ledger", Direction.INGRESS, "payments/payments"),
        ("risk/fraud", Direction.EGRESS, "risk/features"),
    ],
)
def test_an_edge_that_is_taken_away_is_learnt_again(service: str, direction: Direction, peer: str) -> None:
    flows = list(flows_of_edges(bank()))
    less, gone = without(bank(), service, direction, peer)
    found = learn(flows, less)
    (line,) = found.lines
    assert (line.service, line.direction, line.edge) == (service, direction, gone)
    assert (line.amount.count, line.amount.bytes) == (2, 9)
    assert found.drafts == ()


def test_an_address_is_one_address_on_this_cluster() -> None:
    flow = Flow(running(bank(), "payments/settlement"), FlowEnd(EndKind.ADDRESS, address="198.51.100.77"), 6, 443)
    (line,) = learn([flow], bank()).lines
    assert isinstance(line.edge.peer, CidrPeer)
    assert str(line.edge.peer) == "198.51.100.77/32"
    assert line.edge.clusters == {"prod"}
    assert line.edge.reason == "seen in observed traffic"


def test_neighbouring_addresses_are_a_range_of_what_was_seen() -> None:
    source = running(bank(), "payments/settlement")
    seen = ("198.51.100.8", "198.51.100.9", "198.51.100.10", "198.51.100.77")
    flows = [Flow(source, FlowEnd(EndKind.ADDRESS, address=text), 6, 443, count=2, bytes=5) for text in seen]
    lines = {str(line.edge.peer): (line.amount.flows, line.amount.count) for line in learn(flows, bank()).lines}
    assert lines == {"198.51.100.8/31": (2, 4), "198.51.100.10/32": (1, 2), "198.51.100.77/32": (1, 2)}


def test_a_port_is_named_as_the_pod_means_it() -> None:
    less, gone = without(bank(), "payments/payments", Direction.EGRESS, "risk/fraud")
    canary = next(item for item in bank().snapshot.pods if item.name.startswith("fraud-canary"))
    number = next(port.number for port in canary.ports if port.name == "http")
    assert number != 8080
    source = running(bank(), "payments/payments")
    (line,) = learn([Flow(source, pod(canary.key), 6, number)], less).lines
    assert line.edge == gone
    (line, *_) = learn([Flow(source, pod(canary.key), 6, 8080)], less).lines
    assert [str(port) for port in line.edge.ports] == ["8080"]


def test_what_was_denied_teaches_nothing() -> None:
    flow = Flow(running(bank(), "accounts/statements"), running(bank(), "data/postgres"), 6, 5432)
    assert learn([replace(flow, action=Observed.DENY)], bank()).is_empty
    assert [line.service for line in learn([flow], bank()).lines] == ["accounts/statements", "data/postgres"]


def test_pods_that_nobody_declares_get_a_service() -> None:
    less = dict(bank().platform.services)
    gone = less.pop("accounts/statements")
    inputs = replace(bank(), platform=replace(bank().platform, services=less))
    caller = running(bank(), "accounts/statements")
    found = learn([Flow(caller, running(bank(), "risk/sanctions"), 6, 8080, count=4)], inputs)
    (draft,) = found.drafts
    assert (draft.key, draft.pod_selector, draft.team) == (gone.key, gone.pod_selector, "accounts")
    assert {port.name for port in draft.ports} >= {"http", "metrics"}
    assert ServicePeer("risk", "sanctions") in [
        line.edge.peer for line in found.lines if line.service == gone.key and line.direction is Direction.EGRESS
    ]


def test_a_list_that_begins_keeps_those_who_came_without_one() -> None:
    services = dict(bank().platform.services)
    services["risk/sanctions"] = replace(services["risk/sanctions"], ingress=None)
    inputs = replace(bank(), platform=replace(bank().platform, services=services))
    stranger = next(item for item in inputs.snapshot.pods if item.namespace == "monitoring" and "grafana" in item.name)
    found = learn([Flow(pod(stranger.key), running(inputs, "risk/sanctions"), 6, 8080)], inputs)
    peers = {str(line.edge.peer): line.amount.flows for line in found.lines}
    assert peers["payments/payments"] == 0
    assert sum(peers.values()) == 1
    assert all(line.direction is Direction.INGRESS for line in found.lines)


def test_what_follows_from_other_fields_and_what_has_no_port_get_no_line() -> None:
    scraper = next(item for item in bank().snapshot.pods if item.name.startswith("prometheus-leaf"))
    scrape = Flow(pod(scraper.key), running(bank(), "payments/payments"), 6, 9999)
    ping = Flow(running(bank(), "accounts/statements"), running(bank(), "data/postgres"), 1, None)
    found = learn([scrape, ping], bank())
    assert found.is_empty
    assert [item.reason for item in found.left] == [
        "Prometheus is reached by what a service declares besides: `metrics`, `secrets` or `exposure`",
        "an edge has ports, and this protocol has none",
    ]
