"""Pieces of manifests that mean given ends and packets, in each family of policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.policies.addresses import Block
from pilothouse.policies.engine import Packet
from pilothouse.policies.engine.connections import ICMP, ICMPV6, NAMES, WITH_PORTS
from pilothouse.policies.rules import Direction

Data = dict[str, Any]

_PASSING = frozenset(
    (
        *("pod-template-hash", "controller-revision-hash", "pod-template-generation", "controller-uid", "job-name"),
        *("statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-name"),
        *("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index"),
    )
)
"""Labels that controllers give, and that the next pod of the same workload does not have
(https://kubernetes.io/docs/reference/labels-annotations-taints/)."""
_TELLING = ("app.kubernetes.io/name", "app", "k8s-app", "app.kubernetes.io/instance", "name", "component", "role")


@dataclass(frozen=True, slots=True)
class Pods:
    """Pods of one namespace, by labels that they have in common; no labels means every pod there."""

    namespace: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Addresses:
    blocks: tuple[Block, ...]

    @property
    def has_exceptions(self) -> bool:
        return any(block.excluded for block in self.blocks)


Whom = Pods | Addresses
PEERS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
"""Where a rule of Kubernetes lists the other end."""


def word(whom: Whom) -> str:
    """A word for names and titles."""
    if isinstance(whom, Addresses):
        text = str(whom.blocks[0].network).split("/")[0].replace(".", "-").replace(":", "-")
        return text.strip("-") or "all"
    if not whom.labels:
        return whom.namespace
    text = whom.labels[0][1] or whom.labels[0][0].rpartition("/")[2]
    return text.lower().replace("_", "-")


def without(first: int, last: int, port: int) -> Iterator[tuple[int, int]]:
    """A range of ports without one of them."""
    if not first <= port <= last:
        yield first, last
        return
    if first < port:
        yield first, port - 1
    if port < last:
        yield port + 1, last


def pods(snapshot: Snapshot, found: Iterable[Pod], chosen: Mapping[str, str] | None = None) -> Pods | None:
    """These pods as a selector means them: by `chosen` labels, else by as few as keep them apart from their neighbours.
    None where they are of several namespaces."""
    members = list(found)
    if len({pod.namespace for pod in members}) != 1:
        return None
    namespace = members[0].namespace
    common = {
        key: value
        for key, value in members[0].labels.items()
        if key not in _PASSING and all(pod.labels.get(key) == value for pod in members)
    }
    if chosen:
        common = dict(chosen)
    keys = {pod.key for pod in members}
    for key in (key for key in _TELLING if key in common):
        selected = {
            pod.key
            for pod in snapshot.pods_by_namespace.get(namespace, ())
            if pod.labels.get(key) == common[key] and not pod.is_finished
        }
        if selected <= keys:
            return Pods(namespace, ((key, common[key]),))
    return Pods(namespace, tuple(sorted(common.items())))


def selector(labels: Iterable[tuple[str, str]]) -> Data:
    found = dict(labels)
    return {"matchLabels": found} if found else {}


def namespace_selector(namespace: str) -> Data:
    return {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}}


def block_data(block: Block) -> Data:
    data: Data = {"cidr": str(block.network)}
    if block.excluded:
        data["except"] = [str(item) for item in block.excluded]
    return data


# ---------------------------------------------------------------- Kubernetes


def kubernetes_peers(whom: Whom, own_namespace: str) -> list[Data]:
    if isinstance(whom, Addresses):
        return [{"ipBlock": block_data(block)} for block in whom.blocks]
    if whom.namespace == own_namespace:
        return [{"podSelector": selector(whom.labels)}]
    data: Data = {"namespaceSelector": namespace_selector(whom.namespace)}
    if whom.labels:
        data["podSelector"] = selector(whom.labels)
    return [data]


def kubernetes_ports(packet: Packet) -> list[Data]:
    """None for a protocol that Kubernetes has no word for: a rule without ports is for every one."""
    if packet.protocol not in WITH_PORTS:
        return []
    return [{"protocol": NAMES[packet.protocol], "port": packet.destination_port}]


def kubernetes_rule(whom: Whom, packet: Packet, direction: Direction, own_namespace: str) -> Data:
    data: Data = {"from" if direction is Direction.INGRESS else "to": kubernetes_peers(whom, own_namespace)}
    ports = kubernetes_ports(packet)
    return {**data, "ports": ports} if ports else data


# ---------------------------------------------------------------- Calico


def calico_selector(labels: Iterable[tuple[str, str]]) -> str:
    return " && ".join(f"{key} == '{value}'" for key, value in labels) or "all()"


def calico_end(whom: Whom, own_namespace: str) -> Data:
    """A rule's `source` or `destination`; `own_namespace` is "" in a policy that has none."""
    if isinstance(whom, Addresses):
        return {
            "nets": [str(block.network) for block in whom.blocks],
            **({"notNets": [str(n) for b in whom.blocks for n in b.excluded]} if whom.has_exceptions else {}),
        }
    data: Data = {"selector": calico_selector(whom.labels)}
    if whom.namespace != own_namespace:
        data["namespaceSelector"] = f"projectcalico.org/name == '{whom.namespace}'"
    return data


def calico_traffic(packet: Packet) -> Data:
    """The fields of a rule that say which packets; the port goes to the destination."""
    if packet.protocol in (ICMP, ICMPV6):
        return {
            "protocol": NAMES[packet.protocol],
            "icmp": {"type": packet.source_port, "code": packet.destination_port},
        }
    return {"protocol": NAMES.get(packet.protocol, packet.protocol)}


def calico_rule(action: str, whom: Whom, packet: Packet, direction: Direction, own_namespace: str) -> Data:
    end = calico_end(whom, own_namespace)
    data: Data = {"action": action, **calico_traffic(packet)}
    ports = {"ports": [packet.destination_port]} if packet.protocol in WITH_PORTS else {}
    if direction is Direction.INGRESS:
        return {**data, "source": end, **({"destination": ports} if ports else {})}
    return {**data, "destination": {**end, **ports}}


# ---------------------------------------------------------------- SIG Network's cluster-wide policies


def admin_rule(
    allow: bool, whom: Whom, packet: Packet, direction: Direction, kind: str, version: str, name: str
) -> Data | None:
    """None where such a policy has no words for it."""
    if isinstance(whom, Addresses):
        if direction is Direction.INGRESS or whom.has_exceptions:
            return None
        peer: Data = {"networks": [str(block.network) for block in whom.blocks]}
    else:
        pods = {"namespaceSelector": namespace_selector(whom.namespace), "podSelector": selector(whom.labels)}
        peer = {"pods": pods}
    accept = "Accept" if kind == "ClusterNetworkPolicy" else "Allow"
    data: Data = {"name": name, "action": accept if allow else "Deny"}
    data["from" if direction is Direction.INGRESS else "to"] = [peer]
    if packet.protocol in WITH_PORTS:
        protocol, number = NAMES[packet.protocol], packet.destination_port
        if version == "v1beta1":
            data["protocols"] = [{protocol.lower(): {"destinationPort": {"number": number}}}]
        else:
            data["ports"] = [{"portNumber": {"protocol": protocol, "port": number}}]
    return data
