"""Checks of ports: names that nobody has, numbers that nobody listens on, and a Service's port for its pods' port."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pilothouse.inventory.model import KubeService
from pilothouse.policies.engine.backends import backends
from pilothouse.policies.engine.connections import NAMES, PROTOCOLS, TCP, UDP, WITH_PORTS, Packet
from pilothouse.policies.engine.traffic import connections
from pilothouse.policies.lint.check import Finding, Findings
from pilothouse.policies.lint.context import Context
from pilothouse.policies.rules import Action, Direction, Family, Policy, PortMatch, Rule, Scope, Traffic
from pilothouse.problems import nearest, one_of


@dataclass(frozen=True, slots=True)
class _Ports:
    """What the containers of some pods say of themselves. `silent`: some pods name no port at all."""

    named: frozenset[tuple[str, int]]
    open: frozenset[tuple[int, int]]
    silent: bool

    def opens(self, protocol: int, port: PortMatch) -> bool:
        return any(of == protocol and port.first <= number <= port.last for of, number in self.open)

    def shown(self) -> str:
        return one_of([f"{number}/{NAMES[of]}" for of, number in sorted(self.open)], 4).removeprefix("known: ")


class _Listening:
    """The ports of sets of endpoints, each set looked at once."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._found: dict[int, _Ports] = {}

    def of(self, members: int) -> _Ports:
        found = self._found.get(members)
        if found is None:
            named: set[tuple[str, int]] = set()
            numbers: set[tuple[int, int]] = set()
            silent = False
            for pod in self.context.pods(members):
                silent = silent or not pod.ports
                for port in pod.ports:
                    protocol = PROTOCOLS[port.protocol]
                    numbers.add((protocol, port.number))
                    if port.name:
                        named.add((port.name, protocol))
            for host in self.context.policies.hosts:
                named.update((name, protocol) for name, protocol, _ in host.ports)
            found = self._found[members] = _Ports(frozenset(named), frozenset(numbers), silent)
        return found


_Asked = tuple[Policy, Direction, Rule, Traffic, int]


def _asked(context: Context) -> Iterator[_Asked]:
    """Rules with ports, and the endpoints at which those are."""
    if not context.has_endpoints:
        return
    for policy, direction, rule in context.rules():
        if any(traffic.destination_ports for traffic in rule.traffic):
            members = context.destinations(policy, direction, rule)
            for traffic in rule.traffic:
                if members and traffic.destination_ports:
                    yield policy, direction, rule, traffic, members


def unknown_name(context: Context) -> Findings:
    """A named port is what the destination's containers call so, of the rule's protocol
    (https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/)."""
    listening = _Listening(context)
    for policy, direction, rule, traffic, members in _asked(context):
        ports = listening.of(members)
        for port in traffic.destination_ports or ():
            if not port.name or any((port.name, protocol) in ports.named for protocol in _protocols(traffic)):
                continue
            other = sorted({NAMES[of] for name, of in ports.named if name == port.name})
            names = {name for name, _ in ports.named}
            hint = f"it is a port of {' and '.join(other)} there: add `protocol: {other[0]}`" if other else ""
            yield Finding(
                f"{policy.key}: no container of {context.some(members)} has a port named `{port.name}`, which"
                f" `{direction}[{rule.index}]` names",
                context.places.port(policy, rule, direction, port),
                hint or nearest(port.name, names) or "name the port in the container, or write its number here",
            )


def not_open(context: Context) -> Findings:
    """Containers need not say what they listen on; where they do, a port that none says is likely a mistake."""
    listening = _Listening(context)
    for policy, direction, rule, traffic, members in _selected(context):
        ports = listening.of(members)
        for protocol, port in _numbers(traffic):
            if not ports.open or ports.opens(protocol, port) or _leads(context, members, protocol, port):
                continue
            if _translated(context, members, protocol, port):
                continue
            udp = UDP if protocol == TCP else TCP
            hint = f"they listen on {ports.shown()}"
            if ports.opens(udp, port):
                hint = f"they listen on it with {NAMES[udp]}: add `protocol: {NAMES[udp]}`"
            yield Finding(
                f"{policy.key}: no container of {context.some(members)} opens port {port} of"
                f" `{direction}[{rule.index}]` ({NAMES[protocol]})",
                context.places.port(policy, rule, direction, port),
                hint,
                minor=ports.silent,
            )


