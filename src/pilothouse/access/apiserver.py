"""How a cluster's API server asks the authorization webhook about locks: its own configuration, rendered.

Structured authorization (https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization):
the webhook stands before RBAC, since the first authorizer that decides ends the chain and the webhook only ever denies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilothouse.artifacts.model import Document
from pilothouse.labels import GROUP_PREFIX
from pilothouse.platform.model import Cluster, Versions
from pilothouse.problems import Problem, warning

FOLDER = "/etc/kubernetes/pilothouse"
"""Where the files lie on the machines of the control plane."""
CONFIG = "authorization.yaml"
KUBECONFIG = "webhook.kubeconfig"
OURS = f'has(request.groups) && request.groups.exists(group, group.startsWith("{GROUP_PREFIX}"))'
"""CEL over a SubjectAccessReview's spec: nobody but holders of our groups is asked about."""
TIMEOUT = "1s"


def documents(cluster: Cluster) -> Iterator[Document]:
    """`apiserver/authorization.yaml` and the kubeconfig that it names; nothing where no webhook is declared."""
    webhook = cluster.authority.webhook
    if webhook is None:
        return
    version = Versions.number(cluster.versions.kubernetes)
    if version >= (1, 30):
        yield Document(f"apiserver/{CONFIG}", configuration(cluster, version), comment=_comment(cluster))
    yield Document(f"apiserver/{KUBECONFIG}", kubeconfig(cluster), comment=_flags(version))


def configuration(cluster: Cluster, version: tuple[int, ...], folder: str = FOLDER) -> dict[str, Any]:
    """The AuthorizationConfiguration in the form that this version of the API server takes."""
    webhook = cluster.authority.webhook
    if webhook is None:
        raise ValueError(f"cluster {cluster.name} declares no webhook")
    return {
        "apiVersion": "apiserver.config.k8s.io/v1" if version >= (1, 32) else "apiserver.config.k8s.io/v1beta1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [
            {
                "type": "Webhook",
                "name": "pilothouse-locks",
                "webhook": {
                    **_caching(version),
                    "timeout": TIMEOUT,
                    "subjectAccessReviewVersion": "v1",
                    "matchConditionSubjectAccessReviewVersion": "v1",
                    "failurePolicy": webhook.failure_policy,
                    "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": f"{folder}/{KUBECONFIG}"},
                    "matchConditions": [{"expression": OURS}],
                },
            },
            {"type": "Node", "name": "node"},
            {"type": "RBAC", "name": "rbac"},
        ],
    }


def _caching(version: tuple[int, ...]) -> dict[str, Any]:
    """No answer is remembered; before 1.34 that cannot be said, and 0 would mean the default of 30 s."""
    if version >= (1, 34):
        return {"cacheAuthorizedRequests": False, "cacheUnauthorizedRequests": False}
    return {"authorizedTTL": "1s", "unauthorizedTTL": "1s"}


def kubeconfig(cluster: Cluster, folder: str = FOLDER) -> dict[str, Any]:
    """Whom the API server asks, and as whom. It names files; their content is the owner's."""
    webhook = cluster.authority.webhook
    if webhook is None:
        raise ValueError(f"cluster {cluster.name} declares no webhook")
    name = "pilothouse-locks"
    address = f"{webhook.url.rstrip('/')}/authorize/{cluster.name}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": address, "certificate-authority": f"{folder}/webhook-ca.crt"}}
        ],
        "users": [
            {
                "name": name,
                "user": {"client-certificate": f"{folder}/client.crt", "client-key": f"{folder}/client.key"},
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def _comment(cluster: Cluster) -> str:
    webhook = cluster.authority.webhook
    policy = webhook.failure_policy if webhook else ""
    if policy == "Deny":
        meaning = "Deny: while the webhook does not answer, nobody with a certificate of ours may do anything."
    else:
        meaning = "NoOpinion: while the webhook does not answer, RBAC alone decides, and locks do not hold."
    return (
        f"Put into {FOLDER}/{CONFIG} on each machine of the control plane:\n"
        f"kube-apiserver --authorization-config={FOLDER}/{CONFIG}   (instead of --authorization-mode)\n{meaning}"
    )


def _flags(version: tuple[int, ...]) -> str:
    files = f"Put into {FOLDER}/{KUBECONFIG}, beside webhook-ca.crt, client.crt and client.key."
    if version >= (1, 30):
        return files
    return (
        f"{files}\nkube-apiserver --authorization-mode=Webhook,Node,RBAC --authorization-webhook-version=v1"
        f" --authorization-webhook-config-file={FOLDER}/{KUBECONFIG}"
        " --authorization-webhook-cache-authorized-ttl=1s --authorization-webhook-cache-unauthorized-ttl=1s"
    )


def problems(cluster: Cluster) -> Iterator[Problem]:
    """What the webhook cannot do on that version."""
    if cluster.authority.webhook is None or Versions.number(cluster.versions.kubernetes) >= (1, 32):
        return
    yield warning(
        "access/no-credential-id",
        f"the API server of {cluster.name} ({cluster.versions.kubernetes}) does not say which certificate was used,"
        " so the lock of one certificate cannot hold there",
        cluster.place,
        "lock the person instead; from Kubernetes 1.32 on both hold",
        cluster=cluster.name,
    )
