"""Mappings of indices: put together from templates, and compared field by field.

Types: https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/field-data-types
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class FieldConflict:
    """A field (dotted) that is `held` as one type and `wanted` as another."""

    field: str
    held: str
    wanted: str


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two template bodies as the server puts them together: objects by key, everything else from above."""
    found = dict(below)
    for name, value in above.items():
        under = found.get(name)
        found[name] = merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return found


def types(mapping: Mapping[str, Any]) -> dict[str, str]:
    """The type of each field by dotted name; an object with fields of its own is `object`."""
    return dict(_types(mapping.get("properties", {}), ""))


def _types(properties: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, field in properties.items():
        full = f"{path}{name}"
        yield full, str(field.get("type", "object"))
        yield from _types(field.get("properties", {}), f"{full}.")


def conflicts(held: Mapping[str, Any], wanted: Mapping[str, Any], strict: bool = False) -> tuple[FieldConflict, ...]:
    """The fields whose type differs; a field that is not held at all counts only when `strict`."""
    have = types(held)
    found = []
    for name, kind in types(wanted).items():
        other = have.get(name, NOTHING)
        if other != kind and (strict or other != NOTHING):
            found.append(FieldConflict(name, other, kind))
    return tuple(found)
