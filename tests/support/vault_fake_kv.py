"""The key-value engine (version 2) of the stand-in for Vault: versions, soft deletion, merge patches, metadata.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from support.vault_fake_pki import Refused

Answer = tuple[int, Any]
GONE: Answer = (404, {"errors": []})


@dataclass
class Secret:
    versions: list[dict[str, Any]] = field(default_factory=list)
    """Each `data` and `metadata` (created_time, deletion_time, destroyed)."""
    custom: dict[str, str] | None = None


@dataclass
class KeyValue:
    secrets: dict[str, Secret] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        kind, _, name = path.partition("/")
        match kind, method:
            case "data", "GET":
                return self._read(name)
            case "data", "POST":
                return self._write(name, body)
            case "data", "PATCH":
                return self._patch(name, body)
            case "data", "DELETE":
                found = self.secrets.get(name)
                if found and found.versions:
                    found.versions[-1]["deletion_time"] = _now()
                return 204, None
            case "subkeys", "GET":
                status, found = self._read(name)
                if status != 200:
                    return status, found
                data = found["data"]["data"]
                return 200, {"data": {"subkeys": dict.fromkeys(data), "metadata": found["data"]["metadata"]}}
            case "metadata", "LIST":
                return (200, {"data": {"keys": sorted(self.secrets)}}) if self.secrets else GONE
            case "metadata", _:
                return self._metadata(method, name, body)
        return GONE

    def _read(self, name: str) -> Answer:
        found = self.secrets.get(name)
        if found is None or not found.versions:
            return GONE
        newest = found.versions[-1]
        metadata = self._of(found)
        if newest["deletion_time"]:
            return 404, {"data": {"data": None, "metadata": metadata}}  # a body, and yet not there
        return 200, {"data": {"data": newest["data"], "metadata": metadata}}

    def _of(self, found: Secret) -> dict[str, Any]:
        newest = {key: value for key, value in found.versions[-1].items() if key != "data"}
        return newest | {"version": len(found.versions), "custom_metadata": found.custom}

    def _write(self, name: str, body: dict[str, Any]) -> Answer:
        found = self.secrets.setdefault(name, Secret())
        self._check(found, body)
        if "data" not in body:
            raise Refused("no data provided")
        found.versions.append({"data": body["data"], "created_time": _now(), "deletion_time": "", "destroyed": False})
        return 200, {"data": self._of(found)}

    def _patch(self, name: str, body: dict[str, Any]) -> Answer:
        status, now = self._read(name)
        if status != 200:
            return status, now
        self._check(self.secrets[name], body)
        return self._write(name, {"data": _merged(now["data"]["data"], body["data"])})

    @staticmethod
    def _check(found: Secret, body: dict[str, Any]) -> None:
        cas = (body.get("options") or {}).get("cas")
        if cas is not None and cas != len(found.versions):
            raise Refused("check-and-set parameter did not match the current version")

    def _metadata(self, method: str, name: str, body: dict[str, Any]) -> Answer:
        found = self.secrets.get(name)
        if method == "POST":
            found = self.secrets.setdefault(name, Secret())
            found.custom = body.get("custom_metadata", found.custom)
            return 204, None
        if found is None:
            return GONE
        if method == "PATCH":
            found.custom = _merged(found.custom or {}, body.get("custom_metadata") or {})
            return 204, None
        if method == "DELETE":
            del self.secrets[name]
            return 204, None
        versions = {
            str(number): {key: value for key, value in item.items() if key != "data"}
            for number, item in enumerate(found.versions, 1)
        }
        return 200, {
            "data": {"current_version": len(found.versions), "versions": versions, "custom_metadata": found.custom}
        }


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """A merge patch: null takes a key away."""
    return {key: value for key, value in {**below, **above}.items() if value is not None}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
