"""Network policies of every kind as values: what `reading` makes of manifests, and what `engine` computes with.

One model for Kubernetes' NetworkPolicy, Calico's policies and the cluster-wide policies of SIG Network. The kinds
differ in shape, and agree in this: an endpoint meets, per direction, a list of tiers; in a tier, policies by order; in
a policy, rules by index; the first rule that matches decides. After the last tier come the endpoint's profiles.

- A Kubernetes NetworkPolicy stands in the tier `default` at order 1000 and only allows
  (https://docs.tigera.io/calico/latest/reference/resources/tier).
- AdminNetworkPolicy and BaselineAdminNetworkPolicy, and ClusterNetworkPolicy with its two tiers, stand in
  `kube-admin` (order 1,000) and `kube-baseline` (order 10,000,000), both with default action Pass
  (https://network-policy-api.sigs.k8s.io/api-overview/).

Everything is frozen, hashable and free of manifests; `place` and `path` say where a thing was written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from pilothouse.platform.model import Network
from pilothouse.policies.selectors import Selector
from pilothouse.problems import NOWHERE, Place

T = TypeVar("T")

ANY_ORDER = math.inf
"""The order of what says none: after everything that does."""

KUBERNETES_ORDER = 1000.0
DEFAULT_TIER = "default"
DEFAULT_TIER_ORDER = 1_000_000.0
ADMIN_TIER = "kube-admin"
ADMIN_TIER_ORDER = 1_000.0
BASELINE_TIER = "kube-baseline"
BASELINE_TIER_ORDER = 10_000_000.0
TIER_ALIASES: Mapping[str, str] = {"adminnetworkpolicy": ADMIN_TIER, "baselineadminnetworkpolicy": BASELINE_TIER}
"""Earlier names of the two, as Calico used them."""


class Direction(StrEnum):
    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def other(self) -> Direction:
        return Direction.EGRESS if self is Direction.INGRESS else Direction.INGRESS


class Action(StrEnum):
    ALLOW = "Allow"
    DENY = "Deny"
    PASS = "Pass"  # noqa: S105  # the name of an action
    LOG = "Log"


class Scope(StrEnum):
    """Among which endpoints and address sets a peer's selectors look."""

    ANY = "any"
    """No selector at all: every address, known or not."""
    NAMESPACE = "namespace"
    """Pods and NetworkSets of one namespace."""
    NAMESPACES = "namespaces"
    """Pods and NetworkSets of the namespaces that `namespace_selector` selects."""
    CLUSTER = "cluster"
    """All of them: pods, host endpoints, NetworkSets and GlobalNetworkSets (a Calico global policy's selector)."""
    GLOBAL = "global"
    """What is in no namespace: host endpoints and GlobalNetworkSets (`global()`)."""
    NODES = "nodes"
    """The addresses of the nodes that `selector` selects (AdminNetworkPolicy's egress peer `nodes`)."""


