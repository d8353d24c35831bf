"""The evaluator: policies and a snapshot in, and who reaches whom out.

It knows policies as values and pods as a snapshot has them, and nothing of how policies are derived. What it computes
follows the specifications that `rules` and `fold` cite; every distinct chain of policies is folded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import TypeVar

from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.platform.model import Network
from pilothouse.policies.engine import bitsets, vocabulary
from pilothouse.policies.engine.compile import AS_CALICO, CompiledPolicy, Compiler, Needs, Semantics, Variant, needs
from pilothouse.policies.engine.connections import NONE, TCP, UDP, Connections, union
from pilothouse.policies.engine.fold import Chain, Effect, Forwarded, Stage, fold
from pilothouse.policies.engine.reach import Reach
from pilothouse.policies.engine.universe import NO_WORDS, Piece, Universe, Vocabulary
from pilothouse.policies.rules import Action, Direction, HostEndpoint, Policy, PolicySet, Profile, Rule, Tier

FAILSAFE: Mapping[Direction, Connections] = {
    Direction.INGRESS: union(
        Connections.of(protocol, port, port)
        for protocol, port in (
            (TCP, 22), (UDP, 68), (TCP, 179), (TCP, 2379), (TCP, 2380),
            (TCP, 5473), (TCP, 6443), (TCP, 6666), (TCP, 6667),
        )
    ),
    Direction.EGRESS: union(
        Connections.of(protocol, port, port)
        for protocol, port in (
            (UDP, 53), (UDP, 67), (TCP, 179), (TCP, 2379), (TCP, 2380),
            (TCP, 5473), (TCP, 6443), (TCP, 6666), (TCP, 6667),
        )
    ),
}  # fmt: skip
"""Ports of a host endpoint that Felix lets through whatever the policies say, in its default configuration
(https://docs.tigera.io/calico/latest/reference/host-endpoints/failsafe)."""

DEFAULT_ALLOW = "projectcalico-default-allow"
"""A profile of host endpoints that always exists (https://docs.tigera.io/calico/latest/reference/resources/profile)."""

_UNTRACKED, _PRE_DNAT, _NORMAL = range(3)
Level = tuple[int, float, str, bool]
"""(stage, order of the tier, tier, whether the tier passes on what it does not match)."""
Item = TypeVar("Item")

_FEW = 64
"""A change of more policies than this is not patched into what is known, but computed anew."""


class Engine:
    """Policies over one snapshot. Make one with `of`; it is not changed afterwards."""

    def __init__(self, policies: PolicySet, compiler: Compiler, compiled: dict[int, CompiledPolicy]) -> None:
        self.policies = policies
        self.compiler = compiler
        self.universe = compiler.universe
        self._compiled = compiled
        self._folded: dict[object, tuple[Chain, Effect]] = {}
        self._named: dict[str, Policy] = {}

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        policies: PolicySet,
        *,
        ranges: Iterable[Network] = (),
        known: Vocabulary | None = None,
        future: Iterable[Pod] = (),
        semantics: Semantics = AS_CALICO,
    ) -> Engine:
        """Only enforced policies count: pass `policies.preview()` to count staged ones.

        `ranges` are more address ranges that will be asked for; `known` a vocabulary to cut by besides (that of
        another set that this one is to be compared with); `future` pods that do not exist, to be asked about.
        """
        words = vocabulary.of_set(policies, snapshot) | Vocabulary(ranges=frozenset(ranges))
        if known is not None:
            words = words | known
        universe = Universe(snapshot, words, placed(policies, snapshot), future)
        return cls(policies, Compiler(universe, policies.sets, semantics), {})

    @classmethod
    def together(
        cls,
        snapshot: Snapshot,
        sets: Sequence[PolicySet],
        *,
        known: Vocabulary = NO_WORDS,
        future: Iterable[Pod] = (),
        semantics: Semantics = AS_CALICO,
    ) -> tuple[Engine, ...]:
        """An engine for each of several sets of policies over one universe, to be compared piece by piece."""
        words = known
        hosts: dict[str, HostEndpoint] = {}
        for policies in sets:
            words = words | vocabulary.of_set(policies, snapshot)
            hosts.update((host.name, host) for host in placed(policies, snapshot))
        universe = Universe(snapshot, words, hosts.values(), future)
        return tuple(cls(policies, Compiler(universe, policies.sets, semantics), {}) for policies in sets)

    def on(self, policies: PolicySet) -> Engine | None:
        """Another set of policies over the same universe, sharing all that was computed; None where the universe cannot
        tell apart what the other set asks for."""
        if (policies.sets, policies.hosts) != (self.policies.sets, self.policies.hosts):
            return None
        fresh = _not_among(policies.policies, self.policies.policies)
        profiles = _not_among(policies.profiles, self.policies.profiles)
        words = vocabulary.of_policies((*fresh, *profiles), self.universe.snapshot)
        words = replace(words, nodes=words.nodes and bool(policies.hosts))
        if not self.universe.vocabulary.holds(words):
            return None
        engine = Engine(policies, self.compiler, dict(self._compiled))
        if policies.profiles == self.policies.profiles and policies.tiers == self.policies.tiers:
            engine._folded = dict(self._folded)
            gone = _not_among(self.policies.policies, policies.policies)
            few = len(fresh) + len(gone) <= _FEW
            if "_variants" in self.__dict__ and few and not any(map(vocabulary.is_forwarding, (*fresh, *gone))):
                engine._patch(self, gone, fresh)
        return engine

    def _patch(self, before: Engine, gone: Sequence[Policy], fresh: Sequence[Policy]) -> None:
        """Take over what `before` knows of every endpoint that the changed policies do not apply to."""
        lost = {id(policy) for policy in gone}
        touched = dict.fromkeys(Direction, 0)
        for policy in (*gone, *fresh):
            for direction in policy.directions:
                touched[direction] |= self._policy(policy).subjects
        variants = {}
        for direction, old in before._variants.items():
            lists = list(old)
            for number in bitsets.bits(touched[direction]):
                kept = [pair for pair in lists[number] if id(pair[1].policy) not in lost]
                kept += [pair for policy in fresh for pair in self._pairs(policy, direction, number)]
                lists[number] = sorted(kept, key=lambda pair: self._rank(pair[1].policy))
            variants[direction] = lists
        self.__dict__["_variants"] = variants
        if "reach" in before.__dict__:
            known = before.reach
            sides = {Direction.EGRESS: list(known.egress), Direction.INGRESS: list(known.ingress)}
            for direction, effects in sides.items():
                for number in bitsets.bits(touched[direction]):
                    effects[number] = self._chain(number, direction)[1]
            self.__dict__["reach"] = Reach(self.universe, sides[Direction.EGRESS], sides[Direction.INGRESS])

    def with_policy(self, policy: Policy) -> Engine:
        """With this policy instead of the one of its kind and name, or beside the others."""
        kept = [item for item in self.policies.policies if (item.key, item.staged) != (policy.key, policy.staged)]
        changed = self.policies.with_policies((*kept, policy))
        return self.on(changed) or Engine.of(
            self.universe.snapshot, changed, known=self.universe.vocabulary, semantics=self.compiler.semantics
        )

    # -------------------------------------------------------- chains

    @cached_property
    def _tiers(self) -> dict[str, Tier]:
        return {}

    def _level(self, policy: Policy) -> Level:
        """Where endpoints meet a policy."""
        tier = self._tiers.get(policy.tier)
        if tier is None:
            tier = self._tiers[policy.tier] = self.policies.tier(policy.tier)
        stage = _UNTRACKED if policy.untracked else _PRE_DNAT if policy.pre_dnat else _NORMAL
        return (stage, tier.order, tier.name, stage != _NORMAL or tier.default_action is Action.PASS)

    def _rank(self, policy: Policy | Profile) -> tuple[Level, tuple[float, str, str, str]]:
        assert isinstance(policy, Policy)
        return (self._level(policy), policy.sort_key)

    def _policy(self, policy: Policy) -> CompiledPolicy:
        found = self._compiled.get(id(policy))
        if found is None:
            found = self._compiled[id(policy)] = CompiledPolicy(policy, self.compiler.subjects(policy))
        return found

    @cached_property
    def _variants(self) -> Mapping[Direction, list[list[tuple[Level, Variant]]]]:
        """Direction → endpoint → (level, variant), in the order in which it meets them."""
        found: dict[Direction, list[list[tuple[Level, Variant]]]] = {
            direction: [[] for _ in self.universe.pieces] for direction in Direction
        }
        for policy in sorted((policy for policy in self.policies.policies if not policy.staged), key=self._rank):
            compiled = self._policy(policy)
            if not compiled.subjects:
                continue
            level = self._level(policy)
            for direction in _directions(policy):
                lists = found[direction]
                wanted = compiled.needed(direction)
                if wanted.is_nothing:
                    pair = (level, self._variant(compiled, direction, wanted, 0, ()))
                    for number in bitsets.bits(compiled.subjects):
                        lists[number].append(pair)
                else:
                    for number in bitsets.bits(compiled.subjects):
                        lists[number] += self._pairs(policy, direction, number)
        return found

    def _pairs(self, policy: Policy, direction: Direction, piece: int) -> list[tuple[Level, Variant]]:
        """The policy as one endpoint meets it; nothing where it does not apply."""
        compiled = self._policy(policy)
        if policy.staged or direction not in _directions(policy) or not compiled.subjects >> piece & 1:
            return []
        wanted = compiled.needed(direction)
        group = () if wanted.is_nothing else self._group(wanted, piece)
        return [(self._level(policy), self._variant(compiled, direction, wanted, piece, group))]

    def _group(self, wanted: Needs, piece: int) -> object:
        """Endpoints of one group meet the same rules."""
        narrowed = tuple(self.compiler.peer(subject) >> piece & 1 for subject in wanted.subjects)
        return (self.universe.meaning(piece, wanted.names), narrowed)

    def _variant(
        self, compiled: CompiledPolicy, direction: Direction, wanted: Needs, piece: int, group: object
    ) -> Variant:
        key = (direction, group)
        found = compiled.variants.get(key)
        if found is None:
            found = compiled.variants[key] = self.compiler.variant(compiled.policy, direction, wanted, piece)
        return found

    @cached_property
    def _profiles(self) -> Mapping[str, Profile]:
        return {profile.name: profile for profile in self.policies.profiles}

    @cached_property
    def _hosts(self) -> frozenset[str]:
        return frozenset(host.name for host in self.policies.hosts)

    def _profiles_of(self, piece: Piece, number: int, direction: Direction) -> tuple[Variant, ...] | None:
        """What is met after the last tier; None: whatever is left is allowed."""
        if piece.host is not None:
            if piece.host.name not in self._hosts:
                return (
                    None  # a host endpoint of another set that this one is compared with: nobody guards the node here
                )
            if not piece.host.profiles:
                return ()
            names: Sequence[str] = piece.host.profiles
        elif not self._profiles or f"kns.{piece.namespace}" not in self._profiles:
            return None  # every namespace has a profile that allows everything, whether or not it was written down
        else:
            names = (f"kns.{piece.namespace}", f"ksa.{piece.namespace}.{piece.account}")
        found = []
        for name in names:
            profile = self._profiles.get(name)
            if profile is None and (name == DEFAULT_ALLOW or name.startswith("kns.")):
                profile = _allowing(name)
            if profile is not None:
                wanted = needs(profile, direction)
                key = (name, direction, self._group(wanted, number))
                if key not in self._profile_variants:
                    self._profile_variants[key] = self.compiler.variant(profile, direction, wanted, number)
                found.append(self._profile_variants[key])
        return tuple(found)

    @cached_property
    def _profile_variants(self) -> dict[object, Variant]:
        return {}

    def chain(self, piece: int, direction: Direction) -> Chain:
        """Everything that an endpoint meets in one direction."""
        return self._chain(piece, direction)[0]

    def _chain(self, number: int, direction: Direction) -> tuple[Chain, Effect]:
        variants = self._variants[direction][number]
        piece = self.universe.pieces[number]
        profiles = self._profiles_of(piece, number, direction)
        failsafe = FAILSAFE[direction] if piece.host is not None else NONE
        forwarded = self._passed(piece, number, direction) if piece.pods and self.universe.vocabulary.nodes else ()
        key = (tuple(variants), profiles, failsafe, forwarded)
        found = self._folded.get(key)
        if found is None:
            chain = Chain(_stages(variants), profiles, failsafe, forwarded)
            found = self._folded[key] = (chain, fold(chain, self.universe.everything))
        return found

    @cached_property
    def _gates(self) -> Mapping[Direction, Mapping[str, list[tuple[str, list[tuple[Level, Policy]], int]]]]:
        """Direction → node → (host endpoint, its policies on forwarded traffic, whose traffic passes it)."""
        found: dict[Direction, dict[str, list[tuple[str, list[tuple[Level, Policy]], int]]]]
        found = {direction: {} for direction in Direction}
        seen: set[str] = set()
        for number, piece in enumerate(self.universe.pieces):
            if piece.host is None or not piece.node or piece.host.name in seen:
                continue
            seen.add(piece.host.name)
            for direction, nodes in found.items():
                met = (
                    (level, variant.policy)
                    for level, variant in self._variants[direction][number]
                    if isinstance(variant.policy, Policy)
                )
                policies = [pair for pair in met if vocabulary.is_forwarding(pair[1])]
                if policies:
                    nodes.setdefault(piece.node, []).append((piece.host.name, policies, self._passing(piece)))
        return found

    def _passed(self, piece: Piece, number: int, direction: Direction) -> tuple[Forwarded, ...]:
        """What the host endpoints of a pod's node say to traffic that leaves or enters the node: the rules see the pod
        as the end on their side."""
        found = []
        for host, policies, peers in self._gates[direction].get(piece.node, ()):
            variants = []
            for level, policy in policies:
                compiled = self._policy(policy)
                wanted = compiled.needed(direction)
                group = () if wanted.is_nothing else self._group(wanted, number)
                variants.append((level, self._variant(compiled, direction, wanted, number, group)))
            key = (host, direction, tuple(variants))
            if key not in self._known_forwarded:
                self._known_forwarded[key] = Forwarded(host, Chain(_stages(variants)), peers)
            found.append(self._known_forwarded[key])
        return tuple(found)

    @cached_property
    def _known_forwarded(self) -> dict[object, Forwarded]:
        return {}

    def _passing(self, piece: Piece) -> int:
        """Whose traffic with pods of its node passes a host endpoint: addresses outside and other hosts; of pods those
        of other nodes, where it stands for all interfaces (through a single one they may come encapsulated)."""
        universe = self.universe
        found = universe.everything & ~universe.pods
        if piece.host is not None and piece.host.interface == "*":
            found |= universe.pods
        return found & ~universe.by_node.get(piece.node, 0)

    # -------------------------------------------------------- results

    @cached_property
    def reach(self) -> Reach:
        """What every endpoint allows in both directions."""
        count = len(self.universe.pieces)
        sides = {direction: [self._chain(number, direction)[1] for number in range(count)] for direction in Direction}
        return Reach(self.universe, sides[Direction.EGRESS], sides[Direction.INGRESS])

    def isolated(self, direction: Direction) -> int:
        """The endpoints that some policy applies to in that direction."""
        return bitsets.of(number for number, found in enumerate(self._variants[direction]) if found)

    def is_isolated(self, piece: int, direction: Direction) -> bool:
        """Whether any policy applies to an endpoint in that direction."""
        return self.universe.is_endpoint(piece) and bool(self._variants[direction][piece])