def service_port(context: Context) -> Findings:
    """Policies see the port of the pod, after the Service's port was translated
    (https://kubernetes.io/docs/concepts/services-networking/network-policies/#behavior-of-to-and-from-selectors)."""
    listening = _Listening(context)
    for policy, direction, rule, traffic, members in _selected(context):
        ports = listening.of(members)
        for protocol, port in _numbers(traffic):
            if ports.opens(protocol, port) or _leads(context, members, protocol, port):
                continue
            found = _translated(context, members, protocol, port)
            if found:
                service, target = found
                yield Finding(
                    f"{policy.key}: {port} of `{direction}[{rule.index}]` is the port of the Service"
                    f" {service.namespace}/{service.name}; its pods listen on {target}",
                    context.places.port(policy, rule, direction, port),
                    f"write {target}: policies see a connection after the Service's port was translated",
                )


def _selected(context: Context) -> Iterator[_Asked]:
    """Those whose destinations were chosen by selectors, in rules that allow."""
    for policy, direction, rule, traffic, members in _asked(context):
        if rule.action is not Action.ALLOW:
            continue
        if direction is Direction.EGRESS and any(
            peer.scope in (Scope.ANY, Scope.NODES, Scope.GLOBAL) or peer.nets is not None for peer in rule.peers
        ):
            continue
        if context.pods(members):
            yield policy, direction, rule, traffic, members


def _numbers(traffic: Traffic) -> Iterator[tuple[int, PortMatch]]:
    for port in traffic.destination_ports or ():
        if not port.name:
            for protocol in _protocols(traffic):
                yield protocol, port


def _protocols(traffic: Traffic) -> tuple[int, ...]:
    return tuple(number for number in traffic.protocols or WITH_PORTS if number in WITH_PORTS)


def _leads(context: Context, members: int, protocol: int, port: PortMatch) -> bool:
    """Whether a Service leads to that port of these pods, so that something listens there."""
    targets = context.services_by_target.get(protocol, {})
    if port.first == port.last:
        return bool(targets.get(port.first, 0) & members)
    return any(port.first <= number <= port.last and pieces & members for number, pieces in targets.items())


def _translated(context: Context, members: int, protocol: int, port: PortMatch) -> tuple[KubeService, int] | None:
    """The Service of some of these pods that has that port, and theirs."""
    if port.first != port.last:
        return None
    for service, pieces in context.services_by_port.get(port.first, ()):
        if not pieces & members:
            continue
        for backend in backends(context.snapshot, service.namespace, service.name):
            if (backend.service_port, backend.protocol) == (port.first, protocol) and backend.port != port.first:
                return service, backend.port
    return None


def dns_over_tcp_only(context: Context) -> Findings:
    """Port 53 without a protocol is TCP, and names are asked for over UDP first
    (https://www.rfc-editor.org/rfc/rfc7766#section-5)."""
    for policy in context.written:
        if Direction.EGRESS not in policy.directions:
            continue
        allowed = [rule for rule in policy.egress if rule.action is Action.ALLOW]
        if any(connections(traffic).contains(Packet(UDP, 53)) for rule in allowed for traffic in rule.traffic):
            continue
        for rule in allowed:
            port = _dns_port(rule)
            if port is not None and not _has_dns(context, policy):
                yield Finding(
                    f"{policy.key}: `egress[{rule.index}]` allows DNS over TCP only",
                    context.places.port(policy, rule, Direction.EGRESS, port),
                    "add port 53 with `protocol: UDP`: names are asked for over UDP first",
                )
                break


def _dns_port(rule: Rule) -> PortMatch | None:
    exact = PortMatch(53, 53)
    return next(
        (exact for item in rule.traffic if TCP in (item.protocols or ()) and exact in (item.destination_ports or ())),
        None,
    )


def _has_dns(context: Context, policy: Policy) -> bool:
    """Whether other policies let all of the policy's endpoints ask over UDP."""
    members = context.subjects(policy)
    return bool(members) and not policy.staged and not members & ~context.asks_dns


def no_protocol(context: Context) -> Findings:
    """A port without `protocol` is one of TCP."""
    for policy in context.written:
        if policy.family is not Family.KUBERNETES:
            continue
        found = [
            (*rule.path, "ports", index)
            for direction in Direction
            for rule in policy.rules(direction)
            for index, item in enumerate(context.places.value(policy, (*rule.path, "ports")) or ())
            if item.get("protocol") is None
        ]
        if found:
            many = "1 port has" if len(found) == 1 else f"{len(found)} ports have"
            yield Finding(
                f"{policy.key}: {many} no `protocol`, which means TCP",
                context.places.at(policy, found[0]),
                "add `protocol: TCP`, so that nobody takes it for UDP, too",
            )
