"""A rule of a manifest that means less: without a port, without a peer, or with an exception."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse.inventory.fields import Path
from pilothouse.inventory.model import Manifest, Pod
from pilothouse.policies.engine import Packet
from pilothouse.policies.engine.connections import NAMES
from pilothouse.policies.explain.fragments import PEERS, Addresses, Data, Pods, Whom, without, word
from pilothouse.policies.rules import Direction, Family, Policy, Rule


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The whole manifest afterwards, and where it was edited. `title` goes before the rule's name."""

    data: Data
    path: Path
    title: str = ""


def copied(manifest: Manifest) -> tuple[Data, Data]:
    """A copy of the manifest, and its spec in it."""
    data = copy.deepcopy(dict(manifest.data))
    return data, data["spec"]


def at(spec: Mapping[str, Any], rule: Rule) -> Data:
    """The rule as it is written."""
    found: Any = spec
    for step in rule.path[1:]:
        found = found[step]
    return found  # type: ignore[no-any-return]


def without_port(
    policy: Policy, manifest: Manifest, rule: Rule, packet: Packet, destination: Pod | None
) -> Iterator[Narrowed]:
    """The rule without the packet's port, where it lists several. `destination` says what names mean."""
    if policy.family is Family.ADMIN:
        return
    fields: tuple[str, ...] = ("ports",) if policy.family is Family.KUBERNETES else ("destination", "ports")
    data, spec = copied(manifest)
    holder = at(spec, rule)
    for field in fields[:-1]:
        holder = holder.get(field) or {}
    ports = holder.get("ports") or []
    kept = [part for item in ports for part in _less(item, packet, destination)]
    if kept and kept != ports:
        holder["ports"] = kept
        yield Narrowed(data, (*rule.path, *fields))


def _less(item: Any, packet: Packet, destination: Pod | None) -> list[Any]:
    """An item of a list of ports without the packet's port."""
    number = packet.destination_port
    if not isinstance(item, dict):
        low, _, high = str(item).partition(":")
        if not low.isdecimal():
            return [] if _means(low, packet, destination) else [item]
        parts = without(int(low), int(high or low), number)
        return [first if first == last else f"{first}:{last}" for first, last in parts]
    if item.get("protocol", "TCP") != NAMES.get(packet.protocol):
        return [item]
    port = item.get("port")
    if isinstance(port, str):
        return [] if _means(port, packet, destination) else [item]
    first = 1 if port is None else int(port)
    last = 65535 if port is None else int(item.get("endPort") or first)
    if not first <= number <= last:
        return [item]
    bare = {key: value for key, value in item.items() if key != "endPort"}
    return [
        {**bare, "port": low, **({"endPort": high} if high > low else {})} for low, high in without(first, last, number)
    ]


def _means(name: str, packet: Packet, destination: Pod | None) -> bool:
    wanted = (name, packet.destination_port)
    return destination is not None and any((item.name, item.number) == wanted for item in destination.ports)


def without_peer(
    policy: Policy, manifest: Manifest, rule: Rule, hits: Sequence[bool], other: Whom | None, direction: Direction
) -> Iterator[Narrowed]:
    """A rule of Kubernetes without the peers that match (`hits`, in their order), or with `other` left out of them."""
    field = PEERS[direction]
    written = at(manifest.data["spec"], rule).get(field) or []
    if len(written) != len(hits) or not any(hits):
        return
    path = (*rule.path, field, hits.index(True))
    kept = [item for item, hit in zip(written, hits, strict=True) if not hit]
    if kept:
        data, spec = copied(manifest)
        at(spec, rule)[field] = kept
        yield Narrowed(data, path, "take the peer from")
    narrowed = [_excluding(item, other) if hit else item for item, hit in zip(written, hits, strict=True)]
    if other is not None and all(item is not None for item in narrowed):
        data, spec = copied(manifest)
        at(spec, rule)[field] = narrowed
        yield Narrowed(data, path, f"leave {word(other)} out of")


def _excluding(item: Data, other: Whom | None) -> Data | None:
    """A peer of Kubernetes that no longer means somebody; None where it cannot say that."""
    if "ipBlock" in item:
        if not isinstance(other, Addresses) or other.has_exceptions:
            return None
        block = item["ipBlock"]
        excluded = [str(part.network) for part in other.blocks]
        if block["cidr"] in excluded:
            return None
        return {"ipBlock": {**block, "except": [*block.get("except", []), *excluded]}}
    if not isinstance(other, Pods) or len(other.labels) != 1:
        return None
    [(key, value)] = other.labels
    own = item.get("podSelector") or {}
    if key in (own.get("matchLabels") or {}):
        return None  # it means nobody else
    test = {"key": key, "operator": "NotIn", "values": [value]}
    return {**item, "podSelector": {**own, "matchExpressions": [*own.get("matchExpressions", []), test]}}
