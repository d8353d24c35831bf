"""The parts of a pod that bring it its secrets: volumes, an init container, a native sidecar, mounts.

The init container fetches everything before the service starts; the sidecar is an init container with
`restartPolicy: Always`, which Kubernetes has on by default from 1.29 on
(https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/). An older API server drops that field, and the
pod would wait for ever for an init container that never ends: there the second one is an ordinary container.

What is made is a strategic merge patch of a pod template: lists are joined by `name`. It fits the restricted Pod
Security Standard (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilothouse import __version__
from pilothouse.access import vault
from pilothouse.access.content import VaultContent
from pilothouse.mounted.config import MAX_BYTES, AgentConfig, Mounted
from pilothouse.platform.model import Cluster, Platform, Secret, Service, Versions
from pilothouse.problems import Invalid, Problem, Severity, error, one_of, warning

SIDECARS_SINCE = (1, 29)
ANNOTATION = "pilothouse.dev/secrets"
IDENTITY = "pilothouse-identity"
IDENTITY_FOLDER = "/var/run/pilothouse"
FOLDERS = "/pilothouse/secrets"
INIT, SIDECAR = "pilothouse-secrets-init", "pilothouse-secrets"
TOKEN_SECONDS = 600
"""The least that Kubernetes gives; the kubelet makes a new one long before its end."""
USER = 10001
VOLUME_SIZE = "4Mi"
"""Two states of a secret lie there for a moment, and Vault takes none larger than 1 MiB."""

Body = dict[str, Any]


def declared(service: Service, cluster: Cluster) -> tuple[Secret, ...]:
    """The secrets that the service has on that cluster, in the order of its document."""
    return tuple(secret for secret in service.secrets if secret.holds_on(cluster.name))


def has_sidecars(cluster: Cluster) -> bool:
    """Whether the cluster's Kubernetes knows native sidecars."""
    return Versions.number(cluster.versions.kubernetes)[:2] >= SIDECARS_SINCE


def volume(index: int) -> str:
    return f"pilothouse-secret-{index}"


def agent_config(service: Service, cluster: Cluster, content: VaultContent) -> AgentConfig:
    """What the agent in the service's pods is told. `Invalid` where it has no secret, or the cluster no Vault."""
    secrets = declared(service, cluster)
    if not secrets:
        raise Invalid(
            f"service {service.key} declares no secret for cluster {cluster.name}",
            "add `secrets: [{path: …, mountPath: …}]` to the Service",
        )
    server = cluster.servers.vault
    if server is None:
        raise Invalid(f"cluster {cluster.name} declares no Vault", "add `servers: {vault: {url: https://…}}` to it")
    settings = content.agent
    found = AgentConfig(
        url=server.url,
        ca_file=f"{IDENTITY_FOLDER}/ca.crt" if settings.authority_config_map else "",
        auth_mount=content.workload_mount.format(cluster=cluster.name),
        role=vault.workload_role_name(service),
        token_file=f"{IDENTITY_FOLDER}/token",
        key_value_mount=content.key_value_mount.format(cluster=cluster.name),
        secrets=tuple(
            Mounted(secret.path, f"{FOLDERS}/{index}", secret.mount_path, secret.keys)
            for index, secret in enumerate(secrets)
        ),
        interval=settings.interval,
        budget=settings.budget,
        file_mode=settings.file_mode,
    )
    if len(found.to_json().encode()) > MAX_BYTES // 2:
        raise Invalid(f"service {service.key} declares more secrets than a pod's annotations can hold")
    return found


def fragment(service: Service, cluster: Cluster, content: VaultContent, container: str = "") -> Body:
    """The patch of the service's pod template. `container` is the one that reads the secrets, by default that which is
    called like the service. `Invalid` as in `agent_config`."""
    config = agent_config(service, cluster, content)
    numbered = list(enumerate(config.secrets))
    init = _agent(INIT, "--once", config, content)
    other = _agent(SIDECAR, "--watch", config, content)
    reader = {
        "name": container or service.name,
        "volumeMounts": [
            {"name": volume(index), "mountPath": item.mount_path, "readOnly": True} for index, item in numbered
        ],
    }
    native = has_sidecars(cluster)
    return {
        "metadata": {"annotations": {ANNOTATION: config.to_json()}},
        "spec": {
            "serviceAccountName": service.service_account,
            "volumes": [
                _identity(content),
                *(
                    {"name": volume(index), "emptyDir": {"medium": "Memory", "sizeLimit": VOLUME_SIZE}}
                    for index, _ in numbered
                ),
            ],
            "initContainers": [init, other | {"restartPolicy": "Always"}] if native else [init],
            "containers": [reader] if native else [reader, other],
        },
    }


