"""Sites made of raw manifests, for questions and explanations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from policies.reference import End, Packet

from pilothouse.inventory.parse import at, parse
from pilothouse.policies.ask import Answer, Profile, ask
from pilothouse.policies.ask import parse as parse_port
from pilothouse.policies.engine.decide import Outcome
from pilothouse.policies.site import Site, of_snapshot
from pilothouse.problems import Place, Severity
from policies import raw

_NAMES = {6: "TCP", 17: "UDP", 132: "SCTP"}


def site(*objects: Mapping[str, Any]) -> Site:
    """What these manifests make; none of them may have an error."""
    snapshot, problems = parse((each, at(Place("world"))) for each in objects)
    found = of_snapshot(snapshot)
    errors = [problem for problem in (*problems, *found.problems) if problem.severity is Severity.ERROR]
    assert not errors, errors
    return found


def answer(where: Site, source: str, destination: str, port: str = "", profile: str = "calico") -> Answer:
    return ask(where, source, destination, parse_port(port) if port else None, Profile(profile))


def verdict(where: Site, source: str, destination: str, port: str = "", profile: str = "calico") -> Outcome:
    return answer(where, source, destination, port, profile).verdict


def sentences(found: Answer) -> str:
    """Every sentence of an answer's basis, to look for some in."""
    return "\n".join(str(item) for item in (*found.basis, *(item for pair in found.pairs for item in pair.said.basis)))


def owned(pod: dict[str, Any], owner: str) -> dict[str, Any]:
    """The pod as one of a StatefulSet."""
    pod["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner, "uid": owner, "controller": True}
    ]
    return pod


def shop(*more: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Two namespaces: shop with web (two pods) and api, data with db. Ports: http 8080, and 5432 of the database."""
    return [
        raw.namespace("shop", team="shop"),
        raw.namespace("data", tier="data"),
        raw.node("n1", "192.168.0.1", "fd00:ffff::1"),
        raw.node("n2", "192.168.0.2"),
        owned(raw.pod("shop/web-0", "10.0.0.1 fd00::1", {"app": "web"}, "http=8080/TCP"), "web"),
        owned(raw.pod("shop/web-1", "10.0.0.2 fd00::2", {"app": "web"}, "http=8080/TCP", node="n2"), "web"),
        raw.pod("shop/api", "10.0.0.3", {"app": "api"}, "http=8080/TCP dns=53/UDP", node="n2"),
        raw.pod("data/db", "10.0.1.1", {"app": "db", "role": "main"}, "sql=5432/TCP"),
        *more,
    ]


def written(end: End) -> str:
    """An end of the reference evaluator as people type it."""
    if end.host:
        return f"host:{end.host}"
    return f"pod:{end.pod}" if end.pod else end.address


def port_of(packet: Packet) -> str:
    """A packet of the reference evaluator as people type it; its source port is left out."""
    if packet.protocol in _NAMES:
        return f"{packet.destination_port}/{_NAMES[packet.protocol]}"
    if packet.protocol in (1, 58):
        return f"{'icmp' if packet.protocol == 1 else 'icmp6'}:{packet.icmp_type}/{packet.icmp_code}"
    return f"proto:{packet.protocol}"


def can_be_typed(packet: Packet) -> bool:
    """Whether nothing of the packet is lost by typing it."""
    return packet.protocol not in _NAMES or (packet.destination_port > 0 and packet.source_port == 40000)


def applied(objects: Iterable[Mapping[str, Any]], changed: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The manifests with the changed ones in the place of those of their kind and name, or added."""

    def key(item: Mapping[str, Any]) -> tuple[str, str, str]:
        meta = item["metadata"]
        api = str(item["apiVersion"]).partition("/")[0]
        return (f"{api}/{item['kind']}", meta.get("namespace", ""), meta["name"])

    fresh = {key(item): item for item in changed}
    kept = [item for item in objects if key(item) not in fresh]
    return [*kept, *fresh.values()]
