"""Label selectors, and the labels and names that pilothouse itself owns.

Selector semantics: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
(an empty selector matches everything; requirements are ANDed; `NotIn` and
`DoesNotExist` match an object that lacks the key).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

API_VERSION = "pilothouse.dev/v1"
"""The apiVersion of every document that pilothouse reads."""

OWNED_BY = "app.kubernetes.io/managed-by"
OWNER = "pilothouse"
"""Only what carries `OWNED_BY: OWNER` and this cluster's `CLUSTER_LABEL` is ever changed or removed."""

CLUSTER_LABEL = "pilothouse.dev/cluster"
SERVICE_LABEL = "pilothouse.dev/service"
TEAM_LABEL = "pilothouse.dev/team"
SOURCE_ANNOTATION = "pilothouse.dev/source"
"""Annotation: the declaration (file:line) that an object was derived from."""

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""Set on every namespace by the API server, so a namespace can be selected by name."""

GROUP_PREFIX = "ph:"
"""Prefix of every Kubernetes group that a certificate of ours carries."""


def ownership(cluster: str) -> dict[str, str]:
    """The labels that mark an object as ours on that cluster."""
    return {OWNED_BY: OWNER, CLUSTER_LABEL: cluster}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of `matchExpressions`; `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        raise ValueError(f"unknown operator {self.operator!r}")


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A Kubernetes LabelSelector; `match_labels` is sorted by key. Empty selects everything."""

    match_labels: tuple[tuple[str, str], ...] = ()
    match_expressions: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, str] | None = None, **more: str) -> LabelSelector:
        return cls(tuple(sorted({**(labels or {}), **more}.items())))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelSelector:
        """From the manifest's form (`matchLabels`, `matchExpressions`), taken to be valid."""
        return cls(
            tuple(sorted((data.get("matchLabels") or {}).items())),
            tuple(
                Requirement(item["key"], item["operator"], tuple(item.get("values") or ()))
                for item in data.get("matchExpressions") or ()
            ),
        )

    @property
    def is_empty(self) -> bool:
        return not self.match_labels and not self.match_expressions

    def matches(self, labels: Mapping[str, str]) -> bool:
        for key, value in self.match_labels:  # a loop: asked a million times in a render of a large platform
            if labels.get(key) != value:
                return False
        return all(requirement.matches(labels) for requirement in self.match_expressions)

    def to_dict(self) -> dict[str, Any]:
        """The manifest's form; `{}` when empty."""
        data: dict[str, Any] = {}
        if self.match_labels:
            data["matchLabels"] = dict(self.match_labels)
        if self.match_expressions:
            data["matchExpressions"] = [
                {"key": item.key, "operator": item.operator} | ({"values": list(item.values)} if item.values else {})
                for item in self.match_expressions
            ]
        return data

    def __str__(self) -> str:
        parts = [f"{key}={value}" for key, value in self.match_labels]
        for item in self.match_expressions:
            match item.operator:
                case "In":
                    parts.append(f"{item.key} in ({', '.join(item.values)})")
                case "NotIn":
                    parts.append(f"{item.key} notin ({', '.join(item.values)})")
                case "Exists":
                    parts.append(item.key)
                case _:
                    parts.append(f"!{item.key}")
        return ",".join(parts) or "everything"


EVERYTHING = LabelSelector()
