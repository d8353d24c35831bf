"""What a piece of the universe is called when people read about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pilothouse.inputs import Inputs
from pilothouse.platform.model import Network, Service
from pilothouse.policies.addresses import collapsed
from pilothouse.policies.content import read
from pilothouse.policies.universe import Universe
from pilothouse.problems import NOWHERE, Place


class Kind(StrEnum):
    SERVICE = "service"
    SYSTEM = "system"
    PODS = "pods"
    ADDRESSES = "addresses"


@dataclass(frozen=True, slots=True, order=True)
class Party:
    """One end of a group of connections. `name` is a service's key, a system peer's title, the workload of pods that
    nobody declares (`namespace/workload`), or addresses in words; `team` owns it, where it is a service."""

    kind: Kind
    name: str
    team: str = ""

    def __str__(self) -> str:
        return self.name


class Parties:
    def __init__(self, inputs: Inputs, universe: Universe) -> None:
        self.inputs = inputs
        self.universe = universe
        self._services: list[Service | None] = [None] * len(universe.classes)
        by_namespace: dict[str, list[Service]] = {}
        for service in inputs.platform.services_on(inputs.cluster.name):
            by_namespace.setdefault(service.namespace, []).append(service)
        for number, item in enumerate(universe.classes):
            for service in by_namespace.get(item.namespace, ()):
                if service.pod_selector.matches(item.labels):
                    self._services[number] = service
                    break
        baseline = read(inputs.content).baseline
        self._system = baseline.system_peers if baseline else ()
        self._private = baseline.private_ranges if baseline else ()

    def service(self, piece: int) -> Service | None:
        return self._services[piece] if self.universe.is_pod(piece) else None

    def place(self, piece: int) -> Place:
        service = self.service(piece)
        return service.place if service else NOWHERE

    def teams(self, piece: int) -> tuple[str, ...]:
        service = self.service(piece)
        return (service.team,) if service else ()

    def name(self, piece: int) -> str:
        return self.party(piece).name

    def party(self, piece: int) -> Party:
        if not self.universe.is_pod(piece):
            return self.addresses((piece,))
        service = self._services[piece]
        if service is not None:
            return Party(Kind.SERVICE, service.key, service.team)
        item = self.universe.classes[piece]
        for peer in self._system:
            if peer.namespace == item.namespace and peer.pod_selector.matches(item.labels):
                return Party(Kind.SYSTEM, peer.title)
        owner = item.pods[0].owner
        return Party(Kind.PODS, f"{item.namespace}/{owner.name if owner else item.pods[0].name}")

    def addresses(self, pieces: Iterable[int], limit: int = 4) -> Party:
        """Several atoms in words: a domain, the internet, the nodes, or ranges."""
        networks = collapsed(net for piece in pieces for net in self.universe.atom(piece).networks())
        cluster = self.inputs.cluster
        for domain, nets in sorted(cluster.domain_addresses.items()):
            if nets and networks == collapsed(nets):
                return Party(Kind.ADDRESSES, domain)
        if cluster.api_server and networks == collapsed(cluster.api_server):
            return Party(Kind.ADDRESSES, "the API server")
        if any(net.prefixlen == 0 for net in networks):
            return Party(Kind.ADDRESSES, "every address")
        size = sum(net.num_addresses for net in networks if net.version == 4)
        if size > 1 << 30:
            return Party(Kind.ADDRESSES, "the internet")
        return Party(Kind.ADDRESSES, _listed(networks, limit))


def _listed(networks: tuple[Network, ...], limit: int) -> str:
    tail = f" and {len(networks) - limit} more ranges" if len(networks) > limit else ""
    return ", ".join(map(str, networks[:limit])) + tail
