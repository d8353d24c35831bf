"""Raw manifests, as short to write as can be: for the table of cases and for the random ones."""

from __future__ import annotations

from typing import Any

Raw = dict[str, Any]

CALICO = "projectcalico.org/v3"
CALICO_STORED = "crd.projectcalico.org/v1"


def _object(api: str, kind: str, name: str, namespace: str = "", labels: Raw | None = None, **rest: Any) -> Raw:
    metadata: Raw = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def namespace(name: str, **labels: str) -> Raw:
    return _object("v1", "Namespace", name, labels={"kubernetes.io/metadata.name": name, **labels})


def account(name: str, **labels: str) -> Raw:
    """`name` is `namespace/name`."""
    space, own = name.split("/")
    return _object("v1", "ServiceAccount", own, space, labels)


def node(name: str, *addresses: str, **labels: str) -> Raw:
    status = {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]}
    return _object("v1", "Node", name, labels={"kubernetes.io/hostname": name, **labels}, spec={}, status=status)


def pod(
    name: str,
    addresses: str = "",
    labels: Raw | None = None,
    ports: str = "",
    node: str = "n1",
    phase: str = "Running",
    account: str = "default",
    host_network: bool = False,
) -> Raw:
    """`name` is `namespace/name`, `addresses` are separated by spaces, `ports` are `http=80/TCP metrics=9090/TCP`."""
    space, own = name.split("/")
    container: Raw = {"name": "main", "image": "registry.example/main:1"}
    if ports:
        container["ports"] = [_container_port(each) for each in ports.split()]
    spec: Raw = {"serviceAccountName": account, "containers": [container]}
    if node:
        spec["nodeName"] = node
    if host_network:
        spec["hostNetwork"] = True
    status: Raw = {"phase": phase}
    if addresses:
        status["podIP"] = addresses.split()[0]
        status["podIPs"] = [{"ip": each} for each in addresses.split()]
    return _object("v1", "Pod", own, space, labels, spec=spec, status=status)


def _container_port(text: str) -> Raw:
    name, _, rest = text.partition("=")
    number, _, protocol = rest.partition("/")
    return {"name": name, "containerPort": int(number), "protocol": protocol or "TCP"}


def service(name: str, selector: Raw, port: int, target: int | str, protocol: str = "TCP") -> Raw:
    space, own = name.split("/")
    ports = [{"name": "main", "port": port, "targetPort": target, "protocol": protocol}]
    return _object("v1", "Service", own, space, spec={"selector": selector, "ports": ports})


def endpoint_slice(name: str, service: str, addresses: str, *ports: str, ready: bool = True) -> Raw:
    """`name` is `namespace/name`; a port is `80/TCP`. The addresses are of one family."""
    space, own = name.split("/")
    found = addresses.split()
    return {
        **_object("discovery.k8s.io/v1", "EndpointSlice", own, space, {"kubernetes.io/service-name": service}),
        "addressType": "IPv6" if ":" in found[0] else "IPv4",
        "endpoints": [{"addresses": [each], "conditions": {"ready": ready}} for each in found],
        "ports": [
            {"name": f"p{index}", "port": int(each.split("/")[0]), "protocol": each.split("/")[1]}
            for index, each in enumerate(ports)
        ],
    }


def network_set(name: str, nets: list[str], labels: Raw | None = None, api: str = CALICO) -> Raw:
    """`name` is `namespace/name`, or of a GlobalNetworkSet its name."""
    space, _, own = name.rpartition("/")
    kind = "NetworkSet" if space else "GlobalNetworkSet"
    return _object(api, kind, own, space, labels, spec={"nets": nets})


def host_endpoint(name: str, addresses: str, labels: Raw | None = None, **spec: Any) -> Raw:
    """On node n1, unless `spec` says otherwise."""
    spec = {"node": "n1", "interfaceName": "eth0", "expectedIPs": addresses.split(), **spec}
    return _object(CALICO, "HostEndpoint", name, labels=labels, spec=spec)


def tier(name: str, order: float | None = None, action: str | None = None, api: str = CALICO) -> Raw:
    spec: Raw = {}
    if order is not None:
        spec["order"] = order
    if action is not None:
        spec["defaultAction"] = action
    return _object(api, "Tier", name, spec=spec)


def profile(name: str, labels: Raw | None = None, **spec: Any) -> Raw:
    return _object(CALICO, "Profile", name, spec={"labelsToApply": labels or {}, **spec})


def kubernetes(name: str, pod_selector: Raw | None = None, **spec: Any) -> Raw:
    """A NetworkPolicy of Kubernetes; `name` is `namespace/name`."""
    space, own = name.split("/")
    spec = {"podSelector": pod_selector or {}, **spec}
    return _object("networking.k8s.io/v1", "NetworkPolicy", own, space, spec=spec)


def staged_kubernetes(name: str, pod_selector: Raw | None = None, **spec: Any) -> Raw:
    space, own = name.split("/")
    spec = {"podSelector": pod_selector or {}, **spec}
    return _object(CALICO, "StagedKubernetesNetworkPolicy", own, space, spec=spec)


def calico(name: str, selector: str | None = None, staged: bool = False, api: str = CALICO, **spec: Any) -> Raw:
    """A policy of Calico: `namespace/name`, or of a GlobalNetworkPolicy its name."""
    space, _, own = name.rpartition("/")
    kind = ("Staged" if staged else "") + ("NetworkPolicy" if space else "GlobalNetworkPolicy")
    if selector is not None:
        spec = {"selector": selector, **spec}
    return _object(api, kind, own, space, spec=spec)


def admin(name: str, priority: int, subject: Raw, **spec: Any) -> Raw:
    spec = {"priority": priority, "subject": subject, **spec}
    return _object("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", name, spec=spec)


def baseline_admin(subject: Raw, **spec: Any) -> Raw:
    """There is only one, and it is called `default`."""
    spec = {"subject": subject, **spec}
    return _object("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", "default", spec=spec)


def cluster(name: str, tier: str, priority: int, subject: Raw, **spec: Any) -> Raw:
    """A ClusterNetworkPolicy; `tier` is Admin or Baseline."""
    spec = {"tier": tier, "priority": priority, "subject": subject, **spec}
    return _object("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", name, spec=spec)


def rule(action: str = "Allow", source: Raw | None = None, destination: Raw | None = None, **rest: Any) -> Raw:
    """A rule of Calico."""
    found: Raw = {"action": action, **rest}
    if source:
        found["source"] = source
    if destination:
        found["destination"] = destination
    return found
