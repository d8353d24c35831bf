"""Who reaches whom: all pairs of a site as people read them.

Pods count as the service or workload that they are of, addresses by name. What holds for many ends at once is one
connection from or to a group (`Map.groups`), so that a cluster which isolates nothing has a short map. The pairs come
from the evaluator's rectangles; no pair of pods is ever looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pilothouse.policies.address_names import AddressNames
from pilothouse.policies.compare.newcomers import newcomers
from pilothouse.policies.compare.rows import FEW, Cast, Crowd, Row, Rows, every_pod
from pilothouse.policies.engine import ALL, Connections, Engine, Reach, Universe
from pilothouse.policies.engine.bitsets import bits, of
from pilothouse.policies.engine.fold import Effect, effect
from pilothouse.policies.parties import Kind, Parties, Party
from pilothouse.policies.rules import Direction
from pilothouse.policies.site import Site
from pilothouse.problems import Invalid, nearest, one_of


class Guard(StrEnum):
    """Whether policies apply to the pods of a party in one direction."""

    ISOLATED = "isolated"
    PARTLY = "partly"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Member:
    """One party of the map. `pods` counts those that run (or may exist later); 0 for addresses and groups."""

    party: Party
    namespace: str = ""
    pods: int = 0
    egress: Guard = Guard.OPEN
    ingress: Guard = Guard.OPEN


@dataclass(frozen=True, slots=True)
class Link:
    """`source` reaches `destination` at `connections`. `conditional`: only some requests are let through. `some`: it
    holds for some of their pods or addresses, not for all."""

    source: Party
    destination: Party
    connections: Connections
    conditional: bool = False
    some: bool = False

    @property
    def note(self) -> str:
        words = ["some requests"] * self.conditional + ["some pods"] * self.some
        return ", ".join(words)

    def __str__(self) -> str:
        return f"{self.source} → {self.destination} at {self.connections}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class Map:
    """`members` are all parties that have a link or pods, sorted; `links` are sorted by source and destination."""

    title: str = ""
    members: tuple[Member, ...] = ()
    links: tuple[Link, ...] = ()
    groups: Mapping[Party, tuple[Party, ...]] = field(default_factory=dict)
    """Group → its members; only groups that a link names. Members that share no address family do not meet."""

    def member(self, party: Party) -> Member:
        return next((item for item in self.members if item.party == party), Member(party))

    def not_isolated(self, direction: Direction) -> tuple[Party, ...]:
        """The parties that no policy applies to in that direction."""
        return tuple(
            item.party
            for item in self.members
            if item.pods and (item.egress if direction is Direction.EGRESS else item.ingress) is Guard.OPEN
        )


@dataclass(frozen=True, slots=True)
class Only:
    """What to show the connections of, at either end; "" where it does not matter. `service` is a service's key or a
    workload as `namespace/name`."""

    service: str = ""
    namespace: str = ""
    team: str = ""

    def __bool__(self) -> bool:
        return bool(self.service or self.namespace or self.team)


def draw_up(site: Site, title: str = "", only: Only = Only(), *, by_pods: bool = False, future: bool = False) -> Map:
    """The map of a site. `by_pods` tells pods apart that policies tell apart; `future` adds pods that may exist later.
    Raises `Invalid` where `only` names nothing."""
    engine = site.engine_for(future=newcomers(site)) if future else site.engine
    parties = Parties(site.inputs, engine.universe)
    cast = Cast(engine.universe, _pod_names(engine, parties) if by_pods else parties.party)
    reach = _between_endpoints(engine)
    crowds = _crowds(engine, reach, cast)
    names = AddressNames(engine.universe, site.inputs, engine.policies.sets)
    chosen = _chosen(cast, parties, only)
    if chosen is None:
        rows = _rows(Rows(cast, names, crowds), engine, reach, (-1, -1), outward=-1, inward=-1)
    else:  # what they reach, and who else reaches them: the chosen ones stand for themselves
        rows = _rows(Rows(cast, names, ((), crowds[1])), engine, reach, (chosen, -1), outward=chosen, inward=0)
        rows += _rows(Rows(cast, names, (crowds[0], ())), engine, reach, (~chosen, chosen), outward=0, inward=chosen)
    links = tuple(
        sorted(
            (Link(r.source, r.destination, r.connections, bool(r.tag), r.some) for r in rows),
            key=lambda link: (link.source, link.destination, link.conditional, link.some),
        )
    )
    members = {crowd.party: crowd.members for side in crowds for crowd in side}
    used = {end for link in links for end in (link.source, link.destination)}
    groups = {
        party: tuple(cast.parties[number] for number in bits(members[party])) for party in sorted(used & set(members))
    }
    isolated = (engine.isolated(Direction.EGRESS), engine.isolated(Direction.INGRESS))
    shown = [_member(engine, cast, number, isolated) for number in range(len(cast.parties))]
    shown = [item for item in shown if chosen is None or item.party in used]
    outside = (Member(party) for party in used if party.kind is Kind.ADDRESSES)
    return Map(title, tuple(sorted((*shown, *outside), key=lambda item: item.party)), links, groups)


def _rows(
    rows: Rows, engine: Engine, reach: Reach, between: tuple[int, int], *, outward: int, inward: int
) -> tuple[Row, ...]:
    """What the first of `between` reaches of the second; what `outward` reaches of the addresses outside, and what
    those reach of `inward`."""
    for block in reach.blocks():
        one, other = block.sources & between[0], block.destinations & between[1]
        if one and other:
            rows.add(one, other, block.conditional, block.connections)
    # Addresses outside have no policies of their own, so that there one side's effect is the whole answer.
    for effects, chosen, is_outward in (
        (engine.reach.sources, outward, True),
        (engine.reach.destinations, inward, False),
    ):
        for found, members in effects:
            own = members & engine.universe.endpoints & chosen
            if own:
                _outside(rows, engine.universe, found, own, is_outward)
    return rows.found()


def _outside(rows: Rows, universe: Universe, found: Effect, own: int, is_outward: bool) -> None:
    for packets, allowed, conditional in found.cells:
        for peers, tag in ((allowed, False), (conditional, True)):
            for family in universe.family.values():
                pods, addresses = own & family, peers & universe.outside & family
                if pods and addresses:
                    rows.add(*((pods, addresses) if is_outward else (addresses, pods)), tag, packets)


# ---------------------------------------------------------------- who


def _between_endpoints(engine: Engine) -> Reach:
    """The reach among endpoints alone: what they may do with addresses outside tells none of them apart."""
    universe = engine.universe
    known: dict[Effect, Effect] = {}

    def inner(found: Effect) -> Effect:
        if found not in known:
            ends = universe.endpoints
            known[found] = effect((packets, one & ends, other & ends) for packets, one, other in found.cells)
        return known[found]

    return Reach(
        universe, [inner(item) for item in engine.reach.egress], [inner(item) for item in engine.reach.ingress]
    )


def _crowds(engine: Engine, reach: Reach, cast: Cast) -> tuple[tuple[Crowd, ...], tuple[Crowd, ...]]:
    """Groups that may be a source, and a destination; larger ones first."""
    universe = engine.universe
    everybody, spaces = every_pod(cast)
    whole = Effect(((ALL, universe.endpoints, 0),))
    found = []
    for direction, effects in ((Direction.EGRESS, reach.egress), (Direction.INGRESS, reach.ingress)):
        loose = of(number for number, item in enumerate(effects) if item == whole)
        free = universe.endpoints & ~engine.isolated(direction)
        own = [
            Crowd(Party(Kind.GROUP, f"pods {words} {direction}{tail}"), _whole(cast, pieces) & everybody.members)
            for words, tail, pieces in (("with open", "", loose), ("without", " policy", free))
        ]
        unique = {crowd.members: crowd for crowd in (*reversed(own), everybody) if crowd.members.bit_count() >= FEW}
        ordered = sorted(unique.values(), key=lambda crowd: (-crowd.members.bit_count(), crowd.party))
        found.append((*ordered, *spaces))
    return found[0], found[1]


def _whole(cast: Cast, pieces: int) -> int:
    return sum(1 << number for number, own in enumerate(cast.pieces) if not own & ~pieces)


def _namespace(engine: Engine, cast: Cast, number: int) -> str:
    return engine.universe.pieces[next(bits(cast.pieces[number]))].namespace


def _member(engine: Engine, cast: Cast, number: int, isolated: tuple[int, int]) -> Member:
    universe = engine.universe
    own = cast.pieces[number]
    pods = {pod.key for piece in bits(own) for pod in universe.pieces[piece].pods}
    guards = []
    for everyone in isolated:
        covered = own & everyone
        guards.append(Guard.ISOLATED if covered == own else Guard.PARTLY if covered else Guard.OPEN)
    return Member(cast.parties[number], _namespace(engine, cast, number), len(pods) or 1, *guards)


def _pod_names(engine: Engine, parties: Parties) -> Callable[[int], Party]:
    """Pods one by one, those together that no policy tells apart."""

    def name(number: int) -> Party:
        piece = engine.universe.pieces[number]
        if not piece.pods:
            return parties.party(number)
        more = f" and {len(piece.pods) - 1} more" if len(piece.pods) > 1 else ""
        return Party(Kind.PODS, piece.pods[0].key + more, parties.party(number).team)

    return name


def _chosen(cast: Cast, parties: Parties, only: Only) -> int | None:
    """The endpoints that were asked for; None: all."""
    if not only:
        return None
    universe = cast.universe
    found = 0
    for number, piece in enumerate(universe.pieces):
        party = parties.party(number)
        workload = f"{piece.namespace}/{piece.pods[0].owner.name}" if piece.pods and piece.pods[0].owner else ""
        if (
            only.service in ("", party.name, workload)
            and only.namespace in ("", piece.namespace)
            and only.team in ("", party.team)
        ):
            found |= 1 << number
    if not found:
        raise Invalid(*_nothing(universe.by_namespace, parties, only))
    return found


def _nothing(namespaces: Iterable[str], parties: Parties, only: Only) -> tuple[str, str]:
    known = {parties.party(number) for number in range(len(parties.universe.pieces))}
    names = {party.name for party in known}
    teams = {party.team for party in known} - {""}
    if only.service and only.service not in names:
        return f"no pods of `{only.service}` run here", nearest(only.service, names) or one_of(names)
    if only.namespace and only.namespace not in set(namespaces):
        return f"no pods run in namespace `{only.namespace}`", nearest(only.namespace, namespaces) or one_of(namespaces)
    if only.team and only.team not in teams:
        return f"no pods of team `{only.team}` run here", nearest(only.team, teams) or one_of(teams)
    return "nothing that runs here is all of what was asked for", "ask for less at once"


# ---------------------------------------------------------------- as data


def as_data(found: Map) -> dict[str, Any]:
    """The map as JSON can hold it."""
    return {
        "title": found.title,
        "parties": [
            {
                **party_data(item.party),
                "namespace": item.namespace,
                "pods": item.pods,
                "egress": item.egress.value,
                "ingress": item.ingress.value,
            }
            if item.pods
            else party_data(item.party)
            for item in found.members
        ],
        "groups": [
            {"name": group.name, "members": [member.name for member in members]}
            for group, members in found.groups.items()
        ],
        "connections": [
            {
                "source": party_data(link.source),
                "destination": party_data(link.destination),
                "ports": str(link.connections),
                "verdict": "conditional" if link.conditional else "allow",
                "some": link.some,
            }
            for link in found.links
        ],
    }


def party_data(item: Party) -> dict[str, str]:
    return {"kind": item.kind.value, "name": item.name} | ({"team": item.team} if item.team else {})


COLUMNS = (
    "source kind",
    "source",
    "source team",
    "destination kind",
    "destination",
    "destination team",
    "ports",
    "verdict",
    "pods",
)


def as_rows(found: Map) -> list[tuple[str, ...]]:
    """The connections as rows of `COLUMNS`."""
    return [
        (
            link.source.kind.value,
            link.source.name,
            link.source.team,
            link.destination.kind.value,
            link.destination.name,
            link.destination.team,
            str(link.connections),
            "conditional" if link.conditional else "allow",
            "some" if link.some else "all",
        )
        for link in found.links
    ]
