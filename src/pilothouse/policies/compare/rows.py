"""From rectangles over pieces to rows between parties, without ever looking at a pair of pods.

A party is whole in a set when all its pieces of that family are. Rows that hold for many parties at once are put
together: every pod, or every pod of a namespace, is then one end of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pilothouse.policies.address_names import AddressNames
from pilothouse.policies.engine import NONE, Connections, Universe
from pilothouse.policies.engine.bitsets import bits, cut
from pilothouse.policies.engine.universe import FAMILIES
from pilothouse.policies.parties import Kind, Party

FEW = 3
"""Fewer parties than that are named one by one."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one party reaches of another. `tag` is whatever the rectangles were tagged with; `some`: it holds for some
    of their pods (or addresses) and not for others. `example` is one pair of pieces."""

    source: Party
    destination: Party
    tag: Hashable
    connections: Connections
    some: bool
    example: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Many parties by one name; `members` are numbers of a cast."""

    party: Party
    members: int


class Cast:
    """The parties that the endpoints of a universe belong to, numbered in their order."""

    def __init__(self, universe: Universe, party: Callable[[int], Party]) -> None:
        self.universe = universe
        named = [party(number) for number in range(len(universe.pieces))]
        self.parties = sorted(set(named))
        numbers = {item: number for number, item in enumerate(self.parties)}
        self.of = [numbers[item] for item in named]
        self.pieces = [0] * len(self.parties)
        for number, one in enumerate(self.of):
            self.pieces[one] |= 1 << number
        self._sizes = {
            version: [(own & universe.family[version]).bit_count() for own in self.pieces] for version in FAMILIES
        }
        self.having = {
            version: sum(1 << number for number, size in enumerate(sizes) if size)
            for version, sizes in self._sizes.items()
        }
        self._known: dict[int, tuple[int, int]] = {}

    def among(self, pieces: int) -> tuple[int, int]:
        """(the parties that are whole among these pieces, those that are at all); the pieces are of one family."""
        found = self._known.get(pieces)
        if found is None:
            counts: dict[int, int] = {}
            first = 0
            for first in bits(pieces):
                one = self.of[first]
                counts[one] = counts.get(one, 0) + 1
            sizes = self._sizes[self.universe.version(first)]
            whole = touched = 0
            for one, count in counts.items():
                touched |= 1 << one
                if count == sizes[one]:
                    whole |= 1 << one
            found = self._known[pieces] = (whole, touched)
        return found


def every_pod(cast: Cast) -> tuple[Crowd, tuple[Crowd, ...]]:
    """Everybody but host endpoints, and each namespace that has several parties."""
    universe = cast.universe
    pods, spaces = 0, dict[str, int]()
    for number, own in enumerate(cast.pieces):
        if own & universe.pods:
            pods |= 1 << number
            space = universe.pieces[_first(own)].namespace
            spaces[space] = spaces.get(space, 0) | 1 << number
    return Crowd(Party(Kind.GROUP, "every pod"), pods), tuple(
        Crowd(Party(Kind.GROUP, f"every pod of {name}"), members)
        for name, members in sorted(spaces.items())
        if members.bit_count() >= FEW
    )


