"""Whether one rule of one policy matches one packet, for each of the three families of rules.

Calico's meaning is read from https://docs.tigera.io/calico/latest/reference/resources/networkpolicy, and in doubt
from what Felix renders (rules.go of the update processors, calc/rule_scanner.go, rules/policy.go in
https://github.com/projectcalico/calico). Kubernetes': https://kubernetes.io/docs/concepts/services-networking/network-policies/
The cluster-wide ones': https://network-policy-api.sigs.k8s.io/api-overview/
"""

from __future__ import annotations

from typing import Any

from policies.reference_selectors import label_selector, selects
from policies.reference_world import (
    NAMESPACE,
    WITH_PORTS,
    End,
    Manifest,
    Member,
    Packet,
    World,
    cidr,
    contains,
    ip_address,
    protocol_number,
)

# ---------------------------------------------------------------- Calico


def calico_rule(world: World, rule: Manifest, namespace: str, source: End, destination: End, packet: Packet) -> bool:
    """`namespace` is the policy's, "" for a global policy or a profile. `http` is not looked at here."""
    version = ip_address(source.address).version
    if rule.get("ipVersion") not in (None, version):
        return False
    if rule.get("protocol") is not None and packet.protocol != protocol_number(rule["protocol"]):
        return False
    if rule.get("notProtocol") is not None and packet.protocol == protocol_number(rule["notProtocol"]):
        return False
    if rule.get("icmp") and not _icmp(rule["icmp"], packet):
        return False
    if rule.get("notICMP") and _icmp(rule["notICMP"], packet):
        return False
    return _entity(world, rule.get("source") or {}, namespace, source, packet, "source") and _entity(
        world, rule.get("destination") or {}, namespace, destination, packet, "destination"
    )


def _icmp(wanted: Manifest, packet: Packet) -> bool:
    return (
        packet.protocol in (1, 58)
        and wanted.get("type") in (None, packet.icmp_type)
        and wanted.get("code") in (None, packet.icmp_code)
    )


def _entity(world: World, entity: Manifest, namespace: str, end: End, packet: Packet, which: str) -> bool:
    """Every condition that is set must hold."""
    for key, wanted in (("nets", True), ("notNets", False)):
        nets = [cidr(net) for net in entity.get(key) or []]
        if nets and all(net.version != ip_address(end.address).version for net in nets):
            return (
                False  # Felix leaves out a rule for the family that a list of CIDRs, even a negative one, has none of
            )
        if nets and any(contains(net, end.address) for net in nets) != wanted:
            return False
    members = _chosen(world, entity, namespace, end.address)
    if _has_positive(entity, namespace):
        if not members:
            return False
    elif entity.get("notSelector") and any(selects(entity["notSelector"], m.labels) for m in world.at(end.address)):
        return False
    if entity.get("services") and not _service(world, entity["services"], namespace, end, packet, which):
        return False
    port = packet.source_port if which == "source" else packet.destination_port
    if entity.get("ports") and not any(_port(each, members, packet.protocol, port) for each in entity["ports"]):
        return False
    return not any(_port(each, members, packet.protocol, port) for each in entity.get("notPorts") or [])


def _has_positive(entity: Manifest, namespace: str) -> bool:
    """Whether the rule is limited to known endpoints and sets. In a namespace's policy a notSelector alone limits it
    too: to that namespace (getEndpointSelector in rules.go)."""
    return bool(
        entity.get("selector")
        or entity.get("namespaceSelector")
        or _accounts(entity)
        or (namespace and entity.get("notSelector"))
    )


def _accounts(entity: Manifest) -> bool:
    accounts = entity.get("serviceAccounts") or {}
    return bool(accounts.get("names") or accounts.get("selector"))


def _chosen(world: World, entity: Manifest, namespace: str, address: str) -> list[Member]:
    """What has the address and is chosen by the positive conditions, if there are any; else all that has it.

    With a positive condition Felix puts the notSelector into the same expression (combineMatchesIfPossible in
    rule_scanner.go), so that it must fail for the very thing that was chosen; and a named port is looked up among
    the things chosen.
    """
    found = world.at(address)
    if not _has_positive(entity, namespace):
        return found
    accounts = entity.get("serviceAccounts") or {}
    return [
        member
        for member in found
        if _in_scope(entity, namespace, member)
        and selects(entity.get("selector") or "", member.labels)
        and selects(accounts.get("selector") or "", member.labels, "pcsa.")
        and (not accounts.get("names") or member.labels.get("projectcalico.org/serviceaccount") in accounts["names"])
        and not (entity.get("notSelector") and selects(entity["notSelector"], member.labels))
    ]


def _in_scope(entity: Manifest, namespace: str, member: Member) -> bool:
    """Where selectors look: where the namespaceSelector says, else in the policy's own namespace, else everywhere.

    `all()` is every namespace and `global()` what is in none. Other expressions are tests of the `pcns.` labels, so
    that a negative one (`team != 'a'`) also holds for host endpoints and global sets, which have no such label.
    """
    if entity.get("namespaceSelector"):
        return selects(entity["namespaceSelector"], member.labels, "pcns.", everything=NAMESPACE)
    return not namespace or member.namespace == namespace


def _service(world: World, service: Manifest, namespace: str, end: End, packet: Packet, which: str) -> bool:
    space = service.get("namespace") or namespace
    if which == "source":
        return any(
            ip_address(each) == ip_address(end.address) for each in world.backend_addresses(space, service["name"])
        )
    return any(
        ip_address(address) == ip_address(end.address)
        and protocol == packet.protocol
        and port == packet.destination_port
        for address, protocol, port in world.backends(space, service["name"])
    )


