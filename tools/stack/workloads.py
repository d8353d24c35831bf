"""What runs on the stack's cluster: the bank's pods on kwok's nodes, at addresses where generated exporters answer.

There is no controller manager and no scheduler: pods are made bound to a node, and `Controller` keeps the figures of
Deployments and StatefulSets true to the pods, as the real one would.
"""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stack.bank import CLUSTER, LIKE
from support.bed.kubernetes import IP_ANNOTATION, KubeApi
from support.exporters import Exporter

from pilothouse.files.content import example
from pilothouse.platform.model import Platform, Service

NODE_COUNT = 4
BESIDE = ("ingress", "kube-system", "logging", "vault")
"""Namespaces that no team declares and whose Deployments and StatefulSets the bank's policies name."""
LOOPBACK = "127.0.0.1"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the bank's namespaces want of a container: https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
Object = dict[str, Any]


@dataclass(frozen=True)
class Real:
    """A server of the stack that is shown as a pod, so that Prometheus finds it as it would in a cluster."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    port_name: str
    port: int
    ip: str = LOOPBACK


@dataclass(frozen=True)
class Cluster:
    """Objects to create, in that order; `pods` by service for those that are scraped: (address, port, pod's name)."""

    objects: tuple[Object, ...]
    scraped: Mapping[str, tuple[tuple[str, int, str], ...]]


def _snapshot(kind: str) -> list[Object]:
    path = example() / "snapshots" / LIKE / f"{kind}.json"
    return list(json.loads(path.read_text(encoding="utf-8"))["items"])


def build(platform: Platform, real: Iterable[Real], network: str) -> Cluster:
    """The cluster as it should be, from the bank's snapshot of the cluster that this one is like. Pods get addresses of
    `network`."""
    wanted = {service.namespace for service in platform.services.values()} | set(BESIDE)
    addresses = (str(address) for address in ipaddress.ip_network(network).hosts())
    objects: list[Object] = []
    for item in _snapshot("namespaces"):
        if item["metadata"]["name"] not in ("default", "kube-system", "kube-public", "kube-node-lease"):
            objects.append(_object("v1", "Namespace", item["metadata"], labels=item["metadata"].get("labels")))
    scraped: dict[str, list[tuple[str, int, str]]] = {}
    owners: dict[tuple[str, str, str], list[Object]] = {}
    pods: list[Object] = []
    for item in _snapshot("pods"):
        owner = _owner(item)
        if item["metadata"]["namespace"] not in wanted or item["status"]["phase"] != "Running" or owner is None:
            continue
        service = _service(platform, item)
        address = next(addresses)
        pod = _pod(item, address, len(pods), service)
        pods.append(pod)
        owners.setdefault((owner[0], item["metadata"]["namespace"], owner[1]), []).append(pod)
        if service is not None and (port := _metrics_port(service)):
            scraped.setdefault(service.key, []).append((address, port, pod["metadata"]["name"]))
    objects += [_workload(kind, namespace, name, own) for (kind, namespace, name), own in owners.items()]
    objects += pods
    objects += [_real(item) for item in real]
    return Cluster(tuple(objects), {key: tuple(found) for key, found in scraped.items()})


def _object(version: str, kind: str, metadata: Mapping[str, Any], **more: Any) -> Object:
    kept: Object = {"name": metadata["name"]}
    if "namespace" in metadata:
        kept["namespace"] = metadata["namespace"]
    kept |= {key: value for key, value in more.items() if value}
    return {"apiVersion": version, "kind": kind, "metadata": kept}


def _owner(pod: Object) -> tuple[str, str] | None:
    """(kind, name) of the workload, a ReplicaSet's Deployment; None for pods of no workload that is kept here."""
    for reference in pod["metadata"].get("ownerReferences", ()):
        if reference["kind"] == "ReplicaSet":
            mark = pod["metadata"]["labels"].get("pod-template-hash", "")
            return "Deployment", reference["name"].removesuffix(f"-{mark}")
        if reference["kind"] == "StatefulSet":
            return "StatefulSet", reference["name"]
    return None


def _service(platform: Platform, pod: Object) -> Service | None:
    labels = pod["metadata"].get("labels", {})
    for service in platform.services.values():
        if service.namespace == pod["metadata"]["namespace"] and service.pod_selector.matches(labels):
            return service
    return None


def _metrics_port(service: Service) -> int:
    """The number of the port that is scraped, 0 for a service without metrics."""
    if service.metrics is None:
        return 0
    if service.metrics.port.isdigit():
        return int(service.metrics.port)
    declared = service.port(service.metrics.port)
    return declared.number if declared else 0


def _pod(item: Object, address: str, number: int, service: Service | None) -> Object:
    pod = _object("v1", "Pod", item["metadata"], labels=item["metadata"].get("labels"))
    pod["metadata"]["annotations"] = {IP_ANNOTATION: address}
    pod["metadata"]["ownerReferences"] = item["metadata"]["ownerReferences"]
    pod["spec"] = {
        "nodeName": f"{CLUSTER}-worker-{number % NODE_COUNT}",
        "serviceAccountName": item["spec"].get("serviceAccountName", "default"),
        # What is not the bank's has nobody behind it who would answer a scrape.
        "containers": [
            _container(container, keep_ports=service is not None) for container in item["spec"]["containers"]
        ],
    }
    return pod


def _container(container: Object, keep_ports: bool) -> Object:
    ports = container.get("ports", [])
    if not keep_ports:
        ports = [port for port in ports if port.get("name") not in ("metrics", "http-metrics", "web")]
    return {"name": container["name"], "image": container["image"], "ports": ports, "securityContext": RESTRICTED}


def _workload(kind: str, namespace: str, name: str, pods: list[Object]) -> Object:
    volatile = ("pod-template-hash", "controller-revision-hash", "statefulset.kubernetes.io/pod-name")
    labels = {
        key: value
        for key, value in pods[0]["metadata"].get("labels", {}).items()
        if key not in volatile and not key.startswith("apps.kubernetes.io/")
    }
    made = _object("apps/v1", kind, {"name": name, "namespace": namespace}, labels=labels)
    spec = {key: value for key, value in pods[0]["spec"].items() if key != "nodeName"}
    made["spec"] = {
        "replicas": len(pods),
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }
    if kind == "StatefulSet":
        made["spec"]["serviceName"] = f"{name}-headless"
    return made


def _real(item: Real) -> Object:
    pod = _object("v1", "Pod", {"name": item.name, "namespace": item.namespace}, labels=dict(item.labels))
    pod["metadata"]["annotations"] = {IP_ANNOTATION: item.ip}
    port = {"name": item.port_name, "containerPort": item.port}
    pod["spec"] = {
        "nodeName": f"{CLUSTER}-worker-0",
        "containers": [{"name": "server", "image": f"registry.bank.example/{item.name}:1", "ports": [port]}],
    }
    return pod


def create(api: KubeApi, objects: Iterable[Object]) -> None:
    """Create all of it. Raises `OSError` with what the API server says."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    done = api.kubectl("create", "-f", "-", stdin=json.dumps(listed))
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Warning:")]
    if done.returncode and lines:
        raise OSError("the API server refuses: " + "\n".join(lines[:5]))


# ---------------------------------------------------------------- what a controller manager and its metrics would say


@dataclass
class Controller:
    """Keeps the status of workloads true to their pods, and shows both as kube-state-metrics does."""

    api: KubeApi
    exporter: Exporter
    period: float = 1.0
    reason: str = ""
    """Why the last look failed, "" where it did not."""
    _end: threading.Event = field(default_factory=threading.Event)
    _seen: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)

    def start(self) -> None:
        threading.Thread(target=self._run, name="controller", daemon=True).start()

    def stop(self) -> None:
        self._end.set()

    def _run(self) -> None:
        while not self._end.wait(self.period):
            try:
                self.look()
                self.reason = ""
            except (OSError, ValueError) as failure:
                # A user may have stopped the API server: as the real one, go on with what was seen last.
                self.reason = str(failure)

    def look(self) -> None:
        """One reading of the API server."""
        pods = self.api.get("/api/v1/pods")["items"]
        nodes = self.api.get("/api/v1/nodes")["items"]
        gauges = dict(_pod_metrics(pods)) | dict(_node_metrics(nodes))
        for kind in ("Deployment", "StatefulSet"):
            for item in self.api.get(f"/apis/apps/v1/{kind.lower()}s")["items"]:
                gauges |= self._workload(kind, item, pods)
        self.exporter.gauges = gauges

    def _workload(self, kind: str, item: Object, pods: list[Object]) -> dict[Any, float]:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        wanted = item["spec"]["selector"]["matchLabels"].items()
        own = [
            pod
            for pod in pods
            if pod["metadata"]["namespace"] == namespace and wanted <= pod["metadata"].get("labels", {}).items()
        ]
        counted = len(own), sum(map(is_ready, own))
        if self._seen.get((kind, namespace, name)) != counted:
            status = dict.fromkeys(("readyReplicas", "availableReplicas"), counted[1])
            status |= {"replicas": counted[0], "updatedReplicas": counted[0]}
            path = f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s/{name}/status"
            self.api.send("PATCH", path, {"status": status}, "application/merge-patch+json")
            self._seen[kind, namespace, name] = counted
        labels = (("namespace", namespace), (kind.lower(), name))
        prefix = f"kube_{kind.lower()}"
        desired = f"{prefix}_spec_replicas" if kind == "Deployment" else f"{prefix}_replicas"
        figures = {desired: float(item["spec"]["replicas"]), f"{prefix}_status_replicas": float(counted[0])}
        figures |= {f"{prefix}_status_replicas_{word}": float(counted[1]) for word in ("available", "ready")}
        figures[f"{prefix}_status_replicas_updated"] = float(counted[0])
        return {(metric, labels): value for metric, value in figures.items()}


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _pod_metrics(pods: Iterable[Object]) -> Iterator[tuple[Any, float]]:
    for pod in pods:
        labels = (("namespace", pod["metadata"]["namespace"]), ("pod", pod["metadata"]["name"]))
        for phase in ("Pending", "Running", "Succeeded", "Failed", "Unknown"):
            yield ("kube_pod_status_phase", (*labels, ("phase", phase))), float(pod["status"].get("phase") == phase)
        for word, value in (("true", is_ready(pod)), ("false", not is_ready(pod))):
            yield ("kube_pod_status_ready", (*labels, ("condition", word))), float(value)


def _node_metrics(nodes: Iterable[Object]) -> Iterator[tuple[Any, float]]:
    for node in nodes:
        name = ("node", node["metadata"]["name"])
        yield ("kube_node_spec_unschedulable", (name,)), float(node["spec"].get("unschedulable", False))
        for condition in node["status"].get("conditions", ()):
            for word in ("true", "false", "unknown"):
                labels = (name, ("condition", condition["type"]), ("status", word))
                yield ("kube_node_status_condition", labels), float(condition["status"].lower() == word)
