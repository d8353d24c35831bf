"""Which pieces a selector selects: endpoints by their own and inherited labels, address sets by theirs.

Inherited labels: https://docs.tigera.io/calico/latest/reference/resources/profile and
https://docs.tigera.io/calico/latest/reference/resources/workloadendpoint (`pcns.` for the namespace's labels, `pcsa.`
for the service account's, `projectcalico.org/…` for names). Own labels go before inherited ones, save
the last: no pod can pretend to be of another namespace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.policies.engine import bitsets
from pilothouse.policies.engine.universe import (
    ACCOUNT_KEY,
    ACCOUNT_PREFIX,
    NAME_KEY,
    NAMESPACE_KEY,
    NAMESPACE_PREFIX,
    ORCHESTRATOR_KEY,
    Universe,
)
from pilothouse.policies.rules import NetworkSet
from pilothouse.policies.selectors import Selector, select

_INHERITED = (NAMESPACE_PREFIX, ACCOUNT_PREFIX)
"""A pod's own labels of these prefixes do not count: it cannot pretend to inherit one."""


class Table:
    """A population with labels, asked by label: what `selectors.select` wants."""

    def __init__(self, everything: int, labelled: Mapping[str, Mapping[str, int]]) -> None:
        self.everything = everything
        self._labelled = dict(labelled)
        self._having: dict[str, int] = {}
        self._values: dict[str, Mapping[str, int]] = {}

    def inherited(self, key: str) -> Mapping[str, int]:
        """Value → members that inherit the label from elsewhere."""
        return {}

    def values(self, key: str) -> Mapping[str, int]:
        """Value → the members whose label `key` has it."""
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = self._merged(key)
        return found

    def _merged(self, key: str) -> Mapping[str, int]:
        found = self._labelled.get(key)
        more = self.inherited(key)
        if not more:
            return found or {}
        merged = dict(found or {})
        if self.overrides(key):
            taken = 0
            for members in more.values():
                taken |= members
            merged = {value: members & ~taken for value, members in merged.items()}
        else:
            taken = 0
            for members in merged.values():
                taken |= members
            more = {value: members & ~taken for value, members in more.items()}
        for value, members in more.items():
            if members:
                merged[value] = merged.get(value, 0) | members
        return merged

    def overrides(self, key: str) -> bool:
        """Whether what is inherited goes before a member's own label."""
        return False

    def pair(self, key: str, value: str) -> int:
        return self.values(key).get(value, 0)

    def having(self, key: str) -> int:
        found = self._having.get(key)
        if found is None:
            found = 0
            for members in self.values(key).values():
                found |= members
            self._having[key] = found
        return found


