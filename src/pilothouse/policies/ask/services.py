"""Ports of Kubernetes Services and of the pods behind them: where connections end, and which of the two was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pilothouse.inventory.model import KubeService, Snapshot
from pilothouse.policies.engine.backends import Backend, backends
from pilothouse.policies.engine.connections import NAMES, PROTOCOLS, Packet


@dataclass(frozen=True, slots=True)
class Translated:
    """A Service whose `port` leads to `target` of a pod."""

    service: str
    protocol: int
    port: int
    target: int

    def __str__(self) -> str:
        return f"port {self.port}/{NAMES[self.protocol]} of Service {self.service} is {self.target} of its pods"


def of_pod(snapshot: Snapshot, pod: str) -> tuple[Translated, ...]:
    """The translations of every Service that a pod (`namespace/name`) is a backend of."""
    return _translations(_Identity(snapshot)).get(pod, ())


def leading_to(service: KubeService, snapshot: Snapshot, packet: Packet) -> tuple[Backend, ...]:
    """The backends to which a Service sends that packet, ready or not; to a headless one it goes as it is."""
    found = backends(snapshot, service.namespace, service.name)
    if service.is_headless:
        return tuple({(item.address, item.pod): item for item in found}.values())
    known = {(PROTOCOLS[port.protocol], port.port) for port in service.ports}
    if (packet.protocol, packet.destination_port) not in known:
        return ()
    return tuple(
        item
        for item in found
        if not item.port or (item.protocol, item.service_port) == (packet.protocol, packet.destination_port)
    )


class _Identity:
    """A snapshot as a key of a memory: the same only as the same object."""

    def __init__(self, value: Snapshot) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.value is self.value


@lru_cache(maxsize=4)
def _translations(snapshot: _Identity) -> Mapping[str, tuple[Translated, ...]]:
    found: dict[str, dict[Translated, None]] = {}
    for service in snapshot.value.services:
        for pod, item in _of(service, snapshot.value):
            found.setdefault(pod, {})[item] = None
    return {pod: tuple(items) for pod, items in found.items()}


def _of(service: KubeService, snapshot: Snapshot) -> Iterator[tuple[str, Translated]]:
    name = f"{service.namespace}/{service.name}"
    if service.is_headless:
        return
    for item in backends(snapshot, service.namespace, service.name):
        if item.pod and item.port and item.service_port:
            yield item.pod, Translated(name, item.protocol, item.service_port, item.port)
