"""Both ends of a connection between declared services: do they say the same?

A service that lists `ingress` has said the whole list, so that a connection needs both: egress at the
one end, ingress at the other. Where they disagree, that is one problem that names both teams.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pilothouse.labels import NAMESPACE_NAME_LABEL, LabelSelector
from pilothouse.platform.model import Edge, Platform, PodsPeer, PortRef, Protocol, Service, ServicePeer
from pilothouse.platform.selectors import may_overlap
from pilothouse.problems import Problem, error, warning

Ports = frozenset[tuple[Protocol, int, int]]
"""Ranges as (protocol, first, last)."""
_EVERY: Ports = frozenset((protocol, 1, 65535) for protocol in Protocol)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What is wrong between two services; the same on several clusters is said once."""

    what: str
    ports: str = ""


def ends(platform: Platform) -> Iterator[Problem]:
    """One problem per pair of services and kind of disagreement."""
    names = tuple(platform.clusters) or ("",)
    for source, target in _pairs(platform):
        together = [name for name in names if source.runs_on(name) and target.runs_on(name)]
        found: dict[_Finding, list[str]] = defaultdict(list)
        for name in together:
            finding = _compare(source, target, name)
            if finding:
                found[finding].append(name)
        for finding, on in found.items():
            yield _problem(source, target, finding, on if len(on) < len(together) else [])


def _pairs(platform: Platform) -> Iterator[tuple[Service, Service]]:
    """(from, to) of every connection that either end names."""
    seen: dict[tuple[str, str], None] = {}
    for service in platform.services.values():
        for edge in service.egress:
            if isinstance(edge.peer, ServicePeer):
                seen[service.key, str(edge.peer)] = None
        for edge in service.ingress or ():
            if isinstance(edge.peer, ServicePeer):
                seen[str(edge.peer), service.key] = None
    for source, target in sorted(seen):
        if source in platform.services and target in platform.services:
            yield platform.services[source], platform.services[target]


def _compare(source: Service, target: Service, cluster: str) -> _Finding | None:
    out = [edge for edge in source.egress if edge.holds_on(cluster)]
    declared = [edge for edge in out if edge.peer == ServicePeer(target.namespace, target.name)]
    listed_all = target.ingress
    listed = [
        edge
        for edge in listed_all or ()
        if edge.holds_on(cluster) and edge.peer == ServicePeer(source.namespace, source.name)
    ]
    perhaps_listed = any(
        edge.holds_on(cluster) and _may_mean(edge.peer, target, source)
        for edge in listed_all or ()
        if isinstance(edge.peer, PodsPeer)
    )
    perhaps_declared = any(_may_mean(edge.peer, source, target) for edge in out if isinstance(edge.peer, PodsPeer))
    if declared and listed_all is not None and not listed and not perhaps_listed:
        return _Finding("not-listed")
    if listed and not declared and not perhaps_declared:
        return _Finding("not-declared")
    if not declared or not listed:
        return None
    wanted, allowed = _ports(declared, target), _ports(listed, target)
    if not perhaps_listed and (missing := _without(wanted, allowed)):
        return _Finding("ports-not-listed", _say(missing, target))
    if not perhaps_declared and (unused := _without(allowed, wanted)):
        return _Finding("ports-not-declared", _say(unused, target))
    return None


def _may_mean(peer: object, declaring: Service, other: Service) -> bool:
    """Whether a peer by label may select the pods of `other`; in doubt, it does."""
    if not isinstance(peer, PodsPeer):
        return False
    if peer.namespace_selector is None:
        if declaring.namespace != other.namespace:
            return False
    else:
        name_of = LabelSelector.of({NAMESPACE_NAME_LABEL: other.namespace})
        if not may_overlap(peer.namespace_selector, name_of):
            return False
    return may_overlap(peer.pod_selector, other.pod_selector)


