"""Policies written in Calico's own kinds throughout, for clusters that say so (`calico.policyKinds: calico`).

A rule of Kubernetes becomes as many of Calico's as it takes: one for each kind of peer, address family and protocol.
Source of the shapes: https://docs.tigera.io/calico/latest/reference/resources/networkpolicy. Kubernetes' selectors find
pods alone and Calico's find NetworkSets as well, so that those of peers ask for `projectcalico.org/orchestrator` too;
Calico's own translation of Kubernetes' policies does the same
(libcalico-go/lib/backend/k8s/conversion of https://github.com/projectcalico/calico).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from pilothouse import labels
from pilothouse.inventory.model import Snapshot
from pilothouse.labels import LabelSelector
from pilothouse.platform.model import Network, PortRef, Protocol
from pilothouse.policies.content import SystemPeer
from pilothouse.policies.manifests import ALLOW_ORDER, Manifest, calico_name, calico_selector

DENY_ORDER = 2000
"""Of the default deny: it has no rules, so that its order only says that it comes last."""
RULE_ANNOTATION = "pilothouse.dev/rule"
"""On a rule: why it is there, and the line of the declaration that asked for it."""
_PODS = "projectcalico.org/orchestrator == 'k8s'"
_PEERS = {"ingress": "from", "egress": "to"}
_ENDS = {"ingress": "source", "egress": "destination"}


class Rules:
    """Rules of one direction, each once, in the order in which they came, with every line that asked for it."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Manifest, list[str]]] = {}

    def add(self, found: Iterable[Manifest], line: str) -> None:
        for rule in found:
            lines = self._found.setdefault(repr(rule), (rule, []))[1]
            if line not in lines:
                lines.append(line)

    def __bool__(self) -> bool:
        return bool(self._found)

    def manifests(self) -> list[Manifest]:
        return [
            {**rule, "metadata": {"annotations": {RULE_ANNOTATION: "; ".join(lines)}}}
            for rule, lines in self._found.values()
        ]


def rules(direction: str, rule: Mapping[str, Any]) -> Iterator[Manifest]:
    """A rule of a Kubernetes NetworkPolicy as rules of Calico's. `direction` is ingress or egress."""
    for entity in _entities(rule[_PEERS[direction]]):
        for protocol, ports in _by_protocol(rule.get("ports") or ()):
            data: Manifest = {"action": "Allow"}
            if protocol:
                data["protocol"] = protocol
            if direction == "egress":
                data["destination"] = {**entity, "ports": ports} if ports else entity
            else:
                data["source"] = entity
                if ports:
                    data["destination"] = {"ports": ports}
            yield data


def _entities(peers: Iterable[Mapping[str, Any]]) -> list[Manifest]:
    found: list[Manifest] = []
    nets: dict[int, list[str]] = {}
    for peer in peers:
        block = peer.get("ipBlock")
        if block is None:
            found.append(_selected(peer))
        elif block.get("except"):
            found.append({"nets": [block["cidr"]], "notNets": list(block["except"])})
        else:
            version = ip_address(block["cidr"].partition("/")[0]).version
            if version not in nets:  # one rule has ranges of one family
                nets[version] = []
                found.append({"nets": nets[version]})
            nets[version].append(block["cidr"])
    return found


def _selected(peer: Mapping[str, Any]) -> Manifest:
    pods = calico_selector(LabelSelector.from_dict(peer.get("podSelector") or {}))
    data: Manifest = {"selector": _PODS if pods == "all()" else f"{pods} && {_PODS}"}
    if "namespaceSelector" in peer:
        data["namespaceSelector"] = calico_selector(LabelSelector.from_dict(peer["namespaceSelector"]))
    return data


def _by_protocol(ports: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[int | str]]]:
    """(protocol, ports as Calico writes them); ("", nothing) for every port."""
    found: dict[str, list[int | str]] = {}
    for item in ports:
        text = f"{item['port']}:{item['endPort']}" if "endPort" in item else item["port"]
        found.setdefault(item["protocol"], []).append(text)
    return list(found.items()) or [("", [])]


