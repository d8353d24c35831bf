"""Kubernetes objects, desired and current: what an apply would add, change and remove.

Two objects are compared by what somebody wrote in them: fields that the API server
fills in are left out, and a field of the current object that the desired one does not name
is somebody else's (https://kubernetes.io/docs/reference/using-api/server-side-apply/).
Only what carries our ownership labels for this cluster is ever removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.artifacts.write import to_yaml
from pilothouse.labels import ownership

Object = Mapping[str, Any]

_SERVER_SET = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
_SERVER_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration",)


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Names an object whatever the version of its group: (group, kind, namespace, name)."""

    group: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Object) -> ObjectKey:
        metadata = manifest.get("metadata") or {}
        group, slash, _ = str(manifest.get("apiVersion", "")).rpartition("/")
        return cls(
            group if slash else "", str(manifest.get("kind", "")), metadata.get("namespace", ""), metadata["name"]
        )

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """`before` None: added; `after` None: removed; else changed. Both are what was written, not what a server added."""

    key: ObjectKey
    before: Object | None
    after: Object | None

    @property
    def action(self) -> str:
        """ "add", "change" or "remove"."""
        return "add" if self.before is None else "remove" if self.after is None else "change"

    def text(self) -> str:
        """A unified diff of both sides as YAML."""
        import difflib

        before, after = (to_yaml(side).splitlines(keepends=True) if side else [] for side in (self.before, self.after))
        return "".join(difflib.unified_diff(before, after, f"current {self.key}", f"desired {self.key}"))


def written(manifest: Object) -> dict[str, Any]:
    """The object without `status` and what the API server filled into its metadata."""
    kept = {key: value for key, value in manifest.items() if key != "status"}
    metadata = {key: value for key, value in (kept.get("metadata") or {}).items() if key not in _SERVER_SET}
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in _SERVER_ANNOTATIONS}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    kept["metadata"] = metadata
    return kept


def is_owned(manifest: Object, cluster: str) -> bool:
    """Whether the object carries our ownership labels for that cluster."""
    labels = (manifest.get("metadata") or {}).get("labels") or {}
    return all(labels.get(key) == value for key, value in ownership(cluster).items())


def plan(desired: Iterable[Object], current: Iterable[Object], cluster: str) -> tuple[ObjectChange, ...]:
    """What must change so that the current objects become the desired ones, ordered by object.

    Current objects that are neither desired nor owned by us are not looked at.
    """
    wanted = {ObjectKey.of(manifest): manifest for manifest in desired}
    present = {ObjectKey.of(manifest): manifest for manifest in current}
    changes = []
    for key, manifest in wanted.items():
        after = written(manifest)
        if key not in present:
            changes.append(ObjectChange(key, None, after))
            continue
        before = _as_named(after, written(present[key]))
        if before != after:
            changes.append(ObjectChange(key, before, after))
    changes += [
        ObjectChange(key, written(manifest), None)
        for key, manifest in present.items()
        if key not in wanted and is_owned(manifest, cluster)
    ]
    return tuple(sorted(changes, key=lambda change: change.key))


def _as_named(desired: Any, current: Any) -> Any:
    """The current value, cut down to the mapping keys that the desired one names."""
    if isinstance(desired, Mapping) and isinstance(current, Mapping):
        return {key: _as_named(value, current[key]) for key, value in desired.items() if key in current}
    if isinstance(desired, list | tuple) and isinstance(current, list | tuple):
        if len(desired) != len(current):
            return list(current)
        return [_as_named(left, right) for left, right in zip(desired, current, strict=True)]
    return current
