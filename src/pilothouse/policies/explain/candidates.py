"""Edits of manifests that may flip what one side of a connection says. Whether they do, and what else they change, the
evaluator says (`edits`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.inventory.fields import Path
from pilothouse.inventory.model import Manifest
from pilothouse.policies.engine import Packet
from pilothouse.policies.engine.connections import NAMES, WITH_PORTS
from pilothouse.policies.engine.decide import Decision, Outcome
from pilothouse.policies.explain import fragments, narrowing
from pilothouse.policies.explain.fragments import PEERS, Addresses, Data, Pods, Whom, without, word
from pilothouse.policies.explain.narrowing import at, copied
from pilothouse.policies.explain.near import Side, is_ours
from pilothouse.policies.explain.reasons import Reasons
from pilothouse.policies.rules import (
    ADMIN_TIER,
    ANY_ORDER,
    BASELINE_TIER,
    DEFAULT_TIER,
    Action,
    Direction,
    Family,
    Policy,
    Rule,
)
from pilothouse.problems import NOWHERE, Place

KUBERNETES_API = "networking.k8s.io/v1"
CALICO_API = "projectcalico.org/v3"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One manifest after the edit (`data`), and before it (`policy`, `before`; None for a new one)."""

    title: str
    data: Mapping[str, Any]
    policy: Policy | None = None
    before: Mapping[str, Any] | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be flipped: a side, and whom its own end and the other mean in words of manifests."""

    side: Side
    packet: Packet
    own: Whom | None
    other: Whom | None
    allow: bool
    calico: str = ""
    """The API group and version of Calico, "" where there is none."""


class Candidates:
    """`manifest` is what a policy was read from, None where that is not at hand."""

    def __init__(self, manifest: Callable[[Policy], Manifest | None], reasons: Reasons, wish: Wish) -> None:
        self.manifest = manifest
        self.reasons = reasons
        self.wish = wish
        self.side = wish.side
        self.direction = wish.side.direction
        self.decision: Decision = wish.side.decision

    def all(self) -> Iterator[Candidate]:
        yield from self._allowing() if self.wish.allow else self._denying()

    # -------------------------------------------------------- to allow

    def _allowing(self) -> Iterator[Candidate]:
        deciding = self.decision.policy if self.decision.rule is not None else None
        for policy in self._met():
            manifest = self._editable(policy)
            if manifest is None or self.wish.other is None:
                continue
            if policy is deciding and self.decision.rule is not None:
                yield from self._inserted(policy, manifest, self.decision.rule.index, "Allow")
                yield from self._removed(policy, manifest, self.decision.rule)
                continue
            yield from self._widened(policy, manifest)
            yield from self._inserted(policy, manifest, len(policy.rules(self.direction)), "Allow")
        yield from self._new_policies("Allow")

    def _met(self) -> Iterator[Policy]:
        """The policies that the side met, each once."""
        seen: set[int] = set()
        for step in self.decision.steps:
            if isinstance(step.policy, Policy) and id(step.policy) not in seen:
                seen.add(id(step.policy))
                yield step.policy

    def _editable(self, policy: Policy) -> Manifest | None:
        return None if is_ours(policy) else self.manifest(policy)

    def _widened(self, policy: Policy, manifest: Manifest) -> Iterator[Candidate]:
        """A port or a peer more for a rule that lacks just that."""
        for rule in policy.rules(self.direction):
            if rule.action is not Action.ALLOW or not rule.subject.is_anyone:
                continue
            peers = self.reasons.nearest_peer(rule.peers, self.side.other)
            traffic = self.reasons.nearest_traffic(
                rule.traffic, self.wish.packet, self.side.source, self.side.destination
            )
            if traffic and not peers:
                yield from self._with_port(policy, manifest, rule)
            elif peers and not traffic:
                yield from self._with_peer(policy, manifest, rule)

    def _with_port(self, policy: Policy, manifest: Manifest, rule: Rule) -> Iterator[Candidate]:
        if self.wish.packet.protocol not in WITH_PORTS:
            return
        data, spec = copied(manifest)
        written = at(spec, rule)
        if policy.family is Family.KUBERNETES:
            written["ports"] = [*(written.get("ports") or []), *fragments.kubernetes_ports(self.wish.packet)]
        elif policy.family is Family.CALICO:
            ports = (written.get("destination") or {}).get("ports")
            protocol = rule.traffic[0].protocols
            if not ports or protocol != (self.wish.packet.protocol,):
                return
            written["destination"]["ports"] = [*ports, self.wish.packet.destination_port]
        else:
            return
        path = (*rule.path, "ports") if policy.family is Family.KUBERNETES else (*rule.path, "destination", "ports")
        yield self._candidate(
            f"add port {self.wish.packet} to {self._name(policy, rule)}", policy, manifest, data, path
        )

    def _with_peer(self, policy: Policy, manifest: Manifest, rule: Rule) -> Iterator[Candidate]:
        other = self.wish.other
        assert other is not None
        data, spec = copied(manifest)
        written = at(spec, rule)
        title = f"add a peer to {self._name(policy, rule)}"
        if policy.family is Family.KUBERNETES:
            field = PEERS[self.direction]
            written[field] = [*written.get(field, []), *fragments.kubernetes_peers(other, policy.namespace)]
            yield self._candidate(title, policy, manifest, data, (*rule.path, field))
        elif policy.family is Family.CALICO and isinstance(other, Addresses) and not other.has_exceptions:
            end = "source" if self.direction is Direction.INGRESS else "destination"
            entity = written.get(end) or {}
            if entity.get("nets") and entity.keys() <= {"nets", "ports"}:
                entity["nets"] = [*entity["nets"], *(str(block.network) for block in other.blocks)]
                yield self._candidate(title, policy, manifest, data, (*rule.path, end, "nets"))

    def _inserted(self, policy: Policy, manifest: Manifest, index: int, action: str) -> Iterator[Candidate]:
        """One rule more, before the rule of that number."""
        other = self.wish.other
        rule = self._rule(policy, action, other) if other is not None else None
        if rule is None:
            return
        data, spec = copied(manifest)
        field = self.direction.value
        rules = list(spec.get(field) or [])
        index = min(index, len(rules))
        where = "" if index == len(rules) else f" before {field}[{index}]"
        rules.insert(index, rule)
        spec[field] = rules
        _with_types(policy, spec, self.direction)
        path: Path = ("spec", field) if index == 0 else ("spec", field, index - 1)
        yield self._candidate(f"add {_a(action)} rule to {policy.key}{where}", policy, manifest, data, path)

    def _rule(self, policy: Policy, action: str, other: Whom) -> Data | None:
        packet = self.wish.packet
        if policy.family is Family.KUBERNETES:
            return (
                fragments.kubernetes_rule(other, packet, self.direction, policy.namespace)
                if action == "Allow"
                else None
            )
        if policy.family is Family.CALICO:
            return fragments.calico_rule(action, other, packet, self.direction, policy.namespace)
        version = policy.api_version.rpartition("/")[2]
        name = f"{action.lower()}-{word(other)}"[:100]
        return fragments.admin_rule(action == "Allow", other, packet, self.direction, policy.kind, version, name)

    # -------------------------------------------------------- to deny

    def _denying(self) -> Iterator[Candidate]:
        policy, rule = self.decision.policy, self.decision.rule
        last = self.decision.steps[-1] if self.decision.steps else None
        if rule is None and last is not None and last.rule is not None:
            policy, rule = last.policy, last.rule  # a Pass, after which nobody denied
        if isinstance(policy, Policy) and rule is not None:
            manifest = self._editable(policy)
            if manifest is not None:
                yield from self._inserted(policy, manifest, rule.index, "Deny")
                if rule.action is Action.ALLOW:
                    yield from self._removed(policy, manifest, rule)
                    yield from self._narrowed(policy, manifest, rule)
        yield from self._new_policies("Deny")

    def _removed(self, policy: Policy, manifest: Manifest, rule: Rule) -> Iterator[Candidate]:
        data, spec = copied(manifest)
        field = self.direction.value
        spec[field] = [item for number, item in enumerate(spec[field]) if number != rule.index]
        _with_types(policy, spec, self.direction)
        yield self._candidate(f"remove {self._name(policy, rule)}", policy, manifest, data, rule.path)

    def _narrowed(self, policy: Policy, manifest: Manifest, rule: Rule) -> Iterator[Candidate]:
        """The rule without the port, or without the peer."""
        destination = self.side.destination.point.pod
        for edit in narrowing.without_port(policy, manifest, rule, self.wish.packet, destination):
            title = f"take port {self.wish.packet} from {self._name(policy, rule)}"
            yield self._candidate(title, policy, manifest, edit.data, edit.path)
        if policy.family is Family.KUBERNETES:
            hits = [not self.reasons.peer(peer, self.side.other) for peer in rule.peers]
            for edit in narrowing.without_peer(policy, manifest, rule, hits, self.wish.other, self.direction):
                yield self._candidate(
                    f"{edit.title} {self._name(policy, rule)}", policy, manifest, edit.data, edit.path
                )

    # -------------------------------------------------------- a policy more

    def _new_policies(self, action: str) -> Iterator[Candidate]:
        own, other = self.wish.own, self.wish.other
        host = self.reasons.universe.pieces[self.side.own.piece].host
        if host is not None and other is not None and host.labels and self.wish.calico:
            meta = {"name": f"{action.lower()}-{word(other)}-on-{host.name}"[:63].rstrip("-.")}
            yield from self._calico(meta, host.labels, "", other, action)
        if other is None or not isinstance(own, Pods):
            return
        name = f"{action.lower()}-{word(other)}-{'to' if self.direction is Direction.INGRESS else 'from'}-{word(own)}"
        meta = {"name": name[:63].rstrip("-."), "namespace": own.namespace}
        if action == "Allow":
            rule = fragments.kubernetes_rule(other, self.wish.packet, self.direction, own.namespace)
            yield self._kubernetes(meta, own, [rule])
        elif self.decision.rule is None:
            yield from self._closing(meta, own)
        if self.wish.calico:
            yield from self._calico(meta, own.labels, own.namespace, other, action)

    def _closing(self, meta: Data, own: Pods) -> Iterator[Candidate]:
        """Kubernetes has no Deny: a policy that allows every other port, and one that allows nothing."""
        packet = self.wish.packet
        if packet.protocol in WITH_PORTS:
            names = {number: NAMES[number] for number in WITH_PORTS}
            ports = [
                {"protocol": names[packet.protocol], "port": low, **({"endPort": high} if high > low else {})}
                for low, high in without(1, 65535, packet.destination_port)
            ]
            ports += [{"protocol": name} for number, name in names.items() if number != packet.protocol]
            yield self._kubernetes(meta, own, [{"ports": ports}])
        yield self._kubernetes(meta, own, [])

    def _kubernetes(self, meta: Data, own: Pods, rules: list[Data]) -> Candidate:
        spec: Data = {
            "podSelector": fragments.selector(own.labels),
            "policyTypes": [self.direction.capitalize()],
            self.direction.value: rules,
        }
        data = {"apiVersion": KUBERNETES_API, "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
        return Candidate(f"add NetworkPolicy {meta['namespace']}/{meta['name']}", data)

    def _calico(
        self, meta: Data, labels: Iterable[tuple[str, str]], namespace: str, other: Whom, action: str
    ) -> Iterator[Candidate]:
        """In the tier that decides, before what decides there; where nothing is isolated yet, last, and all else stays
        allowed."""
        deciding = self._deciding()
        tier = deciding.tier if deciding is not None else DEFAULT_TIER
        if tier == ADMIN_TIER:
            return  # only the policies of SIG Network stand there
        rules = [fragments.calico_rule(action, other, self.wish.packet, self.direction, namespace)]
        spec: Data = {"tier": tier}
        if tier == BASELINE_TIER:
            spec["tier"] = tier = DEFAULT_TIER  # the one before it
            if all(policy.tier != tier for policy in self._met()):
                rules.append({"action": "Pass"})
        elif deciding is not None:
            spec["order"] = _before(deciding.order)
        elif action == "Deny":
            rules.append({"action": "Allow"})
        spec |= {
            "selector": fragments.calico_selector(labels),
            "types": [self.direction.capitalize()],
            self.direction.value: rules,
        }
        name = f"{tier}.{meta['name']}" if self.wish.calico.startswith("crd.") else meta["name"]
        kind = "NetworkPolicy" if namespace else "GlobalNetworkPolicy"
        data = {"apiVersion": self.wish.calico, "kind": kind, "metadata": {**meta, "name": name}, "spec": spec}
        yield Candidate(f"add a Calico {kind} {namespace}/{name}" if namespace else f"add {kind} {name}", data)

    def _deciding(self) -> Policy | None:
        """The policy whose rule decided, or the last one that was met."""
        if isinstance(self.decision.policy, Policy):
            return self.decision.policy
        met = list(self._met())
        return met[-1] if met and self.decision.outcome is not Outcome.DENY else (met[0] if met else None)

    # -------------------------------------------------------- words

    def _candidate(self, title: str, policy: Policy, manifest: Manifest, data: Data, path: Path) -> Candidate:
        return Candidate(title, data, policy, manifest.data, manifest.at(path))

    def _name(self, policy: Policy, rule: Rule) -> str:
        return f"{policy.key} {self.direction}[{rule.index}]"


def _with_types(policy: Policy, spec: Data, direction: Direction) -> None:
    """Say the types, so that a rule that comes or goes does not change them by itself."""
    if policy.family is Family.ADMIN:
        return
    field = "policyTypes" if policy.family is Family.KUBERNETES else "types"
    if not spec.get(field):
        directions = [item for item in Direction if item in policy.directions or item is direction]
        spec[field] = [item.capitalize() for item in directions]


def _before(order: float) -> float | int:
    """An order that is met before another: a round one where there is room."""
    if order == ANY_ORDER:
        return 900
    found = order - 1 if order <= 10 else order - 10
    return int(found) if found == int(found) else found


def _a(action: str) -> str:
    return f"an {action}" if action == "Allow" else f"a {action}"
