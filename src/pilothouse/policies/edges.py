"""What every service talks to: its declared edges and those that follow from its other fields.

Each edge says why it is there and where that was written. The same list serves the derivation
of policies, the proof, and the catalogue page "what does it talk to".

Meanings:

- An `egress` to a service holds when that service accepts it: one without an `ingress` list accepts
  whoever declares egress to it, one with a list has said the whole list.
- An edge narrowed to other clusters is left out; one past its `expires` is set apart (`Edges.expired`).
- An implied edge counts as declared. Where the traffic never meets a policy (the node's probes, the
  shipping of logs by the node's agent), `needs_rule` is false: it is shown, and no rule is derived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from functools import cached_property

from pilothouse.inputs import Inputs
from pilothouse.platform.model import (
    CidrPeer,
    Cluster,
    Edge,
    Exposure,
    Peer,
    PortRef,
    Service,
    ServicePeer,
)
from pilothouse.policies.content import Baseline, SystemPeer, read
from pilothouse.policies.matching import Directory
from pilothouse.policies.rules import Direction
from pilothouse.problems import NOWHERE, Place, Problem, Problems, ordered, warning


class Origin(StrEnum):
    """Why an edge is there."""

    DECLARED = "declared"
    ACCEPTED = "accepted"
    """An ingress that follows from another service's egress, because this service lists no ingress."""
    METRICS = "metrics"
    SECRETS = "secrets"
    EXPOSURE = "exposure"
    DNS = "dns"
    PROBES = "probes"
    LOGS = "logs"


@dataclass(frozen=True, slots=True)
class NodePeer:
    """The node that a pod runs on."""

    title: str

    def __str__(self) -> str:
        return self.title


End = Peer | SystemPeer | NodePeer


@dataclass(frozen=True, slots=True)
class ServiceEdge:
    """One edge of one service, seen from it. `ports` empty means every port; they are ports of the destination.

    `others` are the keys of the declared services at the other end. `agreed` is false for an egress that
    none of them accepts.
    """

    service: str
    direction: Direction
    peer: End
    ports: tuple[PortRef, ...]
    origin: Origin
    reason: str = ""
    expires: date | None = None
    others: tuple[str, ...] = ()
    needs_rule: bool = True
    agreed: bool = True
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def is_implied(self) -> bool:
        return self.origin not in (Origin.DECLARED, Origin.ACCEPTED)

    @property
    def ports_text(self) -> str:
        """The ports as declared; "-" where no policy is needed for the edge."""
        return ", ".join(str(port) for port in self.ports) or ("every port" if self.needs_rule else "-")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """`source` declares egress to `destination`, whose `ingress` list does not accept it."""

    source: str
    destination: str
    ports: tuple[PortRef, ...]
    teams: tuple[str, str]
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    list_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Edges:
    """Every edge on one cluster, by service key, sorted; and what was found on the way."""

    by_service: Mapping[str, tuple[ServiceEdge, ...]] = field(default_factory=dict)
    disagreements: tuple[Disagreement, ...] = ()
    expired: tuple[ServiceEdge, ...] = ()
    """Declared edges past their last day: they have no rule, and `platform.checks` warns about them."""
    problems: Problems = ()

    def of(self, service: str, direction: Direction | None = None) -> tuple[ServiceEdge, ...]:
        found = self.by_service.get(service, ())
        return found if direction is None else tuple(edge for edge in found if edge.direction is direction)

    @cached_property
    def callers(self) -> Mapping[str, tuple[str, ...]]:
        """Service → the declared services that reach it, sorted."""
        found: dict[str, set[str]] = {}
        for edges in self.by_service.values():
            for edge in edges:
                if edge.direction is Direction.EGRESS and edge.agreed:
                    for other in edge.others:
                        found.setdefault(other, set()).add(edge.service)
        return {key: tuple(sorted(value)) for key, value in sorted(found.items())}

    def __iter__(self) -> Iterator[ServiceEdge]:
        for edges in self.by_service.values():
            yield from edges


def of(inputs: Inputs) -> Edges:
    """The edges of every service that runs on the cluster. Empty, with problems, where the baseline cannot be read."""
    content = read(inputs.content)
    if content.baseline is None:
        return Edges(problems=content.problems)
    return _Builder(inputs, content.baseline).build()


