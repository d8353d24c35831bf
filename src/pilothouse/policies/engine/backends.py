"""Where connections to a Kubernetes Service end: policies see them after the address and port were translated.

EndpointSlices say it; where the snapshot holds none for a Service (plain manifests), its selector and target ports do
(https://kubernetes.io/docs/concepts/services-networking/service/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pilothouse.inventory.model import EndpointSlice, KubeService, Pod, ServicePort, Snapshot
from pilothouse.labels import LabelSelector
from pilothouse.policies.engine.connections import ALL, PROTOCOLS, Connections


@dataclass(frozen=True, slots=True)
class Backend:
    """One end of connections to a Service: an address, or a pod without one; `service_port` is the port that leads
    there (0 where the slice does not say)."""

    address: str
    pod: str
    connections: Connections
    port: int = 0
    protocol: int = 6
    service_port: int = 0
    ready: bool = True
    """Whether traffic is sent there; policies may match it all the same."""


class _Services:
    def __init__(self, snapshot: Snapshot) -> None:
        self.services: Mapping[tuple[str, str], KubeService] = {
            (item.namespace, item.name): item for item in snapshot.services
        }
        self.slices: dict[tuple[str, str], list[EndpointSlice]] = {}
        for item in snapshot.endpoint_slices:
            self.slices.setdefault((item.namespace, item.service), []).append(item)
        self.by_address: dict[str, KubeService] = {}
        for service in snapshot.services:
            for ip in (*service.cluster_ips, *service.external_ips):
                if ip and ip != "None":
                    self.by_address[ip] = service


@lru_cache(maxsize=8)
def _services(snapshot: _ByIdentity) -> _Services:
    return _Services(snapshot.value)


class _ByIdentity:
    """A snapshot as a key: two are the same only when they are one object."""

    __slots__ = ("value",)

    def __init__(self, value: Snapshot) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.value is self.value


def service(snapshot: Snapshot, namespace: str, name: str) -> KubeService | None:
    return _services(_ByIdentity(snapshot)).services.get((namespace, name))


def service_at(snapshot: Snapshot, address: str) -> KubeService | None:
    """The Service that has this address (of the cluster, or an external one)."""
    return _services(_ByIdentity(snapshot)).by_address.get(address)


def backends(snapshot: Snapshot, namespace: str, name: str) -> tuple[Backend, ...]:
    """The backends of a Service, each port by itself; none for a Service that nobody knows."""
    known = _services(_ByIdentity(snapshot))
    slices = known.slices.get((namespace, name))
    found = known.services.get((namespace, name))
    if slices:
        return tuple(item for part in slices for item in _of_slice(part, found))
    return tuple(_selected(snapshot, found)) if found is not None and found.selector else ()


def _of_slice(part: EndpointSlice, owner: KubeService | None) -> Iterator[Backend]:
    ports = {port.name: port.port for port in owner.ports} if owner is not None else {}
    states = part.ready or (True,) * len(part.addresses)
    for address, target, ready in zip(part.addresses, part.targets, states, strict=True):
        pod = f"{part.namespace}/{target}" if target else ""
        if not part.ports:
            yield Backend(address, pod, ALL, ready=ready)
        for port in part.ports:
            number, protocol = port.port, PROTOCOLS[port.protocol]
            packets = Connections.of(protocol, number, number)
            yield Backend(address, pod, packets, number, protocol, ports.get(port.name, 0), ready)


def _selected(snapshot: Snapshot, found: KubeService) -> Iterator[Backend]:
    for pod in snapshot.select(found.namespace, LabelSelector.of(found.selector)):
        if not pod.is_endpoint and not pod.host_network:
            continue
        for port in found.ports:
            protocol = PROTOCOLS[port.protocol]
            for number in _targets(pod, port):
                for address in pod.ips or ("",):
                    packets = Connections.of(protocol, number, number)
                    yield Backend(address, pod.key, packets, number, protocol, port.port)


def _targets(pod: Pod, port: ServicePort) -> tuple[int, ...]:
    if isinstance(port.target, int):
        return (port.target,)
    return tuple(item.number for item in pod.ports if item.name == port.target and item.protocol == port.protocol)
