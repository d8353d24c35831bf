"""What the ends of observed flows are on a snapshot: pods, hosts, address sets and addresses, as pieces of a universe.

A log names pods as they were called then. Those that are gone stand for the pods of their workload: `generateName`
and what the workload's controller appends to its own name say which
(https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.platform.model import Network
from pilothouse.policies.engine.backends import Backend, backends, service_at
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.engine.universe import Universe
from pilothouse.policies.flows.model import EndKind, Flow, FlowEnd
from pilothouse.policies.rules import NetworkSet

Target = tuple[int, int | None]
"""A piece, and the port that the connection has there."""

AGGREGATED = "the log says no more than `{}`"
"""Calico joins the addresses that it does not know into two."""

_HASH = re.compile(r"-[a-z0-9]{5,10}$")
"""What a Deployment appends to its name for a ReplicaSet, and a CronJob for a Job."""
_SUFFIX = re.compile(r"-[a-z0-9]+$")
"""What is appended for one pod."""


@dataclass(frozen=True, slots=True)
class Found:
    """The pieces that an end may be, each with the port there; `pods` are the ones it names. None: `reason` says why.
    `nodes` are those whose own address it is. Targets that are equal are one object."""

    targets: tuple[Target, ...] = ()
    reason: str = ""
    pods: tuple[Pod, ...] = ()
    nodes: frozenset[str] = frozenset()


class Ends:
    """Looks ends up, each once. `sets` are the address sets that a log may name."""

    def __init__(self, universe: Universe, sets: Iterable[NetworkSet] = ()) -> None:
        self.universe = universe
        self.snapshot: Snapshot = universe.snapshot
        self._sets: dict[tuple[str, str], set[Network]] = {}
        for item in sets:
            self._sets.setdefault((item.namespace, item.name), set()).update(item.nets)
        self._targets: dict[tuple[Target, ...], tuple[Target, ...]] = {}
        self._known: dict[FlowEnd, Found] = {}
        self._met: dict[int, tuple[FlowEnd, Found]] = {}  # by identity, which a value's hash is slow beside
        self._destinations: dict[tuple[int, str, int | None, int], tuple[FlowEnd, Found]] = {}
        self._by_kind: Mapping[EndKind, Callable[[FlowEnd], Found]] = {
            EndKind.POD: self._pod,
            EndKind.WORKLOAD: self._workload,
            EndKind.HOST: self._host,
            EndKind.NETWORK_SET: self._set,
            EndKind.ADDRESS: lambda end: self._address(end.address),
        }

    def source(self, flow: Flow) -> Found:
        return self._end(flow.source)

    def destination(self, flow: Flow) -> Found:
        """Where a flow ends; behind a Service that is its backends, with the ports they have."""
        key = (id(flow.destination), flow.service, flow.port, flow.protocol)
        known = self._destinations.get(key)
        if known is None:
            found = self._one(self._behind(flow) or self._at_port(flow))
            known = self._destinations[key] = (flow.destination, found)
        return known[1]

    def _one(self, found: Found) -> Found:
        return replace(found, targets=self._targets.setdefault(found.targets, found.targets))

    def _at_port(self, flow: Flow) -> Found:
        found = self._end(flow.destination)
        return Found(tuple((piece, flow.port) for piece, _ in found.targets), found.reason, found.pods, found.nodes)

    def _end(self, end: FlowEnd) -> Found:
        met = self._met.get(id(end))
        if met is None:
            found = self._known.get(end)
            if found is None:
                look = self._by_kind.get(end.kind)
                found = look(end) if look else Found(reason=AGGREGATED.format(end.shown))
                found = self._known[end] = self._one(found)
            met = self._met[id(end)] = (end, found)
        return met[1]

    # ---------------------------------------------------------------- Services

    def _behind(self, flow: Flow) -> Found | None:
        """The backends of the Service that the destination is, or through which it went where it says no more."""
        end = flow.destination
        if end.kind is EndKind.ADDRESS:
            owner = service_at(self.snapshot, end.address)
            if owner is not None:
                return self._backends(flow, owner.namespace, owner.name)
            return None
        if end.kind is EndKind.POD and (end.namespace, end.name) in self._services and not self._end(end).targets:
            return self._backends(flow, end.namespace, end.name)
        if flow.service and not self._end(end).targets:
            namespace, _, name = flow.service.partition("/")
            return self._backends(flow, namespace, name)
        return None

    def _backends(self, flow: Flow, namespace: str, name: str) -> Found:
        known = [item for item in backends(self.snapshot, namespace, name) if item.protocol == flow.protocol]
        chosen = [item for item in known if flow.port in (item.port, item.service_port)]
        if not chosen:
            return Found(reason=f"the Service {namespace}/{name} has no backend at that port")
        targets = dict.fromkeys(target for item in chosen for target in self._backend(item))
        return Found(tuple(targets), "" if targets else f"the backends of {namespace}/{name} have no address")

    def _backend(self, item: Backend) -> Iterable[Target]:
        pieces = self.universe.pieces_of(item.pod) if item.pod else ()
        if item.address:
            version = 6 if ":" in item.address else 4
            own = tuple(piece for piece in pieces if self.universe.version(piece) == version)
            pieces = own or (self.universe.piece_of_address(item.address),)
        return [(piece, item.port or None) for piece in pieces]

    @cached_property
    def _services(self) -> frozenset[tuple[str, str]]:
        return frozenset((item.namespace, item.name) for item in self.snapshot.services)

    # ---------------------------------------------------------------- pods

    @cached_property
    def _pods(self) -> Mapping[str, Pod]:
        return {pod.key: pod for pod in self.snapshot.pods if not pod.is_finished}

    def _live(self, namespace: str) -> list[Pod]:
        return [pod for pod in self.snapshot.pods_by_namespace.get(namespace, ()) if not pod.is_finished]

    def _pod(self, end: FlowEnd) -> Found:
        exact = self._pods.get(f"{end.namespace}/{end.name}")
        if exact is not None:
            return self._of_pods((exact,), end)
        prefix = _SUFFIX.sub("-", end.name)
        return self._of_pods(self._like(end, prefix), end)

    def _workload(self, end: FlowEnd) -> Found:
        return self._of_pods(self._like(end, end.prefix), end)

    def _like(self, end: FlowEnd, prefix: str) -> list[Pod]:
        """The pods with that `generateName`, else those of the workload, else those with all the labels given."""
        pods = self._live(end.namespace)
        begun = [pod for pod in pods if pod.name.startswith(prefix)] if prefix.endswith("-") else []
        found = [pod for pod in begun if "-" not in pod.name.removeprefix(prefix)]
        owner = prefix.rstrip("-")
        whole = (owner, _HASH.sub("", owner)) if prefix.endswith("-") else ()
        for name in whole:
            found = found or [pod for pod in pods if pod.owner is not None and pod.owner.name == name]
        if end.kind is EndKind.WORKLOAD:
            found = found or begun or [pod for pod in pods if prefix and pod.name.startswith(prefix)]
        alike = [pod for pod in found or pods if _has(pod, end)] if end.labels else []
        return alike or found

    def _of_pods(self, pods: Iterable[Pod], end: FlowEnd) -> Found:
        named = tuple(pods)
        pieces: dict[int, None] = {}
        for pod in named:
            own = self.universe.pieces_of(pod.key)
            if not own and pod.host_network:
                own = tuple(self.universe.piece_of_address(ip) for ip in pod.ips)
            pieces.update(dict.fromkeys(own))
        if pieces:
            nodes = frozenset(pod.node for pod in named if pod.host_network)
            return Found(tuple((piece, None) for piece in pieces), "", named, nodes)
        return Found(reason=f"the snapshot has no pod {end.shown} and none like it")

    # ---------------------------------------------------------------- the rest

    def _host(self, end: FlowEnd) -> Found:
        if not end.name:
            return self._address(end.address)
        pieces = [
            number
            for number, piece in enumerate(self.universe.pieces)
            if piece.host is not None and end.name in (piece.host.name, piece.host.node)
        ]
        nodes = [node for node in self.snapshot.nodes if node.name == end.name]
        pieces += [] if pieces else [self.universe.piece_of_address(ip) for node in nodes for ip in node.addresses]
        if not pieces:
            return Found(reason=f"the snapshot does not say what addresses {end.shown} has")
        return Found(tuple((piece, None) for piece in dict.fromkeys(pieces)), nodes=frozenset((end.name,)))

    def _set(self, end: FlowEnd) -> Found:
        nets = self._sets.get((end.namespace, end.name))
        if nets is None:
            return Found(reason=f"neither side has the {end.shown}")
        members = 0
        for net in sorted(nets, key=str):
            members |= self.universe.network(net)
        pieces = tuple((piece, None) for piece in bits(members))
        return Found(pieces, "" if pieces else f"the {end.shown} holds no address")

    def _address(self, text: str) -> Found:
        """An address is whoever has it now."""
        nodes = self._nodes.get(text)
        return Found(((self.universe.piece_of_address(text), None),), nodes=frozenset((nodes,) if nodes else ()))

    @cached_property
    def _nodes(self) -> Mapping[str, str]:
        return {address: node.name for node in self.snapshot.nodes for address in node.addresses}


def _has(pod: Pod, end: FlowEnd) -> bool:
    return all(pod.labels.get(key) == value for key, value in end.labels)
