"""What all checks look at: the snapshot, the policies, the engine over both, and answers that several checks need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from ipaddress import ip_network
from typing import TYPE_CHECKING

from pilothouse.inventory.model import KubeService, Pod, Snapshot
from pilothouse.labels import OWNED_BY, OWNER
from pilothouse.platform.model import Network
from pilothouse.policies.engine import Engine, bitsets, vocabulary
from pilothouse.policies.engine.backends import backends
from pilothouse.policies.engine.connections import UDP, Packet
from pilothouse.policies.engine.fold import Chain
from pilothouse.policies.engine.universe import (
    ACCOUNT_KEY,
    ACCOUNT_PREFIX,
    NAME_KEY,
    NAMESPACE_KEY,
    NAMESPACE_PREFIX,
    ORCHESTRATOR_KEY,
)
from pilothouse.policies.lint.places import Places
from pilothouse.policies.rules import Direction, NetworkSet, Peer, Policy, PolicySet, Rule, Scope
from pilothouse.policies.selectors import All, Selector

if TYPE_CHECKING:
    from pilothouse.policies.lint.fates import Fates

METADATA: tuple[Network, ...] = (ip_network("169.254.169.254/32"), ip_network("fd00:ec2::254/128"))
"""Where clouds hand out a machine's credentials
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html)."""
NODE_DNS: tuple[Network, ...] = (ip_network("169.254.20.10/32"), ip_network("fd00:90::a/128"))
"""The address of a node-local DNS cache, where nothing else was chosen
(https://kubernetes.io/docs/tasks/administer-cluster/nodelocaldns/)."""

_DNS_LABELS = (
    ("k8s-app", frozenset(("kube-dns", "coredns", "node-local-dns"))),
    ("app.kubernetes.io/name", frozenset(("coredns", "kube-dns", "node-local-dns"))),
    ("dns.operator.openshift.io/daemonset-dns", frozenset(("default",))),
)
_DNS_SERVICES = frozenset(("kube-dns", "coredns", "rke2-coredns-rke2-coredns", "dns-default"))
_EVERYONE = frozenset((Scope.ANY, Scope.NODES))


class Context:
    def __init__(self, snapshot: Snapshot, policies: PolicySet) -> None:
        self.snapshot = snapshot
        self.policies = policies
        self.places = Places(snapshot)
        self.engine = Engine.of(
            snapshot, policies.enforced(), ranges=(*METADATA, *NODE_DNS), known=vocabulary.of_set(policies, snapshot)
        )
        self.universe = self.engine.universe
        self.compiler = self.engine.compiler
        self._subjects: dict[tuple[Peer, ...], int] = {}
        self._pods: dict[int, tuple[Pod, ...]] = {}
        self.impossible_peers: dict[Peer, bool] = {}

    # ------------------------------------------------------------ policies and rules

    @cached_property
    def written(self) -> tuple[Policy, ...]:
        """Every policy that says something, staged ones too, in the order in which they are met."""
        tiers = {policy.tier: self.policies.tier(policy.tier).order for policy in self.policies.policies}
        found = [policy for policy in self.policies.policies if policy.staged_action != "Delete"]
        return tuple(sorted(found, key=lambda item: (tiers[item.tier], item.tier, item.sort_key)))

    @cached_property
    def enforced(self) -> tuple[Policy, ...]:
        return tuple(policy for policy in self.written if not policy.staged)

    def rules(self) -> Iterator[tuple[Policy, Direction, Rule]]:
        """Every rule of every policy that is one in the rule's direction."""
        for policy in self.written:
            for direction in Direction:
                if direction in policy.directions:
                    for rule in policy.rules(direction):
                        yield policy, direction, rule

    def peers(self) -> Iterator[tuple[Policy, Direction, Rule, int, Peer]]:
        for policy, direction, rule in self.rules():
            for number, peer in enumerate(rule.peers):
                yield policy, direction, rule, number, peer

    def subjects(self, policy: Policy) -> int:
        """The endpoints that a policy applies to."""
        key = policy.subjects
        found = self._subjects.get(key)
        if found is None:
            found = self._subjects[key] = self.compiler.subjects(policy)
        return found

    def own_end(self, policy: Policy, rule: Rule) -> int:
        """The endpoints that one rule of a policy is about."""
        members = self.subjects(policy)
        return members if rule.subject.is_anyone else members & self.compiler.peer(rule.subject)

    def destinations(self, policy: Policy, direction: Direction, rule: Rule) -> int:
        """The endpoints at which the rule's connections end."""
        if direction is Direction.INGRESS:
            return self.own_end(policy, rule)
        found = 0
        for peer in rule.peers:
            found |= self.compiler.peer(peer)
        return found & self.universe.endpoints

    # ------------------------------------------------------------ what is known

    @cached_property
    def has_endpoints(self) -> bool:
        return bool(self.universe.pieces)

    @cached_property
    def namespaces(self) -> Mapping[str, Mapping[str, str]]:
        """Namespace → its labels, the name among them as Calico has it."""
        return {name: {NAME_KEY: name, **labels} for name, labels in self.snapshot.namespace_labels.items()}

    @cached_property
    def knows_namespaces(self) -> bool:
        """Whether the snapshot holds namespaces as objects: those that only pods mention have no own labels."""
        return any(len(labels) > 1 for labels in self.snapshot.namespace_labels.values())

    def in_namespaces(self, selector: Selector | None) -> tuple[str, ...]:
        """The namespaces that a selector selects, whether or not there is a pod in them."""
        return tuple(name for name, labels in self.namespaces.items() if selector is None or selector.matches(labels))

    # ------------------------------------------------------------ pods

    def pods(self, members: int) -> tuple[Pod, ...]:
        """The pods of a set of pieces, each once."""
        found = self._pods.get(members)
        if found is None:
            seen: dict[int, Pod] = {}
            for number in bitsets.bits(members & self.universe.endpoints):
                for pod in self.universe.pieces[number].pods:
                    seen.setdefault(id(pod), pod)
            found = self._pods[members] = tuple(seen.values())
        return found

    def some(self, members: int) -> str:
        """ "3 pods, such as shop/web-1", or the one that there is."""
        pods = self.pods(members)
        if not pods:
            hosts = [self.universe.pieces[n].name for n in bitsets.bits(members & self.universe.endpoints)]
            return hosts[0] if hosts else "no endpoint"
        return f"pod {pods[0].key}" if len(pods) == 1 else f"{len(pods):,} pods, such as {pods[0].key}"

    @cached_property
    def _on_host(self) -> Mapping[str, tuple[Pod, ...]]:
        """Namespace → its pods on the host's network."""
        found: dict[str, list[Pod]] = {}
        for pod in self.snapshot.pods:
            if pod.host_network and not pod.is_finished:
                found.setdefault(pod.namespace, []).append(pod)
        return {name: tuple(pods) for name, pods in found.items()}

    def host_pods(self, peer: Peer) -> tuple[Pod, ...]:
        """The pods on the host's network that a peer's selectors would mean, were they endpoints."""
        found = []
        for name in self._spaces(peer):
            for pod in self._on_host.get(name, ()):
                if peer.selector is None or peer.selector.matches(self.labels(pod)):
                    found.append(pod)
        return tuple(found)

    def _spaces(self, peer: Peer) -> Iterable[str]:
        match peer.scope:
            case Scope.NAMESPACE:
                return (peer.namespace,)
            case Scope.NAMESPACES:
                return self.in_namespaces(peer.namespace_selector) if self._on_host else ()
            case Scope.CLUSTER:
                return tuple(self._on_host)
        return ()

    def labels(self, pod: Pod) -> Mapping[str, str]:
        """Own and inherited labels of a pod, as a policy sees them."""
        space = self.snapshot.namespace_labels.get(pod.namespace, {})
        account = self.snapshot.account_labels.get((pod.namespace, pod.service_account), {})
        return {
            **{f"{NAMESPACE_PREFIX}{key}": value for key, value in space.items()},
            f"{NAMESPACE_PREFIX}{NAME_KEY}": pod.namespace,
            **{f"{ACCOUNT_PREFIX}{key}": value for key, value in account.items()},
            f"{ACCOUNT_PREFIX}{NAME_KEY}": pod.service_account,
            NAMESPACE_KEY: pod.namespace,
            ORCHESTRATOR_KEY: "k8s",
            ACCOUNT_KEY: pod.service_account,
            **pod.labels,
        }

    def is_dormant(self, peer: Peer) -> bool:
        """Whether pods that are not there now would be meant: of a workload without replicas, or not yet scheduled."""
        selector = peer.selector
        for workload in self.snapshot.workloads:
            if self._holds(peer, workload.namespace) and (
                selector is None or selector.matches(workload.template_labels)
            ):
                return True
        return any(
            self._holds(peer, pod.namespace) and (selector is None or selector.matches(self.labels(pod)))
            for pod in self._waiting
        )

    @cached_property
    def _waiting(self) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.snapshot.pods if not pod.is_endpoint and not pod.host_network)

    def _holds(self, peer: Peer, namespace: str) -> bool:
        if peer.scope is Scope.NAMESPACE:
            return peer.namespace == namespace
        if peer.scope is Scope.NAMESPACES:
            where = peer.namespace_selector
            return where is None or where.matches(self.namespaces.get(namespace, {}))
        return peer.scope is Scope.CLUSTER

    # ------------------------------------------------------------ address sets

    def holds_set(self, peer: Peer, item: NetworkSet) -> bool:
        """Whether a peer's selectors select an address set."""
        if peer.pods_only or peer.scope in _EVERYONE:
            return False
        match peer.scope:
            case Scope.NAMESPACE if item.namespace != peer.namespace:
                return False
            case Scope.GLOBAL if item.namespace:
                return False
            case Scope.NAMESPACES:
                where = peer.namespace_selector
                space = self.namespaces.get(item.namespace, {})
                if not item.namespace or (where is not None and not where.matches(space)):
                    return False
        return peer.selector is None or peer.selector.matches(self.set_labels(item))

    def set_labels(self, item: NetworkSet) -> Mapping[str, str]:
        if not item.namespace:
            return dict(item.labels)
        space = self.snapshot.namespace_labels.get(item.namespace, {})
        return {
            **{f"{NAMESPACE_PREFIX}{key}": value for key, value in space.items()},
            f"{NAMESPACE_PREFIX}{NAME_KEY}": item.namespace,
            **dict(item.labels),
            NAMESPACE_KEY: item.namespace,
        }

    # ------------------------------------------------------------ services and DNS

    @cached_property
    def services(self) -> Mapping[tuple[str, str], KubeService]:
        return {(item.namespace, item.name): item for item in self.snapshot.services}

    @cached_property
    def services_by_port(self) -> Mapping[int, tuple[tuple[KubeService, int], ...]]:
        """Service port → (service, the pieces of its pods)."""
        found: dict[int, list[tuple[KubeService, int]]] = {}
        for item in self.snapshot.services:
            members = 0
            for backend in backends(self.snapshot, item.namespace, item.name):
                if backend.pod:
                    members |= bitsets.of(self.universe.pieces_of(backend.pod))
            for number in {port.port for port in item.ports}:
                found.setdefault(number, []).append((item, members))
        return {number: tuple(items) for number, items in found.items()}

    @cached_property
    def services_by_target(self) -> Mapping[int, Mapping[int, int]]:
        """Protocol → port of pods → the pieces of those to which a Service leads there."""
        found: dict[int, dict[int, int]] = {}
        for item in self.snapshot.services:
            for backend in backends(self.snapshot, item.namespace, item.name):
                if backend.pod:
                    numbers = found.setdefault(backend.protocol, {})
                    members = bitsets.of(self.universe.pieces_of(backend.pod))
                    numbers[backend.port] = numbers.get(backend.port, 0) | members
        return found

    @cached_property
    def dns_pods(self) -> tuple[Pod, ...]:
        """The pods that answer DNS, on the host's network or not."""
        found = {
            pod.key: pod
            for pod in self.snapshot.pods
            if not pod.is_finished and any(pod.labels.get(key) in values for key, values in _DNS_LABELS)
        }
        known = {pod.key: pod for pod in self.snapshot.pods}
        for item in self.snapshot.services:
            if item.name in _DNS_SERVICES and any(port.port == 53 for port in item.ports):
                for backend in backends(self.snapshot, item.namespace, item.name):
                    if backend.pod in known:
                        found[backend.pod] = known[backend.pod]
        return tuple(found.values())

    @cached_property
    def dns(self) -> int:
        """The pieces at which DNS is answered; everything where nothing in the snapshot does."""
        if not self.dns_pods:
            return self.universe.everything
        found = 0
        for pod in self.dns_pods:
            found |= bitsets.of(self.universe.pieces_of(pod.key))
            if pod.host_network:
                for address in pod.ips:
                    found |= 1 << self.universe.piece_of_address(address)
        for network in NODE_DNS:
            found |= self.universe.network(network)
        return found

    @cached_property
    def asks_dns(self) -> int:
        """The endpoints that may ask for names over UDP."""
        return self.sending(Packet(UDP, 53), self.dns)

    def sending(self, packet: Packet, to: int) -> int:
        """The endpoints whose egress allows a packet to some of these pieces."""
        found = []
        for number, effect in enumerate(self.engine.reach.egress):
            if any((allowed | some) & to and packets.contains(packet) for packets, allowed, some in effect.cells):
                found.append(number)
        return bitsets.of(found)

    # ------------------------------------------------------------ chains

    @cached_property
    def chains(self) -> Mapping[Direction, tuple[tuple[Chain, int], ...]]:
        """Direction → (chain, the endpoints that meet it), each chain once."""
        found = {}
        for direction in Direction:
            groups: dict[int, tuple[Chain, list[int]]] = {}
            for number in range(len(self.universe.pieces)):
                chain = self.engine.chain(number, direction)
                groups.setdefault(id(chain), (chain, []))[1].append(number)
            found[direction] = tuple((chain, bitsets.of(numbers)) for chain, numbers in groups.values())
        return found

    @cached_property
    def fates(self) -> Fates:
        """What became of every rule."""
        from pilothouse.policies.lint.fates import Fates

        return Fates(self)

    @cached_property
    def isolated(self) -> Mapping[Direction, int]:
        """Direction → the endpoints that some policy applies to."""
        return {direction: self.engine.isolated(direction) for direction in Direction}


def is_derived(policy: Policy) -> bool:
    """Whether pilothouse derived it: then whom it names was declared, and the pods may come later."""
    return (OWNED_BY, OWNER) in policy.labels


def is_all(selector: Selector | None) -> bool:
    """Whether a selector was written without a condition."""
    return selector is None or isinstance(selector, All)


def isolating(chain: Chain) -> tuple[Policy, ...]:
    """The policies of a chain, in order."""
    found = (variant.policy for stage in chain.stages for variant in stage.variants)
    return tuple(policy for policy in found if isinstance(policy, Policy))