@dataclass(frozen=True, slots=True)
class Nets:
    """Address ranges: inside one of `ranges` and in none of `excluded`."""

    ranges: tuple[Network, ...]
    excluded: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a rule. Every condition that is set must hold.

    - `scope`, `namespace`, `namespace_selector`, `selector`: an endpoint or set that the selector selects there.
      `selector` None means all of them. Service accounts are label conditions within `selector`.
    - `not_selector`: not an endpoint or set, of whatever namespace, that it selects.
    - `nets`: the address lies in one of these (each a range less its own exceptions); `not_nets`: in none of these.
    - `services`: (namespace, name): the address is a backend of that Service, and the port that backend's.
    - `pods_only`: Kubernetes' selectors find pods and no address sets.
    - `ip_block`: `nets` come from a Kubernetes `ipBlock`, of which Kubernetes itself does not say whether it
      matches pods.
    """

    scope: Scope = Scope.ANY
    namespace: str = ""
    namespace_selector: Selector | None = None
    selector: Selector | None = None
    not_selector: Selector | None = None
    nets: tuple[Nets, ...] | None = None
    not_nets: tuple[Network, ...] = ()
    services: tuple[str, str] | None = None
    pods_only: bool = False
    ip_block: bool = False

    @property
    def is_anyone(self) -> bool:
        return self == ANYONE


ANYONE = Peer()


@dataclass(frozen=True, slots=True, order=True)
class PortMatch:
    """A range of port numbers, or with `name` whatever number the endpoint itself gives that name."""

    first: int = 0
    last: int = 0
    name: str = ""

    def __str__(self) -> str:
        if self.name:
            return self.name
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Icmp:
    """An ICMP type, and its code where one is asked for."""

    type: int
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a packet must be. Every condition that is set must hold.

    `protocols` are IP protocol numbers (None: any), `not_protocols` those that it must not be. Port conditions hold
    only for TCP, UDP and SCTP, ICMP ones only for the protocols 1 and 58. `ip_version` is 4 or 6. `http` holds for some
    requests of a connection and not for others, so that such a rule allows conditionally.
    """

    protocols: tuple[int, ...] | None = None
    not_protocols: tuple[int, ...] = ()
    destination_ports: tuple[PortMatch, ...] | None = None
    not_destination_ports: tuple[PortMatch, ...] = ()
    source_ports: tuple[PortMatch, ...] | None = None
    not_source_ports: tuple[PortMatch, ...] = ()
    icmp: Icmp | None = None
    not_icmp: Icmp | None = None
    ip_version: int | None = None
    http: str = ""
    """The HTTP match in words ("GET /health"), "" where there is none."""


EVERYTHING = Traffic()


@dataclass(frozen=True, slots=True)
class Rule:
    """Decides packets between the policy's endpoints and any of `peers` that are any of `traffic`.

    `subject` narrows the policy's own end (a Calico ingress rule with a `destination`, or egress with a `source`); its
    ports are in `traffic`. Both tuples hold at least one member. `path` leads from the manifest to the rule,
    `index` is its number in its direction.
    """

    action: Action
    peers: tuple[Peer, ...] = (ANYONE,)
    traffic: tuple[Traffic, ...] = (EVERYTHING,)
    subject: Peer = ANYONE
    index: int = 0
    path: tuple[str | int, ...] = field(default=(), compare=False)
    place: Place = field(default=NOWHERE, compare=False, repr=False)