class EndpointLabels(Table):
    """The endpoints of a universe."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        lists: dict[str, dict[str, list[int]]] = {key: {} for key in universe.vocabulary.labels}
        for number, piece in enumerate(universe.pieces):
            for key, value in piece.labels.items():
                values = lists.get(key)
                if values is not None and not (piece.pods and key.startswith(_INHERITED)):
                    values.setdefault(value, []).append(number)
        labelled = {
            key: {value: bitsets.of(numbers) for value, numbers in values.items()} for key, values in lists.items()
        }
        super().__init__(universe.endpoints, labelled)
        self._inherited: dict[str, Mapping[str, int]] = {}

    def overrides(self, key: str) -> bool:
        return key in (NAMESPACE_KEY, ORCHESTRATOR_KEY, ACCOUNT_KEY)

    def inherited(self, key: str) -> Mapping[str, int]:
        if "/" not in key and "." not in key:
            return {}
        found = self._inherited.get(key)
        if found is None:
            found = self._inherited[key] = self._inherit(key)
        return found

    def _inherit(self, key: str) -> Mapping[str, int]:
        universe = self.universe
        found: dict[str, int] = {}
        if key == NAMESPACE_KEY:
            return universe.by_namespace
        if key == ORCHESTRATOR_KEY:
            return {"k8s": universe.pods}
        if key == ACCOUNT_KEY:
            for (_, name), members in universe.by_account.items():
                found[name] = found.get(name, 0) | members
        elif key.startswith(NAMESPACE_PREFIX):
            label = key.removeprefix(NAMESPACE_PREFIX)
            for namespace, members in universe.by_namespace.items():
                value = namespace if label == NAME_KEY else universe.namespace_labels[namespace].get(label)
                if value is not None:
                    found[value] = found.get(value, 0) | members
        elif key.startswith(ACCOUNT_PREFIX):
            label = key.removeprefix(ACCOUNT_PREFIX)
            for (namespace, name), members in universe.by_account.items():
                value = (
                    name
                    if label == NAME_KEY
                    else universe.snapshot.account_labels.get((namespace, name), {}).get(label)
                )
                if value is not None:
                    found[value] = found.get(value, 0) | members
        return found


class SetLabels:
    """Address sets over a universe: which pieces those that a selector selects hold."""

    def __init__(self, universe: Universe, sets: Sequence[NetworkSet]) -> None:
        self.universe = universe
        self.sets = sets
        self._found: dict[tuple[Selector | None, str | None], int] = {}

    @cached_property
    def _members(self) -> tuple[int, ...]:
        found = []
        for item in self.sets:
            members = 0
            for net in item.nets:
                members |= self.universe.network(net)
            found.append(members)
        return tuple(found)

    @cached_property
    def _table(self) -> Table:
        lists: dict[str, dict[str, list[int]]] = {}
        for number, item in enumerate(self.sets):
            for key, value in self._labels(item).items():
                lists.setdefault(key, {}).setdefault(value, []).append(number)
        labelled = {key: {value: bitsets.of(n) for value, n in values.items()} for key, values in lists.items()}
        return Table((1 << len(self.sets)) - 1, labelled)

    def _labels(self, item: NetworkSet) -> Mapping[str, str]:
        if not item.namespace:
            return dict(item.labels)
        space = self.universe.namespace_labels.get(item.namespace, {})
        inherited = {f"{NAMESPACE_PREFIX}{key}": value for key, value in space.items()}
        inherited[f"{NAMESPACE_PREFIX}{NAME_KEY}"] = item.namespace
        return {**inherited, **dict(item.labels), NAMESPACE_KEY: item.namespace}

    @cached_property
    def _by_namespace(self) -> Mapping[str, int]:
        pairs = ((item.namespace, number) for number, item in enumerate(self.sets))
        return bitsets.grouped(pairs)

    def selected(self, selector: Selector | None, namespace: str | None = None) -> int:
        """The pieces in the sets that a selector selects: of one namespace ("" for global sets), or of all (None)."""
        if not self.sets:
            return 0
        memo = (selector, namespace)
        found = self._found.get(memo)
        if found is None:
            chosen = self._table.everything if namespace is None else self._by_namespace.get(namespace, 0)
            if selector is not None and chosen:
                chosen &= select(selector, self._table)
            found = 0
            for number in bitsets.bits(chosen):
                found |= self._members[number]
            self._found[memo] = found
        return found


class Namespaces:
    """Which namespaces a selector selects."""

    def __init__(self, universe: Universe, sets: Sequence[NetworkSet]) -> None:
        known = universe.namespace_labels
        bare = {item.namespace: {NAMESPACE_NAME_LABEL: item.namespace} for item in sets if item.namespace not in known}
        known = {**known, **{name: labels for name, labels in bare.items() if name}}
        self.names = tuple(known)
        lists: dict[str, dict[str, list[int]]] = {}
        for number, name in enumerate(self.names):
            labels = {NAME_KEY: name, **known[name]}
            for key, value in labels.items():
                lists.setdefault(key, {}).setdefault(value, []).append(number)
        labelled = {key: {value: bitsets.of(n) for value, n in values.items()} for key, values in lists.items()}
        self._table = Table((1 << len(self.names)) - 1, labelled)
        self._found: dict[Selector | None, tuple[str, ...]] = {}

    def selected(self, selector: Selector | None) -> tuple[str, ...]:
        found = self._found.get(selector)
        if found is None:
            chosen = self._table.everything if selector is None else select(selector, self._table)
            found = self._found[selector] = tuple(self.names[number] for number in bitsets.bits(chosen))
        return found
