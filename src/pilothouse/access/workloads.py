"""What a team lays over its own workload to get the secrets that it declares: below `workloads/` of the rendered tree.

For each service with secrets there are a component of kustomize, whose patches name the workloads that run its pods
(https://kubectl.docs.kubernetes.io/guides/config_management/components/), and the same as values for a chart. They are
no objects: nothing of them is applied by itself. They hold no secret, only where one lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pilothouse.access import pod
from pilothouse.access.accounts import with_secrets
from pilothouse.access.content import VaultContent
from pilothouse.artifacts.model import Document
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Snapshot
from pilothouse.platform.model import Cluster, Service
from pilothouse.problems import Invalid, Problem, error

COMPONENT = "kustomize.config.k8s.io/v1alpha1"
"""The group in which kustomize has kept components since 3.7."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A workload that runs pods of a service, and the container of it that reads the secrets."""

    kind: str
    name: str
    container: str

    @property
    def file(self) -> str:
        return f"{self.kind.lower()}-{self.name}.yaml"


def targets(service: Service, snapshot: Snapshot) -> tuple[Target, ...]:
    """The workloads that the snapshot shows for the service; a Deployment that is called like it where there is none.

    The container is the one that is called like the service, else the only one; else the name of the service, which
    the team then has to put right.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for item in snapshot.select(service.namespace, service.pod_selector):
        if item.owner is not None and item.owner.kind in pod.WRAPPERS:
            names = set(item.containers) - {pod.INIT, pod.SIDECAR}
            found.setdefault((item.owner.kind, item.owner.name), set()).update(names)
    if not found:
        return (Target("Deployment", service.name, service.name),)
    return tuple(sorted(Target(kind, name, _reader(service, names)) for (kind, name), names in found.items()))


def _reader(service: Service, containers: set[str]) -> str:
    return service.name if service.name in containers or len(containers) != 1 else next(iter(containers))


def documents(inputs: Inputs, content: VaultContent) -> Iterator[Document]:
    """The component and the values of each service with a secret, where the cluster declares a Vault."""
    if inputs.cluster.servers.vault is None:
        return
    for service in with_secrets(inputs.platform, inputs.cluster):
        try:
            yield from _of(service, inputs.cluster, inputs.snapshot, content)
        except Invalid:
            continue  # `problems` says why


def problems(inputs: Inputs, content: VaultContent) -> Iterator[Problem]:
    """Services whose pods cannot be given what they declare."""
    if inputs.cluster.servers.vault is None:
        return
    for service in with_secrets(inputs.platform, inputs.cluster):
        try:
            pod.agent_config(service, inputs.cluster, content)
        except Invalid as failure:
            yield error(
                "access/too-many-secrets",
                failure.message,
                service.place,
                "put what belongs together into one secret with several keys",
                teams=(service.team,),
                cluster=inputs.cluster.name,
            )


def _of(service: Service, cluster: Cluster, snapshot: Snapshot, content: VaultContent) -> Iterator[Document]:
    folder = f"workloads/{service.namespace}/{service.name}"
    found = targets(service, snapshot)
    for target in found:
        patch = pod.wrapped(pod.fragment(service, cluster, content, target.container), service, target.kind)
        patch["metadata"] = patch["metadata"] | {"name": target.name}
        yield Document(f"{folder}/{target.file}", patch)
    yield Document(
        f"{folder}/kustomization.yaml",
        {
            "apiVersion": COMPONENT,
            "kind": "Component",
            "patches": [
                {"path": target.file, "target": {"kind": target.kind, "name": target.name}} for target in found
            ],
        },
        comment=f"Lays the declared secrets of {service.key} over its workload: name this folder in `components`.",
    )
    yield Document(
        f"{folder}/values.yaml",
        {"secrets": values(pod.fragment(service, cluster, content, found[0].container))},
        comment=f"The declared secrets of {service.key}, as values for a chart's pod template.",
    )


def values(template: dict[str, Any]) -> dict[str, Any]:
    """The fragment by what a chart's template has places for; `containers` are further ones, beside the service's."""
    spec = template["spec"]
    reader, *others = spec["containers"]
    return {
        "podAnnotations": template["metadata"]["annotations"],
        "serviceAccountName": spec["serviceAccountName"],
        "volumes": spec["volumes"],
        "initContainers": spec["initContainers"],
        "containers": others,
        "volumeMounts": reader["volumeMounts"],
    }