def network_policy(
    meta: Manifest, selector: LabelSelector, calico_api: str, order: float, **directions: Sequence[Manifest]
) -> Manifest:
    """In the default tier; a direction that is named is isolated, even with no rules."""
    spec: Manifest = {
        "tier": "default",
        "order": order,
        "selector": calico_selector(selector),
        "types": [name.capitalize() for name in _ENDS if name in directions],
        **{name: list(directions[name]) for name in _ENDS if directions.get(name)},
    }
    named = {**meta, "name": calico_name(meta["name"], calico_api)}
    return {"apiVersion": calico_api, "kind": "NetworkPolicy", "metadata": named, "spec": spec}


def allowing(
    meta: Manifest, selector: LabelSelector, calico_api: str, direction: str, found: Sequence[Manifest]
) -> Manifest:
    return network_policy(meta, selector, calico_api, ALLOW_ORDER, **{direction: found})


# ---------------------------------------------------------------- Services


def service_rules(peer: SystemPeer, plain: Mapping[str, Any], snapshot: Snapshot) -> Iterator[Manifest]:
    """Egress to a system peer (`plain` as Kubernetes says it), by its Service where that comes to the same.

    Calico's `services` match takes no ports: it opens whatever the Service leads to. So for each protocol the Service
    stands there only where it selects the peer's pods, and leads to them at the peer's ports and to nothing else; else
    the pods' labels do.
    """
    exact = _led_to(peer, snapshot)
    for rule in rules("egress", plain):
        if rule.get("protocol") in exact:
            services = {"name": peer.service, "namespace": peer.namespace}
            yield {"action": "Allow", "protocol": rule["protocol"], "destination": {"services": services}}
        else:
            yield rule


def _led_to(peer: SystemPeer, snapshot: Snapshot) -> frozenset[str]:
    """The protocols of which the Service has just what the peer's ports and pods are."""
    if not any(
        (item.namespace, item.name) == (peer.namespace, peer.service)
        and LabelSelector.of(item.selector) == peer.pod_selector
        for item in snapshot.services
    ):
        return frozenset()
    wanted: dict[str, set[tuple[str, int]]] = {}
    pods = [pod for pod in snapshot.select(peer.namespace, peer.pod_selector) if pod.is_endpoint]
    for port in peer.ports:
        wanted.setdefault(_protocol(port), set()).update((ip, port.number) for pod in pods for ip in pod.ips)
    found: dict[str, set[tuple[str, int]]] = {}
    for item in snapshot.endpoint_slices:
        if peer.service and (item.namespace, item.service) == (peer.namespace, peer.service):
            for target in item.ports:
                found.setdefault(target.protocol, set()).update((ip, target.port) for ip in item.addresses)
    return frozenset(protocol for protocol, ends in wanted.items() if ends and ends == found.get(protocol))


def _protocol(port: PortRef) -> str:
    return (port.protocol or Protocol.TCP).value


# ---------------------------------------------------------------- what is refused before all else


def tier(name: str, order: float, cluster: str, calico_api: str, part: str) -> Manifest:
    """A tier of ours; what its policies do not refuse goes on to the next."""
    meta = {"name": name, "labels": {**labels.ownership(cluster), part: "tier"}}
    whole = int(order) if order == int(order) else order
    return {"apiVersion": calico_api, "kind": "Tier", "metadata": meta, "spec": {"order": whole}}


def refusing(
    meta: Manifest, selector: LabelSelector, calico_api: str, tier_name: str, refused: Sequence[tuple[Network, str]]
) -> Manifest:
    """Denies egress to these ranges, each with its reason, and passes on everything else."""
    found: list[Manifest] = [
        {
            "action": "Deny",
            "destination": {"nets": [str(network)]},
            "metadata": {"annotations": {RULE_ANNOTATION: why}},
        }
        for network, why in refused
    ]
    spec = {
        "tier": tier_name,
        "order": ALLOW_ORDER,
        "selector": calico_selector(selector),
        "types": ["Egress"],
        "egress": [*found, {"action": "Pass"}],
    }
    named = {**meta, "name": f"{tier_name}.{meta['name']}"}
    return {"apiVersion": calico_api, "kind": "NetworkPolicy", "metadata": named, "spec": spec}
