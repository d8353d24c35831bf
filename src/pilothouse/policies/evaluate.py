"""What network policies allow on a cluster: an evaluator that knows manifests and pods, and nothing of `derive`.

Kubernetes NetworkPolicy, after https://kubernetes.io/docs/concepts/services-networking/network-policies/:

- isolation is per direction; a connection needs both ends; policies add up, and replies need no rule;
- `policyTypes` absent means Ingress, and Egress too when there are egress rules;
- `from`, `to` or `ports` that are absent or empty match everything (every protocol, for `ports`);
- a peer without `namespaceSelector` means the policy's own namespace;
- a named port is resolved by each destination pod, by name and protocol;
- `ipBlock` means the range less every `except`. Like Calico, it matches pods by their address too;
- pods on the host's network, unscheduled and finished ones are no endpoints: neither selected nor matched.

Of Calico, the kinds that `derive` writes: NetworkPolicy with Allow rules in the default tier, NetworkSet and
GlobalNetworkSet, and with `preview` the staged kinds as if they were enforced. A policy that says more than this
evaluator knows is left out whole, and named in `unsupported`: never half understood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse.inventory.model import Snapshot
from pilothouse.labels import OWNED_BY, OWNER, LabelSelector
from pilothouse.platform.model import Network
from pilothouse.policies.portset import ALL, NONE, PROTOCOLS, PortSet
from pilothouse.policies.reach import EVERY_PORT, Ports, Reach, Rule, Side
from pilothouse.policies.selectors import SelectorError, parse
from pilothouse.policies.universe import Universe, bits, parse_network

Policy = Mapping[str, Any]

STAGED = ("StagedKubernetesNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy")
SETS = ("NetworkSet", "GlobalNetworkSet")


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A policy that was left out, and why."""

    policy: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    reach: Reach
    unsupported: tuple[Unsupported, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one packet passes, and what decided on each side: a policy's rule, the names of the policies that
    isolate the pod without a rule for it, or "not isolated"."""

    allowed: bool
    egress: str
    ingress: str


class _NotSupported(Exception):
    pass


def ranges(policies: Iterable[Policy]) -> Iterator[Network]:
    """Every address range that some policy or set names: what a `Universe` must be cut by."""
    for policy in policies:
        spec = policy.get("spec") or {}
        for net in spec.get("nets") or ():
            yield parse_network(net)
        for direction, ends in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction) or ():
                for peer in rule.get(ends) or ():
                    block = peer.get("ipBlock")
                    if block:
                        yield parse_network(block["cidr"])
                        yield from map(parse_network, block.get("except") or ())
                for end in ("source", "destination"):
                    yield from map(parse_network, (rule.get(end) or {}).get("nets") or ())


def foreign(snapshot: Snapshot) -> tuple[Policy, ...]:
    """The policies and address sets of a snapshot that somebody else wrote and that are in force.

    They stay beside ours, and add to what is allowed or denied. Staged ones change nothing and are left out.
    """
    return tuple(
        item.data
        for item in snapshot.policies
        if (item.kind.endswith("Policy") or item.kind in SETS)
        and item.kind not in STAGED
        and item.labels.get(OWNED_BY) != OWNER
    )


def evaluate(policies: Iterable[Policy], universe: Universe, *, preview: bool = False) -> Evaluation:
    """The reach under these policies. `universe` must be cut by their `ranges`."""
    given = tuple(policies)
    return _Evaluator(universe, given, preview).run()


def decide(reach: Reach, source: int, destination: int, protocol: str, port: int) -> Verdict:
    """One packet from piece to piece. A pod always reaches itself."""
    if source == destination and reach.universe.is_pod(source) and len(reach.universe.classes[source].pods) == 1:
        return Verdict(True, "a pod reaches itself", "a pod reaches itself")
    universe = reach.universe
    egress = _basis(reach.egress[source] if universe.is_pod(source) else None, reach, destination, destination)
    ingress = _basis(reach.ingress[destination] if universe.is_pod(destination) else None, reach, source, destination)
    verdicts = [side(protocol, port) for side in (egress, ingress)]
    return Verdict(all(allowed for allowed, _ in verdicts), verdicts[0][1], verdicts[1][1])


def _basis(side: Side, reach: Reach, peer: int, destination: int) -> Callable[[str, int], tuple[bool, str]]:
    def answer(protocol: str, port: int) -> tuple[bool, str]:
        if side is None:
            return True, "not isolated"
        for rule in side:
            if rule.peers >> peer & 1 and rule.ports.at(reach.universe, destination).contains(protocol, port):
                return True, rule.basis
        isolating = sorted({rule.basis.partition(" ")[0] for rule in side})
        return False, "no rule of " + ", ".join(isolating)

    return answer


class _Evaluator:
    def __init__(self, universe: Universe, policies: Sequence[Policy], preview: bool) -> None:
        self.universe = universe
        self.policies = policies
        self.preview = preview
        self.sides: dict[str, list[list[Rule] | None]] = {
            name: [None] * len(universe.classes) for name in ("Ingress", "Egress")
        }
        self.unsupported: list[Unsupported] = []
        self._ports: dict[str, Ports] = {}

    def run(self) -> Evaluation:
        self.sets = [policy for policy in self.policies if policy.get("kind") in SETS]
        for policy in self.policies:
            kind = policy.get("kind", "")
            if kind in SETS or (kind in STAGED and not self.preview):
                continue
            try:
                self.add(policy, kind)
            except (_NotSupported, SelectorError) as reason:
                self.unsupported.append(Unsupported(name_of(policy), str(reason)))
        egress, ingress = (
            [None if side is None else tuple(side) for side in self.sides[name]] for name in ("Egress", "Ingress")
        )
        return Evaluation(Reach(self.universe, egress, ingress), tuple(self.unsupported))

    def add(self, policy: Policy, kind: str) -> None:
        group = str(policy.get("apiVersion", "")).partition("/")[0]
        calico = group in ("projectcalico.org", "crd.projectcalico.org")
        if (group == "networking.k8s.io" and kind == "NetworkPolicy") or (
            calico and kind == "StagedKubernetesNetworkPolicy"
        ):
            self.kubernetes(policy)
        elif calico and kind in ("NetworkPolicy", "StagedNetworkPolicy"):
            self.calico(policy)
        else:
            raise _NotSupported(f"kind {kind} of {group or 'no group'} is not evaluated")

    def isolate(self, selected: int, directions: Mapping[str, Sequence[Rule]]) -> None:
        """Called once the whole policy was understood. The first rule of each direction matches nobody: it is there
        so that a pod that is isolated without any rule still knows by which policy."""
        for direction, rules in directions.items():
            sides = self.sides[direction]
            for number in bits(selected):
                side = sides[number]
                if side is None:
                    side = sides[number] = []
                side.extend(rules)

    # -------------------------------------------------------- Kubernetes

    def kubernetes(self, policy: Policy) -> None:
        spec = policy.get("spec") or {}
        if spec.get("stagedAction", "Set") != "Set":
            return
        name, namespace = name_of(policy), (policy.get("metadata") or {}).get("namespace") or "default"
        own = self.universe.by_namespace.get(namespace, 0)
        selected = own & self.universe.selected(LabelSelector.from_dict(spec.get("podSelector") or {}))
        types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
        sides = {}
        for direction, field, ends in (("Ingress", "ingress", "from"), ("Egress", "egress", "to")):
            if direction in types:
                rules = [Rule(0, Ports(), f"{name} {field}")]
                for index, item in enumerate(spec.get(field) or ()):
                    peers = self.kubernetes_peers(item.get(ends), own)
                    rules.append(Rule(peers, self.kubernetes_ports(item.get("ports")), f"{name} {field}[{index}]"))
                sides[direction] = rules
        self.isolate(selected, sides)

    def kubernetes_peers(self, peers: Sequence[Policy] | None, own: int) -> int:
        if not peers:
            return self.universe.everything
        found = 0
        for peer in peers:
            block = peer.get("ipBlock")
            if block:
                excluded = [parse_network(item) for item in block.get("except") or ()]
                found |= self.universe.block(parse_network(block["cidr"]), excluded)
                continue
            spaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
            if spaces is None and pods is None:
                raise _NotSupported("an empty peer is not valid")
            members = own if spaces is None else self.universe.in_namespaces(LabelSelector.from_dict(spaces))
            found |= members & self.universe.selected(LabelSelector.from_dict(pods or {}))
        return found

    def kubernetes_ports(self, items: Sequence[Policy] | None) -> Ports:
        if not items:
            return EVERY_PORT
        memo = repr(items)
        if memo not in self._ports:
            fixed, named = NONE, []
            for item in items:
                protocol, port = item.get("protocol") or "TCP", item.get("port")
                if port is None:
                    fixed = fixed | PortSet.of(protocol)
                elif isinstance(port, str):
                    named.append((port, protocol))
                else:
                    fixed = fixed | PortSet.of(protocol, port, item.get("endPort") or port)
            self._ports[memo] = Ports(fixed, tuple(named))
        return self._ports[memo]

    # -------------------------------------------------------- Calico

    def calico(self, policy: Policy) -> None:
        spec = policy.get("spec") or {}
        if spec.get("stagedAction", "Set") != "Set":
            return
        _known(spec, "stagedAction", "tier", "order", "selector", "types", "ingress", "egress")
        if spec.get("tier", "default") not in ("", "default"):
            raise _NotSupported(f"tier {spec['tier']} is not evaluated")
        name, namespace = name_of(policy), (policy.get("metadata") or {}).get("namespace") or "default"
        own = self.universe.by_namespace.get(namespace, 0)
        selected = self.matching(own, spec.get("selector") or "")
        types = spec.get("types") or (
            ["Ingress"] * bool(spec.get("ingress") or not spec.get("egress")) + ["Egress"] * bool(spec.get("egress"))
        )
        sides = {}
        for direction, field in (("Ingress", "ingress"), ("Egress", "egress")):
            if direction in types:
                rules = [Rule(0, Ports(), f"{name} {field}")]
                for index, item in enumerate(spec.get(field) or ()):
                    peers, ports = self.calico_rule(item, direction, namespace)
                    rules.append(Rule(peers, ports, f"{name} {field}[{index}]"))
                sides[direction] = rules
        self.isolate(selected, sides)

    def calico_rule(self, rule: Policy, direction: str, namespace: str) -> tuple[int, Ports]:
        _known(rule, "action", "protocol", "source", "destination", "metadata")
        if rule.get("action") != "Allow":
            raise _NotSupported(f"action {rule.get('action')} is not evaluated")
        source, destination = rule.get("source") or {}, rule.get("destination") or {}
        peer, subject = (source, destination) if direction == "Ingress" else (destination, source)
        _known(subject, *(("ports",) if direction == "Ingress" else ()))
        _known(peer, "selector", "namespaceSelector", "nets", *(("ports",) if direction == "Egress" else ()))
        return self.entity(peer, namespace), self.calico_ports(rule.get("protocol"), destination.get("ports"))

    def entity(self, peer: Policy, namespace: str) -> int:
        """The pieces that a `source` or `destination` means; every condition holds at once."""
        found = self.universe.everything
        nets = peer.get("nets")
        if nets:
            members = 0
            for net in nets:
                members |= self.universe.network(parse_network(net))
            found &= members
        selector, spaces = peer.get("selector"), peer.get("namespaceSelector")
        if selector is None and spaces is None:
            return found
        if spaces is not None and spaces.strip() == "global()":
            return found & self.set_members(selector or "", None)
        if spaces is None:
            own = self.universe.by_namespace.get(namespace, 0)
            return found & (self.matching(own, selector or "") | self.set_members(selector or "", namespace))
        test = parse(spaces)
        members = 0
        for name, labels in self.universe.namespace_labels.items():
            if test(labels):
                members |= self.matching(self.universe.by_namespace[name], selector or "")
                members |= self.set_members(selector or "", name)
        return found & members

    def matching(self, among: int, selector: str) -> int:
        """The pod classes among these that a Calico selector matches, inherited labels included."""
        test = parse(selector)
        found = 0
        for number in bits(among):
            item = self.universe.classes[number]
            inherited = {
                "projectcalico.org/namespace": item.namespace,
                "projectcalico.org/orchestrator": "k8s",
                "projectcalico.org/serviceaccount": item.service_account,
            }
            if test({**item.labels, **inherited}):
                found |= 1 << number
        return found

    def set_members(self, selector: str, namespace: str | None) -> int:
        """The addresses of the sets that a selector matches: global ones (None), or those of a namespace."""
        test = parse(selector)
        found = 0
        for item in self.sets:
            meta = item.get("metadata") or {}
            is_global = item.get("kind") == "GlobalNetworkSet"
            if is_global != (namespace is None) or (not is_global and meta.get("namespace") != namespace):
                continue
            if test(meta.get("labels") or {}):
                for net in (item.get("spec") or {}).get("nets") or ():
                    found |= self.universe.network(parse_network(net))
        return found

    def calico_ports(self, protocol: Any, items: Sequence[int | str] | None) -> Ports:
        if protocol is None:
            if items:
                raise _NotSupported("ports without a protocol are not valid")
            return Ports(ALL)
        if protocol not in PROTOCOLS:
            raise _NotSupported(f"protocol {protocol} is not evaluated")
        if not items:
            return Ports(PortSet.of(protocol))
        fixed, named = NONE, []
        for item in items:
            text = str(item)
            first, _, last = text.partition(":")
            if first.isdigit():
                fixed = fixed | PortSet.of(protocol, int(first), int(last or first))
            else:
                named.append((text, protocol))
        return Ports(fixed, tuple(named))


def _known(data: Policy, *fields: str) -> None:
    unknown = sorted(key for key, value in data.items() if key not in fields and value not in (None, "", [], {}))
    if unknown:
        raise _NotSupported(f"{', '.join(unknown)} is not evaluated")


def name_of(policy: Policy) -> str:
    """`namespace/name` of a manifest, or its name where it has no namespace."""
    meta = policy.get("metadata") or {}
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta.get("name", ""))
