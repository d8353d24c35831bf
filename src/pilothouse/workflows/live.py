"""Which API server is a cluster's, and what was last read of it.

The worker keeps the last good snapshot of each cluster that it may read, as a file below its data folder, with the
moment beside it. Whoever derives from the platform reads that file instead of one in the platform's `snapshots/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pilothouse.clients.kubernetes import Api, read_cluster, to_context, to_endpoint
from pilothouse.files import snapshot as snapshot_files
from pilothouse.inventory.model import Snapshot
from pilothouse.platform.model import Cluster, Endpoint
from pilothouse.problems import PilothouseError, Problems, Unavailable


def declared(cluster: Cluster) -> Endpoint | None:
    """The API server of the Cluster document, where its token lies on this machine."""
    endpoint = cluster.servers.kubernetes
    if endpoint is None or not endpoint.token_file or not os.access(endpoint.token_file, os.R_OK):
        return None
    return endpoint


def is_read(cluster: Cluster) -> bool:
    """Whether the worker reads it: its document names a token, and that lies here."""
    return declared(cluster) is not None


def is_declared(cluster: Cluster, api: Api) -> bool:
    """Whether that is the server which the Cluster document names."""
    endpoint = cluster.servers.kubernetes
    return endpoint is not None and endpoint.url.rstrip("/") == api.host


def api_of(cluster: Cluster, kubeconfig: str = "", context: str = "") -> Api:
    """The API server of the kubeconfig or context that was named; else the declared one, where its token lies here;
    else that of the current kubeconfig. Raises `Invalid` or `Unavailable` where there is none."""
    endpoint = declared(cluster)
    if kubeconfig or context or endpoint is None:
        return Api(to_context(kubeconfig or None, context or None))
    return Api(to_endpoint(endpoint))


def worker_api(cluster: Cluster) -> Api:
    """The declared API server. `Unavailable` where the document names none, or its token is not here."""
    endpoint = cluster.servers.kubernetes
    if endpoint is None or not endpoint.token_file:
        raise Unavailable(
            f"cluster {cluster.name} names no API server with a token",
            "set `servers.kubernetes` with `url`, `tokenFile` and `caFile` in the Cluster document",
        )
    if not os.access(endpoint.token_file, os.R_OK):
        raise Unavailable(
            f"the token of cluster {cluster.name} is not here: {endpoint.token_file}",
            "it lies on the machine of the worker; check its path, owner and mode",
        )
    return Api(to_endpoint(endpoint))


# ---------------------------------------------------------------- the last good one


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot's file, and when it was last found to be so."""

    path: Path
    read_at: datetime


def kept(folder: Path | None, cluster: str) -> Kept | None:
    """The last good snapshot of a cluster."""
    if folder is None:
        return None
    path, moment = folder / f"{cluster}.json", folder / f"{cluster}.read"
    try:
        return Kept(path, datetime.fromtimestamp(moment.stat().st_mtime, UTC)) if path.is_file() else None
    except FileNotFoundError:
        return None


def read_and_keep(api: Api, cluster: str, folder: Path, now: datetime) -> tuple[Snapshot, Problems, bool]:
    """Read the cluster and keep what it is: (snapshot, problems, whether anything changed).

    The file changes only where the snapshot does, so that nothing is derived anew for a heartbeat.
    """
    items: list[Mapping[str, Any]] = []
    fresh, problems = read_cluster(api, keep=lambda item: items.append(_without_environment(item)))
    if fresh.is_empty:
        raise Unavailable(f"{api.host} shows no namespace, node or pod", "may these credentials list them?")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{cluster}.json"
    changed = _without_source(fresh) != _last(path)
    if changed:
        aside = folder / f".{cluster}.json.new"
        try:
            with aside.open("w", encoding="utf-8") as file:
                json.dump({"apiVersion": "v1", "kind": "List", "items": items}, file, separators=(",", ":"))
            aside.replace(path)
        except OSError as failure:
            aside.unlink(missing_ok=True)
            raise Unavailable(f"cannot keep {path}: {failure.strerror}", "check owner and free space") from failure
    moment = folder / f"{cluster}.read"
    moment.touch()
    os.utime(moment, (now.timestamp(), now.timestamp()))
    return fresh, problems, changed


def _last(path: Path) -> Snapshot | None:
    try:
        return _without_source(snapshot_files.read(path)[0]) if path.is_file() else None
    except PilothouseError:
        return None  # it is written anew


def _without_source(snapshot: Snapshot) -> Snapshot:
    """What two readings have in common: not where they were read, nor which kinds were not there."""
    return replace(snapshot, source="", others={})


def _without_environment(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the environment variables of a pod: nothing is derived from them, and a secret may stand there."""
    spec = item.get("spec")
    if item.get("kind") != "Pod" or not isinstance(spec, Mapping):
        return item
    kept = {
        name: [{key: part for key, part in one.items() if key not in ("env", "envFrom")} for one in spec[name]]
        for name in ("containers", "initContainers", "ephemeralContainers")
        if isinstance(spec.get(name), list)
    }
    return {**item, "spec": {**spec, **kept}}
