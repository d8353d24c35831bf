"""Checks of address ranges and of rules for everybody: what they let through besides what was meant."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from ipaddress import collapse_addresses, ip_address, ip_network

from pilothouse.inventory.model import KubeService
from pilothouse.platform.model import Network
from pilothouse.policies.engine.connections import LAST_PORT, TCP, UDP, Packet
from pilothouse.policies.engine.traffic import connections
from pilothouse.policies.lint.check import Finding, Findings
from pilothouse.policies.lint.context import Context
from pilothouse.policies.rules import Action, Direction, Family, Peer, Policy, PortMatch, Rule, Scope, Traffic

_NETS = (("ipBlock", "cidr"), ("nets",), ("networks",))
_SERVICE_WIDTH = {4: 12, 6: 64}
"""Ranges wider than that hold Services by the way, and mean something else."""
_MANY_PORTS = 1000
_FEW_PORTS = 16

SENSITIVE = {
    22: "SSH",
    2375: "the Docker daemon",
    2379: "etcd",
    3306: "MySQL",
    3389: "remote desktops",
    5432: "PostgreSQL",
    5984: "CouchDB",
    6379: "Redis",
    9042: "Cassandra",
    9200: "Elasticsearch",
    10250: "the kubelet",
    11211: "memcached",
    27017: "MongoDB",
}
"""Ports by their usual service (https://www.iana.org/assignments/service-names-port-numbers/) that no stranger should
reach."""


# ---------------------------------------------------------------- ranges that hold pods or Services


def world_covers_pods(context: Context) -> Findings:
    """`0.0.0.0/0` meant as "the internet": Calico matches pods by address, so that it is every pod, too
    (https://github.com/projectcalico/calico/issues/6634)."""
    for policy, direction, rule, number, peer in _blocks(context):
        if not any(is_wide(item) for nets in peer.nets or () for item in nets.ranges):
            continue
        pods = context.compiler.peer(peer) & context.universe.pods
        if pods:
            yield Finding(
                f"{policy.key}: `{direction}[{rule.index}]` allows {_range(peer)}, which holds {context.some(pods)}",
                context.places.peer(policy, rule, direction, number, _NETS),
                f"for the internet alone, leave out the cluster's ranges: `{_except(policy)}` {_pod_ranges(context)}",
                minor=direction is Direction.INGRESS,
            )


def block_covers_pods(context: Context) -> Findings:
    """Of an `ipBlock` Kubernetes does not say whether it matches pods: Calico does, others never do
    (https://kubernetes.io/docs/concepts/services-networking/network-policies/#behavior-of-to-and-from-selectors)."""
    for policy, direction, rule, number, peer in _blocks(context):
        if any(is_wide(item) for nets in peer.nets or () for item in nets.ranges):
            continue
        pods = context.compiler.peer(peer) & context.universe.pods
        if pods:
            differs = "; whether it matches them depends on the network plugin" if peer.ip_block else ""
            yield Finding(
                f"{policy.key}: {_range(peer)} of `{direction}[{rule.index}]` holds {context.some(pods)}{differs}",
                context.places.peer(policy, rule, direction, number, _NETS),
                "name pods by their labels: an address belongs to another pod tomorrow",
            )


def _blocks(context: Context) -> Iterator[tuple[Policy, Direction, Rule, int, Peer]]:
    """The peers that are nothing but ranges, of rules that allow."""
    for policy, direction, rule, number, peer in context.peers():
        alone = peer.scope is Scope.ANY and peer.not_selector is None and peer.services is None
        if rule.action is Action.ALLOW and peer.nets is not None and alone:
            yield policy, direction, rule, number, peer


def _range(peer: Peer) -> str:
    ranges = [str(item) for nets in peer.nets or () for item in nets.ranges]
    return ranges[0] if len(ranges) == 1 else f"{ranges[0]} and {len(ranges) - 1} more"


def _except(policy: Policy) -> str:
    return "notNets" if policy.family is Family.CALICO else "except"


def _pod_ranges(context: Context) -> str:
    found: list[str] = []
    known = [ip_network(text, strict=False) for node in context.snapshot.nodes for text in node.pod_cidrs]
    for version in (4, 6):
        own = [item for item in known if item.version == version]
        found += [str(item) for item in collapse_addresses(own)]  # type: ignore[type-var]
    return ", ".join(found[:3]) if found else "the range of its pods"


def covers_services(context: Context) -> Findings:
    """Policies see a connection after its destination was translated: the address of a Service never
    (https://kubernetes.io/docs/concepts/services-networking/network-policies/#behavior-of-to-and-from-selectors)."""
    addresses = sorted(_service_addresses(context), key=lambda item: item[0])
    keys = [key for key, _ in addresses]
    for policy, direction, rule, number, peer in context.peers():
        if (
            peer.nets is None
            or direction is Direction.INGRESS
            or context.compiler.peer(peer) & context.universe.endpoints
        ):
            continue
        for network in (item for nets in peer.nets for item in nets.ranges):
            found = _inside(network, keys)
            if found < 0:
                continue
            service = addresses[found][1]
            yield Finding(
                f"{policy.key}: {network} of `{direction}[{rule.index}]` holds the address of the Service"
                f" {service.namespace}/{service.name}, which policies never see",
                context.places.peer(policy, rule, direction, number, _NETS),
                "name the pods behind the Service by their labels, and the port that they listen on",
            )
            break


def _service_addresses(context: Context) -> Iterator[tuple[tuple[int, int], KubeService]]:
    """((IP version, address as a number), its Service)."""
    for item in context.snapshot.services:
        for text in item.cluster_ips:
            if text and text != "None":
                address = ip_address(text)
                yield (address.version, int(address)), item


def _inside(network: Network, keys: Sequence[tuple[int, int]]) -> int:
    """The index of an address in a narrow range, -1 where there is none."""
    if network.prefixlen < _SERVICE_WIDTH[network.version]:
        return -1
    first = bisect_left(keys, (network.version, int(network.network_address)))
    inside = first < len(keys) and keys[first] <= (network.version, int(network.broadcast_address))
    return first if inside else -1


# ---------------------------------------------------------------- rules for everybody


def dns_anywhere(context: Context) -> Findings:
    """Names are looked up at the cluster's own servers. Queries to any server carry data out of it."""
    for policy, direction, rule in context.rules():
        if direction is Direction.INGRESS or rule.action is not Action.ALLOW:
            continue
        ports = [port for traffic in rule.traffic for port in _narrow(traffic) if port.first <= 53 <= port.last]
        number = next((n for n, peer in enumerate(rule.peers) if is_world(peer)), -1)
        if ports and number >= 0:
            yield Finding(
                f"{policy.key}: `egress[{rule.index}]` allows port 53 of every address, and so queries to"
                " anybody's server",
                context.places.port(policy, rule, direction, ports[0]),
                "allow it to the cluster's DNS pods only, and to the address of a node-local cache",
            )


def many_ports(context: Context) -> Findings:
    for policy, direction, rule, peer in _open(context):
        wide = [
            port for traffic in rule.traffic for port in traffic.destination_ports or () if _width(port) >= _MANY_PORTS
        ]
        whole = [traffic for traffic in rule.traffic if _has_every_port(traffic)]
        if wide:
            place, what = context.places.port(policy, rule, direction, wide[0]), f"the ports {wide[0]}"
        elif whole and not (peer.is_anyone and len(connections(whole[0]).protocols()) > 200):
            place, what = context.places.rule(policy, rule), "every port"
        else:
            continue
        yield Finding(
            f"{policy.key}: `ingress[{rule.index}]` opens {what} to everybody",
            place,
            "name the ports that are meant for the public, and who comes to the others",
        )


def sensitive_port(context: Context) -> Findings:
    for policy, direction, rule, _ in _open(context):
        for port in (port for traffic in rule.traffic if _is_tcp(traffic) for port in _narrow(traffic)):
            number = next((known for known in SENSITIVE if port.first <= known <= port.last), 0)
            if number:
                yield Finding(
                    f"{policy.key}: `ingress[{rule.index}]` opens port {number}, usually {SENSITIVE[number]}, to"
                    " everybody",
                    context.places.port(policy, rule, direction, port),
                    "name those who need it: pods by their labels, people's networks as ranges",
                )
                break


def _open(context: Context) -> Iterator[tuple[Policy, Direction, Rule, Peer]]:
    """Ingress rules that allow something to everybody."""
    for policy, direction, rule in context.rules():
        if direction is Direction.INGRESS and rule.action is Action.ALLOW:
            peer = next((item for item in rule.peers if is_world(item)), None)
            if peer is not None:
                yield policy, direction, rule, peer


def is_wide(network: Network) -> bool:
    """Half of all addresses at least."""
    return network.prefixlen <= 1


def is_world(peer: Peer) -> bool:
    """Whether it is everybody outside, but for some ranges at most."""
    if peer.scope is not Scope.ANY or peer.services is not None:
        return False
    return peer.nets is None or any(is_wide(item) for nets in peer.nets for item in nets.ranges)


def _width(port: PortMatch) -> int:
    return 0 if port.name else port.last - port.first + 1


def _narrow(traffic: Traffic) -> Iterator[PortMatch]:
    """The few ports that a rule names by number."""
    return (port for port in traffic.destination_ports or () if 0 < _width(port) <= _FEW_PORTS)


def _is_tcp(traffic: Traffic) -> bool:
    return traffic.protocols is None or TCP in traffic.protocols


def _has_every_port(traffic: Traffic) -> bool:
    if traffic.destination_ports is not None or traffic.source_ports is not None:
        return False
    found = connections(traffic)
    return any(found.contains(Packet(protocol, LAST_PORT)) for protocol in (TCP, UDP))
