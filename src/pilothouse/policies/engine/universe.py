"""Everything that can be an end of a connection, cut into as few pieces as the policies can tell apart.

A piece is, for one address family, either a class of endpoints or a region of the address space:

- Pods are of one class when they share the namespace, every label (and service account, and named port) that some
  policy asks for, and the innermost address range that some policy names. What no policy looks at, such as
  `pod-template-hash`, makes no difference.
- A host endpoint is a class of its own.
- A region is a range less the ranges below it (`addresses`); it stands for addresses that no endpoint has.

Pods are met by address, as Calico does: a range holds the pods whose address lies in it. Pods on the host's network,
unscheduled and finished ones are no endpoints (checklist of
https://docs.tigera.io/calico/latest/reference/resources/workloadendpoint). Pods that may exist later can be added
(`future`): they have labels and no address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.platform.model import Network
from pilothouse.policies.engine import bitsets
from pilothouse.policies.engine.addresses import Region, Space
from pilothouse.policies.engine.connections import PROTOCOLS
from pilothouse.policies.rules import HostEndpoint
from pilothouse.policies.selectors import Term

FAMILIES = (4, 6)
NAMESPACE_KEY = "projectcalico.org/namespace"
ORCHESTRATOR_KEY = "projectcalico.org/orchestrator"
ACCOUNT_KEY = "projectcalico.org/serviceaccount"
NAME_KEY = "projectcalico.org/name"
NAMESPACE_PREFIX = "pcns."
ACCOUNT_PREFIX = "pcsa."

Names = tuple[tuple[str, int], ...]
"""(name, protocol number) of ports."""
Signature = tuple[tuple[str, int, int], ...]
"""(name, protocol number, port number): what an endpoint means by the names that policies use."""


@dataclass(frozen=True)
class Vocabulary:
    """What policies can tell apart: label keys with the values asked for (None: any value), port names, ranges."""

    labels: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    port_names: frozenset[str] = frozenset()
    ranges: frozenset[Network] = frozenset()
    nodes: bool = False
    """Whether nodes must be told apart: policies on forwarded traffic hold for what leaves or enters a node."""
    workloads: bool = False
    """Whether pods of different workloads must be told apart, so that each piece has one name for people."""

    @classmethod
    def of(cls, terms: Iterable[Term], port_names: Iterable[str] = (), ranges: Iterable[Network] = ()) -> Vocabulary:
        values: dict[str, set[str]] = {}
        whole: set[str] = set()
        for term in terms:
            known = values.setdefault(term.key, set())
            if term.textual:
                whole.add(term.key)
            elif term.value is not None:
                known.add(term.value)
        labels = {key: None if key in whole else frozenset(known) for key, known in values.items()}
        return cls(labels, frozenset(port_names), frozenset(ranges))

    def holds(self, other: Vocabulary) -> bool:
        """Whether a universe that was cut by this one can tell apart whatever the other asks for."""
        if not (self.port_names >= other.port_names and self.ranges >= other.ranges):
            return False
        if self.nodes < other.nodes or self.workloads < other.workloads:
            return False
        for key, values in other.labels.items():
            if key not in self.labels:
                return False
            known = self.labels[key]
            if known is not None and (values is None or not known >= values):
                return False
        return True

    def __or__(self, other: Vocabulary) -> Vocabulary:
        labels = dict(self.labels)
        for key, values in other.labels.items():
            known = labels.get(key, frozenset())
            labels[key] = None if known is None or values is None else known | values
        return Vocabulary(
            labels,
            self.port_names | other.port_names,
            self.ranges | other.ranges,
            self.nodes or other.nodes,
            self.workloads or other.workloads,
        )


NO_WORDS = Vocabulary()


@dataclass(frozen=True, slots=True)
class Piece:
    """A class of endpoints in one family: `pods` (the first stands for all), or `host`. `future` pods do not exist."""

    version: int
    namespace: str
    region: int
    """The number of the innermost range that holds its addresses; -1 where they are not known."""
    pods: tuple[Pod, ...] = ()
    host: HostEndpoint | None = None
    address: str = ""
    """Of a host endpoint."""
    signature: Signature = ()
    future: bool = False
    node: str = ""

    @property
    def account(self) -> str:
        return self.pods[0].service_account if self.pods else ""

    @property
    def labels(self) -> Mapping[str, str]:
        """The endpoint's own labels."""
        return self.pods[0].labels if self.pods else dict(self.host.labels) if self.host else {}

    @property
    def name(self) -> str:
        if self.host is not None:
            return f"host endpoint {self.host.name}"
        return self.pods[0].key


