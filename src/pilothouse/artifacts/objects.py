"""Kubernetes objects, desired and current: what an apply would add, change and remove.

Two objects are compared by what somebody wrote in them: fields that the API server fills in are left out, and a field
of the current object that the desired one does not name is somebody else's, unless our field manager owns it: then
we wrote it once, and the next apply takes it away
(https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).

Policies and RBAC are ours as a whole: one more rule beside ours says something else than what was proved, so there a
field that the desired object does not name is a difference too.

Only what carries our ownership labels for this cluster is ever removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.artifacts.write import to_yaml
from pilothouse.labels import ownership

Object = Mapping[str, Any]

MANAGER = "pilothouse"
"""Our field manager."""

_WHOLE: Mapping[str, tuple[str, ...]] = {
    "networking.k8s.io": ("spec",),
    "projectcalico.org": ("spec",),
    "crd.projectcalico.org": ("spec",),
    "admissionregistration.k8s.io": ("spec",),
    "rbac.authorization.k8s.io": ("rules", "aggregationRule", "subjects", "roleRef"),
}
"""By group: the fields in which nobody else has a say. Their lists are atomic, and we name every default of theirs."""

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
        """A unified diff of both sides as YAML, keys by name: the API server keeps no order of keys, so theirs would
        make one rule less look like all rules written anew."""
        import difflib

        before, after = (
            to_yaml(_by_name(side)).splitlines(keepends=True) if side else [] for side in (self.before, self.after)
        )
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
        before = comparable(after, present[key])
        if before != after:
            changes.append(ObjectChange(key, before, after))
    changes += [
        ObjectChange(key, written(manifest), None)
        for key, manifest in present.items()
        if key not in wanted and is_owned(manifest, cluster)
    ]
    return tuple(sorted(changes, key=lambda change: change.key))


def comparable(desired: Object, current: Object) -> dict[str, Any]:
    """The current object, cut down to what the desired one names, what our field manager owns, and what is ours as a
    whole. Equal to `written(desired)` where nothing differs."""
    present = written(current)
    found: dict[str, Any] = _cut(written(desired), present, owned_fields(current))
    for name in _whole(desired):
        if name in present:
            found[name] = present[name]
    return found


def intruding(desired: Object, current: Object) -> tuple[tuple[str, ...], ...]:
    """Paths that are in the current object, in what is ours as a whole, and not in the desired one: an apply leaves
    them, because somebody else owns them."""
    owned = owned_fields(current)
    found: list[tuple[str, ...]] = []
    for name in _whole(desired):
        now, then = current.get(name), desired.get(name)
        if now is None:
            continue
        mine = owned.get(f"f:{name}")
        if then is None:
            if mine is None:
                found.append((name,))
        elif isinstance(now, Mapping) and isinstance(then, Mapping):
            found += [
                (name, key) for key in now if key not in then and not (isinstance(mine, Mapping) and f"f:{key}" in mine)
            ]
    return tuple(found)


def owned_fields(current: Object) -> Mapping[str, Any]:
    """What our field manager owns, as `fieldsV1` writes it; empty where the object does not say."""
    for entry in (current.get("metadata") or {}).get("managedFields") or ():
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields: Mapping[str, Any] = entry.get("fieldsV1") or {}
            return fields
    return {}


def _whole(manifest: Object) -> tuple[str, ...]:
    return _WHOLE.get(str(manifest.get("apiVersion", "")).rpartition("/")[0], ())


def _cut(desired: Any, current: Any, owned: Any = None) -> Any:
    """The current value, cut down to the mapping keys that the desired one names or that are owned."""
    if isinstance(desired, Mapping) and isinstance(current, Mapping):
        mine: Mapping[str, Any] = owned if isinstance(owned, Mapping) else {}
        found = {
            key: _cut(value, current[key], mine.get(f"f:{key}")) for key, value in desired.items() if key in current
        }
        forgotten = [key for key in current if key not in desired and f"f:{key}" in mine]
        return found | {key: _owned_part(current[key], mine[f"f:{key}"]) for key in forgotten}
    if isinstance(desired, list | tuple) and isinstance(current, list | tuple):
        if len(desired) != len(current):
            return list(current)
        return [_cut(left, right) for left, right in zip(desired, current, strict=True)]
    return current


def _by_name(value: Any) -> Any:
    """The same with the keys of all its mappings in order; lists stay, since their order means something."""
    if isinstance(value, Mapping):
        return {key: _by_name(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_by_name(item) for item in value]
    return value


def _owned_part(current: Any, owned: Any) -> Any:
    """What of a value is owned: all of it, or the keys that the record of fields goes on to name."""
    if not isinstance(current, Mapping) or not isinstance(owned, Mapping):
        return current
    below = {key: value for key, value in current.items() if f"f:{key}" in owned}
    return {key: _owned_part(value, owned[f"f:{key}"]) for key, value in below.items()} if below else current
