"""Flows as values, whoever observed them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pilothouse.policies.rules import Direction

Labels = tuple[tuple[str, str], ...]
"""Pairs of key and value, sorted."""


class EndKind(StrEnum):
    """What is known of one end of a flow."""

    __hash__ = str.__hash__  # an enumeration's own is written in Python, and ends are looked up for every record

    POD = "pod"
    """One pod by its own name."""
    WORKLOAD = "workload"
    """Pods that share a `generateName`, such as those of one ReplicaSet; the name ends in `*`."""
    HOST = "host"
    """A node."""
    NETWORK_SET = "network-set"
    """An address of a NetworkSet, or without a namespace of a GlobalNetworkSet."""
    PUBLIC = "public"
    """Some address that is in no private range (Calico's `pub`)."""
    PRIVATE = "private"
    """Some address of a private range that is no pod, host or NetworkSet (Calico's `pvt`)."""
    ADDRESS = "address"
    """One address of which no more is known."""
    UNKNOWN = "unknown"


class Observed(StrEnum):
    """What became of the connection."""

    __hash__ = str.__hash__

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FlowEnd:
    """One end. `labels` are those that every pod behind it had in common in all that was read; they are not part of
    what makes two ends the same. `address` is set for an ADDRESS, and for a HOST where only its address was seen.
    """

    kind: EndKind
    namespace: str = ""
    name: str = ""
    labels: Labels = ()
    address: str = ""

    @property
    def shown(self) -> str:
        """`shop/web-7d98456675-*`, `host node-1`, `public`, `203.0.113.9`."""
        if self.kind in (EndKind.PUBLIC, EndKind.PRIVATE):
            return self.kind.value
        name = self.name or self.address
        full = f"{self.namespace}/{name}" if self.namespace else name
        return f"{self.kind.value} {full}" if self.kind in (EndKind.HOST, EndKind.NETWORK_SET) else full

    @property
    def prefix(self) -> str:
        """What the names of a WORKLOAD's pods begin with: `web-7d98456675-`."""
        return self.name.removesuffix("*")

    @property
    def sort_key(self) -> tuple[str, str, str, str]:
        return (self.namespace, self.name, self.address, self.kind.value)


@dataclass(frozen=True, slots=True)
class PolicyHit:
    """A rule that the observer says decided, or passed on. `kind`, `tier` and `rule` may be unknown ("" and None).

    `action` is `allow`, `deny` or `pass`. The end of a tier has the kind `EndOfTier` and the name of the policy that
    made the tier apply.
    """

    kind: str
    name: str
    namespace: str = ""
    tier: str = ""
    action: str = ""
    rule: int | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """All connections seen from one end to another at one port that met the same end.

    - `protocol` is the IP protocol number; `port` the destination's own (after service translation wherever the
      observer reports it so), None for protocols without ports.
    - `service` is the `namespace/name` through which it went, "" for none, or where several were used.
    - `count` is connections where the observer counts them, otherwise observations; at least 1. Which one, and
      what `bytes` and `packets` (both ways added, 0 for unknown) hold, is said by the reader of each format.
    - `first_seen` and `last_seen` are Unix seconds.
    - `reporter`: EGRESS when only the source's node reported it, INGRESS when only the destination's, None for both
      or where it was not said.
    - `enforced` are the rules that decided, `pending` those that would with every staged policy enforced.
    """

    source: FlowEnd
    destination: FlowEnd
    protocol: int
    port: int | None
    service: str = ""
    count: int = 1
    bytes: int = 0
    packets: int = 0
    first_seen: float | None = None
    last_seen: float | None = None
    action: Observed = Observed.UNKNOWN
    reporter: Direction | None = None
    enforced: tuple[PolicyHit, ...] = ()
    pending: tuple[PolicyHit, ...] = ()


@dataclass(frozen=True, slots=True)
class Amounts:
    """The numbers of one record: connections begun within its window, connections alive in it, bytes, packets, and
    the window in Unix seconds (None: not said)."""

    started: int = 0
    live: int = 0
    bytes: int = 0
    packets: int = 0
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One record of any format. The ends carry no labels: these stand beside them (empty: not said)."""

    source: FlowEnd
    destination: FlowEnd
    protocol: int
    port: int | None
    action: Observed
    reporter: Direction | None
    amounts: Amounts
    service: str = ""
    source_labels: Labels = ()
    destination_labels: Labels = ()
    enforced: tuple[PolicyHit, ...] = ()
    pending: tuple[PolicyHit, ...] = ()
