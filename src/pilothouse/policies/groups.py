"""Differences between two reaches, put together as people speak of them: by service, workload or addresses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilothouse.policies.parties import Parties, Party
from pilothouse.policies.portset import PortSet
from pilothouse.policies.reach import Difference
from pilothouse.policies.universe import Universe


@dataclass(frozen=True, slots=True)
class Group:
    """Connections of one kind: gained (not there before) or lost, between two parties at the same ports.

    `example` is one pair of pieces.
    """

    gained: bool
    source: Party
    destination: Party
    ports: PortSet
    example: tuple[int, int]


def grouped(
    universe: Universe, differences: Iterable[Difference], before: Parties, after: Parties
) -> tuple[Group, ...]:
    """Each group once, sorted: gained first, then by source and destination.

    What is gained bears the names of `after`, what is lost those of `before`.
    """
    found: dict[tuple[bool, Party, Party, PortSet], tuple[int, int]] = {}
    outside: dict[tuple[bool, int, bool, PortSet], list[int]] = {}
    for item in differences:
        for gained, ports in ((True, item.after - item.before), (False, item.before - item.after)):
            if not ports:
                continue
            names = after if gained else before
            if universe.is_pod(item.source) and universe.is_pod(item.destination):
                key = (gained, names.party(item.source), names.party(item.destination), ports)
                found.setdefault(key, (item.source, item.destination))
            else:  # the addresses that one pod gains or loses are put together before they are named
                outward = universe.is_pod(item.source)
                pod, atom = (item.source, item.destination) if outward else (item.destination, item.source)
                outside.setdefault((gained, pod, outward, ports), []).append(atom)
    for (gained, pod, outward, ports), atoms in outside.items():
        names = after if gained else before
        own, other = names.party(pod), names.addresses(atoms)
        if outward:
            found.setdefault((gained, own, other, ports), (pod, atoms[0]))
        else:
            found.setdefault((gained, other, own, ports), (atoms[0], pod))
    groups = [Group(*key, example) for key, example in found.items()]
    return tuple(sorted(groups, key=lambda g: (not g.gained, g.source, g.destination, str(g.ports))))
