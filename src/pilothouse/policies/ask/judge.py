"""What becomes of connections between two pieces: by the policies, and by what holds besides them.

Where Kubernetes leaves something to the plugin there are several readings. The profile `calico` takes Calico's; the
profile `k8s-strict` takes all of them, and calls undefined what they disagree about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from pilothouse.policies.ask import basis
from pilothouse.policies.ask.basis import Basis
from pilothouse.policies.engine import Engine
from pilothouse.policies.engine.compile import Compiler, Semantics
from pilothouse.policies.engine.connections import (
    ALL,
    ICMP,
    ICMPV6,
    NONE,
    WITH_PORTS,
    Connections,
    Packet,
    of_protocols,
    union,
)
from pilothouse.policies.engine.decide import Decision, Outcome, both, decide, shown, side
from pilothouse.policies.engine.fold import Effect, fold
from pilothouse.policies.rules import Direction, Family, Policy

_OTHERS = ALL - of_protocols(WITH_PORTS)
_SAMPLES: tuple[tuple[Packet, Connections], ...] = (
    (Packet.icmp(ICMP, 8), Connections.of(ICMP)),
    (Packet.icmp(ICMPV6, 128), Connections.of(ICMPV6)),
    (Packet(47), _OTHERS - of_protocols((ICMP, ICMPV6))),
)
"""One packet for each kind that policies without ports treat alike, and that kind."""


class Profile(StrEnum):
    CALICO = "calico"
    """Decides as Calico does."""
    STRICT = "k8s-strict"
    """Leaves undefined what Kubernetes leaves to the plugin."""


class Relation(StrEnum):
    """What two ends are to each other, where that decides."""

    STRANGERS = "strangers"
    SAME_POD = "same-pod"
    FROM_OWN_NODE = "from-own-node"
    TO_OWN_NODE = "to-own-node"


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading: what is allowed for sure, and what for some requests at least."""

    sure: Connections
    possible: Connections