class _Builder:
    def __init__(self, inputs: Inputs, baseline: Baseline) -> None:
        self.inputs = inputs
        self.cluster = inputs.cluster
        self.baseline = baseline
        self.services = {service.key: service for service in inputs.platform.services_on(inputs.cluster.name)}
        self.directory = Directory(self.services, inputs.snapshot)
        self.problems: list[Problem] = []
        self.disagreements: list[Disagreement] = []
        self.expired: list[ServiceEdge] = []
        self.found: dict[str, list[ServiceEdge]] = {key: [] for key in self.services}

    def build(self) -> Edges:
        self.ingress = {
            key: None if service.ingress is None else list(self.live(service, Direction.INGRESS))
            for key, service in self.services.items()
        }
        for service in self.services.values():
            self.found[service.key] += self.ingress[service.key] or []
            for edge in self.live(service, Direction.EGRESS):
                self.egress(service, edge)
            self.imply(service)
        return Edges(
            {key: tuple(sorted(found, key=_order)) for key, found in sorted(self.found.items())},
            tuple(self.disagreements),
            tuple(self.expired),
            ordered(self.problems),
        )

    def live(self, service: Service, direction: Direction) -> Iterator[ServiceEdge]:
        """The declared edges of one direction that hold on this cluster today."""
        for edge in (service.ingress or ()) if direction is Direction.INGRESS else service.egress:
            if not edge.holds_on(self.cluster.name):
                continue
            if edge.expired(self.inputs.today):
                self.expired.append(self.declared(service, edge, direction))
                continue
            yield self.declared(service, edge, direction)

    def declared(self, service: Service, edge: Edge, direction: Direction) -> ServiceEdge:
        return ServiceEdge(
            service.key,
            direction,
            edge.peer,
            edge.ports,
            Origin.DECLARED,
            edge.reason,
            edge.expires,
            self.directory.services_of(edge.peer, service.namespace),
            place=edge.place,
        )

    def egress(self, service: Service, edge: ServiceEdge) -> None:
        """Adds the egress, and its other end where that service lists no ingress."""
        if isinstance(edge.peer, ServicePeer) and not edge.others:
            self.problems.append(
                warning(
                    "policies/peer-not-here",
                    f"{service.key} declares egress to {edge.peer}, which does not run on cluster {self.cluster.name}",
                    edge.place,
                    "narrow the edge with `clusters`, or declare the service for this cluster",
                    teams=(service.team,),
                    cluster=self.cluster.name,
                )
            )
        agreed = not edge.others
        for other in edge.others:
            listed = self.ingress[other]
            if listed is None:
                agreed = True
                self.found[other].append(
                    ServiceEdge(
                        other,
                        Direction.INGRESS,
                        ServicePeer(service.namespace, service.name),
                        edge.ports,
                        Origin.ACCEPTED,
                        f"{service.key} declares egress to it",
                        edge.expires,
                        (service.key,),
                        place=edge.place,
                    )
                )
            elif any(self.accepts(service, edge, item, other) for item in listed):
                agreed = True
            elif isinstance(edge.peer, ServicePeer):
                # A peer by label says "whichever pods carry it"; only a service by name was meant personally.
                self.disagreements.append(
                    Disagreement(
                        service.key,
                        other,
                        edge.ports,
                        (service.team, self.services[other].team),
                        edge.place,
                        self.services[other].place,
                    )
                )
        self.found[service.key].append(replace(edge, agreed=agreed))

    def accepts(self, source: Service, egress: ServiceEdge, ingress: ServiceEdge, destination: str) -> bool:
        """Whether that item of the destination's list lets some of the egress in."""
        if isinstance(ingress.peer, CidrPeer) or source.key not in ingress.others:
            return False
        if not egress.ports or not ingress.ports:
            return True
        target = self.services[destination]
        wanted, listed = (
            [self.directory.numbers(port, target) for port in ports] for ports in (egress.ports, ingress.ports)
        )
        return any(
            one[0] == other[0] and one[1] <= other[2] and other[1] <= one[2]
            for wants in wanted
            for one in wants
            for lists in listed
            for other in lists
        )

    def imply(self, service: Service) -> None:
        key, baseline, cluster = service.key, self.baseline, self.cluster
        add = self.found[key].append
        if service.metrics is not None:
            ports: tuple[PortRef, ...] = (PortRef(name=service.metrics.port),)
            place = service.metrics.place
            for peer in baseline.metrics:
                reason = f"{peer.title} scrapes {service.metrics.path}"
                add(ServiceEdge(key, Direction.INGRESS, peer, ports, Origin.METRICS, reason, place=place))
        secrets = [secret for secret in service.secrets if secret.holds_on(cluster.name)]
        for peer in baseline.secrets if secrets else ():
            reason = "reads " + ", ".join(sorted(secret.path for secret in secrets))
            place = secrets[0].place
            add(ServiceEdge(key, Direction.EGRESS, peer, peer.ports, Origin.SECRETS, reason, place=place))
        if service.exposure is Exposure.EDGE and service.ports:
            own = [port for port in service.ports if service.metrics is None or port.name != service.metrics.port]
            ports = tuple(PortRef(name=port.name, protocol=port.protocol) for port in own or service.ports)
            for peer in baseline.edge:
                reason = "reached from outside (exposure: edge)"
                add(ServiceEdge(key, Direction.INGRESS, peer, ports, Origin.EXPOSURE, reason, place=service.place))
        for end, ports, reason, place in dns_ends(baseline, cluster):
            add(ServiceEdge(key, Direction.EGRESS, end, ports, Origin.DNS, reason, place=place))
        if service.ports:
            add(
                ServiceEdge(
                    key,
                    Direction.INGRESS,
                    NodePeer("the node's kubelet"),
                    (),
                    Origin.PROBES,
                    "probes come from the pod's own node, which no policy can shut out",
                    needs_rule=False,
                    place=service.place,
                )
            )
        for peer in baseline.logs:
            reason = f"{peer.title} reads the log files on the node; the pod opens no connection"
            place = service.logs.place if service.logs else service.place
            add(ServiceEdge(key, Direction.EGRESS, peer, (), Origin.LOGS, reason, needs_rule=False, place=place))


def dns_ends(baseline: Baseline, cluster: Cluster) -> list[tuple[End, tuple[PortRef, ...], str, Place]]:
    """(end, ports, reason, place) of what every pod may ask for names: the DNS pods and the node's own cache."""
    found: list[tuple[End, tuple[PortRef, ...], str, Place]] = [
        (peer, peer.ports, "every pod may resolve names", peer.place) for peer in baseline.dns
    ]
    ports = tuple(dict.fromkeys(port for peer in baseline.dns for port in peer.ports))
    for network in cluster.node_local_dns:
        found.append((CidrPeer(network), ports, "the node's own DNS cache", cluster.place))
    return found


_ORIGINS = {origin: rank for rank, origin in enumerate(Origin)}


def _order(edge: ServiceEdge) -> tuple[str, int, str, str]:
    return (edge.direction, _ORIGINS[edge.origin], str(edge.peer), ",".join(map(str, edge.ports)))