WRAPPERS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}


def wrapped(template: Body, service: Service, kind: str) -> Body:
    """The fragment as a patch of a workload of that kind that is called like the service."""
    if kind not in (*WRAPPERS, "Pod"):
        raise Invalid(f"no patch can be made for {kind!r}", one_of((*WRAPPERS, "Pod")))
    metadata = {"name": service.name, "namespace": service.namespace}
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": kind, **template, "metadata": metadata | template["metadata"]}
    spec: Body = {"template": template}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    return {"apiVersion": WRAPPERS[kind], "kind": kind, "metadata": metadata, "spec": spec}


def _identity(content: VaultContent) -> Body:
    """The account's own token for Vault, what the agent is told, and whom it trusts."""
    sources: list[Body] = [
        {
            "serviceAccountToken": {
                "audience": content.audience,
                "expirationSeconds": TOKEN_SECONDS,
                "path": "token",
            }
        },
        {
            "downwardAPI": {
                "items": [{"path": "config.json", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION}']"}}]
            }
        },
    ]
    if content.agent.authority_config_map:
        sources.append(
            {"configMap": {"name": content.agent.authority_config_map, "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
        )
    return {"name": IDENTITY, "projected": {"sources": sources}}


def _agent(name: str, how: str, config: AgentConfig, content: VaultContent) -> Body:
    settings = content.agent
    return {
        "name": name,
        "image": settings.image or f"pilothouse:{__version__}",
        "args": ["access", "secrets", "agent", how, "--config", f"{IDENTITY_FOLDER}/config.json"],
        "resources": {
            "requests": {"cpu": "5m", "memory": settings.memory},
            "limits": {"memory": settings.memory},
        },
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # The last lines of a failure show in `kubectl describe pod`.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": IDENTITY, "mountPath": IDENTITY_FOLDER, "readOnly": True},
            *({"name": volume(index), "mountPath": item.folder} for index, item in enumerate(config.secrets)),
        ],
    }


# ---------------------------------------------------------------- what is wrong


def problems(platform: Platform, cluster: Cluster) -> Iterator[Problem]:
    """Mounts that meet, and a Kubernetes that is too old for native sidecars."""
    reading = [service for service in platform.services_on(cluster.name) if declared(service, cluster)]
    for service in reading:
        yield from _meeting(service, cluster)
    if reading and not has_sidecars(cluster):
        yield warning(
            "access/no-native-sidecar",
            f"cluster {cluster.name} runs Kubernetes {cluster.versions.kubernetes}, which knows no native sidecars:"
            f" secrets of {len(reading)} service{'s' if len(reading) != 1 else ''} are kept fresh by an ordinary"
            " container",
            cluster.place,
            "go to 1.29 or later; until then a Job with secrets does not end by itself",
            cluster=cluster.name,
        )


def _meeting(service: Service, cluster: Cluster) -> Iterator[Problem]:
    """A folder is one volume: two secrets in one, or one inside another, would hide each other's files."""
    before: list[tuple[str, Secret]] = []
    for secret in declared(service, cluster):
        mine = _plain(secret.mount_path)
        for theirs, other in before:
            if mine == theirs or mine.startswith(f"{theirs}/") or theirs.startswith(f"{mine}/"):
                yield Problem(
                    "access/secret-mounts-meet",
                    f"service {service.key} mounts `{secret.path}` at {secret.mount_path} and `{other.path}` at"
                    f" {other.mount_path}: one would hide the other",
                    secret.place,
                    Severity.ERROR,
                    "give each secret a folder of its own, side by side",
                    related=(other.place,),
                    teams=(service.team,),
                    cluster=cluster.name,
                )
                break
        if any(mine == own or mine.startswith(f"{own}/") or own.startswith(f"{mine}/") for own in _OURS) or not mine:
            yield error(
                "access/secret-mounts-meet",
                f"service {service.key} mounts `{secret.path}` at {secret.mount_path}, where the system's or the"
                " agent's own files lie",
                secret.place,
                f"mount it elsewhere, such as /secrets/{secret.path.rpartition('/')[2]}",
                teams=(service.team,),
                cluster=cluster.name,
            )
        before.append((mine, secret))


_OURS = (IDENTITY_FOLDER, FOLDERS, "/var/run/secrets/kubernetes.io", "/proc", "/sys", "/dev")


def _plain(path: str) -> str:
    """The path without doubled, trailing slashes and `.`; "" for the root itself."""
    return "".join(f"/{part}" for part in path.split("/") if part not in ("", "."))
