"""Everything that can be an end of a connection, cut into as few pieces as the policies can tell apart.

A piece is a class of pods (same namespace, labels, container ports and service account, and on the same side of
every address range that matters) or an atom of the address space outside (no range cuts it). Pieces are numbered,
and a set of them is a Python integer used as a bitset: unions and intersections of thousands of
pieces then cost a microsecond.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network, summarize_address_range

from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.labels import NAMESPACE_NAME_LABEL, LabelSelector
from pilothouse.platform.model import Network

_BITS = {4: 32, 6: 128}
Memberships = frozenset[tuple[int, int, int]]
"""The ranges that hold one address, each as (version, prefix length, prefix)."""


@dataclass(frozen=True, slots=True)
class PodClass:
    """Pods that no policy can tell apart; `pods[0]` stands for all."""

    namespace: str
    labels: Mapping[str, str]
    ports: tuple[tuple[str, str, int], ...]
    """(name, protocol, number) of the named container ports."""
    service_account: str
    pods: tuple[Pod, ...]

    def named(self, name: str, protocol: str) -> Iterator[int]:
        for port, of, number in self.ports:
            if port == name and of == protocol:
                yield number


@dataclass(frozen=True, slots=True)
class Atom:
    """A range of addresses, first and last included, that no range of a policy cuts."""

    version: int
    first: int
    last: int

    @property
    def address(self) -> IPv4Address | IPv6Address:
        """One address as a witness."""
        return IPv4Address(self.first) if self.version == 4 else IPv6Address(self.first)

    def networks(self) -> tuple[Network, ...]:
        if self.version == 4:
            return tuple(summarize_address_range(IPv4Address(self.first), IPv4Address(self.last)))
        return tuple(summarize_address_range(IPv6Address(self.first), IPv6Address(self.last)))


def bits(value: int) -> Iterator[int]:
    """The numbers of the members of a bitset, ascending."""
    while value:
        low = value & -value
        yield low.bit_length() - 1
        value ^= low


class Universe:
    """The pieces of one cluster. `ranges` are all the address ranges that will be asked for."""

    def __init__(self, snapshot: Snapshot, ranges: Iterable[Network]) -> None:
        self.snapshot = snapshot
        self.ranges = frozenset(ranges)
        self.classes = self._classify()
        self.atoms = self._cut()
        self.size = len(self.classes) + len(self.atoms)
        self.everything = (1 << self.size) - 1
        self.pods = (1 << len(self.classes)) - 1
        self.outside = self.everything ^ self.pods
        self._selected: dict[LabelSelector, int] = {}
        self._spaces: dict[LabelSelector, int] = {}
        self._networks: dict[Network, int] = {}
        self._blocks: dict[tuple[Network, frozenset[Network]], int] = {}

    # -------------------------------------------------------- pieces

    def _classify(self) -> tuple[PodClass, ...]:
        by_prefix: dict[tuple[int, int], set[int]] = {}
        for network in self.ranges:
            version, length, prefix = _key(network)
            by_prefix.setdefault((version, length), set()).add(prefix)
        found: dict[tuple[object, ...], list[Pod]] = {}
        self._class_of: dict[str, int] = {}
        self._inside: list[frozenset[Memberships]] = []
        numbers: dict[tuple[object, ...], int] = {}
        for pod in self.snapshot.pods:
            if not pod.is_endpoint:
                continue
            inside = frozenset(frozenset(_memberships(ip, by_prefix)) for ip in pod.ips)
            ports = tuple((port.name, port.protocol, port.number) for port in pod.ports if port.name)
            key = (pod.namespace, frozenset(pod.labels.items()), ports, pod.service_account, inside)
            if key not in numbers:
                numbers[key] = len(numbers)
                self._inside.append(inside)
            found.setdefault(key, []).append(pod)
            self._class_of[pod.key] = numbers[key]
        return tuple(
            PodClass(
                pods[0].namespace,
                pods[0].labels,
                tuple((port.name, port.protocol, port.number) for port in pods[0].ports if port.name),
                pods[0].service_account,
                tuple(pods),
            )
            for pods in found.values()
        )

    def _cut(self) -> tuple[Atom, ...]:
        starts: dict[int, set[int]] = {4: {0}, 6: {0}}
        for network in self.ranges:
            starts[network.version].add(int(network.network_address))
            starts[network.version].add(int(network.broadcast_address) + 1)
        atoms: list[Atom] = []
        self._starts: dict[int, list[int]] = {}
        self._first_atom: dict[int, int] = {}
        for version, limit in _BITS.items():
            edges = sorted(start for start in starts[version] if start < 1 << limit)
            self._starts[version] = edges
            self._first_atom[version] = len(atoms)
            for index, first in enumerate(edges):
                last = edges[index + 1] - 1 if index + 1 < len(edges) else (1 << limit) - 1
                atoms.append(Atom(version, first, last))
        return tuple(atoms)

    # -------------------------------------------------------- asking by number

    def is_pod(self, piece: int) -> bool:
        return piece < len(self.classes)

    def atom(self, piece: int) -> Atom:
        return self.atoms[piece - len(self.classes)]

    def class_of(self, pod: str) -> int | None:
        """The piece of a pod by `namespace/name`; None when no policy can select it."""
        return self._class_of.get(pod)

    def piece_of_address(self, address: str) -> int:
        """The atom that holds an address (also where a pod has it: ask `class_of` for pods)."""
        parsed = ip_address(address)
        starts = self._starts[parsed.version]
        index = bisect_left(starts, int(parsed) + 1) - 1
        return len(self.classes) + self._first_atom[parsed.version] + index

    def name(self, piece: int) -> str:
        """`namespace/pod` of one pod, or one address."""
        return self.classes[piece].pods[0].key if self.is_pod(piece) else str(self.atom(piece).address)

    # -------------------------------------------------------- sets

    def network(self, network: Network) -> int:
        """The atoms of a range, and the pods whose addresses lie in it (as Calico matches: by address).

        The range must be among those that the universe was cut by.
        """
        if network not in self._networks:
            if network not in self.ranges:
                raise KeyError(f"the universe was not cut by {network}")
            starts = self._starts[network.version]
            low = bisect_left(starts, int(network.network_address))
            high = bisect_left(starts, int(network.broadcast_address) + 1)
            offset = len(self.classes) + self._first_atom[network.version]
            self._networks[network] = ((1 << high) - (1 << low)) << offset | self._pods_in(network)
        return self._networks[network]

    @cached_property
    def _by_membership(self) -> Mapping[tuple[int, int, int], int]:
        found: dict[tuple[int, int, int], int] = {}
        for number, inside in enumerate(self._inside):
            for key in frozenset().union(*inside):
                found[key] = found.get(key, 0) | 1 << number
        return found

    def block(self, network: Network, excluded: Sequence[Network]) -> int:
        """A range less others. A pod with several addresses matches by any one that lies in it and in none of them."""
        if not excluded:
            return self.network(network)
        memo = (network, frozenset(excluded))
        if memo not in self._blocks:
            self._blocks[memo] = self._less(network, excluded)
        return self._blocks[memo]

    def _less(self, network: Network, excluded: Sequence[Network]) -> int:
        members = self.network(network)
        left_out = [_key(item) for item in excluded]
        found = members & self.outside
        for item in excluded:
            found &= ~self.network(item)
        own = _key(network)
        for number in bits(members & self.pods):
            if any(own in address and not any(key in address for key in left_out) for address in self._inside[number]):
                found |= 1 << number
        return found

    def _pods_in(self, network: Network) -> int:
        return self._by_membership.get(_key(network), 0)

    @cached_property
    def _by_label(self) -> Mapping[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for number, item in enumerate(self.classes):
            for pair in item.labels.items():
                found[pair] = found.get(pair, 0) | 1 << number
        return found

    @cached_property
    def _by_key(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for (key, _), members in self._by_label.items():
            found[key] = found.get(key, 0) | members
        return found

    @cached_property
    def by_namespace(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for number, item in enumerate(self.classes):
            found[item.namespace] = found.get(item.namespace, 0) | 1 << number
        return found

    @cached_property
    def namespace_labels(self) -> Mapping[str, Mapping[str, str]]:
        """Of every namespace that holds pods, the name's own label included."""
        known = self.snapshot.namespace_labels
        return {name: {NAMESPACE_NAME_LABEL: name, **known.get(name, {})} for name in self.by_namespace}

    def selected(self, selector: LabelSelector) -> int:
        """The pod classes of every namespace that a Kubernetes selector selects."""
        if selector not in self._selected:
            found = self.pods
            for pair in selector.match_labels:
                found &= self._by_label.get(pair, 0)
            for item in selector.match_expressions:
                having = self._by_key.get(item.key, 0)
                among = 0
                for value in item.values:
                    among |= self._by_label.get((item.key, value), 0)
                match item.operator:
                    case "In":
                        found &= among
                    case "NotIn":
                        found &= ~among
                    case "Exists":
                        found &= having
                    case _:
                        found &= ~having
            self._selected[selector] = found
        return self._selected[selector]

    def in_namespaces(self, selector: LabelSelector) -> int:
        """The pod classes in the namespaces that a selector selects."""
        if selector not in self._spaces:
            found = 0
            for name, labels in self.namespace_labels.items():
                if selector.matches(labels):
                    found |= self.by_namespace[name]
            self._spaces[selector] = found
        return self._spaces[selector]


def _key(network: Network) -> tuple[int, int, int]:
    length = network.prefixlen
    return network.version, length, int(network.network_address) >> (_BITS[network.version] - length)


def _memberships(ip: str, by_prefix: Mapping[tuple[int, int], set[int]]) -> Iterator[tuple[int, int, int]]:
    """(version, prefix length, prefix) of every known range that holds the address."""
    address = ip_address(ip)
    value = int(address)
    for (version, length), prefixes in by_prefix.items():
        if version == address.version:
            prefix = value >> (_BITS[version] - length)
            if prefix in prefixes:
                yield version, length, prefix


def parse_network(text: str) -> Network:
    """A range, also with host bits set (192.168.242.213/24)."""
    return ip_network(text, strict=False)
