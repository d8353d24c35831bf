"""What declarations name: every label, port and range that a universe must be cut by to be held against them."""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.inputs import Inputs
from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform.model import CidrPeer, Edge, Network, PodsPeer, Service
from pilothouse.policies.content import Baseline, PolicyContent, read
from pilothouse.policies.engine.universe import Vocabulary
from pilothouse.policies.selectors import from_labels


def declared(inputs: Inputs) -> Vocabulary:
    """The vocabulary of the services, the cluster and the baseline (where it can be read)."""
    content = read(inputs.content)
    services = tuple(inputs.platform.services_on(inputs.cluster.name))
    terms = (term for selector in _selectors(services, content.baseline) for term in from_labels(selector).terms())
    names = {port.name for service in services for port in service.ports}
    names |= {port.name for service in services for edge in _edges(service) for port in edge.ports}
    return Vocabulary.of(terms, names - {""}, _ranges(inputs, services, content))


def _edges(service: Service) -> tuple[Edge, ...]:
    return (*service.egress, *(service.ingress or ()))


def _selectors(services: tuple[Service, ...], baseline: Baseline | None) -> Iterator[LabelSelector]:
    for service in services:
        yield service.pod_selector
        for edge in _edges(service):
            if isinstance(edge.peer, PodsPeer):
                yield edge.peer.pod_selector
    if baseline is not None:
        for peer in baseline.system_peers:
            yield peer.pod_selector
        for item in baseline.exempt_pods:
            yield LabelSelector((), (Requirement(item.label, "In", item.values),))
        for invariant in baseline.invariants:
            for ends in invariant.ends:
                if ends.pod_selector is not None:
                    yield ends.pod_selector


def _ranges(inputs: Inputs, services: tuple[Service, ...], content: PolicyContent) -> Iterator[Network]:
    cluster, baseline = inputs.cluster, content.baseline
    if baseline is not None:
        yield from baseline.private_ranges
        for item in content.refused_on(cluster):
            yield item.network
        for invariant in baseline.invariants:
            for ends in invariant.ends:
                yield from ends.networks
    yield from (*cluster.cluster_networks, *cluster.api_server, *cluster.node_local_dns)
    for domain in inputs.known_domains:
        yield from inputs.domain_addresses(domain)
    for service in services:
        for edge in _edges(service):
            if isinstance(edge.peer, CidrPeer):
                yield edge.peer.network
