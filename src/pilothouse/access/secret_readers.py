"""Where a service's secrets come from, and who else may read them: for a person who asks, or is about to change one.

Who may read is answered by the rendered policies, as Vault reads them, not by the declarations that they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pilothouse.access import accounts, pod, prove, vault
from pilothouse.access.content import VaultContent
from pilothouse.platform.model import Cluster, Platform, Secret, Service
from pilothouse.problems import NOWHERE, Place


@dataclass(frozen=True, slots=True)
class Reader:
    """A service whose token may read a path. `declared_at` is NOWHERE where only its policy reaches it."""

    service: str
    team: str
    account: str
    mount_path: str
    keys: tuple[str, ...]
    declared_at: Place


@dataclass(frozen=True, slots=True)
class Explained:
    """One secret of a service. `files` empty means one per key that it has in Vault."""

    path: str
    declared_at: Place
    api_path: str
    mount_path: str
    files: tuple[str, ...]
    other_readers: tuple[Reader, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All secrets of one service on one cluster, and what its pods identify themselves with."""

    service: str
    cluster: str
    team: str
    vault: str
    auth_mount: str
    role: str
    policy: str
    namespace: str
    account: str
    audience: str
    token_networks: tuple[str, ...]
    sidecar: str
    interval: int
    secrets: tuple[Explained, ...]


class Readers:
    """Who may read which path of a cluster; made once and asked often."""

    def __init__(self, platform: Platform, cluster: Cluster, content: VaultContent) -> None:
        self.cluster = cluster
        self.key_value = content.key_value_mount.format(cluster=cluster.name)
        self._services = accounts.with_secrets(platform, cluster)
        self._exact: dict[str, list[Service]] = {}
        self._patterns: list[tuple[str, Service]] = []
        for service in self._services:
            for rule in vault.workload_policy(service, cluster, content).rules:
                if "read" not in rule.capabilities:
                    continue
                if "+" in rule.path or rule.path.endswith("*"):
                    self._patterns.append((rule.path, service))
                else:
                    self._exact.setdefault(rule.path, []).append(service)

    def of(self, path: str) -> tuple[Reader, ...]:
        """By service, each once."""
        full = f"{self.key_value}/data/{path}"
        found = {service.key: service for service in self._exact.get(full, ())}
        found |= {service.key: service for pattern, service in self._patterns if prove.matches(pattern, full)}
        return tuple(self._reader(service, path) for _, service in sorted(found.items()))

    def declaring(self, path: str) -> Iterator[tuple[Service, Secret]]:
        """The services that declare that path on the cluster, also those whose account is not their own."""
        for service in self._services:
            for secret in pod.declared(service, self.cluster):
                if secret.path == path:
                    yield service, secret

    def paths(self) -> tuple[str, ...]:
        """Every declared path of the cluster, sorted."""
        return tuple(sorted({s.path for service in self._services for s in pod.declared(service, self.cluster)}))

    def _reader(self, service: Service, path: str) -> Reader:
        own = next((item for item in pod.declared(service, self.cluster) if item.path == path), None)
        return Reader(
            service.key,
            service.team,
            f"{service.namespace}/{service.service_account}",
            own.mount_path if own else "",
            own.keys if own else (),
            own.place if own else NOWHERE,
        )


def explain(service: Service, platform: Platform, cluster: Cluster, content: VaultContent) -> Explanation:
    """`Invalid` where the service has no secret there, or the cluster declares no Vault."""
    config = pod.agent_config(service, cluster, content)
    readers = Readers(platform, cluster, content)
    return Explanation(
        service=service.key,
        cluster=cluster.name,
        team=service.team,
        vault=config.url,
        auth_mount=f"auth/{config.auth_mount}",
        role=config.role,
        policy=vault.workload_policy(service, cluster, content).name,
        namespace=service.namespace,
        account=service.service_account,
        audience=content.audience,
        token_networks=content.token_networks.get(cluster.name, ()),
        sidecar="native" if pod.has_sidecars(cluster) else "ordinary container",
        interval=config.interval,
        secrets=tuple(
            Explained(
                secret.path,
                secret.place,
                f"{config.key_value_mount}/data/{secret.path}",
                secret.mount_path,
                secret.keys,
                tuple(reader for reader in readers.of(secret.path) if reader.service != service.key),
            )
            for secret in pod.declared(service, cluster)
        ),
    )


def last_reads(entries: Iterable[Mapping[str, object]], api_paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """API path → (time, account) of the newest answered read of it in Vault's audit log, as lines of JSON taken apart.

    The account is "" where the token was none of a workload (https://developer.hashicorp.com/vault/docs/audit).
    """
    wanted, found = set(api_paths), dict[str, tuple[str, str]]()
    for entry in entries:
        request, auth = entry.get("request"), entry.get("auth")
        if entry.get("type") != "response" or entry.get("error") or not isinstance(request, Mapping):
            continue
        path, time = str(request.get("path", "")), str(entry.get("time", ""))
        if path in wanted and request.get("operation") == "read" and time > found.get(path, ("", ""))[0]:
            metadata = (auth.get("metadata") if isinstance(auth, Mapping) else None) or {}
            names = [str(metadata.get(f"service_account_{part}", "")) for part in ("namespace", "name")]
            found[path] = (time, "/".join(names) if all(names) else "")
    return found