def _ports(edges: Iterable[Edge], target: Service) -> Ports:
    """What the edges open at the target; a name that the target lacks is another check's problem."""
    found: set[tuple[Protocol, int, int]] = set()
    for edge in edges:
        if not edge.ports:
            return _EVERY
        for ref in edge.ports:
            found.update(_resolve(ref, target))
    return frozenset(found)


def _resolve(ref: PortRef, target: Service) -> Iterator[tuple[Protocol, int, int]]:
    if not ref.name:
        yield ref.protocol or Protocol.TCP, ref.number, ref.end or ref.number
        return
    for port in target.ports:
        if port.name == ref.name and ref.protocol in (None, port.protocol):
            yield port.protocol, port.number, port.number


def _without(some: Ports, others: Ports) -> Ports:
    """The ranges of `some` of which a part lies in none of `others`."""
    return frozenset(item for item in some if not _covered(item, others))


def _covered(item: tuple[Protocol, int, int], others: Ports) -> bool:
    protocol, first, last = item
    for _, low, high in sorted(other for other in others if other[0] is protocol):
        if low <= first <= high:
            first = high + 1
    return first > last


def _say(ports: Ports, target: Service) -> str:
    if ports == _EVERY:
        return "every port"
    names = {(port.protocol, port.number): port.name for port in target.ports}
    words = []
    for protocol, first, last in sorted(ports, key=lambda item: (item[1], item[0])):
        name = names.get((protocol, first)) if first == last else None
        text = name or (str(first) if first == last else f"{first}-{last}")
        words.append(text if protocol is Protocol.TCP or name else f"{text}/{protocol}")
    return ("port " if len(words) == 1 else "ports ") + ", ".join(words)


def _problem(source: Service, target: Service, finding: _Finding, on: list[str]) -> Problem:
    where = f" (on {', '.join(on)})" if on else ""
    egress = next((edge for edge in source.egress if edge.peer == ServicePeer(target.namespace, target.name)), None)
    ingress = next(
        (edge for edge in target.ingress or () if edge.peer == ServicePeer(source.namespace, source.name)), None
    )
    at_source = egress.place if egress else source.place
    at_target = ingress.place if ingress else target.place
    report = error
    match finding.what:
        case "not-listed":
            message = f"`{source.key}` declares egress to `{target.key}`, which does not list it in its ingress{where}"
            hint = (
                f"team {target.team} adds `{_line('from', source, egress)}` to the ingress of {target.key},"
                f" or team {source.team} removes the egress"
            )
            place, related = at_source, at_target
        case "not-declared":
            message = f"`{target.key}` lists ingress from `{source.key}`, which declares no egress to it{where}"
            hint = (
                f"team {source.team} adds `{_line('to', target, ingress)}` to the egress of {source.key},"
                f" or team {target.team} removes the ingress"
            )
            place, related = at_target, at_source
        case "ports-not-listed":
            message = (
                f"`{source.key}` declares egress to `{target.key}` on {finding.ports},"
                f" which its ingress from there does not list{where}"
            )
            hint = (
                f"team {target.team} adds {finding.ports} to the ingress of {target.key},"
                f" or team {source.team} drops it from the egress"
            )
            place, related = at_source, at_target
        case _:
            message = (
                f"`{target.key}` lists ingress from `{source.key}` on {finding.ports},"
                f" to which that declares no egress{where}"
            )
            hint = f"team {target.team} drops {finding.ports} from the ingress of {target.key}"
            place, related = at_target, at_source
            report = warning
    return report(
        "platform/ends-disagree",
        message,
        place,
        hint,
        related=(related,),
        teams=tuple(sorted({source.team, target.team})),
        cluster=on[0] if len(on) == 1 else "",
    )


def _line(word: str, other: Service, edge: Edge | None) -> str:
    """The list item that the other end would have to write."""
    ports = f", ports: [{', '.join(str(port) for port in edge.ports)}]" if edge and edge.ports else ""
    return f"- {{{word}: {{service: {other.key}}}{ports}}}"
