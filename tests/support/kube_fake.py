"""An API server's objects in memory: enough of server-side apply for plans and undoing without a server.

`tests/workflows/test_applying.py` runs the same tests on this and on a real API server: where they differ, this is
wrong.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from typing import Any

from pilothouse.artifacts.objects import MANAGER, Object, ObjectKey
from pilothouse.clients.kubernetes.kinds import Kind
from pilothouse.clients.kubernetes.transport import Clash, Forbidden, Rejected


class FakeServer:
    """Knows its namespaces, and refuses what is in `forbidden` (kinds) or `refused` (names)."""

    def __init__(self, namespaces: set[str]) -> None:
        self.host = "https://fake.example"
        self.namespaces = namespaces
        self.present: dict[ObjectKey, dict[str, Any]] = {}
        self.forbidden: set[str] = set()
        self.refused: set[str] = set()
        self._numbers = itertools.count(1)

    def served(self) -> frozenset[str]:
        return frozenset({"apps/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"})

    def objects(self, kind: Kind, page: int = 500, selector: str = "") -> list[Any]:
        wanted = dict(item.split("=") for item in selector.split(",") if item)
        return [
            deepcopy(item)
            for key, item in self.present.items()
            if (key.group, key.kind) == (kind.group, kind.name)
            and wanted.items() <= (item["metadata"].get("labels") or {}).items()
        ]

    def get(self, manifest: Object) -> dict[str, Any] | None:
        return deepcopy(self.present.get(ObjectKey.of(manifest)))

    def apply(self, manifest: Object, dry_run: bool = False, force: bool = False) -> dict[str, Any]:
        key = ObjectKey.of(manifest)
        self._require(key, "patch")
        if key.namespace and key.namespace not in self.namespaces:
            raise _rejected(404, f'namespaces "{key.namespace}" not found')
        if key.name in self.refused and not dry_run:
            raise _rejected(422, f"{key.name} is refused")
        before = self.present.get(key)
        found = deepcopy(before) if before else {"metadata": {"uid": f"uid-{next(self._numbers)}"}}
        managers = found["metadata"].pop("managedFields", [])
        mine = next((item["fieldsV1"] for item in managers if item["manager"] == MANAGER), {})
        _forget(found, manifest, mine)
        _lay(found, manifest)
        others = [item for item in managers if item["manager"] != MANAGER]
        entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": _fields(manifest)}
        found["metadata"]["managedFields"] = [*others, entry]
        version = (before or {}).get("metadata", {}).get("resourceVersion", "")
        found["metadata"]["resourceVersion"] = version
        if found != before:
            found["metadata"]["resourceVersion"] = str(next(self._numbers))
            if not dry_run:
                self.present[key] = found
        return deepcopy(found)

    def remove_fields(self, current: Object, paths: tuple[tuple[str, ...], ...], dry_run: bool = False) -> None:
        if dry_run:
            return
        found: Any = self.present[ObjectKey.of(current)]
        for path in paths:
            place = found
            for name in path[:-1]:
                place = place[name]
            place.pop(path[-1], None)

    def delete(self, manifest: Object, dry_run: bool = False) -> bool:
        key = ObjectKey.of(manifest)
        self._require(key, "delete")
        return (key in self.present) if dry_run else self.present.pop(key, None) is not None

    def create(self, manifest: dict[str, Any]) -> None:
        """What somebody else makes."""
        made = deepcopy(manifest)
        made["metadata"] |= {"uid": f"uid-{next(self._numbers)}", "resourceVersion": str(next(self._numbers))}
        self.present[ObjectKey.of(manifest)] = made

    def make(self, manifest: Object) -> dict[str, Any]:
        """What we make, which must not be there yet."""
        key = ObjectKey.of(manifest)
        self._require(key, "create")
        if key.namespace and key.namespace not in self.namespaces:
            raise _rejected(404, f'namespaces "{key.namespace}" not found')
        if key in self.present:
            raise Clash(f"{key} already exists", "")
        self.create(dict(manifest))
        return deepcopy(self.present[key])

    def close(self) -> None:
        return None

    def _require(self, key: ObjectKey, verb: str) -> None:
        if key.kind in self.forbidden:
            failure = Forbidden(f"403 {key}", "")
            failure.status, failure.said = 403, f"cannot {verb} {key.kind}"
            raise failure


def _rejected(status: int, said: str) -> Rejected:
    failure = Rejected(said, "")
    failure.status, failure.said = status, said
    return failure


def _fields(value: Object) -> dict[str, Any]:
    return {
        f"f:{key}": _fields(item) if isinstance(item, dict) else {}
        for key, item in value.items()
        if key not in ("apiVersion", "kind", "name", "namespace")
    }


def _forget(found: dict[str, Any], manifest: Any, mine: dict[str, Any]) -> None:
    """What we owned and no longer name."""
    for field, below in mine.items():
        key = field.removeprefix("f:")
        if key not in found:
            continue
        named = manifest.get(key) if isinstance(manifest, dict) else None
        if below and isinstance(found[key], dict):
            _forget(found[key], named, below)
        elif named is None:
            del found[key]


def _lay(found: dict[str, Any], manifest: Object) -> None:
    for key, value in manifest.items():
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            _lay(found[key], value)
        else:
            found[key] = deepcopy(value)
