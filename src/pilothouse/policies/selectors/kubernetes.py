"""Between Kubernetes' LabelSelector and Calico's selectors.

A LabelSelector is a conjunction that says, of each key, whether it may be absent and which values it may have
(https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors); whatever selector comes to
that has a Kubernetes form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce

from pilothouse.labels import LabelSelector, Requirement
from pilothouse.policies.selectors.tree import (
    All,
    And,
    Equal,
    Has,
    In,
    Not,
    NotEqual,
    NotIn,
    Or,
    Selector,
    all_of,
    negated,
)

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(f"(?:{_NAME})?")
_KEY = re.compile(
    rf"(?:(?=[^/]{{1,253}}/)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*/)?{_NAME}"
)


def valid_value(text: str) -> bool:
    """Whether a label can have this value: empty, or at most 63 of `[A-Za-z0-9_.-]` between a letter or digit and
    another (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set)."""
    return _VALUE.fullmatch(text) is not None


@lru_cache(maxsize=16_384)
def from_labels(selector: LabelSelector) -> Selector:
    """The same condition; the empty selector is ALL. Errors: ValueError for an operator that Kubernetes lacks."""
    return all_of(
        *(Equal(key, value) for key, value in selector.match_labels),
        *map(_test, selector.match_expressions),
    )


def to_labels(selector: Selector) -> LabelSelector | None:
    """The same condition for Kubernetes, None where it cannot be said there (or names what no label can be)."""
    found = _by_key(selector)
    if found is None or found.keys() != {key for key in found if _KEY.fullmatch(key)}:
        return None
    labels: list[tuple[str, str]] = []
    expressions: list[Requirement] = []
    for key, allowed in found.items():
        if not all(map(valid_value, allowed.values)) or not allowed.sayable:
            return None
        if not allowed.absent and not allowed.others and len(allowed.values) == 1:
            labels.append((key, next(iter(allowed.values))))
        else:
            expressions.extend(allowed.requirements(key))
    return LabelSelector(tuple(sorted(labels)), tuple(expressions))


def _test(requirement: Requirement) -> Selector:
    match requirement.operator:
        case "In":
            return In(requirement.key, frozenset(requirement.values))
        case "NotIn":
            return NotIn(requirement.key, frozenset(requirement.values))
        case "Exists":
            return Has(requirement.key)
        case "DoesNotExist":
            return negated(Has(requirement.key))
    raise ValueError(f"unknown operator {requirement.operator!r}")


@dataclass(frozen=True, slots=True)
class _Allowed:
    """Of one key: whether it may be `absent`, and its values: `values`, or with `others` all but these."""

    absent: bool
    others: bool
    values: frozenset[str] = frozenset()

    def __invert__(self) -> _Allowed:
        return _Allowed(not self.absent, not self.others, self.values)

    def __and__(self, other: _Allowed) -> _Allowed:
        if self.others and other.others:
            values = self.values | other.values
        elif self.others or other.others:
            few, most = (other, self) if self.others else (self, other)
            values = few.values - most.values
        else:
            values = self.values & other.values
        return _Allowed(self.absent and other.absent, self.others and other.others, values)

    def __or__(self, other: _Allowed) -> _Allowed:
        return ~(~self & ~other)

    @property
    def sayable(self) -> bool:
        """Neither impossible nor "absent, or one of these"."""
        return self.others or self.absent is not bool(self.values)

    def requirements(self, key: str) -> Iterator[Requirement]:
        values = tuple(sorted(self.values))
        if not self.others:
            yield Requirement(key, "DoesNotExist") if self.absent else Requirement(key, "In", values)
            return
        if not self.absent:
            yield Requirement(key, "Exists")
        if values:
            yield Requirement(key, "NotIn", values)


def _by_key(selector: Selector) -> dict[str, _Allowed] | None:
    """What a conjunction allows of each key; None for what is none."""
    match selector:
        case All():
            return {}
        case Has(key):
            return {key: _Allowed(absent=False, others=True)}
        case Equal(key, value):
            return {key: _Allowed(False, False, frozenset({value}))}
        case NotEqual(key, value):
            return {key: _Allowed(True, True, frozenset({value}))}
        case In(key, values):
            return {key: _Allowed(False, False, values)}
        case NotIn(key, values):
            return {key: _Allowed(True, True, values)}
        case And(parts):
            return _together(map(_by_key, parts))
        case Or(parts):
            return _either(map(_by_key, parts))
        case Not(And(parts)):
            return _either(_by_key(negated(part)) for part in parts)
        case Not(Or(parts)):
            return _together(_by_key(negated(part)) for part in parts)
        case Not(inner):
            return _complement(_by_key(inner))
    return None


def _complement(of: Mapping[str, _Allowed] | None) -> dict[str, _Allowed] | None:
    if of is None or len(of) != 1:
        return None
    return {key: ~allowed for key, allowed in of.items()}


def _together(parts: Iterable[dict[str, _Allowed] | None]) -> dict[str, _Allowed] | None:
    found: dict[str, _Allowed] = {}
    for part in parts:
        if part is None:
            return None
        for key, allowed in part.items():
            found[key] = found[key] & allowed if key in found else allowed
    return found


def _either(parts: Iterable[dict[str, _Allowed] | None]) -> dict[str, _Allowed] | None:
    """Alternatives about one and the same key; others have no Kubernetes form."""
    given = list(parts)
    keys = {key for part in given if part is not None for key in part}
    if len(keys) != 1:
        return None
    single = [part for part in given if part is not None and len(part) == 1]
    if len(single) != len(given):
        return None
    (key,) = keys
    return {key: reduce(_Allowed.__or__, (part[key] for part in single))}
