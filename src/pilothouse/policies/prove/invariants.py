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
from functools import cached_property
from typing import TYPE_CHECKING

from pilothouse.inputs import Inputs
from pilothouse.labels import EVERYTHING, LabelSelector
from pilothouse.platform.model import CidrPeer, Exposure, Sensitivity, Service
from pilothouse.policies.address_names import AddressNames
from pilothouse.policies.addresses import collapsed
from pilothouse.policies.compare.rows import Cast, Row, Rows, every_pod
from pilothouse.policies.content import Ends, Invariant
from pilothouse.policies.engine import ALL, Connections, Engine
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.connections import union
from pilothouse.policies.engine.decide import decide
from pilothouse.policies.prove.declared import Declared
from pilothouse.policies.rules import Direction
from pilothouse.problems import Problem, Severity, error, nearest, warning

if TYPE_CHECKING:
    from pilothouse.policies.prove.proof import Prover

MAX_WITNESSES = 20
"""More breaches of one invariant than this are counted."""


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


def unknown(prover: Prover) -> Iterator[Problem]:
    """Names that no document declares, for whatever cluster: such an invariant holds of nobody."""
    platform = prover.inputs.platform
    for invariant in prover.baseline.invariants:
        for ends in invariant.ends:
            named: list[tuple[str, str, Iterable[str]]] = [
                ("service", name, platform.services) for name in ends.services
            ]
            named += [("team", ends.team, platform.teams)] if ends.team else []
            for kind, name, known in named:
                if name not in known:
                    yield warning(
                        "policies/invariant-names-nobody",
                        f"invariant {invariant.name} names {kind} {name}, which no document declares",
                        invariant.place,
                        nearest(name, known) or "correct the name, or remove the invariant",
                    )


def check(prover: Prover) -> tuple[Held, ...]:
    """Each invariant of the baseline, on our policies alone and beside those of others."""
    found = []
    for invariant in prover.baseline.invariants:
        judge = _Judge(prover, invariant)
        problems = judge.on(prover.engine, theirs=False)
        if prover.beside is not None and not problems:
            problems = judge.on(prover.beside, theirs=True)
        found.append(Held(invariant, judge.pairs, tuple(problems)))
    return tuple(found)


class _Judge:
    def __init__(self, prover: Prover, invariant: Invariant) -> None:
        self.prover = prover
        self.invariant = invariant
        self.universe = prover.engine.universe
        self.group = Group(prover.inputs, prover.wanted)

    def on(self, engine: Engine, *, theirs: bool) -> list[Problem]:
        """The breaches by these policies, one for each pair of parties."""
        if self.invariant.isolated is not None:
            return self._isolated(engine, theirs)
        return self._never(engine, theirs)

    @property
    def pairs(self) -> int:
        """How many pairs of classes it speaks of; of directions, where pods are to be isolated."""
        if self.invariant.isolated is not None:
            return 2 * self._members.bit_count()
        sources, destinations = self._ends
        families = self.universe.family.values()
        return sum((sources & own).bit_count() * (destinations & own).bit_count() for own in families)

    @cached_property
    def _members(self) -> int:
        assert self.invariant.isolated is not None
        return self.group.of(self.invariant.isolated) & self.universe.pods

    @cached_property
    def _ends(self) -> tuple[int, int]:
        spared = self.group.of(self.invariant.spared) if self.invariant.spared is not None else 0
        return self.group.of(self.invariant.source) & ~spared, self.group.of(self.invariant.destination)

    def _isolated(self, engine: Engine, theirs: bool) -> list[Problem]:
        problems = []
        for direction in Direction:
            for number in bits(self._members & ~engine.isolated(direction)):
                what = f"no policy isolates the {direction} of {self.universe.name(number)}"
                problems.append(self._problem(what, theirs, self.prover.parties.teams(number)))
        return problems

    def _never(self, engine: Engine, theirs: bool) -> list[Problem]:
        sources, destinations = self._ends
        ports = union(Connections.of(*item) for item in self.invariant.ports) if self.invariant.ports else ALL
        rectangles = [
            (one & sources, other & destinations, packets & ports)
            for one, other, packets in self._connections(engine, sources, destinations)
            if one & sources and other & destinations and packets & ports
        ]
        if not rectangles:
            return []
        parties = self.prover.parties
        cast = Cast(self.universe, parties.party)
        everybody, spaces = every_pod(cast)
        crowds = (everybody, *spaces)
        rows = Rows(cast, AddressNames(self.universe, self.prover.inputs, engine.policies.sets), (crowds, crowds))
        for one, other, packets in rectangles:
            rows.add(one, other, "", packets)
        found = rows.found()
        problems = [self._witness(engine, row, theirs) for row in found[:MAX_WITNESSES]]
        if len(found) > MAX_WITNESSES:
            problems.append(self._problem(f"{len(found) - MAX_WITNESSES} more pairs break it", theirs))
        return problems

    def _connections(self, engine: Engine, sources: int, destinations: int) -> Iterator[tuple[int, int, Connections]]:
        """What is looked at, as rectangles of one family: all that is allowed, or all that is not declared of it."""
        if self.invariant.unless_declared:
            yield from self.prover.undeclared(engine)
        else:
            for block in engine.reach.blocks(sources, destinations):
                yield block.sources, block.destinations, block.connections

    def _witness(self, engine: Engine, row: Row, theirs: bool) -> Problem:
        one, other = row.example
        packet = row.connections.first()
        egress, ingress = decide(engine, one, other, packet)
        return self._problem(
            f"{row.source} reaches {row.destination} at {row.connections}: for example {self.universe.name(one)} to "
            f"{self.universe.name(other)} at {packet} (egress: {egress}; ingress: {ingress})",
            theirs,
            (*self.prover.parties.teams(one), *self.prover.parties.teams(other)),
        )

    def _problem(self, what: str, theirs: bool, teams: Iterable[str] = ()) -> Problem:
        invariant, cluster = self.invariant, self.prover.inputs.cluster
        make = error if invariant.severity is Severity.ERROR and not theirs else warning
        by = "together with policies of others, " if theirs else ""
        hint = (
            "find the policy that allows it and have its owner narrow it"
            if theirs
            else "narrow the declaration that asks for it, or change the invariant"
        )
        return make(
            "policies/invariant-broken",
            f"{invariant.title or invariant.name}: {by}{what}",
            invariant.place,
            hint,
            teams=tuple(sorted(set(teams))),
            cluster=cluster.name,
        )


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
            found &= self.wanted.governed_pieces
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
        if ends.pod_selector is not None or ends.namespace_selector is not None:
            found &= self._selected(ends.pod_selector or EVERYTHING, ends.namespace_selector or EVERYTHING)
        return found

    def _selected(self, pods: LabelSelector, spaces: LabelSelector) -> int:
        return sum_of(
            self.wanted.pods(name, pods)
            for name, labels in self.universe.namespace_labels.items()
            if spaces.matches(labels)
        )

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
