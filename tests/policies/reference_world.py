"""What the reference evaluator knows of a cluster: its manifests as they are, and who has which address and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from ipaddress import ip_address as read_address
from typing import Any

Manifest = Mapping[str, Any]
Network = IPv4Network | IPv6Network

NAMESPACE = "projectcalico.org/namespace"
ORCHESTRATOR = "projectcalico.org/orchestrator"
SERVICE_ACCOUNT = "projectcalico.org/serviceaccount"

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136}
"""https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#rule, numbers by IANA."""

WITH_PORTS = (6, 17, 132)


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection. Ports count for TCP, UDP and SCTP, type and code for ICMP and ICMPv6."""

    protocol: int
    source_port: int = 0
    destination_port: int = 0
    icmp_type: int = 0
    icmp_code: int = 0


@dataclass(frozen=True)
class End:
    """An address and whose it is: of a pod (`namespace/name`), of a host endpoint (its name), or of neither."""

    address: str
    pod: str = ""
    host: str = ""


@dataclass(frozen=True)
class Member:
    """What a selector may find: a pod, a host endpoint or a network set, with the labels that the selector sees.

    `ports` are (name, protocol number, port number). `profiles` are names, in order.
    """

    kind: str  # "pod", "host" or "set"
    name: str
    namespace: str
    labels: Mapping[str, str]
    nets: tuple[Network, ...]
    ports: tuple[tuple[str, int, int], ...] = ()
    profiles: tuple[str, ...] = ()
    interface: str = ""
    own_labels: Mapping[str, str] = field(default_factory=dict)  # of a pod: as its manifest has them
    node: str = ""

    def has(self, address: str) -> bool:
        return any(contains(net, address) for net in self.nets)


@cache
def ip_address(text: str) -> IPv4Address | IPv6Address:
    return read_address(text)


def contains(net: Network, address: str) -> bool:
    one = ip_address(address)
    return one.version == net.version and one in net


@cache
def cidr(text: str) -> Network:
    """A range, or a single address; bits beyond the prefix do not count."""
    return ip_network(text, strict=False)


def protocol_number(protocol: int | str) -> int:
    text = str(protocol).lower()
    return int(text) if text.isdigit() else PROTOCOLS[text]


class World:
    """`objects`: manifests of every kind as the API servers print them, in any order."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.objects = objects
        self.namespaces = {name(each): labels(each) for each in self.of("Namespace")}
        self.accounts = {(namespace(each), name(each)): labels(each) for each in self.of("ServiceAccount")}
        self.profiles = {name(each): each for each in self.of("Profile")}
        self.pods = {f"{pod.namespace}/{pod.name}": pod for pod in map(self._pod, self.of("Pod")) if pod is not None}
        self.hosts = {name(each): self._host(each) for each in self.of("HostEndpoint")}
        self.sets = [self._set(each) for each in self.of("NetworkSet", "GlobalNetworkSet")]

    def __repr__(self) -> str:
        """What a failing random case prints, to be pasted into the table."""
        return f"World({self.objects!r})"

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [each for each in self.objects if each["kind"] in kinds]

    @property
    def members(self) -> list[Member]:
        return [*self.pods.values(), *self.hosts.values(), *self.sets]

    def at(self, address: str) -> list[Member]:
        """Everything that has the address: Calico turns each selector into a set of addresses, so that what is
        matched is never a pod but its address."""
        return [member for member in self.members if member.has(address)]

    def endpoint(self, end: End) -> Member | None:
        """What policies apply to at this end; None for an address outside, or of a pod that is no endpoint."""
        if end.host:
            return self.hosts[end.host]
        return self.pods.get(end.pod) if end.pod else None

    def ends(self) -> list[End]:
        """Every address of every pod that is an endpoint, and of every host endpoint."""
        found = [End(str(net.network_address), pod=key) for key, pod in self.pods.items() for net in pod.nets]
        return found + [
            End(str(net.network_address), host=key) for key, host in self.hosts.items() for net in host.nets
        ]

    def _pod(self, manifest: Manifest) -> Member | None:
        """None unless it is a workload endpoint: on a node, with an address of its own that it still holds.

        Pods on the host's network, not yet scheduled or finished are not (IsReadyCalicoPod and IsFinished in
        https://github.com/projectcalico/calico/blob/master/libcalico-go/lib/backend/k8s/conversion/conversion.go).
        """
        spec, status = manifest["spec"], manifest.get("status") or {}
        addresses = [each["ip"] for each in status.get("podIPs") or []]
        if not addresses and status.get("podIP"):
            addresses = [status["podIP"]]
        if spec.get("hostNetwork") or not spec.get("nodeName") or not addresses:
            return None
        if status.get("phase") in ("Succeeded", "Failed"):
            return None
        account = spec.get("serviceAccountName") or "default"
        own = {key: value for key, value in labels(manifest).items() if not key.startswith(("pcns.", "pcsa."))}
        own |= {NAMESPACE: namespace(manifest), ORCHESTRATOR: "k8s", SERVICE_ACCOUNT: account}
        profiles = (f"kns.{namespace(manifest)}", f"ksa.{namespace(manifest)}.{account}")
        ports = tuple(
            (port["name"], protocol_number(port.get("protocol") or "TCP"), port["containerPort"])
            for container in spec.get("containers") or []
            for port in container.get("ports") or []
            if port.get("name")
        )
        return Member(
            "pod",
            name(manifest),
            namespace(manifest),
            self._inherited(profiles) | own,
            tuple(cidr(address) for address in addresses),
            ports,
            profiles,
            own_labels=labels(manifest),
            node=spec["nodeName"],
        )

    def _host(self, manifest: Manifest) -> Member:
        spec = manifest["spec"]
        profiles = tuple(spec.get("profiles") or ())
        ports = tuple(
            (port["name"], protocol_number(port["protocol"]), port["port"]) for port in spec.get("ports") or []
        )
        return Member(
            "host",
            name(manifest),
            "",
            self._inherited(profiles) | labels(manifest),
            tuple(cidr(address) for address in spec.get("expectedIPs") or []),
            ports,
            profiles,
            spec.get("interfaceName") or "",
            node=spec.get("node") or "",
        )

    def _set(self, manifest: Manifest) -> Member:
        """A NetworkSet has its namespace's labels as a pod has (networksetprocessor.go of Calico's update
        processors); a GlobalNetworkSet has none but its own."""
        nets = tuple(cidr(net) for net in manifest["spec"].get("nets") or [])
        if manifest["kind"] == "GlobalNetworkSet":
            return Member("set", name(manifest), "", labels(manifest), nets)
        own = labels(manifest) | {NAMESPACE: namespace(manifest)}
        return Member(
            "set",
            name(manifest),
            namespace(manifest),
            self._inherited((f"kns.{namespace(manifest)}",)) | own,
            nets,
        )

    def namespace_labels(self, of: str) -> dict[str, str]:
        """The API server labels every namespace with its name."""
        return self.namespaces.get(of, {}) | {"kubernetes.io/metadata.name": of}

    def _inherited(self, profiles: tuple[str, ...]) -> dict[str, str]:
        """Labels by way of profiles: those of the namespace as `pcns.…`, of the service account as `pcsa.…`."""
        found: dict[str, str] = {}
        for profile in profiles:
            kind, _, rest = profile.partition(".")
            if kind == "kns":
                found |= {f"pcns.{key}": value for key, value in self.namespace_labels(rest).items()}
                found["pcns.projectcalico.org/name"] = rest
            elif kind == "ksa":
                space, _, account = rest.partition(".")
                found |= {f"pcsa.{key}": value for key, value in self.accounts.get((space, account), {}).items()}
                found["pcsa.projectcalico.org/name"] = account
            if profile in self.profiles:
                found |= self.profiles[profile].get("spec", {}).get("labelsToApply") or {}
        return found

    def node_addresses(self, selector_holds: Callable[[Mapping[str, str]], bool]) -> list[str]:
        """Addresses of the nodes for whose labels `selector_holds` is true."""
        return [
            address["address"]
            for node in self.of("Node")
            if selector_holds(labels(node))
            for address in (node.get("status") or {}).get("addresses") or []
            if address["type"] in ("InternalIP", "ExternalIP")
        ]

    def backends(self, space: str, service: str) -> list[tuple[str, int, int]]:
        """(address, protocol, port) of a Service by its EndpointSlices, ready or not.

        A slice's port without a number says nothing of ports, and gives none (Felix's serviceindex.go).
        """
        return [
            (address, protocol_number(port.get("protocol") or "TCP"), port["port"])
            for each in self._slices(space, service)
            for address in _addresses(each)
            for port in each.get("ports") or []
            if port.get("port") is not None
        ]

    def backend_addresses(self, space: str, service: str) -> list[str]:
        return [address for each in self._slices(space, service) for address in _addresses(each)]

    def _slices(self, space: str, service: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self.of("EndpointSlice")
            if namespace(each) == space and labels(each).get("kubernetes.io/service-name") == service
        ]


def _addresses(endpoint_slice: Manifest) -> list[str]:
    return [address for each in endpoint_slice.get("endpoints") or [] for address in each["addresses"]]


def name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def namespace(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("namespace") or "default")


def labels(manifest: Manifest) -> dict[str, str]:
    return dict(manifest["metadata"].get("labels") or {})
