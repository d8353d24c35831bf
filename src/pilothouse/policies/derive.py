"""From edges to network policies: default deny, DNS, and what the declarations allow, nothing more.

For each governed namespace: `pilothouse-default-deny` (both directions), `pilothouse-dns`, and for each service
one policy per direction, `pilothouse-<service>-ingress` and `-egress`; where Calico holds the addresses of a domain,
`pilothouse-<service>-domains` too. Every object names the declaration that it was derived from, and for each
rule the line that asked for it. Namespaces that are not enforced get the staged form (`adoption`).

Where the cluster wants Calico's kinds throughout, the same is written in those (`calico_form`): domains then stand
among the egress rules, and `<tier>.forbidden` denies what nobody may reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pilothouse import labels
from pilothouse.artifacts.model import EMPTY, Artifacts, Document, Format
from pilothouse.inputs import Inputs
from pilothouse.labels import LabelSelector
from pilothouse.platform.model import (
    ApiServerPeer,
    CidrPeer,
    DomainPeer,
    InternetPeer,
    Network,
    PodsPeer,
    PortRef,
    Service,
    ServicePeer,
)
from pilothouse.policies import addresses, adoption, calico_form, edges, manifests
from pilothouse.policies.adoption import Mode, NamespaceMode
from pilothouse.policies.content import Baseline, PolicyContent, SystemPeer, read
from pilothouse.policies.edges import Edges, Origin, ServiceEdge
from pilothouse.policies.manifests import Manifest
from pilothouse.policies.matching import Directory, PolicyPort
from pilothouse.policies.rules import Direction
from pilothouse.problems import Place, Problem, Problems, error, ordered, warning

CLUSTER_WIDE = "policies/_cluster.yaml"
"""Cluster-wide objects; `_` cannot start the name of a namespace."""


@dataclass(frozen=True)
class PoliciesDerived:
    """What was derived. `policies` holds every policy in its enforced form, by namespace, also where it is
    rendered staged or withheld; `sets` the cluster-wide address sets. The artifacts are what was rendered of them."""

    artifacts: Artifacts = EMPTY
    problems: Problems = ()
    modes: Mapping[str, NamespaceMode] = field(default_factory=dict)
    policies: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    sets: tuple[Mapping[str, Any], ...] = ()
    edges: Edges = field(default_factory=Edges)
    """The edges that the policies were derived from."""

    def in_force(self) -> tuple[Mapping[str, Any], ...]:
        """The policies and sets that the cluster would enforce."""
        found = [p for name, items in self.policies.items() if self.modes[name].mode is Mode.ENFORCED for p in items]
        return (*found, *self.sets)

    def as_if_enforced(self) -> tuple[Mapping[str, Any], ...]:
        """Every policy and set, as if all governed namespaces were enforced."""
        return (*(policy for items in self.policies.values() for policy in items), *self.sets)


def derive(inputs: Inputs) -> PoliciesDerived:
    """The policies of one cluster. Where the baseline cannot be read, nothing but its problems."""
    content = read(inputs.content)
    if content.baseline is None:
        return PoliciesDerived(problems=content.problems)
    found = edges.of(inputs)
    builder = _Builder(inputs, content, content.baseline, found)
    modes = adoption.modes(inputs, content.baseline)
    governed = [name for name, item in modes.items() if item.mode.governs]
    policies = {name: tuple(builder.namespace(name)) for name in governed}
    sets = tuple(builder.sets())
    return PoliciesDerived(
        _artifacts(inputs, modes, policies, sets),
        ordered([*found.problems, *builder.problems, *adoption.findings(inputs, modes)]),
        modes,
        policies,
        sets,
        found,
    )


def _artifacts(
    inputs: Inputs,
    modes: Mapping[str, NamespaceMode],
    policies: Mapping[str, Sequence[Manifest]],
    sets: Sequence[Manifest],
) -> Artifacts:
    calico = inputs.cluster.calico_api
    documents = []
    for name, items in policies.items():
        mode = modes[name].mode
        if mode is Mode.WITHHELD:
            continue
        comment = f"Network policies of namespace {name} on cluster {inputs.cluster.name}: {mode}."
        if mode is Mode.STAGED:
            items = [manifests.staged(item, calico) for item in items]
            comment += "\nStaged policies are evaluated and reported by Calico, and cut nothing."
        documents.append(Document(f"policies/{name}.yaml", tuple(items), Format.MANIFESTS, comment))
    if sets:
        tier = any(item["kind"] == "Tier" for item in sets)
        comment = (
            f"Addresses of the domains that services of cluster {inputs.cluster.name} reach{', and a tier' * tier}."
        )
        documents.append(Document(CLUSTER_WIDE, tuple(sets), Format.MANIFESTS, comment))
    return Artifacts.of(documents)


class _Builder:
    def __init__(self, inputs: Inputs, content: PolicyContent, baseline: Baseline, found: Edges) -> None:
        self.inputs = inputs
        self.cluster = inputs.cluster
        self.baseline = baseline
        self.edges = found
        services = {service.key: service for service in inputs.platform.services_on(inputs.cluster.name)}
        self.directory = Directory(services, inputs.snapshot)
        self.problems: list[Problem] = []
        self.domains: dict[str, str] = {}
        own = inputs.cluster.cluster_networks
        self.public = addresses.public(baseline.private_ranges, own)
        self.pods_and_services = (*inputs.cluster.pod_cidrs, *inputs.cluster.service_cidrs)
        self.calico = inputs.cluster.calico_api if inputs.cluster.policy_kinds == "calico" else ""
        """The API group, where policies are of Calico's kinds throughout."""
        self.refused = content.refused_on(inputs.cluster)

    # -------------------------------------------------------- namespaces

    def namespace(self, name: str) -> Iterable[Manifest]:
        """Every policy of a namespace: what allows first, the default deny last."""
        selector = adoption.exempt_selector(self.baseline, name)
        if self.baseline.tier is not None and self.refused:
            meta = manifests.metadata("forbidden", name, self.cluster.name, "forbidden")
            ranges = [(item.network, item.why) for item in self.refused]
            yield calico_form.refusing(meta, selector, self.calico, self.baseline.tier.name, ranges)
        yield from self.dns(name, selector)
        for service in self.directory.by_namespace.get(name, ()):
            yield from self.service(service, _both(service.pod_selector, selector))
        meta = manifests.metadata(f"{manifests.PREFIX}default-deny", name, self.cluster.name, "default-deny")
        if self.calico:
            order = calico_form.DENY_ORDER
            yield calico_form.network_policy(meta, selector, self.calico, order, ingress=[], egress=[])
        else:
            yield manifests.network_policy(meta, selector, ingress=[], egress=[])

    def dns(self, name: str, selector: LabelSelector) -> Iterable[Manifest]:
        rules, why = [], []
        throughout = calico_form.Rules()
        for end, ports, reason, _ in edges.dns_ends(self.baseline, self.cluster):
            if isinstance(end, CidrPeer):  # the node-local cache lies in the node's or the service's range
                peers = [manifests.block_peer(addresses.Block(end.network))]
            else:
                peers = self.pods(end, name)
            rules.append(manifests.rule("egress", peers, self.ports(end, ports, name)))
            why.append(f"{end}: {reason}")
            if self.calico:
                throughout.add(self.to_system(end, rules[-1]), why[-1])
        if throughout:
            meta = manifests.metadata(f"{manifests.PREFIX}dns", name, self.cluster.name, "dns")
            yield calico_form.allowing(meta, selector, self.calico, "egress", throughout.manifests())
        elif rules:
            meta = manifests.metadata(f"{manifests.PREFIX}dns", name, self.cluster.name, "dns", rules=_numbered(why))
            yield manifests.network_policy(meta, selector, egress=rules)

    def to_system(self, peer: object, rule: Manifest) -> Iterable[Manifest]:
        """Egress in Calico's form, by the Service of a system peer where that comes to the same."""
        if isinstance(peer, SystemPeer):
            return calico_form.service_rules(peer, rule, self.inputs.snapshot)
        return calico_form.rules("egress", rule)

    def service(self, service: Service, selector: LabelSelector) -> Iterable[Manifest]:
        self.check_ports(service)
        for direction in Direction:
            rules: dict[str, Manifest] = {}
            domains: dict[str, Manifest] = {}
            why: list[str] = []
            domains_why: list[str] = []
            ends: list[datetime] = []
            throughout = calico_form.Rules()
            for edge in self.edges.of(service.key, direction):
                if not edge.needs_rule or edge.origin is Origin.DNS:
                    continue
                line = _why(edge)
                if isinstance(edge.peer, DomainPeer) and self.cluster.calico_api:
                    found = self.domain_rules(service, edge)
                    if self.calico:
                        throughout.add(found, line)
                    else:
                        _add(domains, found, domains_why, line)
                    continue
                peers = self.peers(service, edge)
                if peers:
                    ends.extend(self.ends(edge))
                    rule = manifests.rule(direction.value, peers, self.destination_ports(service, edge))
                    if not self.calico:
                        _add(rules, [rule], why, line)
                    elif direction is Direction.EGRESS:
                        throughout.add(self.to_system(edge.peer, rule), line)
                    else:
                        throughout.add(calico_form.rules(direction.value, rule), line)
            if throughout:
                meta = self.meta(service, direction.value, (), max(ends, default=None))
                found = throughout.manifests()
                yield calico_form.allowing(meta, selector, self.calico, direction.value, found)
            if rules:
                meta = self.meta(service, direction.value, why, max(ends, default=None))
                yield manifests.network_policy(meta, selector, **{direction.value: list(rules.values())})
            if domains:
                meta = self.meta(service, "domains", domains_why)
                yield manifests.calico_egress(meta, selector, list(domains.values()), self.cluster.calico_api)

    def meta(self, service: Service, part: str, why: Sequence[str], expires: datetime | None = None) -> Manifest:
        return manifests.metadata(
            f"{manifests.PREFIX}{service.name}-{part}",
            service.namespace,
            self.cluster.name,
            part,
            _at(service.place),
            _numbered(why),
            expires,
            **{labels.SERVICE_LABEL: service.name, labels.TEAM_LABEL: service.team},
        )

    # -------------------------------------------------------- peers

    def peers(self, service: Service, edge: ServiceEdge) -> list[Manifest]:
        """The peers of one rule; none when nothing is to be allowed (and a problem says why)."""
        peer = edge.peer
        match peer:
            case ServicePeer() | PodsPeer() | SystemPeer():
                return self.pods(peer, service.namespace, service, edge)
            case CidrPeer(network):
                return self.cidr(service, edge, network)
            case InternetPeer():
                return [manifests.block_peer(block) for block in self.public]
            case ApiServerPeer():
                return self.api_server(service, edge)
            case DomainPeer(name):
                nets = self.known(service, edge, name)
                return [manifests.block_peer(addresses.Block(net)) for net in nets]
        raise AssertionError(peer)

    def pods(
        self, peer: object, namespace: str, service: Service | None = None, edge: ServiceEdge | None = None
    ) -> list[Manifest]:
        own: LabelSelector
        where: str | LabelSelector | None
        match peer:
            case ServicePeer():
                target = self.directory.services.get(str(peer))
                if target is None:
                    return []
                where, own = target.namespace, target.pod_selector
            case PodsPeer():
                where, own = peer.namespace_selector, peer.pod_selector
            case SystemPeer():
                if peer.host_network:
                    return [manifests.block_peer(addresses.Block(net)) for net in self.cluster.node_cidrs]
                where, own = peer.namespace, peer.pod_selector
            case _:
                raise AssertionError(peer)
        if service is not None and edge is not None:
            self.check_host_network(service, edge)
        return [manifests.pods_peer(namespace, where, own)]

    def check_host_network(self, service: Service, edge: ServiceEdge) -> None:
        if edge.origin is Origin.ACCEPTED:  # the other end's own edge; its service is warned about by itself
            return
        names = tuple(pod.key for pod in self.directory.pods_of(edge.peer, service.namespace) if pod.host_network)
        if names:
            self.problems.append(
                warning(
                    "policies/host-network-peer",
                    f"{service.key}: {edge.peer} has pods on the host's network, which no selector of a policy "
                    f"finds: {adoption.shown(names)}",
                    edge.place,
                    "name the nodes' addresses with `cidr`, or move the pods to the pod network",
                    teams=(service.team,),
                    cluster=self.cluster.name,
                )
            )

    def cidr(self, service: Service, edge: ServiceEdge, network: Network) -> list[Manifest]:
        block = addresses.without(network, self.pods_and_services)
        if block is None or block.excluded:
            where = "pod and service ranges of cluster " + self.cluster.name
            problem = warning if block else error
            self.problems.append(
                problem(
                    "policies/cidr-covers-cluster",
                    f"{service.key}: {network} {'reaches into' if block else 'lies in'} the {where}"
                    + (", which are left out of the rule" if block else ""),
                    edge.place,
                    "name pods with `service` or `podSelector`: their addresses change",
                    teams=(service.team,),
                    cluster=self.cluster.name,
                )
            )
        return [manifests.block_peer(block)] if block else []

    def api_server(self, service: Service, edge: ServiceEdge) -> list[Manifest]:
        if not self.cluster.api_server:
            self.problems.append(
                error(
                    "policies/api-server-unknown",
                    f"{service.key} needs the API server, and cluster {self.cluster.name} does not say where it "
                    "listens; nothing is allowed",
                    edge.place,
                    "set `apiServer` in the Cluster document",
                    related=(self.cluster.place,),
                    teams=(service.team,),
                    cluster=self.cluster.name,
                )
            )
        return [manifests.block_peer(addresses.Block(net)) for net in self.cluster.api_server]

    # -------------------------------------------------------- domains

    def known(self, service: Service, edge: ServiceEdge, domain: str) -> tuple[Network, ...]:
        """The addresses of a domain, pinned or resolved."""
        nets = self.inputs.domain_addresses(domain)
        if not nets:
            self.problems.append(
                warning(
                    "policies/domain-unresolved",
                    f"{service.key}: the addresses of {domain} are not known on cluster {self.cluster.name}; until "
                    "they are, nothing is allowed",
                    edge.place,
                    "pin them in `domainAddresses` of the Cluster document"
                    + ("; a name with `*` cannot be resolved" if "*" in domain else ", or have the worker resolve it"),
                    teams=(service.team,),
                    cluster=self.cluster.name,
                )
            )
        return addresses.collapsed(nets)

    def domain_rules(self, service: Service, edge: ServiceEdge) -> list[Manifest]:
        assert isinstance(edge.peer, DomainPeer)
        name = edge.peer.name
        if not self.known(service, edge, name):
            return []
        self.domains.setdefault(name, _at(self.cluster.place if self.inputs.is_pinned(name) else edge.place))
        return manifests.domain_rules(name, self.destination_ports(service, edge))

    def ends(self, edge: ServiceEdge) -> Iterable[datetime]:
        """When resolved addresses that stand in the rule itself end."""
        if isinstance(edge.peer, DomainPeer) and (end := self.inputs.domain_expires(edge.peer.name)):
            yield end

    def sets(self) -> Iterable[Manifest]:
        """The address sets of the domains that some rule names, and the tier of our own."""
        if self.baseline.tier is not None and self.refused:
            own, part = self.baseline.tier, manifests.PART_LABEL
            yield calico_form.tier(own.name, own.order, self.cluster.name, self.calico, part)
        for domain, source in sorted(self.domains.items()):
            nets = [str(net) for net in addresses.collapsed(self.inputs.domain_addresses(domain))]
            expires = self.inputs.domain_expires(domain)
            yield manifests.domain_set(domain, nets, self.cluster.name, self.cluster.calico_api, source, expires)

    # -------------------------------------------------------- ports

    def destination_ports(self, service: Service, edge: ServiceEdge) -> tuple[PolicyPort, ...]:
        """The ports of the destination: of the service itself for ingress, of the peer for egress."""
        if isinstance(edge.peer, ApiServerPeer) and edge.direction is Direction.EGRESS:
            return (PolicyPort("TCP", self.cluster.api_server_port),)
        if edge.direction is Direction.INGRESS:
            return self.directory.resolve(edge.ports, (service,), self.directory.pods_of_service(service))
        return self.ports(edge.peer, edge.ports, service.namespace, edge.others)

    def ports(
        self, peer: object, ports: tuple[PortRef, ...], namespace: str, others: tuple[str, ...] = ()
    ) -> tuple[PolicyPort, ...]:
        services = tuple(self.directory.services[key] for key in others)
        pods = self.directory.pods_of(peer, namespace) if any(port.name for port in ports) else ()
        return self.directory.resolve(ports, services, pods)

    def check_ports(self, service: Service) -> None:
        """Pods whose container port bears a declared name with another number."""
        for port in service.ports:
            differing = tuple(
                f"{pod.name} ({item.number})"
                for pod in self.directory.pods_of_service(service)
                for item in pod.ports
                if item.name == port.name and item.protocol == port.protocol and item.number != port.number
            )
            if differing:
                self.problems.append(
                    warning(
                        "policies/named-port-differs",
                        f"{service.key} declares port {port.name} as {port.number}, but some pods have another "
                        f"number: {adoption.shown(differing)}",
                        port.place,
                        "declare the number that the pods have; until all agree, policies name the port instead",
                        teams=(service.team,),
                        cluster=self.cluster.name,
                    )
                )


def _add(rules: dict[str, Manifest], found: Sequence[Manifest], why: list[str], line: str) -> None:
    """Rules that are not there yet; a line of reasons for each edge, in the order of the rules."""
    for rule in found:
        key = repr(rule)
        if key not in rules:
            rules[key] = rule
    if found and line not in why:
        why.append(line)


def _both(one: LabelSelector, two: LabelSelector) -> LabelSelector:
    """Selects what both select, as long as they do not ask different values of one key in `matchLabels`."""
    return LabelSelector(one.match_labels + two.match_labels, one.match_expressions + two.match_expressions)


def _why(edge: ServiceEdge) -> str:
    where = f" ({_at(edge.place)})" if edge.place.path else ""
    return f"{edge.peer}, {edge.ports_text}: {edge.reason or edge.origin}{where}"


def _numbered(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{number}. {line}" for number, line in enumerate(lines, 1))


def _at(place: Place) -> str:
    """file:line, which stays when somebody only changes a column."""
    return f"{place.path}:{place.line}" if place.line else place.path