def _port(wanted: int | str, members: list[Member], protocol: int, port: int) -> bool:
    """A number, a range `first:last`, or a name that one of `members` gives to this port of this protocol."""
    if protocol not in WITH_PORTS:
        return False
    text = str(wanted)
    if text.isdigit():
        return int(text) == port
    first, colon, last = text.partition(":")
    if colon:
        return int(first) <= port <= int(last)
    return _named(text, members, protocol, port)


def _named(name: str, members: list[Member], protocol: int, port: int) -> bool:
    return any((name, protocol, port) == each for member in members for each in member.ports)


# ---------------------------------------------------------------- Kubernetes


def kubernetes_rule(
    world: World, rule: Manifest, direction: str, namespace: str, source: End, destination: End, packet: Packet
) -> bool:
    """No peers: any peer. No ports: any port of any protocol."""
    peers = rule.get("from" if direction == "Ingress" else "to") or []
    peer = source if direction == "Ingress" else destination
    ports = rule.get("ports") or []
    if peers and not any(_kubernetes_peer(world, each, namespace, peer.address) for each in peers):
        return False
    return not ports or any(_kubernetes_port(world, each, destination, packet) for each in ports)


def _kubernetes_peer(world: World, peer: Manifest, namespace: str, address: str) -> bool:
    if peer.get("ipBlock"):
        block = peer["ipBlock"]
        return contains(cidr(block["cidr"]), address) and not any(
            contains(cidr(each), address) for each in block.get("except") or []
        )
    for pod in _pods_at(world, address):
        if peer.get("namespaceSelector") is None:
            in_scope = pod.namespace == namespace
        else:
            in_scope = label_selector(peer["namespaceSelector"], world.namespace_labels(pod.namespace))
        if in_scope and label_selector(peer.get("podSelector") or {}, pod.own_labels):
            return True
    return False


def _kubernetes_port(world: World, port: Manifest, destination: End, packet: Packet) -> bool:
    if packet.protocol != protocol_number(port.get("protocol") or "TCP"):
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return _named(wanted, world.at(destination.address), packet.protocol, packet.destination_port)
    last = port["endPort"] if port.get("endPort") is not None else wanted
    return bool(wanted <= packet.destination_port <= last)


def _pods_at(world: World, address: str) -> list[Member]:
    return [member for member in world.at(address) if member.kind == "pod"]


# ---------------------------------------------------------------- SIG Network's cluster-wide policies


def admin_subject(world: World, subject: Manifest, pod: Member) -> bool:
    """Also a peer's `namespaces` and `pods`: pods of some namespaces, or some pods of some namespaces."""
    spaces = world.namespace_labels(pod.namespace)
    if subject.get("namespaces") is not None:
        return label_selector(subject["namespaces"], spaces)
    if subject.get("pods") is not None:
        return label_selector(subject["pods"].get("namespaceSelector") or {}, spaces) and label_selector(
            subject["pods"].get("podSelector") or {}, pod.own_labels
        )
    return False


def admin_rule(world: World, rule: Manifest, direction: str, source: End, destination: End, packet: Packet) -> bool:
    """AdminNetworkPolicy has `ports`, ClusterNetworkPolicy `protocols`; without them any traffic matches."""
    peers = rule["from" if direction == "Ingress" else "to"]
    peer = source if direction == "Ingress" else destination
    if not any(_admin_peer(world, each, peer.address) for each in peers):
        return False
    ports, protocols = rule.get("ports") or [], rule.get("protocols") or []
    if ports:
        return any(_admin_port(world, each, destination, packet) for each in ports)
    return not protocols or any(_cluster_protocol(world, each, destination, packet) for each in protocols)


def _admin_peer(world: World, peer: Manifest, address: str) -> bool:
    if peer.get("networks"):
        return any(contains(cidr(each), address) for each in peer["networks"])
    if peer.get("nodes") is not None:
        addresses = world.node_addresses(lambda labels: label_selector(peer["nodes"], labels))
        return any(ip_address(each) == ip_address(address) for each in addresses)
    return any(admin_subject(world, peer, pod) for pod in _pods_at(world, address))


def _admin_port(world: World, port: Manifest, destination: End, packet: Packet) -> bool:
    if port.get("namedPort"):
        return _named(port["namedPort"], _pods_at(world, destination.address), packet.protocol, packet.destination_port)
    if port.get("portNumber"):
        number = port["portNumber"]
        return _in_range(number.get("protocol"), number["port"], number["port"], packet)
    span = port["portRange"]
    return _in_range(span.get("protocol"), span["start"], span["end"], packet)


def _cluster_protocol(world: World, protocol: Manifest, destination: End, packet: Packet) -> bool:
    if protocol.get("destinationNamedPort"):
        pods = _pods_at(world, destination.address)
        return _named(protocol["destinationNamedPort"], pods, packet.protocol, packet.destination_port)
    ((name, fields),) = protocol.items()
    port: dict[str, Any] = fields["destinationPort"]
    if port.get("number"):
        return _in_range(name, port["number"], port["number"], packet)
    return _in_range(name, port["range"]["start"], port["range"]["end"], packet)


def _in_range(protocol: str | None, first: int, last: int, packet: Packet) -> bool:
    return packet.protocol == protocol_number(protocol or "TCP") and first <= packet.destination_port <= last
