"""What a piece of the universe is called when people read about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Pod
from pilothouse.platform.model import Network, Service
from pilothouse.policies.addresses import collapsed
from pilothouse.policies.content import SystemPeer, read
from pilothouse.policies.engine.universe import Piece, Universe
from pilothouse.problems import NOWHERE, Place


class Kind(StrEnum):
    SERVICE = "service"
    SYSTEM = "system"
    PODS = "pods"
    HOST = "host"
    ADDRESSES = "addresses"
    GROUP = "group"
    """Many at once: every pod, or every pod of a namespace."""


@dataclass(frozen=True, slots=True, order=True)
class Party:
    """One end of a group of connections. `name` is a service's key, a system peer's title, the workload of pods that
    nobody declares (`namespace/workload`), a host endpoint, or addresses in words; `team` owns it, where it is a
    service."""

    kind: Kind
    name: str
    team: str = ""

    def __str__(self) -> str:
        return self.name


class Parties:
    """Names for the pieces of one universe; without declarations (`inputs` None) by workload alone."""

    def __init__(self, inputs: Inputs | None, universe: Universe) -> None:
        self.inputs = inputs
        self.universe = universe
        self._services: list[Service | None] = [None] * len(universe.pieces)
        self._found: dict[int, Party] = {}
        self._networks: dict[tuple[int, ...], tuple[Network, ...]] = {}
        self._system: tuple[SystemPeer, ...] = ()
        if inputs is not None:
            self._claim(inputs)
            baseline = read(inputs.content).baseline
            self._system = baseline.system_peers if baseline else ()

    def _claim(self, inputs: Inputs) -> None:
        by_namespace: dict[str, list[Service]] = {}
        for service in inputs.platform.services_on(inputs.cluster.name):
            by_namespace.setdefault(service.namespace, []).append(service)
        for number, piece in enumerate(self.universe.pieces):
            for service in by_namespace.get(piece.namespace, ()) if piece.pods else ():
                if service.pod_selector.matches(piece.labels):
                    self._services[number] = service
                    break

    def service(self, piece: int) -> Service | None:
        return self._services[piece] if self.universe.is_endpoint(piece) else None

    def place(self, piece: int) -> Place:
        service = self.service(piece)
        return service.place if service else NOWHERE

    def teams(self, piece: int) -> tuple[str, ...]:
        service = self.service(piece)
        return (service.team,) if service else ()

    def name(self, piece: int) -> str:
        return self.party(piece).name

    def party(self, piece: int) -> Party:
        found = self._found.get(piece)
        if found is None:
            found = self._found[piece] = self._party(piece)
        return found

    def _party(self, piece: int) -> Party:
        if not self.universe.is_endpoint(piece):
            return self.addresses((piece,))
        service = self._services[piece]
        if service is not None:
            return Party(Kind.SERVICE, service.key, service.team)
        item = self.universe.pieces[piece]
        if item.host is not None:
            return Party(Kind.HOST, item.name)
        for peer in self._system:
            if peer.namespace == item.namespace and peer.pod_selector.matches(item.labels):
                return Party(Kind.SYSTEM, peer.title)
        return Party(Kind.PODS, workload(item))

    def addresses(self, pieces: Iterable[int], limit: int = 4) -> Party:
        """Several regions in words: a domain, the internet, the nodes, or ranges."""
        networks = self._collapsed(tuple(pieces))
        if self.inputs is not None:
            cluster = self.inputs.cluster
            for domain in self.inputs.known_domains:
                nets = self.inputs.domain_addresses(domain)
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

    def _collapsed(self, pieces: tuple[int, ...]) -> tuple[Network, ...]:
        found = self._networks.get(pieces)
        if found is None:
            found = collapsed(net for piece in pieces for net in self.universe.region(piece).networks())
            self._networks[pieces] = found
        return found


def workload(piece: Piece) -> str:
    """`namespace/workload` of pods, or the pod's own name where nothing owns it."""
    return f"{piece.namespace}/{pod_workload(piece.pods[0])}"


def pod_workload(pod: Pod) -> str:
    return pod.owner.name if pod.owner else pod.name


def _listed(networks: tuple[Network, ...], limit: int) -> str:
    tail = f" and {len(networks) - limit} more ranges" if len(networks) > limit else ""
    return ", ".join(map(str, networks[:limit])) + tail
