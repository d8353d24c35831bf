"""Invariants: what must hold of a cluster's network whatever anybody declares, each proved over the whole space or
refuted with a witness.

`policies/baseline.yaml` lists them; policies/README.md explains the words. An invariant says that some pods are
isolated in both directions, or that no connection leads from some ends to others (`unless: declared` leaves out what
declarations allow). Both kinds are decided on the folded effects of every endpoint: every protocol and port, both
address families, and pods that do not exist yet.

The policies that we derive are asked alone: a breach by them is of the invariant's own severity. Then those of others
in the cluster beside them, whose breaches are warnings, because no render of ours can mend them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.inputs import Inputs
from pilothouse.platform.model import CidrPeer, Exposure, Sensitivity, Service
from pilothouse.policies.addresses import collapsed
from pilothouse.policies.content import Ends, Invariant
from pilothouse.policies.engine import Connections, Engine, Reach
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.connections import NONE, union
from pilothouse.policies.engine.decide import decide
from pilothouse.policies.prove.declared import Declared
from pilothouse.policies.rules import Direction, PolicySet
from pilothouse.policies.site import foreign
from pilothouse.problems import Problem, Severity, error, warning

if TYPE_CHECKING:
    from pilothouse.policies.prove.proof import Prover


@dataclass(frozen=True, slots=True)
class Held:
    """One invariant and what was found: `pairs` of pieces were looked at; empty `problems` mean that it is proved."""

    invariant: Invariant
    pairs: int
    problems: tuple[Problem, ...] = ()

    @property
    def is_proved(self) -> bool:
        return not self.problems


def broken(prover: Prover) -> Iterator[Problem]:
    """Every breach of every invariant."""
    for held in check(prover):
        yield from held.problems


def check(prover: Prover) -> tuple[Held, ...]:
    """Each invariant of the baseline, on our policies alone and beside those of others."""
    others = foreign(prover.inputs).policies
    both = _with_others(prover, others)
    found = []
    for invariant in prover.baseline.invariants:
        judge = _Judge(prover, invariant)
        pairs, problems = judge.on(prover.engine, theirs=False)
        if both is not None and not problems:
            problems = judge.on(both, theirs=True)[1]
        found.append(Held(invariant, pairs, tuple(problems)))
    return tuple(found)


def _with_others(prover: Prover, others: PolicySet) -> Engine | None:
    """Our policies as if all were enforced, beside those of others that are; None where there are no others."""
    enforced = others.enforced()
    if not enforced.policies:
        return None
    return Engine.of(
        prover.inputs.snapshot,
        enforced | prover.engine.policies,
        known=prover.engine.universe.vocabulary,
        future=prover.future,
    )


class _Judge:
    def __init__(self, prover: Prover, invariant: Invariant) -> None:
        self.prover = prover
        self.invariant = invariant

    def on(self, engine: Engine, *, theirs: bool) -> tuple[int, list[Problem]]:
        """(pairs looked at, breaches), with at most one breach for each pair of parties."""
        wanted = self.prover.wanted_over(engine)
        if self.invariant.isolated is not None:
            return self._isolated(engine, wanted, theirs)
        return self._never(engine, wanted, theirs)

    def _isolated(self, engine: Engine, wanted: Declared, theirs: bool) -> tuple[int, list[Problem]]:
        assert self.invariant.isolated is not None
        members = Group(self.prover.inputs, wanted).of(self.invariant.isolated) & engine.universe.pods
        problems = []
        for direction in Direction:
            for number in bits(members & ~engine.isolated(direction)):
                what = f"no policy isolates the {direction} of {engine.universe.name(number)}"
                problems.append(self._problem(what, theirs))
        return 2 * members.bit_count(), problems

    def _never(self, engine: Engine, wanted: Declared, theirs: bool) -> tuple[int, list[Problem]]:
        invariant, universe = self.invariant, engine.universe
        group = Group(self.prover.inputs, wanted)
        sources, destinations = group.of(invariant.source), group.of(invariant.destination)
        declared = self.prover.declared_over(engine) if invariant.unless_declared else None
        ports = union(Connections.of(*item) for item in invariant.ports) if invariant.ports else None
        parties = self.prover.parties_of(engine)
        problems, seen = [], set()
        for block in engine.reach.blocks(sources, destinations):
            packets = block.connections if ports is None else block.connections & ports
            for one in bits(block.sources) if packets else ():
                for other in bits(block.destinations):
                    if declared is not None and _same(declared, engine.reach, one, other):
                        continue
                    left = packets if declared is None else packets - declared.possible(one, other)
                    key = (parties.party(one), parties.party(other))
                    if left is NONE or key in seen or one == other:
                        continue
                    seen.add(key)
                    egress, ingress = decide(engine, one, other, left.first())
                    problems.append(
                        self._problem(
                            f"{parties.party(one)} reaches {parties.party(other)} at {left}: for example "
                            f"{universe.name(one)} to {universe.name(other)} at {left.first()} (egress: {egress}; "
                            f"ingress: {ingress})",
                            theirs,
                            (*parties.teams(one), *parties.teams(other)),
                        )
                    )
        return sources.bit_count() * destinations.bit_count(), problems

    def _problem(self, what: str, theirs: bool, teams: Iterable[str] = ()) -> Problem:
        invariant, cluster = self.invariant, self.prover.inputs.cluster
        make = error if invariant.severity is Severity.ERROR and not theirs else warning
        by = "together with policies of others, " if theirs else ""
        hint = (
            "find the policy that allows it and have its owner narrow it"
            if theirs
            else ("narrow the declaration that asks for it, or change the invariant")
        )
        return make(
            "policies/invariant-broken",
            f"{invariant.title or invariant.name}: {by}{what}",
            invariant.place,
            hint,
            teams=tuple(sorted(set(teams))),
            cluster=cluster.name,
        )


def _same(declared: Reach, allowed: Reach, one: int, other: int) -> bool:
    """Whether both ends allow just what is declared, so that the pair needs no look."""
    return declared.of_egress(one) == allowed.of_egress(one) and declared.of_ingress(other) == allowed.of_ingress(other)


class Group:
    """Which pieces the words of an invariant mean."""

    def __init__(self, inputs: Inputs, wanted: Declared) -> None:
        self.inputs = inputs
        self.wanted = wanted
        self.universe = wanted.universe

    def of(self, ends: Ends) -> int:
        """Every condition holds at once."""
        universe, found = self.universe, self.universe.everything
        if ends.governed:
            found &= self.wanted.governed_pieces()
        if ends.exposure:
            found &= self._services(lambda service: service.exposure is Exposure(ends.exposure))
        if ends.sensitivity:
            found &= self._services(lambda service: service.sensitivity is Sensitivity(ends.sensitivity))
        if ends.services:
            found &= sum_of(self.wanted.members.get(key, 0) for key in ends.services)
        if ends.namespaces:
            found &= sum_of(universe.by_namespace.get(name, 0) for name in ends.namespaces)
        if ends.team:
            found &= self._services(lambda service: service.team == ends.team)
        if ends.outside:
            found &= universe.outside
        if ends.public:
            less = (*self.wanted.baseline.private_ranges, *self.inputs.cluster.cluster_networks)
            found &= self.wanted.addresses(None, less=less)
        if ends.unnamed:
            found &= ~self._named()
        if ends.networks:
            found &= sum_of(universe.network(network) for network in ends.networks)
        return found

    def _services(self, chosen: Callable[[Service], bool]) -> int:
        return sum_of(self.wanted.members[key] for key, service in self.wanted.services.items() if chosen(service))

    def _named(self) -> int:
        """Addresses that some declaration names by range or domain."""
        ranges = [net for domain in self.inputs.known_domains for net in self.inputs.domain_addresses(domain)]
        for service in self.wanted.services.values():
            for edge in (*service.egress, *(service.ingress or ())):
                if isinstance(edge.peer, CidrPeer):
                    ranges.append(edge.peer.network)
        found = collapsed(ranges)
        return self.wanted.addresses(found) if found else 0


def sum_of(sets: Iterable[int]) -> int:
    found = 0
    for members in sets:
        found |= members
    return found
