"""Sets of connections over the whole space: every IP protocol, both ports, ICMP type and code. Exact, without sampling.

A set holds one region for each protocol that has more to it than its number (TCP, UDP and SCTP: source port by
destination port; ICMP and ICMPv6: type by code), and one bit for each other protocol. Equal sets are equal values, and
unions and intersections of the few sets that a cluster knows are remembered.

Protocol numbers: https://www.iana.org/assignments/protocol-numbers/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakValueDictionary

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
PROTOCOLS: Mapping[str, int] = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP, "ICMP": ICMP, "ICMPv6": ICMPV6, "UDPLite": 136}
"""The names that policies write."""
NAMES: Mapping[int, str] = {number: name for name, number in PROTOCOLS.items()}
WITH_PORTS = (TCP, UDP, SCTP)
LAST_PORT = 65535
LAST_TYPE = 255

Ranges = tuple[tuple[int, int], ...]
"""Sorted, not touching; first and last included."""
Region = tuple[tuple[int, int, Ranges], ...]
"""(first, last, ranges): source ports (or ICMP types) from first to last, with these destination ports (or codes)."""

_SLOTS = (TCP, UDP, SCTP, ICMP, ICMPV6)
_LIMITS = (LAST_PORT, LAST_PORT, LAST_PORT, LAST_TYPE, LAST_TYPE)
_FULL: tuple[Region, ...] = tuple(((0, limit, ((0, limit),)),) for limit in _LIMITS)
_OTHERS = ((1 << 256) - 1) & ~sum(1 << number for number in _SLOTS)


@dataclass(frozen=True, slots=True)
class Packet:
    """What the first packet of a connection says of itself. For ICMP, `source_port` is the type and
    `destination_port` the code; protocols without either ignore both."""

    protocol: int
    destination_port: int = 0
    source_port: int = 40000

    @classmethod
    def icmp(cls, protocol: int, type: int, code: int = 0) -> Packet:
        return cls(protocol, code, type)

    def __str__(self) -> str:
        if self.protocol in WITH_PORTS:
            return f"{self.destination_port}/{NAMES[self.protocol]}"
        if self.protocol in (ICMP, ICMPV6):
            return f"{NAMES[self.protocol]} type {self.source_port} code {self.destination_port}"
        return protocol_name(self.protocol)


def protocol_name(number: int) -> str:
    return NAMES.get(number) or f"protocol {number}"


class Connections:
    """An immutable set of connections. Equal sets are one object, so that comparing and hashing cost nothing."""

    __slots__ = ("__weakref__", "other", "regions")

    regions: tuple[Region, ...]
    other: int

    def __new__(cls, regions: tuple[Region, ...], other: int = 0) -> Connections:
        key = (regions, other)
        found = _KNOWN.get(key)
        if found is None:
            found = super().__new__(cls)
            found.regions = regions
            found.other = other
            _KNOWN[key] = found
        return found

    def __reduce__(self) -> tuple[type[Connections], tuple[tuple[Region, ...], int]]:
        return (Connections, (self.regions, self.other))

    @classmethod
    def of(
        cls,
        protocol: int,
        first: int = 0,
        last: int | None = None,
        source_first: int = 0,
        source_last: int | None = None,
    ) -> Connections:
        """Destination ports (ICMP codes) from first to last and source ports (types) likewise; all where not said."""
        if protocol not in _SLOTS:
            return cls(_EMPTY, 1 << protocol)
        slot = _SLOTS.index(protocol)
        limit = _LIMITS[slot]
        region: Region = (
            (source_first, limit if source_last is None else source_last, ((first, limit if last is None else last),)),
        )
        return cls((*_EMPTY[:slot], region, *_EMPTY[slot + 1 :]))

    def __bool__(self) -> bool:
        return self is not NONE

    def __or__(self, other: Connections) -> Connections:
        return self if self is other else _join(self, other)

    def __and__(self, other: Connections) -> Connections:
        return self if self is other else meet(self, other)

    def __sub__(self, other: Connections) -> Connections:
        return _less(self, other)

    def contains(self, packet: Packet) -> bool:
        if packet.protocol not in _SLOTS:
            return bool(self.other >> packet.protocol & 1)
        for first, last, ranges in self.regions[_SLOTS.index(packet.protocol)]:
            if first <= packet.source_port <= last:
                return any(low <= packet.destination_port <= high for low, high in ranges)
        return False

    def region(self, protocol: int) -> Region:
        return self.regions[_SLOTS.index(protocol)]

    def ranges(self) -> Iterator[tuple[int, Ranges]]:
        """(protocol, destination ports) for those that have any, whatever the source port."""
        for slot, protocol in enumerate(_SLOTS[:3]):
            if self.regions[slot]:
                yield protocol, _merged(item for _, _, ranges in self.regions[slot] for item in ranges)

    def protocols(self) -> tuple[int, ...]:
        """Numbers of the protocols that it holds something of."""
        found = [protocol for slot, protocol in enumerate(_SLOTS) if self.regions[slot]]
        return tuple(sorted([*found, *(number for number in range(256) if self.other >> number & 1)]))

    def first(self) -> Packet:
        """One member as a witness: a port that people know before odd ones. The set must not be empty."""
        for slot, protocol in enumerate(_SLOTS):
            for first, last, ranges in self.regions[slot]:
                low, high = ranges[0]
                if slot >= 3:
                    return Packet(protocol, low, 8 if first <= 8 <= last and protocol == ICMP else first)
                # Port 0 is none that anybody uses; a range that starts there has better ones.
                return Packet(protocol, low or min(1, high), min(max(40000, first), last))
        if not self.other:
            raise ValueError("an empty set of connections has no member")
        return Packet((self.other & -self.other).bit_length() - 1)

    def __repr__(self) -> str:
        return f"Connections({self})"

    def __str__(self) -> str:
        """`8080, 9000-9100, 53/UDP, ICMP type 8`; "everything" when nothing is missing."""
        if self is ALL:
            return "everything"
        parts: list[str] = []
        for slot, protocol in enumerate(_SLOTS[:3]):
            parts += _ports_text(self.regions[slot], protocol)
        for slot, protocol in ((3, ICMP), (4, ICMPV6)):
            parts += _icmp_text(self.regions[slot], protocol)
        if self.other == _OTHERS:
            parts.append("every other protocol")
        elif self.other:
            numbers = [number for number in range(256) if self.other >> number & 1]
            shown = [protocol_name(number) for number in numbers]
            missing = [number for number in range(256) if _OTHERS >> number & 1 and not self.other >> number & 1]
            if len(missing) < len(numbers):
                shown = ["every other protocol but " + ", ".join(protocol_name(number) for number in missing)]
            parts += shown
        return ", ".join(parts) or "nothing"


def _ports_text(region: Region, protocol: int) -> Iterator[str]:
    name = NAMES[protocol]
    tail = "" if protocol == TCP else f"/{name}"
    for first, last, ranges in region:
        source = ""
        if (first, last) != (0, LAST_PORT):
            source = f" from source port {first}" if first == last else f" from source ports {first}-{last}"
        if ranges == ((0, LAST_PORT),):
            yield f"every {name} port{source}"
            continue
        for low, high in ranges:
            yield (f"{low}{tail}" if low == high else f"{low}-{high}{tail}") + source


def _icmp_text(region: Region, protocol: int) -> Iterator[str]:
    name = NAMES[protocol]
    if region == _FULL[_SLOTS.index(protocol)]:
        yield name
        return
    for first, last, ranges in region:
        types = f"type {first}" if first == last else f"types {first}-{last}"
        codes = ""
        if ranges != ((0, LAST_TYPE),):
            codes = " code " + " ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)
        yield f"{name} {types}{codes}"


_KNOWN: WeakValueDictionary[tuple[tuple[Region, ...], int], Connections] = WeakValueDictionary()
_EMPTY: tuple[Region, ...] = ((),) * len(_SLOTS)
NONE = Connections(_EMPTY)
ALL = Connections(_FULL, _OTHERS)


def union(items: Iterable[Connections]) -> Connections:
    found = NONE
    for item in items:
        found = found | item
    return found


def of_protocols(numbers: Iterable[int]) -> Connections:
    """Everything of these protocols."""
    return union(Connections.of(number) for number in numbers)


# ---------------------------------------------------------------- the algebra


@lru_cache(maxsize=1 << 17)
def _join(one: Connections, two: Connections) -> Connections:
    regions = tuple(map(_region_join, one.regions, two.regions, _LIMITS))
    return Connections(regions, one.other | two.other)


@lru_cache(maxsize=1 << 17)
def meet(one: Connections, two: Connections) -> Connections:
    """What both hold; the operator `&` without the way through it."""
    regions = tuple(map(_region_meet, one.regions, two.regions))
    return Connections(regions, one.other & two.other)


@lru_cache(maxsize=1 << 17)
def _less(one: Connections, two: Connections) -> Connections:
    regions = tuple(
        _region_meet(left, _region_complement(right, limit)) if left and right else left
        for left, right, limit in zip(one.regions, two.regions, _LIMITS, strict=True)
    )
    return Connections(regions, one.other & ~two.other)


def _region_join(one: Region, two: Region, limit: int) -> Region:
    if not one or one == two:
        return two
    if not two:
        return one
    if len(one) == len(two) == 1 and one[0][:2] == two[0][:2]:
        return ((one[0][0], one[0][1], _merged((*one[0][2], *two[0][2]))),)
    cuts = sorted({0, *(cut for first, last, _ in (*one, *two) for cut in (first, last + 1))})
    cells = []
    for index, first in enumerate(cuts):
        last = cuts[index + 1] - 1 if index + 1 < len(cuts) else limit
        ranges = _merged((*_at(one, first), *_at(two, first)))
        if ranges and first <= last:
            cells.append((first, last, ranges))
    return _canonical(cells)


def _region_meet(one: Region, two: Region) -> Region:
    if one == two or not one:
        return one
    cells = []
    for first, last, ranges in one:
        for other_first, other_last, other_ranges in two:
            low, high = max(first, other_first), min(last, other_last)
            if low <= high and (common := _common(ranges, other_ranges)):
                cells.append((low, high, common))
    return _canonical(cells)


def _region_complement(region: Region, limit: int) -> Region:
    full: Ranges = ((0, limit),)
    cells: list[tuple[int, int, Ranges]] = []
    start = 0
    for first, last, ranges in region:
        if first > start:
            cells.append((start, first - 1, full))
        if left := _gaps(ranges, limit):
            cells.append((first, last, left))
        start = last + 1
    if start <= limit:
        cells.append((start, limit, full))
    return _canonical(cells)


def _at(region: Region, source: int) -> Ranges:
    return next((ranges for first, last, ranges in region if first <= source <= last), ())


def _canonical(cells: list[tuple[int, int, Ranges]]) -> Region:
    found: list[tuple[int, int, Ranges]] = []
    for first, last, ranges in cells:
        if found and found[-1][1] + 1 == first and found[-1][2] == ranges:
            found[-1] = (found[-1][0], last, ranges)
        else:
            found.append((first, last, ranges))
    return tuple(found)


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _common(one: Ranges, two: Ranges) -> Ranges:
    if one == two:
        return one
    return tuple((max(a, c), min(b, d)) for a, b in one for c, d in two if max(a, c) <= min(b, d))


def _gaps(ranges: Ranges, limit: int) -> Ranges:
    found, start = [], 0
    for first, last in ranges:
        if first > start:
            found.append((start, first - 1))
        start = last + 1
    if start <= limit:
        found.append((start, limit))
    return tuple(found)