_Key = tuple[int, str, object, str, Signature, int, str, bool, object]
"""What pods of one piece share: family, namespace, labels asked for, account, ports, region, node, future, owner."""


class Universe:
    """The pieces of one cluster, numbered: endpoints first, then the regions of IPv4 and of IPv6."""

    def __init__(
        self,
        snapshot: Snapshot,
        vocabulary: Vocabulary,
        hosts: Iterable[HostEndpoint] = (),
        future: Iterable[Pod] = (),
    ) -> None:
        self.snapshot = snapshot
        self.vocabulary = vocabulary
        self.hosts = tuple(hosts)
        self.spaces = {
            version: Space(version, (item for item in vocabulary.ranges if item.version == version))
            for version in FAMILIES
        }
        self._pieces_of: dict[str, list[int]] = {}
        self.pieces: tuple[Piece, ...] = tuple(self._classify(tuple(future)))
        self.endpoints = (1 << len(self.pieces)) - 1
        self._offsets: dict[int, int] = {}
        size = len(self.pieces)
        for version in FAMILIES:
            self._offsets[version] = size
            size += len(self.spaces[version].regions)
        self.size = size
        self.family = self._families()
        empty = bitsets.of(
            self._offsets[version] + number
            for version in FAMILIES
            for number, region in enumerate(self.spaces[version].regions)
            if region.is_empty
        ) | bitsets.of(self._owned())
        self.everything = ((1 << size) - 1) & ~empty
        self.outside = self.everything & ~self.endpoints
        self._networks: dict[Network, int] = {}
        self._signatures: dict[Names, tuple[tuple[Signature, int], ...]] = {}

    # -------------------------------------------------------- cutting

    def _classify(self, future: tuple[Pod, ...]) -> Iterator[Piece]:
        pods = [pod for pod in self.snapshot.pods if pod.is_endpoint]
        known = {ip_version(ip) for pod in pods for ip in pod.ips} or set(FAMILIES)
        found: dict[_Key, list[Pod]] = {}
        projections: dict[object, object] = {}
        ports = self.vocabulary.port_names
        accounts = self._tells_accounts
        nodes, workloads = self.vocabulary.nodes, self.vocabulary.workloads
        addresses: dict[str, tuple[int, int]] = {}
        for pod, later in (*((pod, False) for pod in pods), *((pod, True) for pod in future)):
            items = tuple(pod.labels.items())
            projected = projections.get(items)
            if projected is None:
                projected = projections.setdefault(items, self._projected(pod.labels))
            named = (
                tuple(sorted((p.name, PROTOCOLS[p.protocol], p.number) for p in pod.ports if p.name in ports))
                if (ports and pod.ports)
                else ()
            )
            account = pod.service_account if accounts else ""
            node = pod.node if nodes else ""
            owner = (pod.owner or pod.name) if workloads else ""
            places = [self._place(ip, addresses) for ip in pod.ips] or [(version, -1) for version in sorted(known)]
            for version, region in places:
                key = (version, pod.namespace, projected, account, named, region, node, later, owner)
                group = found.get(key)
                if group is None:
                    found[key] = [pod]
                else:
                    group.append(pod)
        for number, (known_key, group) in enumerate(found.items()):
            for pod in group:
                self._pieces_of.setdefault(pod.key, []).append(number)
            version, namespace, _, _, named, region, node, later, _ = known_key
            yield Piece(version, namespace, region, tuple(group), None, "", named, later, node)
        yield from self._host_pieces(len(found))

    def _host_pieces(self, number: int) -> Iterator[Piece]:
        for host in self.hosts:
            for text in host.addresses:
                address = ip_address(text)
                region = self.spaces[address.version].innermost(int(address))
                signature = tuple(sorted(port for port in host.ports if port[0] in self.vocabulary.port_names))
                self._pieces_of.setdefault(f"host:{host.name}", []).append(number)
                number += 1
                yield Piece(address.version, "", region, (), host, text, signature, False, host.node)

    def _place(self, ip: str, known: dict[str, tuple[int, int]]) -> tuple[int, int]:
        found = known.get(ip)
        if found is None:
            version, value = _parsed(ip)
            found = known[ip] = (version, self.spaces[version].innermost(value))
        return found

    def _projected(self, labels: Mapping[str, str]) -> frozenset[tuple[str, str | None]]:
        vocabulary = self.vocabulary.labels
        found: list[tuple[str, str | None]] = []
        for key, value in labels.items():
            if key in vocabulary:
                values = vocabulary[key]
                found.append((key, value if values is None or value in values else None))
        return frozenset(found)

    @cached_property
    def _tells_accounts(self) -> bool:
        return any(key == ACCOUNT_KEY or key.startswith(ACCOUNT_PREFIX) for key in self.vocabulary.labels)

    def _owned(self) -> Iterator[int]:
        """Regions of one address, which an endpoint has: nobody outside has it."""
        held = {(piece.version, piece.region) for piece in self.pieces if piece.region >= 0}
        for version, region in held:
            if self.spaces[version].regions[region].size == 1:
                yield self._offsets[version] + region

    def _families(self) -> Mapping[int, int]:
        found = {}
        for version in FAMILIES:
            own = bitsets.of(number for number, piece in enumerate(self.pieces) if piece.version == version)
            found[version] = own | ((1 << len(self.spaces[version].regions)) - 1) << self._offsets[version]
        return found

    # -------------------------------------------------------- asking by number

    def is_endpoint(self, piece: int) -> bool:
        return piece < len(self.pieces)

    def version(self, piece: int) -> int:
        if self.is_endpoint(piece):
            return self.pieces[piece].version
        return 4 if piece < self._offsets[6] else 6

    def offset(self, version: int) -> int:
        """The number of a family's first region."""
        return self._offsets[version]

    def region(self, piece: int) -> Region:
        """The addresses of a piece outside."""
        version = self.version(piece)
        return self.spaces[version].regions[piece - self._offsets[version]]

    def pieces_of(self, pod: str) -> tuple[int, ...]:
        """The pieces of a pod by `namespace/name` (or `host:name`), one for each family; none where no policy can
        select it."""
        return tuple(self._pieces_of.get(pod, ()))

    def piece_of_address(self, address: str) -> int:
        """The piece of the endpoint that has an address, else the region that holds it."""
        parsed = ip_address(address)
        owner = self._owners.get(parsed)
        if owner is not None:
            return owner
        return self._offsets[parsed.version] + self.spaces[parsed.version].innermost(int(parsed))

    @cached_property
    def _owners(self) -> Mapping[IPv4Address | IPv6Address, int]:
        found: dict[IPv4Address | IPv6Address, int] = {}
        for number, piece in enumerate(self.pieces):
            if piece.host is not None:
                found.setdefault(ip_address(piece.address), number)
            for pod in piece.pods:
                for ip in pod.ips:
                    if ip_version(ip) == piece.version:
                        found[ip_address(ip)] = number
        return found

    def name(self, piece: int) -> str:
        """`namespace/pod` of one pod, or one address."""
        return self.pieces[piece].name if self.is_endpoint(piece) else str(self.region(piece).address())

    def weight(self, members: int) -> int:
        """How many endpoints a set of pieces stands for; a region counts as one."""
        weights = self._weights
        endpoints = members & self.endpoints
        return (members ^ endpoints).bit_count() + sum(weights[number] for number in bitsets.bits(endpoints))

    @cached_property
    def _weights(self) -> Sequence[int]:
        return [max(1, len(piece.pods)) for piece in self.pieces]

    # -------------------------------------------------------- sets of addresses

    def network(self, network: Network) -> int:
        """The regions of a range, and the endpoints whose address lies in it. The universe must know the range."""
        found = self._networks.get(network)
        if found is None:
            first, end = self.spaces[network.version].run(network)
            found = ((1 << end) - (1 << first)) << self._offsets[network.version] & self.everything
            inside = self._by_region[network.version]
            if inside:
                for number in range(first, end) if end - first < len(inside) else sorted(inside):
                    if first <= number < end:
                        found |= inside.get(number, 0)
            self._networks[network] = found
        return found

    @cached_property
    def _by_region(self) -> Mapping[int, Mapping[int, int]]:
        return {
            version: bitsets.grouped(
                (piece.region, number)
                for number, piece in enumerate(self.pieces)
                if piece.region >= 0 and piece.version == version
            )
            for version in FAMILIES
        }

    def address(self, text: str) -> int:
        """The pieces of exactly one address; the universe must know it as a range."""
        return self.network(ip_network(text))

    # -------------------------------------------------------- sets by label

    @cached_property
    def namespace_labels(self) -> Mapping[str, Mapping[str, str]]:
        """Of every namespace that is known, the name's own label included."""
        known = self.snapshot.namespace_labels
        names = {*self.by_namespace, *known}
        return {name: {NAMESPACE_NAME_LABEL: name, **known.get(name, {})} for name in sorted(names)}

    @cached_property
    def by_namespace(self) -> Mapping[str, int]:
        pairs = ((piece.namespace, number) for number, piece in enumerate(self.pieces) if piece.pods)
        return bitsets.grouped(pairs)

    @cached_property
    def pods(self) -> int:
        return bitsets.of(number for number, piece in enumerate(self.pieces) if piece.pods)

    @cached_property
    def by_account(self) -> Mapping[tuple[str, str], int]:
        pairs = (((piece.namespace, piece.account), number) for number, piece in enumerate(self.pieces) if piece.pods)
        return bitsets.grouped(pairs)

    @cached_property
    def by_node(self) -> Mapping[str, int]:
        """Node → its endpoints; known only where nodes are told apart."""
        return bitsets.grouped((piece.node, n) for n, piece in enumerate(self.pieces) if piece.node)

    def signatures(self, names: Names) -> tuple[tuple[Signature, int], ...]:
        """What endpoints mean by these port names: (meaning, the pieces that mean it), the empty meaning included."""
        found = self._signatures.get(names)
        if found is None:
            groups: dict[Signature, list[int]] = {}
            for number, piece in enumerate(self.pieces):
                if piece.signature and (known := self.meaning(number, names)):
                    groups.setdefault(known, []).append(number)
            sets = {meaning: bitsets.of(numbers) for meaning, numbers in groups.items()}
            rest = self.everything
            for members in sets.values():
                rest &= ~members
            found = self._signatures[names] = (((), rest), *sets.items())
        return found

    def meaning(self, piece: int, names: Names) -> Signature:
        """What one piece means by these port names."""
        if not self.is_endpoint(piece):
            return ()
        return tuple(item for item in self.pieces[piece].signature if (item[0], item[1]) in names)


def _parsed(text: str) -> tuple[int, int]:
    """(version, number) of an address; the common form of IPv4 is read by hand, which is five times as fast."""
    parts = text.split(".")
    if len(parts) == 4 and text.isascii() and all(map(str.isdecimal, parts)):
        one, two, three, four = map(int, parts)
        if one < 256 and two < 256 and three < 256 and four < 256:
            return 4, one << 24 | two << 16 | three << 8 | four
    address = ip_address(text)
    return address.version, int(address)


def ip_version(text: str) -> int:
    return 6 if ":" in text else 4
