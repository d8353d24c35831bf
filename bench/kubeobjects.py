"""Kubernetes objects as `kubectl get -o json` prints them, made by rule instead of by a cluster.

A `World` hands out what an API server and its controllers would: uids, versions, template hashes, addresses of
both families, the node that a pod lands on. Everything follows from the names, so the same calls make the same objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

Object = dict[str, Any]

NOW = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
"""The moment at which the snapshots were taken."""

_HASH = "bcdfghjklmnpqrstvwxz2456789"
"""The letters that Kubernetes makes names from: no vowels, nothing that looks like another."""


@dataclass(frozen=True)
class PortOf:
    name: str
    number: int
    protocol: str = "TCP"


@dataclass(frozen=True)
class Box:
    """A container. `kind` is main, init (runs to its end first) or sidecar (an init container that stays)."""

    name: str
    image: str
    ports: tuple[PortOf, ...] = ()
    kind: str = "main"


@dataclass
class World:
    """One cluster while it is being made. `prefix4` is the pods' /16, `prefix6` their /56, and so on for the others."""

    name: str
    pods4: str
    pods6: str
    services4: str
    services6: str
    nodes4: str
    nodes6: str
    version: str = "v1.34.2"
    sink: Callable[[Object], object] | None = None
    """Takes each object as it is made, instead of `objects`: a large cluster need not stand in memory as a whole."""
    objects: list[Object] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    _workers: list[str] = field(default_factory=list)
    _next_pod: dict[str, int] = field(default_factory=dict)
    _next_service: int = 20
    _next_node: int = 0
    _ranges: dict[str, Any] = field(default_factory=dict)

    # ------------------------------------------------------------ what the API server adds

    def number(self, *parts: str) -> int:
        return int.from_bytes(hashlib.sha256("/".join((self.name, *parts)).encode()).digest()[:8])

    def letters(self, count: int, *parts: str) -> str:
        value, text = self.number(*parts), ""
        for _ in range(count):
            value, rest = divmod(value, len(_HASH))
            text += _HASH[rest]
        return text

    def uid(self, *parts: str) -> str:
        text = hashlib.sha256("/".join((self.name, "uid", *parts)).encode()).hexdigest()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:32]}"

    def born(self, *parts: str) -> str:
        """A moment in the month before the snapshot."""
        return stamp(NOW - timedelta(seconds=3600 + self.number("born", *parts) % 2_500_000))

    def metadata(
        self, kind: str, name: str, namespace: str = "", labels: dict[str, str] | None = None, **more: Any
    ) -> Object:
        found: Object = {
            "creationTimestamp": self.born(kind, namespace, name),
            "name": name,
            "resourceVersion": str(10_000 + self.number("version", kind, namespace, name) % 90_000_000),
            "uid": self.uid(kind, namespace, name),
            **more,
        }
        if namespace:
            found["namespace"] = namespace
        if labels:
            found["labels"] = labels
        return found

    def add(self, data: Object) -> Object:
        """Takes an object that is whole: nothing is changed in it afterwards."""
        (self.sink or self.objects.append)(data)
        return data

    def _network(self, text: str) -> IPv4Network | IPv6Network:
        if text not in self._ranges:
            self._ranges[text] = ip_network(text)
        found: IPv4Network | IPv6Network = self._ranges[text]
        return found

    def _address(self, range_: str, offset: int) -> str:
        return str(self._network(range_)[offset])

    def addresses_of(self, node: str) -> list[str]:
        """The node's own addresses, IPv4 first."""
        found: list[str] = self._ranges[f"node {node}"]
        return found

    # ------------------------------------------------------------ objects

    def namespace(self, name: str, labels: dict[str, str]) -> Object:
        return self.add(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": self.metadata("Namespace", name, labels={**labels, "kubernetes.io/metadata.name": name}),
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }
        )

    def node(self, name: str, offset: int, control_plane: bool = False) -> Object:
        """`offset` is where its address lies in the range of the nodes; its pods get a /24 and a /64 of their own."""
        index = len(self.nodes)
        self.nodes.append(name)
        addresses = [self._address(self.nodes4, offset), self._address(self.nodes6, offset)]
        self._ranges[f"node {name}"] = addresses
        four = ip_network((int(self._network(self.pods4).network_address) + (index << 8), 24))
        self._ranges[f"pods4 {name}"] = four
        six = ip_network((int(self._network(self.pods6).network_address) + (index << 64), 64))
        self._ranges[f"pods6 {name}"] = six
        labels = {
            "beta.kubernetes.io/arch": "amd64",
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
        }
        data: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": self.metadata("Node", name, labels=labels),
            "spec": {"podCIDR": str(four), "podCIDRs": [str(four), str(six)]},
            "status": {
                "addresses": [
                    *({"address": address, "type": "InternalIP"} for address in addresses),
                    {"address": name, "type": "Hostname"},
                ],
                "allocatable": {"cpu": "7910m", "memory": "31470164Ki", "pods": "110"},
                "capacity": {"cpu": "8", "memory": "32589396Ki", "pods": "110"},
                "conditions": [_condition("Ready", "True", NOW - timedelta(minutes=2), "KubeletReady")],
                "nodeInfo": {
                    "architecture": "amd64",
                    "containerRuntimeVersion": "containerd://2.1.4",
                    "kubeletVersion": self.version,
                    "operatingSystem": "linux",
                },
            },
        }
        if not control_plane:
            self._workers.append(name)
        else:
            labels["node-role.kubernetes.io/control-plane"] = ""
            data["spec"]["taints"] = [{"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}]
        return self.add(data)

    def account(self, namespace: str, name: str) -> Object:
        return self.add(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": self.metadata("ServiceAccount", name, namespace)}
        )

    def pod(
        self,
        namespace: str,
        name: str,
        labels: dict[str, str],
        boxes: tuple[Box, ...],
        *,
        owner: tuple[str, str, str] | None = None,
        account: str = "default",
        node: str | None = None,
        host_network: bool = False,
        state: str = "Running",
        annotations: dict[str, str] | None = None,
        generate_name: str = "",
    ) -> Object:
        """`owner` is (apiVersion, kind, name). `state` is Running, NotReady, Creating, Unschedulable, Succeeded, Failed
        or Evicted."""
        if node is None:
            workers = self._workers or self.nodes
            node = workers[self._next_node % len(workers)]
            self._next_node += 1
        placed = state != "Unschedulable"
        metadata = self.metadata("Pod", name, namespace, labels)
        if generate_name:
            metadata["generateName"] = generate_name
        if annotations:
            metadata["annotations"] = annotations
        if owner:
            version, kind, owner_name = owner
            metadata["ownerReferences"] = [
                {
                    "apiVersion": version,
                    "blockOwnerDeletion": True,
                    "controller": True,
                    "kind": kind,
                    "name": owner_name,
                    "uid": self.uid(kind, namespace if kind != "Node" else "", owner_name),
                }
            ]
        main = [box for box in boxes if box.kind == "main"]
        before = [box for box in boxes if box.kind != "main"]
        finished = state in ("Succeeded", "Failed", "Evicted")
        spec: Object = {
            "containers": [_container(box) for box in main],
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Never" if owner and owner[1] == "Job" else "Always",
            "serviceAccount": account,
            "serviceAccountName": account,
        }
        if before:
            spec["initContainers"] = [_container(box) for box in before]
        if placed:
            spec["nodeName"] = node
        if host_network:
            spec["hostNetwork"] = True
        data: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": spec,
            "status": self._pod_status(namespace, name, node, main, before, state, host_network, finished, placed),
        }
        return self.add(data)

    def _pod_status(
        self,
        namespace: str,
        name: str,
        node: str,
        main: list[Box],
        before: list[Box],
        state: str,
        host_network: bool,
        finished: bool,
        placed: bool,
    ) -> Object:
        began = NOW - timedelta(seconds=600 + self.number("began", namespace, name) % 400_000)
        if not placed:
            return {
                "conditions": [
                    _condition(
                        "PodScheduled", "False", began, "Unschedulable", "0/6 nodes are available: Insufficient cpu."
                    )
                ],
                "phase": "Pending",
                "qosClass": "Burstable",
            }
        if state == "Evicted":
            return {
                "message": "The node was low on resource: memory. ",
                "phase": "Failed",
                "qosClass": "Burstable",
                "reason": "Evicted",
                "startTime": stamp(began),
            }
        ready = state == "Running"
        hosts = self.addresses_of(node)
        status: Object = {
            "conditions": [
                _condition("Ready", "True" if ready else "False", began, "" if ready else _NOT_READY.get(state, "")),
                _condition("PodScheduled", "True", began),
            ],
            "hostIP": hosts[0],
            "phase": {"Creating": "Pending", "NotReady": "Running"}.get(state, state),
            "startTime": stamp(began),
        }
        status["containerStatuses"] = [_status_of(box, state, began) for box in main]
        if before:
            status["initContainerStatuses"] = [
                _status_of(box, "Succeeded" if box.kind == "init" or finished else state, began) for box in before
            ]
        if host_network:
            ips = hosts
        elif state == "Creating":
            return status
        else:
            offset = self._next_pod[node] = self._next_pod.get(node, 4) + 1
            ips = [str(self._ranges[f"pods4 {node}"][offset]), str(self._ranges[f"pods6 {node}"][offset])]
        return {**status, "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}

    def deployment(
        self,
        namespace: str,
        name: str,
        labels: dict[str, str],
        boxes: tuple[Box, ...],
        replicas: int,
        states: tuple[str, ...] = (),
        **more: Any,
    ) -> list[Object]:
        """The pods of a Deployment; `states` are those of the last ones, the others run."""
        template = self.letters(9, "template", namespace, name)
        replica_set = f"{name}-{template}"
        chosen = ("Running",) * (replicas - len(states)) + states
        return [
            self.pod(
                namespace,
                f"{replica_set}-{self.letters(5, 'pod', namespace, name, str(index))}",
                {**labels, "pod-template-hash": template},
                boxes,
                owner=("apps/v1", "ReplicaSet", replica_set),
                state=state,
                generate_name=f"{replica_set}-",
                **more,
            )
            for index, state in enumerate(chosen)
        ]

    def stateful_set(
        self, namespace: str, name: str, labels: dict[str, str], boxes: tuple[Box, ...], replicas: int, **more: Any
    ) -> list[Object]:
        revision = f"{name}-{self.letters(10, 'revision', namespace, name)}"
        return [
            self.pod(
                namespace,
                f"{name}-{index}",
                {
                    **labels,
                    "apps.kubernetes.io/pod-index": str(index),
                    "controller-revision-hash": revision,
                    "statefulset.kubernetes.io/pod-name": f"{name}-{index}",
                },
                boxes,
                owner=("apps/v1", "StatefulSet", name),
                generate_name=f"{name}-",
                **more,
            )
            for index in range(replicas)
        ]

    def daemon_set(
        self, namespace: str, name: str, labels: dict[str, str], boxes: tuple[Box, ...], **more: Any
    ) -> list[Object]:
        revision = self.letters(10, "revision", namespace, name)
        return [
            self.pod(
                namespace,
                f"{name}-{self.letters(5, 'pod', namespace, name, node)}",
                {**labels, "controller-revision-hash": revision, "pod-template-generation": "1"},
                boxes,
                owner=("apps/v1", "DaemonSet", name),
                node=node,
                generate_name=f"{name}-",
                **more,
            )
            for node in self.nodes
        ]

    def service(
        self,
        namespace: str,
        name: str,
        selector: dict[str, str],
        ports: list[tuple[str, int, int | str] | tuple[str, int, int | str, str]],
        pods: list[Object],
        *,
        headless: bool = False,
        type: str = "ClusterIP",
        cluster_ip: int = 0,
        external: str = "",
    ) -> Object:
        """A Service and its EndpointSlices, one per family. `ports` are (name, port, targetPort[, protocol])."""
        self._next_service += 1
        offset = cluster_ip or self._next_service
        ips = ["None"] if headless else [self._address(self.services4, offset), self._address(self.services6, offset)]
        written = []
        for item in ports:
            port: Object = {
                "name": item[0],
                "port": item[1],
                "protocol": item[3] if len(item) == 4 else "TCP",
                "targetPort": item[2],
            }
            if type in ("NodePort", "LoadBalancer"):
                port["nodePort"] = 30000 + self.number("nodePort", namespace, name, item[0]) % 2768
            written.append(port)
        status: Object = {"loadBalancer": {"ingress": [{"ip": external, "ipMode": "VIP"}]} if external else {}}
        data = self.add(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": self.metadata("Service", name, namespace, dict(selector) or None),
                "spec": {
                    "clusterIP": ips[0],
                    "clusterIPs": ips,
                    "ipFamilies": ["IPv4", "IPv6"],
                    "ipFamilyPolicy": "PreferDualStack",
                    "ports": written,
                    **({"selector": selector} if selector else {}),
                    "sessionAffinity": "None",
                    "type": type,
                },
                "status": status,
            }
        )
        if selector:
            for family in (0, 1):
                self._slice(namespace, name, written, pods, family)
        return data

    def _slice(self, namespace: str, service: str, ports: list[Object], pods: list[Object], family: int) -> None:
        endpoints = []
        numbers: list[Object] = []
        for pod in pods:
            ips = pod["status"].get("podIPs", ())
            if len(ips) <= family or pod["status"]["phase"] in ("Succeeded", "Failed"):
                continue
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
            endpoints.append(
                {
                    "addresses": [ips[family]["ip"]],
                    "conditions": {"ready": ready},
                    "nodeName": pod["spec"]["nodeName"],
                    "targetRef": {
                        "kind": "Pod",
                        "name": pod["metadata"]["name"],
                        "namespace": namespace,
                        "uid": pod["metadata"]["uid"],
                    },
                }
            )
            numbers = numbers or _resolved(ports, pod)
        name = f"{service}-{self.letters(5, 'slice', namespace, service, str(family))}"
        self.add(
            {
                "addressType": "IPv6" if family else "IPv4",
                "apiVersion": "discovery.k8s.io/v1",
                "endpoints": endpoints,
                "kind": "EndpointSlice",
                "metadata": self.metadata(
                    "EndpointSlice",
                    name,
                    namespace,
                    {
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                        "kubernetes.io/service-name": service,
                    },
                ),
                "ports": numbers,
            }
        )

    def plain(self, api_version: str, kind: str, name: str, namespace: str = "", **fields_: Any) -> Object:
        """Any other object: `labels` and `annotations` go to its metadata, the rest stands at the top."""
        labels = fields_.pop("labels", None)
        annotations = fields_.pop("annotations", None)
        metadata = self.metadata(kind, name, namespace, labels)
        if annotations:
            metadata["annotations"] = annotations
        return self.add({"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields_})


_NOT_READY = {
    "NotReady": "ContainersNotReady",
    "Creating": "ContainersNotReady",
    "Succeeded": "PodCompleted",
    "Failed": "PodFailed",
}


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(kind: str, status: str, when: datetime, reason: str = "", message: str = "") -> Object:
    found: Object = {"lastTransitionTime": stamp(when), "status": status, "type": kind}
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    return found


def _container(box: Box) -> Object:
    found: Object = {
        "image": box.image,
        "name": box.name,
        "resources": {},
    }
    if box.ports:
        found["ports"] = [
            {"containerPort": port.number, **({"name": port.name} if port.name else {}), "protocol": port.protocol}
            for port in box.ports
        ]
    if box.kind == "sidecar":
        found["restartPolicy"] = "Always"
    return found


def _status_of(box: Box, state: str, began: datetime) -> Object:
    running = {"running": {"startedAt": stamp(began)}}
    what: Object = {
        "Running": running,
        "NotReady": {
            "waiting": {
                "message": f"back-off 5m0s restarting failed container={box.name}",
                "reason": "CrashLoopBackOff",
            }
        },
        "Creating": {"waiting": {"reason": "ContainerCreating"}},
    }.get(state) or {
        "terminated": {
            "exitCode": 0 if state == "Succeeded" else 1,
            "finishedAt": stamp(began + timedelta(seconds=90)),
            "reason": "Completed" if state == "Succeeded" else "Error",
            "startedAt": stamp(began),
        }
    }
    return {
        "name": box.name,
        "ready": state == "Running" or (box.kind == "init" and state == "Succeeded"),
        "restartCount": 14 if state == "NotReady" else 0,
        "started": state == "Running",
        "state": what,
    }


def _resolved(ports: list[Object], pod: Object) -> list[Object]:
    """The ports of a slice: numbers of the pod, where the Service gives a name."""
    spec = pod["spec"]
    named = {
        port["name"]: port["containerPort"]
        for container in (*spec["containers"], *spec.get("initContainers", ()))
        for port in container.get("ports", ())
        if "name" in port
    }
    return [
        {"name": port["name"], "port": number, "protocol": port["protocol"]}
        for port in ports
        if (number := named.get(port["targetPort"], port["targetPort"])) and isinstance(number, int)
    ]
