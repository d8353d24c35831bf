"""Pods, and the pods that a workload's template would make.

What counts as a pod's port, and who owns it, follows
https://kubernetes.io/docs/concepts/workloads/pods/ (sidecar containers are init containers with
`restartPolicy: Always`, https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilothouse.inventory import fields
from pilothouse.inventory.fields import Malformed, Object, Path
from pilothouse.inventory.model import ContainerPort, Owner, Pod, Workload
from pilothouse.labels import LabelSelector
from pilothouse.problems import Place

PHASES = frozenset(("Pending", "Running", "Succeeded", "Failed", "Unknown"))
PROTOCOLS = frozenset(("TCP", "UDP", "SCTP"))
WORKLOADS = frozenset(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"))

_HASH_LABEL = "pod-template-hash"
# A CronJob names its Jobs by the minute of the schedule since 1970, eight digits since 1989.
_CRON_JOB = re.compile(r"(.+)-[0-9]{8}\Z")


def pod(data: Object, namespace: str, name: str, place: Place) -> Pod:
    """A Pod as the API server gives it, or as somebody wrote it: without a status it is one that would be made."""
    metadata = fields.mapping(data, "metadata")
    spec = fields.mapping(data, "spec")
    status = fields.mapping(data, "status")
    labels = fields.labels(metadata, at=("metadata",))
    phase = fields.string(status, "phase", ("status",))
    written = not phase
    if phase and phase not in PHASES:
        raise Malformed(("status", "phase"), f"{phase!r} is none of {', '.join(sorted(PHASES))}")
    ports, containers = _containers(spec, ("spec",))
    return Pod(
        namespace=namespace,
        name=name,
        labels=labels,
        service_account=_account(spec, ("spec",)),
        ports=ports,
        ips=_ips(status),
        node=fields.string(spec, "nodeName", ("spec",)),
        phase=phase or "Running",
        host_network=spec.get("hostNetwork") is True,
        ready=written or _is_ready(status),
        owner=_owner(metadata, labels),
        containers=containers,
        from_template=written,
        place=place,
    )


def _account(spec: Object, at: Path) -> str:
    return fields.string(spec, "serviceAccountName", at) or fields.string(spec, "serviceAccount", at) or "default"


def _ips(status: Object) -> tuple[str, ...]:
    found = tuple(
        fields.string(item, "ip", ("status", "podIPs")) for item in fields.items(status, "podIPs", ("status",))
    )
    if found:
        return tuple(ip for ip in found if ip)
    single = fields.string(status, "podIP", ("status",))
    return (single,) if single else ()


def _is_ready(status: Object) -> bool:
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in fields.items(status, "conditions", ("status",))
    )


def _containers(spec: Object, at: Path) -> tuple[tuple[ContainerPort, ...], tuple[str, ...]]:
    """(ports, names) of the containers that run beside each other: native sidecars, then the main ones."""
    ports: list[ContainerPort] = []
    names: list[str] = []
    for key in ("initContainers", "containers"):
        for index, container in enumerate(fields.items(spec, key, at)):
            if key == "initContainers" and container.get("restartPolicy") != "Always":
                continue  # it has finished before the others start
            here = (*at, key, index)
            names.append(fields.string(container, "name", here))
            for number, port in enumerate(fields.items(container, "ports", here)):
                there = (*here, "ports", number)
                ports.append(
                    ContainerPort(
                        fields.string(port, "name", there),
                        fields.port_number(port, "containerPort", there),
                        _protocol(port, there),
                    )
                )
    return tuple(ports), tuple(names)


def _protocol(port: Object, at: Path) -> str:
    protocol = fields.string(port, "protocol", at) or "TCP"
    if protocol not in PROTOCOLS:
        raise Malformed((*at, "protocol"), f"{protocol!r} is none of {', '.join(sorted(PROTOCOLS))}")
    return protocol


def controller(metadata: Object) -> Owner | None:
    """The owner that controls the object: at most one owner reference says `controller: true`."""
    for reference in fields.items(metadata, "ownerReferences", ("metadata",)):
        if reference.get("controller") is True:
            at = ("metadata", "ownerReferences")
            return Owner(fields.string(reference, "kind", at), fields.string(reference, "name", at))
    return None


def _owner(metadata: Object, labels: Mapping[str, str]) -> Owner | None:
    """The owner as far as the pod alone tells it; `resolve` goes on where the snapshot holds the owners too."""
    owner = controller(metadata)
    if owner is None:
        return None
    template_hash = labels.get(_HASH_LABEL)
    if owner.kind == "ReplicaSet" and template_hash and owner.name.endswith(f"-{template_hash}"):
        return Owner("Deployment", owner.name[: -len(template_hash) - 1])
    if owner.kind == "Job" and (match := _CRON_JOB.match(owner.name)):
        return Owner("CronJob", match[1])
    return owner


# ---------------------------------------------------------------- workloads


def workload(data: Object, kind: str, namespace: str, name: str, nodes: int) -> Workload:
    """A workload; `replicas` of a DaemonSet is what its status says, else one per node."""
    spec = fields.mapping(data, "spec")
    template, at = _template(spec, kind)
    labels = fields.labels(fields.mapping(template, "metadata", at), at=(*at, "metadata"))
    selector = _selector(spec) or LabelSelector.of(labels)
    if kind not in ("Job", "CronJob") and not selector.matches(labels):
        raise Malformed(("spec", "selector"), "does not match the labels of `spec.template`")
    match kind:
        case "DaemonSet":
            status = fields.mapping(data, "status")
            replicas = fields.integer(status, "desiredNumberScheduled", ("status",), max(nodes, 1))
        case "Job":
            replicas = fields.integer(spec, "parallelism", ("spec",), 1)
        case "CronJob":
            replicas = 1
        case _:
            replicas = fields.integer(spec, "replicas", ("spec",), 1)
    return Workload(kind, namespace, name, replicas, selector, labels)


def template_pod(data: Object, made: Workload, place: Place) -> Pod:
    """The pod that the workload's template would make, named as the first of them (`db-0`, `web`)."""
    template, at = _template(fields.mapping(data, "spec"), made.kind)
    spec = fields.mapping(template, "spec", at)
    ports, containers = _containers(spec, (*at, "spec"))
    return Pod(
        namespace=made.namespace,
        name=f"{made.name}-0" if made.kind == "StatefulSet" else made.name,
        labels=made.template_labels,
        service_account=_account(spec, (*at, "spec")),
        ports=ports,
        host_network=spec.get("hostNetwork") is True,
        owner=Owner(made.kind, made.name),
        containers=containers,
        from_template=True,
        place=place,
    )


def _template(spec: Object, kind: str) -> tuple[Object, Path]:
    at: Path = ("spec",)
    if kind == "CronJob":
        job = fields.mapping(spec, "jobTemplate", at)
        spec, at = fields.mapping(job, "spec", (*at, "jobTemplate")), ("spec", "jobTemplate", "spec")
    if "template" not in spec:
        raise Malformed((*at, "template"), "is missing")
    return fields.mapping(spec, "template", at), (*at, "template")


def _selector(spec: Object) -> LabelSelector | None:
    if not spec.get("selector"):
        return None
    selector = fields.mapping(spec, "selector", ("spec",))
    fields.labels(selector, "matchLabels", ("spec", "selector"))
    for index, item in enumerate(fields.items(selector, "matchExpressions", ("spec", "selector"))):
        here = ("spec", "selector", "matchExpressions", index)
        if item.get("operator") not in ("In", "NotIn", "Exists", "DoesNotExist") or not isinstance(
            item.get("key"), str
        ):
            raise Malformed(here, "needs a `key`, and an `operator` of In, NotIn, Exists or DoesNotExist")
        fields.strings(item, "values", here)
    return LabelSelector.from_dict(selector)