@dataclass(frozen=True, slots=True)
class Said:
    """The three are disjoint; whatever is in none of them is denied. `mixed`: it depends on the way that the connection
    takes."""

    allowed: Connections
    conditional: Connections = NONE
    undefined: Connections = NONE
    mixed: bool = False
    egress: Decision | None = None
    ingress: Decision | None = None
    basis: tuple[Basis, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """In one word; with the connections left open, allowed means that some are."""
        if self.mixed:
            return Outcome.MIXED
        if self.allowed:
            return Outcome.ALLOW
        if self.conditional:
            return Outcome.CONDITIONAL
        return Outcome.UNDEFINED if self.undefined else Outcome.DENY


@dataclass(frozen=True, slots=True)
class Translation:
    """A connection to a Service's own address: the piece of that address (None where it has none in this family), and
    the packet as it was sent."""

    piece: int | None
    packet: Packet


NOTHING = Reading(NONE, NONE)
Sides = tuple[Decision | None, Decision | None]
"""(egress, ingress); None where every connection was asked about."""


class Judge:
    def __init__(self, engine: Engine, profile: Profile) -> None:
        self.engine = engine
        self.universe = engine.universe
        self.profile = profile

    @cached_property
    def without_blocks(self) -> Engine:
        """The same policies, but no `ipBlock` matches a pod."""
        semantics = Semantics(blocks_match_pods=False)
        compiler = Compiler(self.universe, self.engine.policies.sets, semantics)
        return Engine(self.engine.policies, compiler, {})

    def say(
        self,
        source: int,
        destination: int,
        packet: Packet | None,
        relation: Relation = Relation.STRANGERS,
        *,
        also: Iterable[tuple[Engine, int, int]] = (),
        entering: Iterable[int] = (),
        translation: Translation | None = None,
    ) -> Said:
        """The answer for two pieces of one family; `packet` None asks about every connection.

        `also` are other readings as (engine, source, destination), because an end is on the host's network; `entering`
        are pieces that the source may look like on its way.
        """
        asked = ALL if packet is None else exact(packet)
        base = reading(self.engine, source, destination, packet)
        sides: Sides = (None, None) if packet is None else decide(self.engine, source, destination, packet)
        found: list[Basis] = [*_of_sides(self.engine, source, destination, sides)]
        readings = [base]
        if relation is not Relation.STRANGERS:
            readings = list(self._related(relation, base, asked, self._leaving(source, destination, packet), found))
        elif self.profile is Profile.STRICT:
            for one, reason in self._open(source, destination, packet, base, translation):
                readings.append(one)
                found.append(reason)
            for engine, own, other in also:
                readings.append(reading(engine, own, other, packet))
                if readings[-1] != base:
                    found.append(basis.HOST_NETWORK)
        else:
            found += self._as_calico(source, destination, packet, sides, base)
        ways = [reading(self.engine, piece, destination, packet) for piece in entering]
        mixed = any(way != base for way in ways)
        if mixed:
            found.append(basis.SOURCE_REWRITTEN)
        if mixed and self.profile is Profile.STRICT:
            readings, mixed = [*readings, *ways], False
        allowed, conditional, undefined = (item & asked for item in combined(readings))
        if conditional:
            found.append(basis.HTTP)
        return Said(allowed, conditional, undefined, mixed, sides[0], sides[1], tuple(dict.fromkeys(found)))

    # -------------------------------------------------------- whatever the policies say

    def _leaving(self, source: int, destination: int, packet: Packet | None) -> Reading:
        """What the source's egress alone says."""
        if packet is not None:
            return _reading(side(self.engine, source, destination, packet, Direction.EGRESS).outcome, packet)
        out = effect(self.engine, source, Direction.EGRESS)
        return Reading(out.allowed(destination), out.allowed(destination) | out.conditional(destination))

    def _related(
        self, relation: Relation, base: Reading, asked: Connections, leaving: Reading, found: list[Basis]
    ) -> Iterator[Reading]:
        strict = self.profile is Profile.STRICT
        whole = Reading(asked, asked)
        match relation:
            case Relation.SAME_POD:
                found.append(basis.OWN_POD_OPEN if strict and base != whole else basis.OWN_POD)
                yield whole
                if strict:
                    yield base
            case Relation.FROM_OWN_NODE:
                found.append(basis.FROM_OWN_NODE)
                yield whole
            case _:
                found.append(basis.TO_OWN_NODE if strict else basis.TO_OWN_NODE_CALICO)
                yield whole if strict else leaving  # a host endpoint's own policies are about its interfaces

    # -------------------------------------------------------- what Kubernetes leaves open

    def _open(
        self, source: int, destination: int, packet: Packet | None, base: Reading, translation: Translation | None
    ) -> Iterator[tuple[Reading, Basis]]:
        blocks = reading(self.without_blocks, source, destination, packet)
        if blocks != base:
            yield blocks, basis.BLOCK_ON_POD
        others = self._other_protocols(source, destination, packet)
        if others:
            yield Reading(base.sure | others, base.possible | others), basis.OTHER_PROTOCOL
            yield Reading(base.sure - others, base.possible - others), basis.OTHER_PROTOCOL
        if translation is not None and packet is not None:
            before = self._before_dnat(source, destination, packet, translation)
            if before != base:
                yield before, basis.BEFORE_OR_AFTER_DNAT

    def _other_protocols(self, source: int, destination: int, packet: Packet | None) -> Connections:
        """What of the connections is of a protocol without ports, and decided by a policy of Kubernetes."""
        if packet is not None:
            samples: Iterable[tuple[Packet, Connections]] = ((packet, exact(packet) & _OTHERS),)
        else:
            samples = _SAMPLES
        return union(
            kind
            for sample, kind in samples
            if kind and any(by_kubernetes(item) for item in decide(self.engine, source, destination, sample))
        )

    def _before_dnat(self, source: int, destination: int, packet: Packet, translation: Translation) -> Reading:
        """With `ipBlock` held against the Service's own address, and selectors against the pods behind it."""
        out = side(self.without_blocks, source, destination, packet, Direction.EGRESS)
        if out.outcome is Outcome.DENY and translation.piece is not None:
            sent = side(self.engine, source, translation.piece, translation.packet, Direction.EGRESS)
            if sent.rule is not None and any(peer.ip_block for peer in sent.rule.peers):
                out = sent
        into = side(self.engine, destination, source, packet, Direction.INGRESS)
        return _reading(both(out, into), packet)

    # -------------------------------------------------------- what Calico makes of it

    def _as_calico(
        self,
        source: int,
        destination: int,
        packet: Packet | None,
        sides: Sides,
        base: Reading,
    ) -> Iterator[Basis]:
        for decision, peer in zip(sides, (destination, source), strict=True):
            if decision is None:
                continue
            blocks = decision.rule is not None and any(item.ip_block for item in decision.rule.peers)
            on_pod = blocks and self.universe.pods >> peer & 1
            if on_pod and reading(self.without_blocks, source, destination, packet) != base:
                yield basis.BLOCK_ON_POD_CALICO
            if packet is not None and packet.protocol not in WITH_PORTS and by_kubernetes(decision):
                yield basis.OTHER_PROTOCOL_CALICO


def by_kubernetes(decision: Decision) -> bool:
    """Whether a policy of Kubernetes decided, or its isolation did."""
    if decision.rule is not None:
        return isinstance(decision.policy, Policy) and decision.policy.family is Family.KUBERNETES
    return decision.outcome is Outcome.DENY and any(item.family is Family.KUBERNETES for item in decision.isolating)


def exact(packet: Packet) -> Connections:
    """The one packet as a set."""
    port, source = packet.destination_port, packet.source_port
    return Connections.of(packet.protocol, port, port, source, source)


def reading(engine: Engine, source: int, destination: int, packet: Packet | None) -> Reading:
    """What the policies of an engine say."""
    if packet is not None:
        return _reading(both(*decide(engine, source, destination, packet)), packet)
    out, into = effect(engine, source, Direction.EGRESS), effect(engine, destination, Direction.INGRESS)
    sure = out.allowed(destination) & into.allowed(source)
    possible = (out.allowed(destination) | out.conditional(destination)) & (
        into.allowed(source) | into.conditional(source)
    )
    return Reading(sure, possible)


def _reading(outcome: Outcome, packet: Packet) -> Reading:
    if outcome is Outcome.DENY:
        return NOTHING
    asked = exact(packet)
    return Reading(asked if outcome is Outcome.ALLOW else NONE, asked)


def effect(engine: Engine, piece: int, direction: Direction) -> Effect:
    """What one piece allows, without working out all others."""
    everything = engine.universe.everything
    if not engine.universe.is_endpoint(piece):
        return Effect(((ALL, everything, 0),))
    return fold(engine.chain(piece, direction), everything)


def combined(readings: Iterable[Reading]) -> tuple[Connections, Connections, Connections]:
    """(allowed, conditional, undefined): what all readings allow, all allow for some requests, and disagree about."""
    found = list(readings)
    allowed, conditional = found[0].sure, found[0].possible - found[0].sure
    for item in found[1:]:
        allowed = allowed & item.sure
        conditional = conditional & (item.possible - item.sure)
    return allowed, conditional, union(item.possible for item in found) - allowed - conditional


def _of_sides(engine: Engine, source: int, destination: int, sides: Sides) -> Iterator[Basis]:
    """A sentence for each side."""
    if not engine.universe.is_endpoint(source) and not engine.universe.is_endpoint(destination):
        yield basis.OUTSIDE
        return
    directions = (Direction.EGRESS, Direction.INGRESS)
    for decision, piece, direction in zip(sides, (source, destination), directions, strict=True):
        if not engine.universe.is_endpoint(piece):
            continue
        if decision is not None:
            yield Basis(f"{direction}: {_sentence(decision)}", _page(engine, piece, decision))
        else:
            yield Basis(f"{direction}: {_applying(engine, piece, direction)}", basis.KUBERNETES)


def _applying(engine: Engine, piece: int, direction: Direction) -> str:
    """The policies that say what is allowed."""
    chain = engine.chain(piece, direction)
    names = [shown(variant.policy) for stage in chain.stages for variant in stage.variants]
    tail = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"by {', '.join(names[:4])}{tail}" if names else "no policy applies"


def _sentence(decision: Decision) -> str:
    if decision.rule is not None:
        verb = {Outcome.ALLOW: "allows", Outcome.DENY: "denies"}.get(decision.outcome, "allows some requests")
        return f"{decision} {verb}"
    if decision.outcome is Outcome.DENY:
        return f"{decision} matches" if decision.isolating else str(decision)
    return "no policy applies" if not decision.steps else str(decision)


def _page(engine: Engine, piece: int, decision: Decision) -> str:
    if engine.universe.pieces[piece].host is not None:
        return basis.HOSTS
    if decision.outcome is Outcome.ALLOW and decision.rule is None and not decision.steps:
        return basis.KUBERNETES
    if by_kubernetes(decision):
        return basis.KUBERNETES
    return basis.CALICO if decision.rule is not None else basis.TIERS
