"""Namespaces, nodes, services and endpoint slices: what pods hang on."""

from __future__ import annotations

from pilothouse.inventory import fields
from pilothouse.inventory.fields import Malformed, Object, Path
from pilothouse.inventory.model import EndpointSlice, KubeService, Namespace, Node, ServicePort
from pilothouse.inventory.pods import PROTOCOLS
from pilothouse.labels import NAMESPACE_NAME_LABEL

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""On an EndpointSlice: the Service that it belongs to (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/)."""


def namespace(data: Object, name: str) -> Namespace:
    labels = fields.labels(fields.mapping(data, "metadata"), at=("metadata",))
    return Namespace(name, {**labels, NAMESPACE_NAME_LABEL: name})


def node(data: Object, name: str) -> Node:
    """`addresses` are the internal and external IPs, `pod_cidrs` the ranges that its pods take theirs from."""
    spec = fields.mapping(data, "spec")
    status = fields.mapping(data, "status")
    single = fields.string(spec, "podCIDR", ("spec",))
    return Node(
        name,
        fields.labels(fields.mapping(data, "metadata"), at=("metadata",)),
        tuple(
            fields.string(item, "address", ("status", "addresses", index))
            for index, item in enumerate(fields.items(status, "addresses", ("status",)))
            if item.get("type") in ("InternalIP", "ExternalIP")
        ),
        fields.strings(spec, "podCIDRs", ("spec",)) or ((single,) if single else ()),
    )


def service(data: Object, namespace: str, name: str) -> KubeService:
    spec = fields.mapping(data, "spec")
    at: Path = ("spec",)
    single = fields.string(spec, "clusterIP", at)
    balancer = fields.mapping(fields.mapping(data, "status"), "loadBalancer", ("status",))
    balanced = (
        fields.string(item, "ip", ("status", "loadBalancer", "ingress", index))
        for index, item in enumerate(fields.items(balancer, "ingress", ("status", "loadBalancer")))
    )
    return KubeService(
        namespace=namespace,
        name=name,
        selector=fields.labels(spec, "selector", at),
        ports=tuple(
            _service_port(item, (*at, "ports", index)) for index, item in enumerate(fields.items(spec, "ports", at))
        ),
        cluster_ips=fields.strings(spec, "clusterIPs", at) or ((single,) if single else ()),
        type=fields.string(spec, "type", at) or "ClusterIP",
        external_ips=fields.strings(spec, "externalIPs", at) + tuple(ip for ip in balanced if ip),
    )


def _protocol(item: Object, at: Path) -> str:
    protocol = fields.string(item, "protocol", at) or "TCP"
    if protocol not in PROTOCOLS:
        raise Malformed((*at, "protocol"), f"{protocol!r} is none of {', '.join(sorted(PROTOCOLS))}")
    return protocol


def _service_port(item: Object, at: Path) -> ServicePort:
    number = fields.port_number(item, "port", at)
    target = item.get("targetPort")
    if target is None or target == 0 or target == "":
        target = number  # https://kubernetes.io/docs/concepts/services-networking/service/#field-spec-ports
    if isinstance(target, bool) or not isinstance(target, (int, str)):
        raise Malformed((*at, "targetPort"), "must be a port number or the name of a container port")
    return ServicePort(
        fields.string(item, "name", at), number, target, _protocol(item, at), fields.integer(item, "nodePort", at, 0)
    )


def endpoint_slice(data: Object, namespace: str, name: str) -> EndpointSlice:
    """Every address, ready or not: no connection to the Service ends at one that is not, and yet policies may match it.

    A port without a number means "all ports", and is left out: there is nothing to compare a policy's port with.
    """
    labels = fields.labels(fields.mapping(data, "metadata"), at=("metadata",))
    addresses: list[str] = []
    targets: list[str] = []
    ready: list[bool] = []
    for index, endpoint in enumerate(fields.items(data, "endpoints")):
        here: Path = ("endpoints", index)
        serves = fields.mapping(endpoint, "conditions", here).get("ready") is not False
        target = fields.mapping(endpoint, "targetRef", here)
        pod = fields.string(target, "name", (*here, "targetRef")) if target.get("kind") == "Pod" else ""
        for address in fields.strings(endpoint, "addresses", here):
            addresses.append(address)
            targets.append(pod)
            ready.append(serves)
    ports: list[ServicePort] = []
    for index, port in enumerate(fields.items(data, "ports")):
        there: Path = ("ports", index)
        if port.get("port") is None:
            continue
        number = fields.port_number(port, "port", there)
        ports.append(ServicePort(fields.string(port, "name", there), number, number, _protocol(port, there)))
    return EndpointSlice(
        namespace,
        name,
        labels.get(SERVICE_NAME_LABEL, ""),
        tuple(addresses),
        tuple(targets),
        tuple(ready),
        tuple(ports),
    )
