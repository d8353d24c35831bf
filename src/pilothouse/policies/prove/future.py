"""Pods and namespaces that may exist later, and that policies must treat right all the same.

What a pod meets depends on which selectors match its labels. So for every namespace, existing or not, there is one pod
for each combination of answers that the selectors which look there can give (`selectors.space.regions`): those of the
declarations, and those of the policies. Namespaces that do not exist yet are told apart by the namespace selectors in
the same way. Labels that Calico gives endpoints itself follow from the namespace and are not chosen. A Service that
policies match by name will have those of the pods in its slices that it selects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import ContainerPort, EndpointSlice, Namespace, Pod, ServicePort, Snapshot
from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.platform.model import Network, PodsPeer, Service
from pilothouse.policies.adoption import exempt_selector
from pilothouse.policies.content import Baseline
from pilothouse.policies.rules import Peer, PolicySet, Rule, Scope
from pilothouse.policies.selectors import ALL, And, Equal, Selector, all_of, from_labels
from pilothouse.policies.selectors.space import TooComplex, example, regions

NEW_NAMESPACE = "(a new namespace)"
MAX_COMBINATIONS = 500
"""In one namespace; where there are more, each selector is tried by itself."""
_MAX_NAMESPACES = 50
_OWN = ("projectcalico.org/", "pcns.", "pcsa.")
"""Labels that no manifest sets."""

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Future:
    """`snapshot` is the one that was given, with the namespaces of `pods` that it does not have. `looks` are the
    (namespace, selector) pairs that were told apart, `simplified` the namespaces where not all combinations were."""

    snapshot: Snapshot
    pods: tuple[Pod, ...]
    looks: frozenset[tuple[str, Selector]]
    simplified: tuple[str, ...] = ()

    def covers(self, policies: PolicySet) -> bool:
        """Whether these policies tell no other pods apart."""
        return self.looks.issuperset(_looks(policies, self.snapshot.namespace_labels))


def of(inputs: Inputs, baseline: Baseline, governed: Iterable[str], policies: PolicySet) -> Future:
    """What may come to the cluster, as far as its declarations and these policies can tell it apart."""
    services: dict[str, list[Service]] = {}
    for service in inputs.platform.services_on(inputs.cluster.name):
        services.setdefault(service.namespace, []).append(service)
    spaces = _spaces(inputs, {*services, *governed}, policies)
    snapshot = replace(inputs.snapshot, namespaces=tuple(Namespace(name, labels) for name, labels in spaces.items()))
    looks = dict.fromkeys((*_declared(inputs, baseline, spaces), *_looks(policies, spaces)))
    there: dict[str, list[Selector]] = {name: [] for name in spaces}
    for namespace, selector in looks:
        if namespace in there:
            there[namespace].append(selector)
    pods: list[Pod] = []
    simplified = []
    free = _free(inputs)
    addresses = next(free)
    for namespace, selectors in there.items():
        found, exact = _combinations(selectors)
        if not exact:
            simplified.append(namespace)
        for labels in found:
            pods.append(_pod(namespace, labels, services.get(namespace, ()), addresses))
    pods, slices = _behind_services(pods, snapshot, policies, free)
    snapshot = replace(snapshot, endpoint_slices=(*snapshot.endpoint_slices, *slices))
    return Future(snapshot, tuple(pods), frozenset(looks), tuple(simplified))


def _free(inputs: Inputs) -> Iterator[tuple[str, ...]]:
    """Addresses of the cluster's pod ranges that nobody has, one of each family at a time, from the end; the last again
    once there are no more."""
    taken = {ip for pod in inputs.snapshot.pods for ip in pod.ips}
    ranges: dict[int, Network] = {}
    for network in inputs.cluster.pod_cidrs:
        ranges.setdefault(network.version, network)
    at = dict.fromkeys(ranges, -1)
    while True:
        for version, network in ranges.items():
            while str(network[at[version]]) in taken and -at[version] < network.num_addresses:
                at[version] -= 1
        chosen = tuple(str(network[at[version]]) for version, network in ranges.items())
        taken.update(chosen)
        yield chosen


def _behind_services(
    pods: list[Pod], snapshot: Snapshot, policies: PolicySet, free: Iterator[tuple[str, ...]]
) -> tuple[list[Pod], list[EndpointSlice]]:
    """The pods, and the slices that those would get which a Service selects: only of Services that policies name."""
    named = {peer.services for peer in _peers(policies) if peer.services is not None}
    ports: dict[tuple[str, str], dict[ServicePort, None]] = {}
    for item in snapshot.endpoint_slices if named else ():
        if (item.namespace, item.service) in named:
            ports.setdefault((item.namespace, item.service), {}).update(dict.fromkeys(item.ports))
    slices = []
    for service in snapshot.services if ports else ():
        known = ports.get((service.namespace, service.name))
        for number, pod in enumerate(pods) if known and service.selector else ():
            if pod.namespace == service.namespace and service.selector.items() <= pod.labels.items():
                pods[number] = pod = replace(pod, ips=next(free))
                size = len(pod.ips)
                name = f"{service.name} later {number}"
                slices.append(
                    EndpointSlice(
                        service.namespace,
                        name,
                        service.name,
                        pod.ips,
                        (pod.name,) * size,
                        (True,) * size,
                        tuple(known or ()),
                    )
                )
    return pods, slices


def _pod(namespace: str, labels: Labels, services: Sequence[Service], addresses: tuple[str, ...]) -> Pod:
    chosen = [service for service in services if service.pod_selector.matches(labels)]
    ports = {
        port.name: ContainerPort(port.name, port.number, port.protocol.value)
        for service in reversed(chosen)
        for port in service.ports
    }
    if chosen:
        name = f"(a new pod of {', '.join(service.name for service in chosen)})"
    elif labels:
        name = f"(a new pod with {', '.join(f'{key}={value}' for key, value in labels.items())})"
    else:
        name = "(a new pod without labels)"
    account = chosen[0].service_account if chosen else "default"
    return Pod(namespace, name, labels, account, tuple(ports.values()), ips=addresses, from_template=True)


# ---------------------------------------------------------------- which namespaces


def _spaces(inputs: Inputs, more: Iterable[str], policies: PolicySet) -> dict[str, Labels]:
    """Every namespace with its labels; those that do not exist come last."""
    known: dict[str, Labels] = {name: {NAMESPACE_NAME_LABEL: name} for name in more}
    known |= {name: {NAMESPACE_NAME_LABEL: name} for name in inputs.snapshot.pods_by_namespace}
    known |= {name: {NAMESPACE_NAME_LABEL: name, **labels} for name, labels in inputs.snapshot.namespace_labels.items()}
    spaces = dict(sorted(known.items()))
    selectors = {peer.namespace_selector for peer in _peers(policies) if peer.namespace_selector is not None}
    selectors |= {
        from_labels(peer.namespace_selector) for peer in _named(inputs) if peer.namespace_selector is not None
    }
    chosen = sorted((item for item in selectors if not _asks(item, (NAMESPACE_NAME_LABEL, *_OWN))), key=str)
    for labels in _combinations(chosen, _MAX_NAMESPACES)[0]:
        told = ", ".join(f"{key}={value}" for key, value in labels.items())
        name = f"(a new namespace with {told})" if told else NEW_NAMESPACE
        spaces[name] = {NAMESPACE_NAME_LABEL: name, **labels}
    return spaces


def _asks(selector: Selector, keys: tuple[str, ...]) -> bool:
    return any(term.key.startswith(keys) for term in selector.terms())


# ---------------------------------------------------------------- who looks where


def _declared(inputs: Inputs, baseline: Baseline, spaces: Mapping[str, Labels]) -> Iterator[tuple[str, Selector]]:
    services = tuple(inputs.platform.services_on(inputs.cluster.name))
    for service in services:
        yield service.namespace, from_labels(service.pod_selector)
        for edge in (*service.egress, *(service.ingress or ())):
            if isinstance(edge.peer, PodsPeer):
                where = edge.peer.namespace_selector
                for name in spaces if where is not None else (service.namespace,):
                    if where is None or where.matches(spaces[name]):
                        yield name, from_labels(edge.peer.pod_selector)
    for name in spaces:
        exempt = exempt_selector(baseline, name)
        if not exempt.is_empty:
            yield name, from_labels(exempt)
    for peer in baseline.system_peers:
        if not peer.host_network:
            yield peer.namespace, from_labels(peer.pod_selector)


def _named(inputs: Inputs) -> Iterator[PodsPeer]:
    for service in inputs.platform.services_on(inputs.cluster.name):
        for edge in (*service.egress, *(service.ingress or ())):
            if isinstance(edge.peer, PodsPeer):
                yield edge.peer


def _peers(policies: PolicySet) -> Iterator[Peer]:
    """Each peer and subject once (readers share what is written alike)."""
    seen: set[int] = set()
    for peer in _every_peer(policies):
        if id(peer) not in seen:
            seen.add(id(peer))
            yield peer


def _every_peer(policies: PolicySet) -> Iterator[Peer]:
    rules: list[Rule] = []
    for policy in policies.policies:
        yield from policy.subjects
        rules += (*policy.ingress, *policy.egress)
    for profile in policies.profiles:
        rules += (*profile.ingress, *profile.egress)
    for rule in rules:
        yield from rule.peers
        yield rule.subject


def _looks(policies: PolicySet, spaces: Mapping[str, Labels]) -> Iterator[tuple[str, Selector]]:
    """(namespace, selector) wherever a policy selects pods by labels that manifests set."""
    found: dict[Selector, tuple[str, ...]] = {}

    def selected(where: Selector) -> tuple[str, ...]:
        if where not in found:
            found[where] = tuple(name for name, labels in spaces.items() if where.matches(labels))
        return found[where]

    for peer in _peers(policies):
        for selector, everywhere in ((peer.selector, False), (peer.not_selector, True)):
            plain = None if selector is None else _set_by_manifests(selector)
            if plain is None or plain == ALL:
                continue
            if peer.scope is Scope.NAMESPACE and not everywhere:
                yield peer.namespace, plain
            elif peer.scope is Scope.NAMESPACES and not everywhere and peer.namespace_selector is not None:
                yield from ((name, plain) for name in selected(peer.namespace_selector))
            elif everywhere or peer.scope in (Scope.NAMESPACES, Scope.CLUSTER):
                yield from ((name, plain) for name in spaces)


def _set_by_manifests(selector: Selector) -> Selector | None:
    """Without conditions on labels that Calico sets; None where those are not a part that can be left out."""
    if not _asks(selector, _OWN):
        return selector
    if not isinstance(selector, And):
        return None
    kept = [part for part in selector.parts if not _asks(part, _OWN)]
    return all_of(*kept) if kept else None


# ---------------------------------------------------------------- which labels


def _combinations(selectors: Sequence[Selector], limit: int = MAX_COMBINATIONS) -> tuple[list[Labels], bool]:
    """A label set for each combination of answers, and whether that is all of them."""
    keys = {item.key if isinstance(item, Equal) else None for item in selectors}
    if len(keys) <= 1 and None not in keys:  # the usual case, which needs no search
        return [{}, *({item.key: item.value} for item in selectors if isinstance(item, Equal))], True
    try:
        return list(regions(selectors, limit)), True
    except TooComplex:
        single: dict[tuple[tuple[str, str], ...], Labels] = {(): {}}
        for item in selectors:
            try:
                labels = example([item])
            except TooComplex:
                continue
            if labels is not None:
                single[tuple(labels.items())] = labels
        return list(single.values()), False
