"""Where a policy's fields are written: from the values back to the manifests they were read from.

A value knows the path of each rule; here it goes on to the peer, the port or the selector that a finding is about.
Where the manifest is not at hand (policies that were made and never written), the rule's or policy's place has to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from pilothouse.inventory.fields import Path
from pilothouse.inventory.model import Manifest, Snapshot
from pilothouse.policies.rules import Direction, Family, HostEndpoint, NetworkSet, Policy, PortMatch, Rule, Tier
from pilothouse.problems import NOWHERE, Place

_SUBJECT = {Family.KUBERNETES: ("spec", "podSelector"), Family.ADMIN: ("spec", "subject")}
_PEERS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_OTHER_END = {Direction.INGRESS: "source", Direction.EGRESS: "destination"}
_OTHERS = frozenset(("Tier", "NetworkSet", "GlobalNetworkSet", "HostEndpoint"))
_STORED_PREFIX = "default."


class Places:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @cached_property
    def _manifests(self) -> Mapping[tuple[str, str, str, str], Manifest]:
        found: dict[tuple[str, str, str, str], Manifest] = {}
        for item in self._snapshot.policies:
            found[item.api_version, item.kind, item.namespace, item.name] = item
            if item.name.startswith(_STORED_PREFIX):
                plain = item.name.removeprefix(_STORED_PREFIX)
                found.setdefault((item.api_version, item.kind, item.namespace, plain), item)
        return found

    def manifest(self, policy: Policy) -> Manifest | None:
        """The manifest that a policy was read from, where the snapshot holds it."""
        found = self._manifests.get((policy.api_version, policy.kind, policy.namespace, policy.name))
        return found if found is not None and found.place == policy.place else None

    def name(self, policy: Policy) -> Place:
        return self.at(policy, ("metadata", "name"))

    def of(self, item: Tier | NetworkSet | HostEndpoint, *path: str | int) -> Place:
        """The place of a field of another object, of its name without a path."""
        manifest = self._others.get((item.place, item.name))
        return manifest.at(path or ("metadata", "name")) if manifest is not None else item.place

    @cached_property
    def _others(self) -> Mapping[tuple[Place, str], Manifest]:
        """By where it begins, and by name: of a file without lines, all objects begin at the same place."""
        found: dict[tuple[Place, str], Manifest] = {}
        for item in self._snapshot.policies:
            if item.kind in _OTHERS:
                found.setdefault((item.place, item.name), item)
        return found

    def at(self, policy: Policy, path: Path, otherwise: Place = NOWHERE) -> Place:
        """The place of a field; of the nearest field around it where it is not written."""
        manifest = self.manifest(policy)
        if manifest is not None:
            return manifest.at(path)
        return otherwise if otherwise != NOWHERE else policy.place

    def value(self, policy: Policy, path: Path) -> Any:
        """What is written at a path, None where that is nothing or not at hand."""
        manifest = self.manifest(policy)
        found: Any = manifest.data if manifest is not None else None
        for step in path:
            if isinstance(found, Mapping):
                found = found.get(step)
            elif isinstance(found, Sequence) and not isinstance(found, str) and isinstance(step, int):
                found = found[step] if step < len(found) else None
            else:
                return None
        return found

    # ------------------------------------------------------------ fields

    def subject(self, policy: Policy, *fields: str | int) -> Place:
        """The selector of the policy's own endpoints, or a field in it."""
        path: Path = _SUBJECT.get(policy.family, ("spec", "selector"))
        return self.at(policy, (*path, *fields))

    def rule(self, policy: Policy, rule: Rule, *fields: str | int) -> Place:
        return self.at(policy, (*rule.path, *fields), rule.place)

    def peer_path(self, policy: Policy, rule: Rule, direction: Direction, number: int) -> Path:
        """The path of a rule's `number`-th peer."""
        if policy.family is Family.CALICO:
            return (*rule.path, _OTHER_END[direction])
        field = _PEERS[direction]
        written = self.value(policy, (*rule.path, field)) if policy.family is Family.ADMIN else None
        if isinstance(written, list):
            # Names of domains are no peers among the values.
            kept = [index for index, item in enumerate(written) if "domainNames" not in item]
            number = kept[number] if number < len(kept) else number
        return (*rule.path, field, number)

    def peer(self, policy: Policy, rule: Rule, direction: Direction, number: int, fields: Iterable[Path] = ()) -> Place:
        """The place of a peer, or of the first of `fields` that is written in it."""
        path = self.peer_path(policy, rule, direction, number)
        for field in fields:
            if self.value(policy, (*path, *field)) is not None:
                return self.at(policy, (*path, *field), rule.place)
        return self.at(policy, path, rule.place)

    def port(self, policy: Policy, rule: Rule, direction: Direction, port: PortMatch) -> Place:
        """The place of a destination port as it stands in the rule."""
        for path, value in self._ports(policy, rule):
            if _is_port(value, port):
                return self.at(policy, path, rule.place)
        return self.rule(policy, rule)

    def _ports(self, policy: Policy, rule: Rule) -> Iterator[tuple[Path, Any]]:
        fields: tuple[Path, ...] = (("ports",), ("protocols",), ("destination", "ports"))
        for field in fields:
            written = self.value(policy, (*rule.path, *field))
            for index, item in enumerate(written if isinstance(written, list) else ()):
                yield from _inner(item, (*rule.path, *field, index))


def _inner(item: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The number or name in an item of a list of ports, whatever its form."""
    if not isinstance(item, dict):
        yield path, item
        return
    for key in ("port", "namedPort", "destinationNamedPort", "number"):
        if key in item and not isinstance(item[key], dict):
            yield (*path, key), item[key]
    for key in ("portRange", "range"):
        if isinstance(item.get(key), dict):
            yield (*path, key), item[key].get("start")
    for key, value in item.items():
        if isinstance(value, dict):
            yield from _inner(value, (*path, key))


def _is_port(value: Any, port: PortMatch) -> bool:
    text = str(value)
    return text in (port.name, str(port.first), f"{port.first}:{port.last}") and bool(text)
