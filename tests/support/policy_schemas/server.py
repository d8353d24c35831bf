"""What an API server says to a manifest, and what it makes of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from support.bed.kubernetes import KubeApi

Manifest = Mapping[str, Any]

APPLY = "application/apply-patch+yaml"
_STRICT = "fieldManager=bed&force=true&fieldValidation=Strict"


def place(manifest: Manifest) -> str:
    """The path of an object that a manifest describes."""
    lower = str(manifest["kind"]).lower()
    plural = f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}s"
    version = str(manifest["apiVersion"])
    where = manifest["metadata"]
    namespace = f"/namespaces/{quote(where['namespace'], safe='')}" if "namespace" in where else ""
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{base}{namespace}/{plural}/{quote(where['name'], safe='')}"


def refusal(api: KubeApi, manifest: Manifest) -> str:
    """Why the server would not apply a manifest, "" where it would. Nothing is stored."""
    return _said(api, "PATCH", f"{place(manifest)}?dryRun=All&{_STRICT}", manifest, APPLY)


def refusal_of_new(api: KubeApi, manifest: Manifest) -> str:
    """Why the server would not create an object as it is written, nulls and all; "" where it would."""
    path = f"{place(manifest).rpartition('/')[0]}?dryRun=All&fieldValidation=Strict"
    return _said(api, "POST", path, manifest, "application/json")


def _said(api: KubeApi, method: str, path: str, manifest: Manifest, content: str) -> str:
    try:
        api.send(method, path, manifest, content)
    except OSError as failure:
        return str(failure).partition(" answered ")[2]
    return ""


def stored(api: KubeApi, manifest: Manifest) -> dict[str, Any]:
    """The object as the server gives it back once it has stored the manifest; it is gone again afterwards."""
    path = place(manifest)
    api.send("PATCH", f"{path}?{_STRICT}", manifest, APPLY)
    try:
        found: dict[str, Any] = api.get(path)
    finally:
        api.send("DELETE", path)
    return found
