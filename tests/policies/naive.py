"""A second evaluator, as plain as can be: one packet at a time, straight from the manifests.

Slow and without any cleverness, so that it can be read against the definition of each field.
It shares no code with `pilothouse.policies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from pilothouse.inventory.model import Pod


@dataclass(frozen=True)
class World:
    pods: tuple[Pod, ...]
    namespaces: Mapping[str, Mapping[str, str]]
    policies: tuple[Mapping[str, Any], ...]


End = Pod | str
"""A pod, or an address outside."""


def allowed(world: World, source: End, destination: End, protocol: str, port: int) -> bool:
    """Whether the packet passes both ends."""
    return side(world, "Egress", source, destination, destination, protocol, port) and side(
        world, "Ingress", destination, source, destination, protocol, port
    )


def side(world: World, direction: str, own: End, peer: End, destination: End, protocol: str, port: int) -> bool:
    if isinstance(own, str):
        return True
    isolated = False
    for policy in world.policies:
        if policy["kind"] not in ("NetworkPolicy", "StagedKubernetesNetworkPolicy", "StagedNetworkPolicy"):
            continue
        calico = "projectcalico" in policy["apiVersion"] and policy["kind"] != "StagedKubernetesNetworkPolicy"
        spec = policy["spec"]
        namespace = policy["metadata"]["namespace"]
        if own.namespace != namespace:
            continue
        selects = calico_label(spec["selector"], own.labels) if calico else selector(spec["podSelector"], own.labels)
        if not selects or direction not in types(spec, calico):
            continue
        isolated = True
        for rule in spec.get(direction.lower()) or []:
            if calico:
                if calico_matches(world, rule, peer, protocol, port):
                    return True
            elif matches(world, rule, direction, namespace, peer, destination, protocol, port):
                return True
    return not isolated


def types(spec: Mapping[str, Any], calico: bool) -> list[str]:
    given = spec.get("types" if calico else "policyTypes")
    if given:
        return list(given)
    return ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def matches(
    world: World,
    rule: Mapping[str, Any],
    direction: str,
    namespace: str,
    peer: End,
    destination: End,
    protocol: str,
    port: int,
) -> bool:
    peers = rule.get("from" if direction == "Ingress" else "to")
    if peers and not any(peer_matches(world, item, namespace, peer) for item in peers):
        return False
    ports = rule.get("ports")
    return not ports or any(port_matches(item, destination, protocol, port) for item in ports)


def peer_matches(world: World, item: Mapping[str, Any], namespace: str, peer: End) -> bool:
    if "ipBlock" in item:
        block = item["ipBlock"]
        addresses = [peer] if isinstance(peer, str) else list(peer.ips)
        return any(
            inside(address, block["cidr"]) and not any(inside(address, net) for net in block.get("except", []))
            for address in addresses
        )
    if isinstance(peer, str):
        return False
    if "namespaceSelector" in item:
        if not selector(item["namespaceSelector"], world.namespaces[peer.namespace]):
            return False
    elif peer.namespace != namespace:
        return False
    return "podSelector" not in item or selector(item["podSelector"], peer.labels)


def port_matches(item: Mapping[str, Any], destination: End, protocol: str, port: int) -> bool:
    if item.get("protocol", "TCP") != protocol:
        return False
    wanted = item.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        if isinstance(destination, str):
            return False
        return any(p.name == wanted and p.protocol == protocol and p.number == port for p in destination.ports)
    return wanted <= port <= item.get("endPort", wanted)


def inside(address: str, cidr: str) -> bool:
    network = ip_network(cidr, strict=False)
    parsed = ip_address(address)
    return parsed.version == network.version and parsed in network


def selector(data: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    for key, value in data.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for item in data.get("matchExpressions", []):
        key, values = item["key"], item.get("values", [])
        holds = {
            "In": key in labels and labels[key] in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[item["operator"]]
        if not holds:
            return False
    return True


def calico_label(text: str, labels: Mapping[str, str]) -> bool:
    """Only `key == 'value'` and `all()`, which is all that the random cases use."""
    if text == "all()":
        return True
    key, _, value = text.partition(" == ")
    return labels.get(key) == value.strip("'")


def calico_matches(world: World, rule: Mapping[str, Any], peer: End, protocol: str, port: int) -> bool:
    """Egress rules towards global network sets."""
    destination = rule["destination"]
    addresses = [peer] if isinstance(peer, str) else list(peer.ips)
    if not any(inside(address, net) for net in nets(world.policies, destination["selector"]) for address in addresses):
        return False
    if "protocol" in rule and rule["protocol"] != protocol:
        return False
    ports = destination.get("ports")
    if not ports:
        return True
    for item in ports:
        first, _, last = str(item).partition(":")
        if int(first) <= port <= int(last or first):
            return True
    return False


def nets(policies: Iterable[Mapping[str, Any]], text: str) -> list[str]:
    return [
        net
        for item in policies
        if item["kind"] == "GlobalNetworkSet" and calico_label(text, item["metadata"]["labels"])
        for net in item["spec"]["nets"]
    ]