class Family(StrEnum):
    """Which specification a policy belongs to."""

    KUBERNETES = "kubernetes"
    CALICO = "calico"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy.

    `subjects` says which endpoints it applies to (any of them); `directions` in which directions it is a policy at
    all (and so isolates, by its tier's default action). `tier` and `order` say when it is met.
    `staged` policies are not enforced; `staged_action` is what staging them would do.
    `untracked`, `pre_dnat` and `forward` (`doNotTrack`, `preDNAT`, `applyOnForward`) concern host endpoints.
    """

    kind: str
    name: str
    namespace: str = ""
    family: Family = Family.CALICO
    api_version: str = ""
    tier: str = DEFAULT_TIER
    order: float = ANY_ORDER
    subjects: tuple[Peer, ...] = (ANYONE,)
    directions: frozenset[Direction] = frozenset()
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    staged: bool = False
    staged_action: str = ""
    """Set or Delete; "" where the policy is not staged."""
    untracked: bool = False
    pre_dnat: bool = False
    forward: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def key(self) -> str:
        """`Kind namespace/name`, or `Kind name` without a namespace."""
        return f"{self.kind} {self.shown}"

    @property
    def shown(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def rules(self, direction: Direction) -> tuple[Rule, ...]:
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def sort_key(self) -> tuple[float, str, str, str]:
        """The order within a tier: `order`, then the name as Calico stores it (with the tier before it, Kubernetes' own
        as `knp.default.<name>`). Versions of Calico differ in how they break such ties, which `lint` warns of."""
        name = f"knp.default.{self.name}" if self.family is Family.KUBERNETES else f"{self.tier}.{self.name}"
        return (self.order, name, self.namespace, self.kind)


@dataclass(frozen=True, slots=True)
class Tier:
    """`default_action` is what happens to a packet that no rule of the tier's policies matched."""

    name: str
    order: float = ANY_ORDER
    default_action: Action = Action.DENY
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """Addresses with labels; `namespace` "" is a GlobalNetworkSet."""

    name: str
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    nets: tuple[Network, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Profile:
    """Rules that an endpoint meets after the last tier; `labels` are inherited by its endpoints."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    def rules(self, direction: Direction) -> tuple[Rule, ...]:
        return self.ingress if direction is Direction.INGRESS else self.egress


@dataclass(frozen=True, slots=True)
class HostEndpoint:
    """An interface of a node, or with `interface` "*" all of them. `ports` are (name, protocol number, port number)."""

    name: str
    node: str = ""
    interface: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[tuple[str, int, int], ...] = ()
    profiles: tuple[str, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class PolicySet:
    """Everything that decides about packets, in no order that matters. `tiers` may leave out the three that always
    exist (`default`, `kube-admin`, `kube-baseline`); `reading` gives every tier that a policy names."""

    policies: tuple[Policy, ...] = ()
    tiers: tuple[Tier, ...] = ()
    sets: tuple[NetworkSet, ...] = ()
    profiles: tuple[Profile, ...] = ()
    hosts: tuple[HostEndpoint, ...] = ()

    def tier(self, name: str) -> Tier:
        found = next((tier for tier in self.tiers if tier.name == name), None)
        return found or STANDARD_TIERS.get(name) or Tier(name)

    def enforced(self) -> PolicySet:
        """Without staged policies."""
        return self.with_policies(policy for policy in self.policies if not policy.staged)

    def preview(self) -> PolicySet:
        """As if every staged policy were enforced: one that sets takes the place of the enforced policy of its name,
        one that deletes takes it away (https://docs.tigera.io/calico/latest/reference/resources/stagednetworkpolicy)."""
        staged = {_target(policy): policy for policy in self.policies if policy.staged}
        kept = [policy for policy in self.policies if not policy.staged and _target(policy) not in staged]
        return self.with_policies(
            (*kept, *(_as_enforced(policy) for policy in staged.values() if policy.staged_action != "Delete"))
        )

    def with_policies(self, policies: Iterable[Policy]) -> PolicySet:
        return replace(self, policies=tuple(policies))

    def __or__(self, other: PolicySet) -> PolicySet:
        """Both together; where both hold a thing of one name, that of `other`."""
        return PolicySet(
            _merged(self.policies, other.policies, lambda item: (item.key, item.staged)),
            _merged(self.tiers, other.tiers, lambda item: item.name),
            _merged(self.sets, other.sets, lambda item: (item.namespace, item.name)),
            _merged(self.profiles, other.profiles, lambda item: item.name),
            _merged(self.hosts, other.hosts, lambda item: item.name),
        )


STANDARD_TIERS: Mapping[str, Tier] = {
    DEFAULT_TIER: Tier(DEFAULT_TIER, DEFAULT_TIER_ORDER, Action.DENY),
    ADMIN_TIER: Tier(ADMIN_TIER, ADMIN_TIER_ORDER, Action.PASS),
    BASELINE_TIER: Tier(BASELINE_TIER, BASELINE_TIER_ORDER, Action.PASS),
}

_ENFORCED_KIND = {
    "StagedNetworkPolicy": "NetworkPolicy",
    "StagedGlobalNetworkPolicy": "GlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy": "NetworkPolicy",
}


def _target(policy: Policy) -> tuple[Family, str, str, str]:
    kind = _ENFORCED_KIND.get(policy.kind, policy.kind)
    return (policy.family, kind, policy.namespace, policy.name)


def _as_enforced(policy: Policy) -> Policy:
    return replace(policy, staged=False)


def _merged(one: Iterable[T], two: Iterable[T], key: Callable[[T], object]) -> tuple[T, ...]:
    return tuple({**{key(item): item for item in one}, **{key(item): item for item in two}}.values())
