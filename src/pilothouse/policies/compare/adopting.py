"""What ends once a namespace is enforced, as far as declarations and the snapshot tell it.

Isolation changes nearly everything at once, so that a list of connections is no answer to "what breaks?". These are the
ones that somebody relies on, or may: pods that nobody declares and the Services that lead to them, ports of Services
that nobody could reach any longer, and what is declared at one end only. Observed flows say more (`flows.promotion`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.inventory.model import KubeService, Snapshot
from pilothouse.policies.adoption import Mode, NamespaceMode
from pilothouse.policies.compare.diff import Diff, diff
from pilothouse.policies.compare.groups import Change, Isolation, What, change_data, isolation_data
from pilothouse.policies.edges import Disagreement, Edges, ServiceEdge
from pilothouse.policies.engine import Engine, Packet, Reach
from pilothouse.policies.engine.backends import Backend, backends
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.parties import pod_workload
from pilothouse.policies.site import Site


@dataclass(frozen=True, slots=True)
class Undeclared:
    """A running pod that no Service document selects; `services` are the Kubernetes Services that lead to it."""

    pod: str
    workload: str
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreached:
    """A port of a Kubernetes Service (`namespace/name`) whose backends somebody reaches now, and then nobody."""

    service: str
    port: str
    pods: tuple[str, ...]


@dataclass(frozen=True)
class Adopting:
    """One governed namespace. Where it is enforced already nothing more ends, and only `refused` and `lapsed` may stand
    there. `ends` are all connections that end, `isolation` the pods that come under policy."""

    mode: NamespaceMode
    pods: int = 0
    undeclared: tuple[Undeclared, ...] = ()
    unreached: tuple[Unreached, ...] = ()
    refused: tuple[Disagreement, ...] = ()
    lapsed: tuple[ServiceEdge, ...] = ()
    ends: tuple[Change, ...] = ()
    isolation: tuple[Isolation, ...] = ()

    @property
    def namespace(self) -> str:
        return self.mode.namespace

    @property
    def enforced(self) -> bool:
        return self.mode.mode is Mode.ENFORCED

    @property
    def cuts(self) -> bool:
        """Whether something that somebody may rely on ends."""
        return bool(self.undeclared or self.unreached or self.refused or self.lapsed)


def adopting(now: Site, enforced: Site, modes: Mapping[str, NamespaceMode], edges: Edges) -> tuple[Adopting, ...]:
    """Every governed namespace, those that are not enforced first. `enforced` is the site as if all of them were."""
    found = diff(now, enforced)
    snapshot = now.snapshot
    services: dict[str, list[KubeService]] = {}
    for item in snapshot.services:
        services.setdefault(item.namespace, []).append(item)
    rows = []
    for name, mode in modes.items():
        if not mode.mode.governs:
            continue
        own = services.get(name, [])
        waits = mode.mode is not Mode.ENFORCED
        rows.append(
            Adopting(
                mode,
                sum(1 for pod in snapshot.pods_by_namespace.get(name, ()) if pod.is_endpoint),
                tuple(_undeclared(snapshot, mode, own)),
                tuple(_unreached(snapshot, now.engine, enforced.engine, own)) if waits else (),
                tuple(item for item in edges.disagreements if name in _spaces(item.source, item.destination)),
                tuple(edge for edge in edges.expired if name in _spaces(edge.service)),
                _ends(found, name) if waits else (),
                tuple(item for item in found.isolation if item.namespace == name and item.begins),
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.enforced, row.namespace)))


def _spaces(*keys: str) -> set[str]:
    return {key.partition("/")[0] for key in keys}


def _ends(found: Diff, namespace: str) -> tuple[Change, ...]:
    return tuple(item for item in found.changes if item.what is not What.APPEARS and namespace in item.spaces)


def _undeclared(snapshot: Snapshot, mode: NamespaceMode, services: Iterable[KubeService]) -> Iterator[Undeclared]:
    if not mode.undeclared:
        return
    leading: dict[str, dict[str, None]] = {}
    for service in services:
        for item in backends(snapshot, service.namespace, service.name):
            leading.setdefault(item.pod, {})[service.name] = None
    wanted = set(mode.undeclared)
    for pod in snapshot.pods_by_namespace.get(mode.namespace, ()):
        if pod.name in wanted:
            yield Undeclared(pod.name, pod_workload(pod), tuple(leading.get(pod.key, ())))


def _unreached(snapshot: Snapshot, was: Engine, now: Engine, services: Iterable[KubeService]) -> Iterator[Unreached]:
    for service in services:
        behind: dict[tuple[int, int, int], list[Backend]] = {}
        for item in backends(snapshot, service.namespace, service.name):
            if item.pod and item.port:
                behind.setdefault((item.protocol, item.service_port, item.port), []).append(item)
        for (protocol, port, target), ends in behind.items():
            packet = Packet(protocol, target)
            pods = sorted({item.pod for item in ends})
            if any(_reached(now, pod, packet) for pod in pods) or not any(_reached(was, pod, packet) for pod in pods):
                continue
            text = str(packet) if port in (0, target) else f"{Packet(protocol, port)} (of its pods {packet})"
            yield Unreached(f"{service.namespace}/{service.name}", text, tuple(pods))


def _reached(engine: Engine, pod: str, packet: Packet) -> bool:
    """Whether anybody but itself reaches a pod."""
    universe = engine.universe
    return any(_somebody(engine.reach, piece, universe.family[universe.version(piece)], packet)
               for piece in universe.pieces_of(pod))  # fmt: skip


def _somebody(reach: Reach, piece: int, family: int, packet: Packet) -> bool:
    peers = 0
    for packets, allowed, conditional in reach.ingress[piece].cells:
        if packets.contains(packet):
            peers |= allowed | conditional
    return any(reach.possible(source, piece).contains(packet) for source in bits(peers & family & ~(1 << piece)))


# ---------------------------------------------------------------- as data


def as_data(found: Iterable[Adopting]) -> list[dict[str, Any]]:
    """Namespaces as JSON can hold them."""
    return [
        {
            "namespace": row.namespace,
            "mode": row.mode.mode.value,
            "declared": row.mode.declared.value,
            "pods": row.pods,
            "undeclared": [
                {"pod": item.pod, "workload": item.workload, "services": list(item.services)} for item in row.undeclared
            ],
            "unreached": [
                {"service": item.service, "port": item.port, "pods": list(item.pods)} for item in row.unreached
            ],
            "refused": [
                {
                    "source": item.source,
                    "destination": item.destination,
                    "ports": [str(port) for port in item.ports],
                    "teams": list(item.teams),
                    "place": str(item.place),
                }
                for item in row.refused
            ],
            "lapsed": [
                {
                    "service": edge.service,
                    "peer": str(edge.peer),
                    "ports": edge.ports_text,
                    "expires": str(edge.expires),
                    "place": str(edge.place),
                }
                for edge in row.lapsed
            ],
            "ends": [change_data(change) for change in row.ends],
            "isolation": [isolation_data(item) for item in row.isolation],
        }
        for row in found
    ]
