"""Every name that a document mentions: is there such a team, service, cluster, port?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from pilothouse.platform.model import (
    Alert,
    Edge,
    Metrics,
    Platform,
    PodsPeer,
    Port,
    PortRef,
    Protocol,
    Secret,
    Sensitivity,
    Service,
    ServicePeer,
)
from pilothouse.problems import Place, Problem, error, nearest, one_of, warning


def references(platform: Platform) -> Iterator[Problem]:
    """Unknown teams, services, clusters and ports, and what a service says of itself that does not fit."""
    for service in platform.services.values():
        yield from _service(platform, service)
    for profile in platform.profiles.values():
        yield from _clusters(platform, profile.clusters, profile.place, (), f"profile `{profile.name}`")


def _service(platform: Platform, service: Service) -> Iterator[Problem]:
    teams = (service.team,)
    if service.team not in platform.teams and _is_missing(platform, "Team", service.team):
        yield error(
            "platform/unknown-team",
            f"`{service.key}` belongs to team `{service.team}`, which is not declared",
            service.team_place if service.team_place.path else service.place,
            _hint(platform, service.team, platform.teams),
            teams=teams,
        )
    if service.sensitivity is Sensitivity.HIGH and service.ingress is None:
        yield error(
            "platform/missing-ingress",
            f"`{service.key}` is of high sensitivity and does not list who may reach it",
            service.place,
            "add `ingress:` with the whole list; `ingress: []` is nobody",
            teams=teams,
        )
    yield from _own_ports(service)
    yield from _metrics(service)
    yield from _clusters(platform, service.clusters, service.place, teams, f"`{service.key}`")
    for direction, edges in (("ingress", service.ingress or ()), ("egress", service.egress)):
        for edge in edges:
            yield from _edge(platform, service, edge, direction)
        yield from _repeated(service, edges, direction)
    items: tuple[Alert | Secret, ...] = (*service.alerts, *service.secrets)
    for item in items:
        yield from _clusters(platform, item.clusters, item.place, teams, f"`{service.key}`")
        yield from _never(service, item.clusters, item.place)


def _own_ports(service: Service) -> Iterator[Problem]:
    first_with: dict[tuple[str | int, Protocol], Port] = {}
    for port in service.ports:
        for value, what in ((port.name, f"the name `{port.name}`"), (port.number, f"the number {port.number}")):
            first = first_with.setdefault((value, port.protocol), port)
            if first is not port:
                yield error(
                    "platform/duplicate-port",
                    f"{what} stands for two {port.protocol} ports of `{service.key}`",
                    port.place,
                    "give each port a name and a number of its own",
                    related=(first.place,),
                    teams=(service.team,),
                )
                break


def _metrics(service: Service) -> Iterator[Problem]:
    metrics: Metrics | None = service.metrics
    if metrics is None:
        return
    port = next((p for p in service.ports if p.name == metrics.port and p.protocol is Protocol.TCP), None)
    if port is None:
        names = [p.name for p in service.ports if p.protocol is Protocol.TCP]
        yield error(
            "platform/unknown-port",
            f"`{service.key}` has no TCP port `{metrics.port}` to scrape",
            metrics.place,
            nearest(metrics.port, names) or one_of(names),
            teams=(service.team,),
        )


def _edge(platform: Platform, service: Service, edge: Edge, direction: str) -> Iterator[Problem]:
    teams = (service.team,)
    yield from _clusters(platform, edge.clusters, edge.place, teams, f"the {direction} of `{service.key}`")
    yield from _never(service, edge.clusters, edge.place)
    target: Service | None = service if direction == "ingress" else None
    if isinstance(edge.peer, ServicePeer):
        other = platform.services.get(str(edge.peer))
        if other is None:
            if _is_missing(platform, "Service", str(edge.peer)):
                yield error(
                    "platform/unknown-service",
                    f"the {direction} of `{service.key}` names service `{edge.peer}`, which is not declared",
                    edge.place,
                    _service_hint(platform, edge.peer),
                    teams=teams,
                )
        else:
            yield from _apart(platform, service, other, edge, direction)
            target = target or other
    for ref in edge.ports:
        yield from _port(service, edge, ref, target, direction)


def _port(service: Service, edge: Edge, ref: PortRef, target: Service | None, direction: str) -> Iterator[Problem]:
    """`target` is the declared service whose ports the edge means, where there is one."""
    teams = tuple(sorted({service.team, target.team})) if target else (service.team,)
    if target is None:
        if ref.name and direction == "egress" and not isinstance(edge.peer, ServicePeer | PodsPeer):
            yield error(
                "platform/unknown-port",
                f"the egress of `{service.key}` names port `{ref.name}`, and {edge.peer} has no named ports",
                edge.place,
                "write the port's number",
                teams=teams,
            )
        return
    if ref.name:
        if not any(p.name == ref.name and ref.protocol in (None, p.protocol) for p in target.ports):
            names = [port.name for port in target.ports]
            protocol = f" over {ref.protocol}" if ref.protocol else ""
            yield error(
                "platform/unknown-port",
                f"the {direction} of `{service.key}` names port `{ref.name}`{protocol},"
                f" which `{target.key}` does not have",
                edge.place,
                (nearest(ref.name, [n for n in names if n != ref.name]) or one_of(names))
                if names
                else "declare its `ports`",
                related=(target.place,),
                teams=teams,
            )
    elif target.ports and not any(_covers(ref, port) for port in target.ports):
        yield warning(
            "platform/undeclared-port",
            f"the {direction} of `{service.key}` opens port {ref}, which `{target.key}` does not declare",
            edge.place,
            f"its ports are {', '.join(f'{port.name} ({port.number})' for port in target.ports)}",
            related=(target.place,),
            teams=teams,
        )


def _covers(ref: PortRef, port: Port) -> bool:
    protocol = ref.protocol or Protocol.TCP
    return port.protocol is protocol and ref.number <= port.number <= (ref.end or ref.number)


def _apart(platform: Platform, service: Service, other: Service, edge: Edge, direction: str) -> Iterator[Problem]:
    """The two ends never run on the same cluster under this edge."""
    names = [name for name in platform.clusters if service.runs_on(name) and edge.holds_on(name)]
    if names and not any(other.runs_on(name) for name in names):
        yield warning(
            "platform/never-holds",
            f"the {direction} of `{service.key}` names `{other.key}`, which runs on none of {', '.join(names)}",
            edge.place,
            f"`{other.key}` runs on {', '.join(sorted(other.clusters))}",
            related=(other.place,),
            teams=tuple(sorted({service.team, other.team})),
        )


def _never(service: Service, clusters: frozenset[str], place: Place) -> Iterator[Problem]:
    if clusters and service.clusters and not clusters & service.clusters:
        yield warning(
            "platform/never-holds",
            f"this holds on {', '.join(sorted(clusters))}, and `{service.key}` does not run there",
            place,
            f"`{service.key}` runs on {', '.join(sorted(service.clusters))}",
            teams=(service.team,),
        )


def _repeated(service: Service, edges: Iterable[Edge], direction: str) -> Iterator[Problem]:
    for one, other in combinations(edges, 2):
        if one.peer == other.peer and one.ports == other.ports and one.clusters == other.clusters:
            yield warning(
                "platform/repeated-edge",
                f"the {direction} of `{service.key}` says the same of {one.peer} twice",
                other.place,
                "remove one of them",
                related=(one.place,),
                teams=(service.team,),
            )


def _clusters(
    platform: Platform, names: frozenset[str], place: Place, teams: tuple[str, ...], whose: str
) -> Iterator[Problem]:
    for name in sorted(names):
        if name not in platform.clusters and _is_missing(platform, "Cluster", name):
            yield error(
                "platform/unknown-cluster",
                f"{whose} names cluster `{name}`, which is not declared",
                place,
                _hint(platform, name, platform.clusters),
                teams=teams,
            )


def _is_missing(platform: Platform, kind: str, key: str) -> bool:
    """False where it is declared but its document has a problem of its own."""
    return f"{kind} {key}" not in platform.unreadable


def _hint(platform: Platform, name: str, known: Iterable[str]) -> str:
    known = list(known)
    return nearest(name, known) or _or_unread(platform, one_of(known))


def _service_hint(platform: Platform, peer: ServicePeer) -> str:
    """Most often the namespace is the mistake."""
    same_name = [key for key in platform.services if key.endswith(f"/{peer.name}")]
    if same_name:
        return f"did you mean `{same_name[0]}`?"
    return nearest(str(peer), platform.services) or _or_unread(
        platform, "declare it, or name what is no declared service with podSelector and namespaceSelector"
    )


def _or_unread(platform: Platform, hint: str) -> str:
    """It may stand in a file that could not be read to its end."""
    files = sorted(item for item in platform.unreadable if " " not in item)
    return f"{hint}; or mend {files[0]} first, which could not be read" if files else hint