def _not_among(items: Iterable[Item], others: Iterable[Item]) -> list[Item]:
    """Those that are not, as the same object, among the others."""
    known = {id(item) for item in others}
    return [item for item in items if id(item) not in known]


def _directions(policy: Policy) -> Iterable[Direction]:
    """Nothing leaves before it is translated, so a pre-DNAT policy has no egress."""
    return policy.directions - {Direction.EGRESS} if policy.pre_dnat else policy.directions


def _stages(variants: Sequence[tuple[Level, Variant]]) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    last: Level | None = None
    group: list[Variant] = []
    for level, variant in variants:
        if level != last:
            if last is not None:
                stages.append(Stage(last[2], last[3], tuple(group)))
            last, group = level, []
        group.append(variant)
    if last is not None:
        stages.append(Stage(last[2], last[3], tuple(group)))
    return tuple(stages)


@cache
def _allowing(name: str) -> Profile:
    """A profile that exists without being written down, and allows everything."""
    rules = (Rule(Action.ALLOW),)
    return Profile(name, (), rules, rules)


def placed(policies: PolicySet, snapshot: Snapshot) -> tuple[HostEndpoint, ...]:
    """Host endpoints with their addresses (the expected ones, else those of their node), and with the labels that they
    inherit from their profiles."""
    inherited = {profile.name: profile.labels for profile in policies.profiles}
    nodes = {node.name: node for node in snapshot.nodes}
    found = []
    for host in policies.hosts:
        addresses = host.addresses or (nodes[host.node].addresses if host.node in nodes else ())
        labels = dict(pair for name in reversed(host.profiles) for pair in inherited.get(name, ()))
        found.append(replace(host, addresses=addresses, labels=tuple(sorted({**labels, **dict(host.labels)}.items()))))
    return tuple(found)
