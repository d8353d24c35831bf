"""Every way to change one thing of a policy: what a proof must notice, if it changes who reaches whom.

For people who want to trust the proof, and for its tests: `pilothouse policies prove --mutate` makes each of them and
counts which the proof catches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

Manifest = dict[str, Any]
_OTHER = {"TCP": "UDP", "UDP": "TCP"}
_CALICO_FLIPS = {"Allow": "Deny", "Deny": "Allow", "Pass": "Allow", "Log": "Deny"}


@dataclass(frozen=True, slots=True)
class Mutation:
    """`manifest` is the policy with one thing changed; None where the policy is gone."""

    what: str
    manifest: Mapping[str, Any] | None


def of(manifest: Mapping[str, Any]) -> Iterator[Mutation]:
    """Every mutation of one policy or address set, each by itself."""
    yield Mutation("removed", None)
    for what, change in _changes(manifest["spec"]):
        changed = copy.deepcopy(dict(manifest))
        change(changed["spec"])
        if changed != manifest:
            yield Mutation(what, changed)


Change = tuple[str, Callable[[Manifest], None]]


def _changes(spec: Mapping[str, Any]) -> Iterator[Change]:
    yield from _selector(spec, ("podSelector",), "podSelector")
    types = "policyTypes" if "policyTypes" in spec else "types"
    for index, item in enumerate(spec.get(types) or ()):
        if len(spec[types]) > 1:  # none at all would be filled in
            yield f"{types} without {item}", _drop(types, index)
    if spec.get("selector") not in (None, "all()"):
        yield "selector all()", _put(("selector",), "all()")
    for index in range(len(spec.get("nets") or ())):
        yield f"nets without {index}", _drop("nets", index)
        yield f"nets[{index}] wider", _put(("nets", index), _wider(spec["nets"][index]))
    for direction in ("ingress", "egress"):
        for index, rule in enumerate(spec.get(direction) or ()):
            where = f"{direction}[{index}]"
            yield f"{where} removed", _drop(direction, index)
            if "action" in rule:
                yield (
                    f"{where} {_CALICO_FLIPS[rule['action']]}",
                    _put((direction, index, "action"), _CALICO_FLIPS[rule["action"]]),
                )
                yield from _calico_rule(rule, (direction, index), where)
            else:
                yield from _kubernetes_rule(rule, (direction, index), where)


def _kubernetes_rule(rule: Mapping[str, Any], at: tuple[Any, ...], where: str) -> Iterator[Change]:
    ends = "from" if at[0] == "ingress" else "to"
    yield f"{where} without peers", _put((*at, ends), [])
    for index, peer in enumerate(rule.get(ends) or ()):
        path, name = (*at, ends, index), f"{where}.{ends}[{index}]"
        if len(rule[ends]) > 1:
            yield f"{name} removed", _drop(*path)
        block = peer.get("ipBlock")
        if block:
            yield f"{name} wider", _put((*path, "ipBlock", "cidr"), _wider(block["cidr"]))
            if not block.get("except"):
                yield f"{name} halved", _put((*path, "ipBlock", "cidr"), _halved(block["cidr"]))
            for number in range(len(block.get("except") or ())):
                yield f"{name} without except {number}", _drop(*path, "ipBlock", "except", number)
            continue
        for field in ("podSelector", "namespaceSelector"):
            yield from _selector(peer, (*path, field), f"{name}.{field}")
            if field in peer and len(peer) > 1:
                yield f"{name} without {field}", _drop(*path, field)
    yield from _ports(rule, at, where)


def _ports(rule: Mapping[str, Any], at: tuple[Any, ...], where: str) -> Iterator[Change]:
    items = rule.get("ports") or ()
    if items:
        yield f"{where} at every port", _put((*at, "ports"), [])
    for index, item in enumerate(items):
        path, name = (*at, "ports", index), f"{where}.ports[{index}]"
        if len(items) > 1:
            yield f"{name} removed", _drop(*path)
        if isinstance(item.get("port"), int):
            yield f"{name} one more", _put((*path, "port"), item["port"] + 1)
            yield f"{name} up to {item['port'] + 1}", _put((*path, "endPort"), item["port"] + 1)
        else:
            yield f"{name} another name", _put((*path, "port"), "another")
        other = "UDP" if item.get("protocol", "TCP") == "TCP" else "TCP"
        yield f"{name} {other}", _put((*path, "protocol"), other)


def _calico_rule(rule: Mapping[str, Any], at: tuple[Any, ...], where: str) -> Iterator[Change]:
    if "protocol" in rule and not any((rule.get(end) or {}).get("ports") for end in ("source", "destination")):
        yield f"{where} of every protocol", _drop(*at, "protocol")
    if rule.get("protocol") in _OTHER:
        yield f"{where} {_OTHER[rule['protocol']]}", _put((*at, "protocol"), _OTHER[rule["protocol"]])
    for end in ("source", "destination"):
        entity = rule.get(end) or {}
        for field in ("selector", "namespaceSelector", "nets", "services"):
            if field in entity:
                yield f"{where}.{end} without {field}", _drop(*at, end, field)
        for index, net in enumerate(entity.get("nets") or ()):
            yield f"{where}.{end}.nets[{index}] wider", _put((*at, end, "nets", index), _wider(net))
            if not entity.get("notNets"):
                yield f"{where}.{end}.nets[{index}] halved", _put((*at, end, "nets", index), _halved(net))
        for index in range(len(entity.get("notNets") or ())):
            yield f"{where}.{end} without notNets {index}", _drop(*at, end, "notNets", index)
        for index, port in enumerate(entity.get("ports") or ()):
            if len(entity["ports"]) > 1:
                yield f"{where}.{end}.ports[{index}] removed", _drop(*at, end, "ports", index)
            if isinstance(port, int):
                yield f"{where}.{end}.ports[{index}] one more", _put((*at, end, "ports", index), port + 1)
        if entity.get("ports"):
            yield f"{where}.{end} at every port", _drop(*at, end, "ports")


def _selector(holder: Mapping[str, Any], path: tuple[Any, ...], name: str) -> Iterator[Change]:
    selector = holder.get(path[-1])
    if not selector:
        return
    yield f"{name} emptied", _put(path, {})
    labels = selector.get("matchLabels") or {}
    for key in labels:
        if len(labels) + len(selector.get("matchExpressions") or ()) > 1:
            yield f"{name} without {key}", _drop(*path, "matchLabels", key)
        yield f"{name} {key} of another", _put((*path, "matchLabels", key), "another")
    for index in range(len(selector.get("matchExpressions") or ())):
        yield f"{name} without expression {index}", _drop(*path, "matchExpressions", index)


def _wider(cidr: str) -> str:
    network = ip_network(cidr, strict=False)
    return str(network.supernet() if network.prefixlen else network)


def _halved(cidr: str) -> str:
    network = ip_network(cidr, strict=False)
    return str(next(network.subnets()) if network.prefixlen < network.max_prefixlen else network)


def _put(path: tuple[Any, ...], value: Any) -> Callable[[Manifest], None]:
    def change(spec: Manifest) -> None:
        _holder(spec, path)[path[-1]] = value

    return change


def _drop(*path: Any) -> Callable[[Manifest], None]:
    def change(spec: Manifest) -> None:
        del _holder(spec, path)[path[-1]]

    return change


def _holder(spec: Any, path: tuple[Any, ...]) -> Any:
    for part in path[:-1]:
        spec = spec[part]
    return spec
