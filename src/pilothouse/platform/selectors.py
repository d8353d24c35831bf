"""Label selectors compared with each other, without any pod at hand.

A selector is a conjunction over keys, so that what it says of one key is a small set of facts;
`NotIn` is the exact negation of `In`, and `DoesNotExist` of `Exists`
(https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from pilothouse.labels import LabelSelector, Requirement

_NEGATION = {"In": "NotIn", "NotIn": "In", "Exists": "DoesNotExist", "DoesNotExist": "Exists"}


def requirements(selector: LabelSelector) -> tuple[Requirement, ...]:
    """Everything that the selector asks for, `matchLabels` as `In` with one value."""
    return (
        *(Requirement(key, "In", (value,)) for key, value in selector.match_labels),
        *selector.match_expressions,
    )


def satisfiable(selector: LabelSelector) -> bool:
    """Whether any pod could match."""
    return _consistent(requirements(selector))


def may_overlap(one: LabelSelector, other: LabelSelector) -> bool:
    """Whether a pod could match both."""
    return _consistent((*requirements(one), *requirements(other)))


def implies(one: LabelSelector, other: LabelSelector) -> bool:
    """Whether every pod that matches `one` matches `other` too."""
    known = requirements(one)
    return all(
        not _consistent((*known, Requirement(item.key, _NEGATION[item.operator], item.values)))
        for item in requirements(other)
    )


def _consistent(items: Iterable[Requirement]) -> bool:
    by_key = groupby(sorted(items, key=lambda item: item.key), key=lambda item: item.key)
    return all(_possible(tuple(group)) for _, group in by_key)


def _possible(items: tuple[Requirement, ...]) -> bool:
    """Whether one key can meet all of these: by being absent, or by having some value."""
    absent = all(item.operator in ("NotIn", "DoesNotExist") for item in items)
    if absent:
        return True
    if any(item.operator == "DoesNotExist" for item in items):
        return False
    allowed: set[str] | None = None
    forbidden: set[str] = set()
    for item in items:
        if item.operator == "In":
            allowed = set(item.values) if allowed is None else allowed & set(item.values)
        elif item.operator == "NotIn":
            forbidden.update(item.values)
    return allowed is None or bool(allowed - forbidden)
