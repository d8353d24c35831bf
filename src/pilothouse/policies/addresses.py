"""Address ranges: what of a range is left when others are taken away, and what "public" means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from pilothouse.platform.model import Network

ANYWHERE: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


@dataclass(frozen=True, slots=True)
class Block:
    """A range and the parts of it that are left out, as a policy's `ipBlock` says it."""

    network: Network
    excluded: tuple[Network, ...] = ()


def covers(outer: Network, inner: Network) -> bool:
    """Whether every address of `inner` is one of `outer`."""
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def collapsed(networks: Iterable[Network]) -> tuple[Network, ...]:
    """The same addresses in as few ranges as possible, IPv4 first, sorted."""
    given = tuple(networks)
    four = collapse_addresses(item for item in given if isinstance(item, IPv4Network))
    six = collapse_addresses(item for item in given if isinstance(item, IPv6Network))
    return (*four, *six)


def without(network: Network, taken: Sequence[Network]) -> Block | None:
    """`network` less `taken`, or None when nothing is left. Ranges of `taken` that lie elsewhere are ignored."""
    inside: list[Network] = []
    for item in taken:
        if covers(item, network):
            return None
        if covers(network, item):
            inside.append(item)
    excluded = collapsed(inside)
    if excluded == (network,):
        return None
    return Block(network, excluded)


def public(private: Sequence[Network], own: Sequence[Network]) -> tuple[Block, ...]:
    """Every address but the private ranges and the cluster's own, for IPv4 and IPv6."""
    blocks = (without(network, (*private, *own)) for network in ANYWHERE)
    return tuple(block for block in blocks if block is not None)


def is_private(network: Network, private: Sequence[Network], own: Sequence[Network]) -> bool:
    """Whether no address of the range is public."""
    return any(covers(item, network) for item in collapsed((*private, *own)))
