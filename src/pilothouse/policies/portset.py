"""Sets of destination ports over all protocols, exact: what two ends agree on is an intersection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

PROTOCOLS = ("TCP", "UDP", "SCTP")
"""The protocols that have ports. Everything else (ICMP and so on) is one more member, `other`."""
LAST = 65535

Ranges = tuple[tuple[int, int], ...]
FULL: Ranges = ((0, LAST),)


@dataclass(frozen=True, slots=True)
class PortSet:
    """Ports per protocol as sorted ranges that do not touch; `other` is every protocol without ports."""

    tcp: Ranges = ()
    udp: Ranges = ()
    sctp: Ranges = ()
    other: bool = False

    @classmethod
    def of(cls, protocol: str, first: int = 0, last: int = LAST) -> PortSet:
        """A range of one protocol; every port of it when no numbers are given."""
        ranges = ((first, last),)
        return cls(
            ranges if protocol == "TCP" else (),
            ranges if protocol == "UDP" else (),
            ranges if protocol == "SCTP" else (),
            protocol not in PROTOCOLS,
        )

    def __bool__(self) -> bool:
        return self != NONE

    def __or__(self, other: PortSet) -> PortSet:
        return _join(self, other)

    def __and__(self, other: PortSet) -> PortSet:
        return _meet(self, other)

    def __sub__(self, other: PortSet) -> PortSet:
        return _meet(self, _complement(other))

    def contains(self, protocol: str, port: int) -> bool:
        if protocol not in PROTOCOLS:
            return self.other
        return any(first <= port <= last for first, last in dict(self.ranges())[protocol])

    def ranges(self) -> Iterator[tuple[str, Ranges]]:
        yield from (("TCP", self.tcp), ("UDP", self.udp), ("SCTP", self.sctp))

    def first(self) -> tuple[str, int]:
        """One member, as a witness; the set must not be empty."""
        for protocol, ranges in self.ranges():
            if ranges:
                # Port 0 is no port that anybody uses; a range that starts there has better ones.
                return protocol, ranges[0][0] or min(1, ranges[0][1])
        if not self.other:
            raise ValueError("an empty set of ports has no member")
        return "other", 0

    def __str__(self) -> str:
        """`8080, 9000-9100, 53/UDP`; "every port" when nothing is missing."""
        if self == ALL:
            return "every port"
        parts = []
        for protocol, ranges in self.ranges():
            tail = "" if protocol == "TCP" else f"/{protocol}"
            if ranges == FULL:
                parts.append(f"every {protocol} port")
                continue
            parts += [f"{first}{tail}" if first == last else f"{first}-{last}{tail}" for first, last in ranges]
        if self.other:
            parts.append("other protocols")
        return ", ".join(parts) or "nothing"


NONE = PortSet()
ALL = PortSet(FULL, FULL, FULL, True)


def union(items: Iterable[PortSet]) -> PortSet:
    found = NONE
    for item in items:
        found = found | item
    return found


@cache
def _join(one: PortSet, two: PortSet) -> PortSet:
    return PortSet(
        _merged(one.tcp + two.tcp),
        _merged(one.udp + two.udp),
        _merged(one.sctp + two.sctp),
        one.other or two.other,
    )


@cache
def _meet(one: PortSet, two: PortSet) -> PortSet:
    return PortSet(
        _common(one.tcp, two.tcp), _common(one.udp, two.udp), _common(one.sctp, two.sctp), one.other and two.other
    )


@cache
def _complement(item: PortSet) -> PortSet:
    return PortSet(_gaps(item.tcp), _gaps(item.udp), _gaps(item.sctp), not item.other)


def _merged(ranges: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _common(one: Ranges, two: Ranges) -> Ranges:
    return tuple((max(a, c), min(b, d)) for a, b in one for c, d in two if max(a, c) <= min(b, d))


def _gaps(ranges: Ranges) -> Ranges:
    found, start = [], 0
    for first, last in ranges:
        if first > start:
            found.append((start, first - 1))
        start = last + 1
    if start <= LAST:
        found.append((start, LAST))
    return tuple(found)