class Rows:
    """Collects rectangles; `found` gives the rows. `crowds` are those that may be a source, and a destination."""

    def __init__(
        self, cast: Cast, addresses: AddressNames, crowds: tuple[Sequence[Crowd], Sequence[Crowd]] = ((), ())
    ) -> None:
        self.cast = cast
        self.universe = cast.universe
        self.addresses = addresses
        self.crowds = crowds
        self._inside: dict[tuple[Hashable, Connections], dict[int, int]] = {}
        self._outside: dict[tuple[bool, int, Hashable, Connections], list[tuple[int, int]]] = {}

    def add(self, sources: int, destinations: int, tag: Hashable, connections: Connections) -> None:
        """Every piece of `sources` to every piece of `destinations`, all of one family."""
        ends = self.universe.endpoints
        within, target = sources & ends, destinations & ends
        if within and target:
            known = self._inside.setdefault((tag, connections), {})
            known[target] = known.get(target, 0) | within
        for outward, own, other in ((True, within, destinations & ~ends), (False, target, sources & ~ends)):
            if own and other:
                for party in bits(self.cast.among(own)[1]):
                    part = (own & self.cast.pieces[party], other)
                    self._outside.setdefault((outward, party, tag, connections), []).append(part)

    def found(self) -> tuple[Row, ...]:
        """Each pair of parties once for each tag (and once more for what only some of it has), sorted."""
        merged: dict[tuple[Party, Party, Hashable, bool], tuple[Connections, tuple[int, int]]] = {}
        for row in (*self._rows_inside(), *self._rows_outside()):
            key = (row.source, row.destination, row.tag, row.some)
            before, example = merged.get(key, (NONE, row.example))
            merged[key] = (before | row.connections, example)
        rows = (
            Row(source, destination, tag, connections, some, example)
            for (source, destination, tag, some), (connections, example) in merged.items()
        )
        return tuple(sorted(rows, key=lambda row: (row.source, row.destination, row.some, str(row.tag))))

    # -------------------------------------------------------- between pods

    def _rows_inside(self) -> Iterator[Row]:
        for (tag, connections), rectangles in self._inside.items():
            by_target: dict[int, list[tuple[int, int]]] = {}
            for target, sources in rectangles.items():
                for party in bits(self.cast.among(target)[1]):
                    by_target.setdefault(party, []).append((sources, target & self.cast.pieces[party]))
            sets: dict[tuple[bool, int, int], int] = {}
            for party, parts in by_target.items():
                whole, touched = self._sources(party, parts)
                for some, members in ((False, whole), (True, touched & ~whole)):
                    if members:
                        key = (some, members, self._strangers(party))
                        sets[key] = sets.get(key, 0) | 1 << party
            targets: dict[tuple[bool, Party], tuple[int, int, int]] = {}
            for (some, members, strangers), destinations in sets.items():
                for name, first in self._named(members, self.crowds[0], some, strangers):
                    is_one = self.cast.parties[first] == name
                    known = targets.get((some, name), (0, first, self._strangers(first) if is_one else 0))
                    targets[some, name] = (known[0] | destinations, *known[1:])
            for (some, name), (destinations, first, strangers) in targets.items():
                for other, second in self._named(destinations, self.crowds[1], some, strangers):
                    example = self._example(by_target[second], first)
                    yield Row(name, other, tag, connections, some, example)

    def _strangers(self, party: int) -> int:
        """The parties that share no address family with one, so that they never meet."""
        found = (1 << len(self.cast.parties)) - 1
        for having in self.cast.having.values():
            if having >> party & 1:
                found &= ~having
        return found

    def _sources(self, party: int, parts: list[tuple[int, int]]) -> tuple[int, int]:
        """(the parties all of which reach all of a party, those of which anything reaches anything of it)."""
        whole, touched = -1, 0
        for version in FAMILIES:
            family = self.universe.family[version]
            own = self.cast.pieces[party] & family
            if not own:
                continue
            mine = [part for part in parts if part[1] & family]
            reached = -1 if mine else 0
            for piece_class in cut([own, *(target for _, target in mine)]):
                sources = 0
                for some, target in mine:
                    if target & piece_class:
                        sources |= some
                full, any_ = self.cast.among(sources)
                reached &= full
                touched |= any_
            whole &= reached | ~self.cast.having[version]
        return whole & touched, touched

    def _example(self, parts: list[tuple[int, int]], source: int) -> tuple[int, int]:
        own = self.cast.pieces[source]
        for sources, target in parts:
            if sources & own:
                return (_first(sources & own), _first(target))
        return (_first(parts[0][0]), _first(parts[0][1]))

    def _named(
        self, members: int, crowds: Iterable[Crowd], some: bool, strangers: int = 0
    ) -> Iterator[tuple[Party, int]]:
        """(name, its first member) of everyone in a set of parties. Of a crowd, `strangers` need not be in it."""
        rest = members
        if not some and members.bit_count() >= FEW:
            for crowd in crowds:
                if not crowd.members & ~(members | strangers) and (crowd.members & rest).bit_count() >= FEW:
                    yield crowd.party, _first(crowd.members & members)
                    rest &= ~crowd.members
        for number in bits(rest):
            yield self.cast.parties[number], number

    # -------------------------------------------------------- with addresses outside

    def _rows_outside(self) -> Iterator[Row]:
        sets: dict[tuple[bool, Party, Hashable, Connections, bool], tuple[int, dict[int, tuple[int, int]]]] = {}
        for (outward, party, tag, connections), parts in self._outside.items():
            families = tuple(version for version in FAMILIES if self.cast.having[version] >> party & 1)
            for addresses, some, piece in self._covered(party, parts):
                for name, pieces in self.addresses.named(addresses, families):
                    key = (outward, name, tag, connections, some)
                    members, examples = sets.get(key, (0, {}))
                    examples.setdefault(party, self._meeting(party, piece, _first(pieces)))
                    sets[key] = (members | 1 << party, examples)
        for (outward, address, tag, connections, some), (members, examples) in sets.items():
            for name, first in self._named(members, self.crowds[0 if outward else 1], some):
                own, other = examples[first]
                if outward:
                    yield Row(name, address, tag, connections, some, (own, other))
                else:
                    yield Row(address, name, tag, connections, some, (other, own))

    def _meeting(self, party: int, piece: int, address: int) -> tuple[int, int]:
        """A pair of one family: that piece of the party, or another one where it is of the wrong family."""
        version = self.universe.version(address)
        if self.universe.version(piece) == version:
            return piece, address
        return _first(self.cast.pieces[party] & self.universe.family[version]), address

    def _covered(self, party: int, parts: list[tuple[int, int]]) -> Iterator[tuple[int, bool, int]]:
        """(addresses, whether they are only some of the party's pods', one such pod)."""
        together, piece = 0, -1
        for version in FAMILIES:
            family = self.universe.family[version]
            own = self.cast.pieces[party] & family
            mine = [part for part in parts if part[0] & family]
            if not mine:
                continue
            classes: dict[int, int] = {}
            for piece_class in cut([own, *(pods for pods, _ in mine)]):
                addresses = 0
                for pods, reached in mine:
                    if pods & piece_class:
                        addresses |= reached
                classes[addresses] = classes.get(addresses, 0) | piece_class
            if len(classes) == 1:
                (addresses,) = classes
                together |= addresses
                piece = _first(own)
            else:
                for addresses, pods in classes.items():
                    if addresses:
                        yield addresses, True, _first(pods)
        if together:
            yield together, False, piece


def _first(members: int) -> int:
    return (members & -members).bit_length() - 1
