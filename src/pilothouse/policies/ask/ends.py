"""What people type as an end of a connection, and the pods and addresses that it means.

`namespace/name` is a declared service, else a workload, else a pod, else a Kubernetes Service. `pod:`, `workload:` and
`svc:` before it say which; `host:NAME` is a host endpoint or a node, `new:namespace/key=value,…` any pod with
these labels that may exist later. Besides: an IP address, a range, and `internet`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address, ip_network

from pilothouse.inventory.model import ContainerPort, KubeService, Pod
from pilothouse.platform.model import Network, Service
from pilothouse.policies.ask import basis
from pilothouse.policies.ask.basis import Basis
from pilothouse.policies.engine.backends import service as service_named
from pilothouse.policies.engine.backends import service_at
from pilothouse.policies.selectors import from_labels
from pilothouse.policies.selectors.kubernetes import valid_value
from pilothouse.policies.selectors.space import example
from pilothouse.policies.site import Site
from pilothouse.problems import Invalid, nearest
from pilothouse.reports import plural

FORMS = (
    "write namespace/name (a service, workload or pod), pod:, workload: or svc:namespace/name, host:NAME, an address,"
    " a range, internet, or new:namespace/label=value"
)
INTERNET = "internet"


class Kind(StrEnum):
    SERVICE = "service"
    WORKLOAD = "workload"
    POD = "pod"
    KUBERNETES_SERVICE = "kubernetes-service"
    HOST = "host"
    ADDRESS = "address"
    RANGE = "range"
    INTERNET = "internet"
    FUTURE = "future"


@dataclass(frozen=True, slots=True)
class Point:
    """One pod, or one address. `pod` is an endpoint, or will be one (`later`); with `on_host` the address is that of
    the node on whose network that pod is. `node` is the node whose address it is, or that the pod runs on."""

    name: str
    pod: Pod | None = None
    address: str = ""
    host: str = ""
    on_host: Pod | None = None
    node: str = ""
    later: bool = False


@dataclass(frozen=True)
class End:
    """`points` are what it means on the snapshot, pods and single addresses; `networks` is the range of a range;
    `service` the Kubernetes Service that connections go to (without points: where they end depends on the port)."""

    text: str
    kind: Kind
    name: str
    points: tuple[Point, ...] = ()
    networks: tuple[Network, ...] = ()
    service: KubeService | None = None
    address: str = ""
    """Of the Service, where it was asked for by one."""
    declared: Service | None = None
    notes: tuple[Basis, ...] = field(default=())

    @property
    def future(self) -> tuple[Pod, ...]:
        """Pods that the evaluator must be told of: they do not run."""
        return tuple(point.pod for point in self.points if point.later and point.pod is not None)


def find(site: Site, text: str, *, source: bool = False) -> End:
    """What a text means on a site. `source` says that connections come from it. `Invalid` where it means nothing."""
    text = text.strip()
    found = _Finder(site, source)
    word, colon, rest = text.partition(":")
    if colon and word in found.explicit:
        return found.explicit[word](text, rest)
    if text == INTERNET:
        return End(text, Kind.INTERNET, "the internet")
    network = _network(text)
    if network is not None:
        return found.network(text, network)
    return found.name(text)


def _network(text: str) -> Network | None:
    if "/" in text and not text.replace("/", "").replace(".", "").isdecimal() and ":" not in text:
        return None  # a namespace and a name
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


class _Finder:
    def __init__(self, site: Site, source: bool) -> None:
        self.site = site
        self.snapshot = site.snapshot
        self.source = source
        self.explicit: Mapping[str, Callable[[str, str], End]] = {
            "pod": self.only_pod,
            "workload": self.only_workload,
            "svc": self.only_service,
            "host": self.host,
            "new": self.later,
        }

    # -------------------------------------------------------- names

    def name(self, text: str) -> End:
        if text.count("/") != 1 or not all(text.split("/")):
            raise Invalid(f"`{text}` is no end of a connection", nearest(text, self.known()) or FORMS)
        found = self.declared(text) or self.workload(text) or self.pod(text) or self.kubernetes(text, text)
        if found is None:
            raise self.unknown(text, "service, workload, pod or Kubernetes Service", self.known())
        return found

    def known(self) -> list[str]:
        found = [f"{item.namespace}/{item.name}" for item in self.snapshot.workloads]
        found += [f"{item.namespace}/{item.name}" for item in self.snapshot.services]
        for pod in self.snapshot.pods:
            found.append(pod.key)
            if pod.owner is not None:
                found.append(f"{pod.namespace}/{pod.owner.name}")
        inputs = self.site.inputs
        if inputs is not None:
            found += [service.key for service in inputs.platform.services_on(inputs.cluster.name)]
        return found

    def unknown(self, text: str, what: str, known: list[str]) -> Invalid:
        where = f"on cluster {self.site.inputs.cluster.name}" if self.site.inputs else "here"
        return Invalid(f"`{text}` is no {what} that is known {where}", nearest(text, known) or FORMS)

    def declared(self, text: str) -> End | None:
        inputs = self.site.inputs
        service = inputs.platform.services.get(text) if inputs else None
        if inputs is None or service is None or not service.runs_on(inputs.cluster.name):
            return None
        pods = tuple(self.snapshot.select(service.namespace, service.pod_selector))
        end = self.of_pods(text, Kind.SERVICE, text, pods)
        if not end.points:
            labels = example([from_labels(service.pod_selector)]) or {}
            ports = tuple(ContainerPort(port.name, port.number, port.protocol.value) for port in service.ports)
            pod = Pod(service.namespace, f"(a pod of {service.name})", labels, service.service_account, ports)
            end = replace(end, points=(self.not_yet(pod),), notes=(*end.notes, basis.LATER))
        return replace(end, declared=service)

    def workload(self, text: str) -> End | None:
        namespace, name = text.split("/")
        pods = tuple(
            pod
            for pod in self.snapshot.pods_by_namespace.get(namespace, ())
            if pod.owner is not None and pod.owner.name == name
        )
        known = [item for item in self.snapshot.workloads if (item.namespace, item.name) == (namespace, name)]
        if not pods and not known:
            return None
        end = self.of_pods(text, Kind.WORKLOAD, text, pods)
        if not end.points and known:
            pod = Pod(namespace, f"(a pod of {name})", known[0].template_labels)
            end = replace(end, points=(self.not_yet(pod),), notes=(*end.notes, basis.LATER))
        if not end.points:
            raise Invalid(f"every pod of {text} has finished: none has any traffic", "name a workload that runs")
        return end

    def pod(self, text: str) -> End | None:
        namespace, _ = text.split("/")
        found = next((pod for pod in self.snapshot.pods_by_namespace.get(namespace, ()) if pod.key == text), None)
        if found is None:
            return None
        if found.is_finished:
            raise Invalid(f"pod {text} has finished: it has no traffic", "name a pod that runs")
        return self.of_pods(text, Kind.POD, text, (found,))

    def only_pod(self, text: str, rest: str) -> End:
        found = self.pod(rest) if rest.count("/") == 1 else None
        if found is None:
            raise self.unknown(rest, "pod", [pod.key for pod in self.snapshot.pods])
        return replace(found, text=text)

    def only_workload(self, text: str, rest: str) -> End:
        found = self.workload(rest) if rest.count("/") == 1 else None
        if found is None:
            known = [f"{pod.namespace}/{pod.owner.name}" for pod in self.snapshot.pods if pod.owner is not None]
            raise self.unknown(rest, "workload", known)
        return replace(found, text=text)

    def only_service(self, text: str, rest: str) -> End:
        found = self.kubernetes(text, rest) if rest.count("/") == 1 else None
        if found is None:
            known = [f"{item.namespace}/{item.name}" for item in self.snapshot.services]
            raise self.unknown(rest, "Kubernetes Service", known)
        return found

    def kubernetes(self, text: str, name: str, address: str = "") -> End | None:
        """A Kubernetes Service: where connections go to it, and for a source the pods behind it."""
        namespace, own = name.split("/")
        found = service_named(self.snapshot, namespace, own)
        if found is None:
            return None
        if found.type == "ExternalName":
            raise Invalid(f"Service {name} is only another name for one outside the cluster", "ask with its address")
        if not self.source:
            return End(text, Kind.KUBERNETES_SERVICE, name, service=found, address=address)
        own_pods = self.snapshot.pods_by_namespace.get(namespace, ())
        targets = {
            target
            for part in self.snapshot.endpoint_slices
            if (part.namespace, part.service) == (namespace, own)
            for target in part.targets
        }
        pods = [pod for pod in own_pods if pod.name in targets]
        if not pods and found.selector:
            pods = [pod for pod in own_pods if found.selector.items() <= pod.labels.items()]
        note = Basis("connections do not come from a Service but from the pods behind it", basis.SERVICES)
        end = self.of_pods(text, Kind.KUBERNETES_SERVICE, name, tuple(pods))
        if not end.points:
            raise Invalid(f"no pod stands behind Service {name}, so that nothing comes from it", FORMS)
        return replace(end, notes=(*end.notes, note))

    # -------------------------------------------------------- pods

    def of_pods(self, text: str, kind: Kind, name: str, pods: tuple[Pod, ...]) -> End:
        running = [pod for pod in pods if not pod.is_finished]
        points = tuple(point for pod in running for point in self.points(pod))
        return End(text, kind, name, points, notes=tuple(_notes(pods, running)))

    def points(self, pod: Pod) -> Iterator[Point]:
        if pod.host_network:
            addresses = pod.ips or self.addresses(pod.node)
            if not addresses:
                where = f"{pod.key} is on the host's network, and its node's address is not known"
                raise Invalid(where, "read the nodes too: kubectl get nodes -o json")
            for address in addresses:
                yield Point(f"{pod.key} ({address})", address=address, on_host=pod, node=pod.node)
        elif pod.is_endpoint:
            yield Point(pod.key, pod, node=pod.node)
        else:
            yield self.not_yet(pod)

    def not_yet(self, pod: Pod) -> Point:
        return Point(pod.key, replace(pod, from_template=True, phase="Running"), later=True)

    def later(self, text: str, rest: str) -> End:
        namespace, _, written = rest.partition("/")
        labels: dict[str, str] = {}
        for item in filter(None, written.split(",")):
            key, equals, value = item.partition("=")
            if not key or not equals or not valid_value(value):
                raise Invalid(f"`{item}` is no label", "write new:namespace/app=web,tier=front")
            labels[key] = value
        if not namespace:
            raise Invalid(f"`{text}` names no namespace", "write new:namespace/app=web")
        shown = ",".join(f"{key}={value}" for key, value in labels.items()) or "no label"
        pod = Pod(namespace, f"(a new pod with {shown})", labels)
        name = f"a new pod of {namespace} with {shown}"
        return End(text, Kind.FUTURE, name, (self.not_yet(pod),), notes=(basis.LATER,))

    # -------------------------------------------------------- addresses

    def addresses(self, node: str) -> tuple[str, ...]:
        return next((item.addresses for item in self.snapshot.nodes if item.name == node), ())

    def node_of(self, address: str) -> str:
        """The node that has an address, "" where none is known to."""
        for node in self.snapshot.nodes:
            if _has(node.addresses, address):
                return node.name
        for host in self.site.engine.universe.hosts:
            if _has(host.addresses, address):
                return host.node
        return ""

    def host(self, text: str, rest: str) -> End:
        host = next((item for item in self.site.engine.universe.hosts if item.name == rest), None)
        addresses = host.addresses if host is not None else self.addresses(rest)
        if not addresses:
            known = [*(item.name for item in self.site.policies.hosts), *(node.name for node in self.snapshot.nodes)]
            if host is not None or rest in known:
                raise Invalid(f"no address of {rest} is known", "name it by its address")
            raise self.unknown(rest, "host endpoint or node", known)
        node = host.node if host is not None else rest
        points = tuple(Point(f"{rest} ({item})", address=item, host=rest, node=node) for item in addresses)
        return End(text, Kind.HOST, rest, points)

    def network(self, text: str, network: Network) -> End:
        if "/" in text and network.num_addresses > 1:
            notes: tuple[Basis, ...] = ()
            if text != str(network):
                notes = (Basis(f"{text} has bits of a host set: the range is {network}"),)
            return End(text, Kind.RANGE, str(network), networks=(network,), notes=notes)
        address = str(network.network_address)
        if ip_address(address).is_loopback:
            raise Invalid(f"{address} is whoever asks: such traffic never leaves the pod", "name the pod")
        pod = next((p for p in self.snapshot.pods if p.is_endpoint and _has(p.ips, address)), None)
        if pod is not None:
            return replace(self.of_pods(text, Kind.POD, pod.key, (pod,)), address=address)
        service = service_at(self.snapshot, address) or service_at(self.snapshot, text)
        if service is not None:
            name = f"{service.namespace}/{service.name}"
            if self.source:
                raise Invalid(f"{address} is the address of Service {name}: nothing comes from it", f"ask with {name}")
            found = self.kubernetes(text, name, address)
            assert found is not None
            return found
        return End(text, Kind.ADDRESS, address, (Point(address, address=address, node=self.node_of(address)),))


def _has(texts: tuple[str, ...], address: str) -> bool:
    """Whether one of them is an address, which is in its shortest form; of IPv6 there are others."""
    return address in texts or (
        ":" in address and any(str(ip_address(text)) == address for text in texts if ":" in text)
    )


def _notes(pods: tuple[Pod, ...], running: list[Pod]) -> Iterator[Basis]:
    if len(running) < len(pods):
        yield Basis(f"{plural(len(pods) - len(running), 'finished pod')} left out: they have no traffic")
    if any(pod.host_network for pod in running):
        yield basis.HOST_NETWORK_CALICO
    waiting = [pod for pod in running if not pod.is_endpoint and not pod.host_network]
    if waiting:
        yield Basis(f"{plural(len(waiting), 'pod')} not scheduled yet: this holds once they are", basis.ENDPOINTS)
