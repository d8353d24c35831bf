"""Kubernetes' NetworkPolicy, enforced (networking.k8s.io) and staged (Calico's StagedKubernetesNetworkPolicy).

Semantics: https://kubernetes.io/docs/concepts/services-networking/network-policies/. Without `policyTypes` it is
one for ingress, and for egress where it has an egress rule; the API server fills that in, files do not. Without `from`,
`to` or `ports` a rule is for any peer, any port and any protocol. What the API server refuses is an error here:
https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/networking/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from pilothouse.inventory.fields import Path, dotted
from pilothouse.policies.reading.document import Document, Object, short
from pilothouse.policies.reading.values import (
    inside,
    kubernetes_port,
    kubernetes_protocol,
    labels_selector,
    network,
    port_number,
)
from pilothouse.policies.rules import (
    ANYONE,
    EVERYTHING,
    KUBERNETES_ORDER,
    Action,
    Direction,
    Family,
    Nets,
    Peer,
    Policy,
    PortMatch,
    Rule,
    Scope,
    Traffic,
)
from pilothouse.policies.selectors import ALL

_SPEC = frozenset(("podSelector", "policyTypes", "ingress", "egress"))
_STAGED = _SPEC | {"stagedAction"}
_INGRESS = frozenset(("from", "ports"))
_EGRESS = frozenset(("to", "ports"))
_PEER = frozenset(("podSelector", "namespaceSelector", "ipBlock"))
_BLOCK = frozenset(("cidr", "except"))
_PORT = frozenset(("port", "endPort", "protocol"))

BOTH = frozenset(Direction)
ONLY = {direction: frozenset((direction,)) for direction in Direction}
_DIRECTIONS = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}
_ANYONE = (ANYONE,)
_EVERYTHING = (EVERYTHING,)


def network_policy(doc: Document) -> Policy | None:
    """The policy, or None after an error."""
    return _policy(doc, doc.spec(_SPEC), "")


def staged_network_policy(doc: Document) -> Policy | None:
    spec = doc.spec(_STAGED)
    action = staged_action(doc, spec)
    if action == "Delete":
        _nothing_else(doc, spec)
    return _policy(doc, spec, action) if action in ("Set", "Delete") else None


def staged_action(doc: Document, spec: Object) -> str:
    """Set, Delete, or "" for one that is neither: named, and left out."""
    action = doc.choice(spec, "stagedAction", ("spec",), ("Set", "Delete", "Learn", "Ignore"), "Set")
    if action in ("Set", "Delete"):
        return action
    doc.warn(
        "policies/staged-action",
        ("spec", "stagedAction"),
        f"`stagedAction: {action}` says neither what is set nor what is deleted; left out",
        "set it to Set or Delete to see what it would do",
    )
    return ""


def _nothing_else(doc: Document, spec: Object) -> None:
    for key in spec:
        if key != "stagedAction" and spec[key]:
            doc.error(
                "policies/staged-action",
                ("spec", key),
                f"`{key}` stands beside `stagedAction: Delete`, which takes no rules",
                "remove it",
            )


def _policy(doc: Document, spec: Object, staged: str) -> Policy | None:
    manifest = doc.manifest
    namespace = manifest.namespace
    subjects = _subjects(doc, spec.get("podSelector"), namespace)
    ingress = _rules(doc, spec, Direction.INGRESS, "from", _INGRESS)
    egress = _rules(doc, spec, Direction.EGRESS, "to", _EGRESS)
    types = spec.get("policyTypes")
    if types:
        directions = _directions(doc, spec)
    else:
        if types is not None:
            doc.list(spec, "policyTypes", ("spec",))
        directions = BOTH if egress else ONLY[Direction.INGRESS]
    labels = doc.labels()
    if doc.failed:
        return None
    return Policy(
        manifest.kind,
        manifest.name,
        namespace,
        Family.KUBERNETES,
        manifest.api_version,
        order=KUBERNETES_ORDER,
        subjects=subjects,
        directions=directions if staged != "Delete" else frozenset(),
        ingress=ingress,
        egress=egress,
        staged=bool(staged),
        staged_action=staged,
        labels=labels,
        place=manifest.place,
    )


def _subjects(doc: Document, value: Any, namespace: str) -> tuple[Peer, ...]:
    key = (namespace, repr(value))
    found = doc.memory.subjects.get(key)
    if found is None:
        before = len(doc.problems)
        selector = labels_selector(doc, value, ("spec", "podSelector"))
        found = (Peer(Scope.NAMESPACE, namespace, selector=selector, pods_only=True),)
        if len(doc.problems) == before:
            doc.memory.subjects[key] = found
    return found


def _directions(doc: Document, spec: Object) -> frozenset[Direction]:
    given = doc.strings(spec, "policyTypes", ("spec",))
    if len(given) > 2:
        doc.bad(("spec", "policyTypes"), "has more than two items", "Ingress, Egress or both")
    found: set[Direction] = set()
    for index, item in enumerate(given):
        direction = _DIRECTIONS.get(item)
        if direction is None:
            doc.bad(("spec", "policyTypes", index), f"{short(item)} is not one of Ingress, Egress")
        else:
            found.add(direction)
    return BOTH if len(found) == 2 else frozenset(found)


def _rules(doc: Document, spec: Object, direction: Direction, peers: str, known: frozenset[str]) -> tuple[Rule, ...]:
    found: list[Rule] = []
    field = direction.value
    for index, item in enumerate(doc.list(spec, field, ("spec",))):
        path: Path = ("spec", field, index)
        data = doc.item(item, path, known)
        if data is not None:
            found.append(
                Rule(
                    Action.ALLOW,
                    _peers(doc, data, peers, path),
                    _traffic(doc, data, path),
                    ANYONE,
                    index,
                    path,
                    doc.manifest.at(path),
                )
            )
    return tuple(found)


# ---------------------------------------------------------------- peers


def _peers(doc: Document, data: Object, field: str, path: Path) -> tuple[Peer, ...]:
    value = data.get(field)
    if value is None or value == []:
        return _ANYONE
    namespace = doc.manifest.namespace
    key = (namespace, repr(value))
    found = doc.memory.peers.get(key)
    if found is None:
        before = len(doc.problems)
        read = (_peer(doc, item, (*path, field, n)) for n, item in enumerate(doc.list(data, field, path)))
        found = tuple(peer for peer in read if peer is not None)
        if len(doc.problems) == before:
            doc.memory.peers[key] = found
    return found


def _peer(doc: Document, item: Any, path: Path) -> Peer | None:
    data = doc.item(item, path, _PEER)
    if data is None:
        return None
    pods, namespaces, block = data.get("podSelector"), data.get("namespaceSelector"), data.get("ipBlock")
    if block is not None:
        if pods is not None or namespaces is not None:
            beside = "podSelector" if pods is not None else "namespaceSelector"
            doc.error(
                "policies/peer-conflict",
                path,
                f"`{dotted(path)}` has `{beside}` beside `ipBlock`",
                "make them two items: either of them matches then",
            )
        return _ip_block(doc, data, path)
    if pods is None and namespaces is None:
        if not data.keys() - _PEER:
            doc.error(
                "policies/empty-peer",
                path,
                f"`{dotted(path)}` names nobody",
                "for every pod of this namespace write `podSelector: {}`; for anybody at all leave out the list",
            )
        return None
    selector = labels_selector(doc, pods, (*path, "podSelector"))
    if namespaces is None:
        return Peer(Scope.NAMESPACE, doc.manifest.namespace, selector=selector, pods_only=True)
    where = labels_selector(doc, namespaces, (*path, "namespaceSelector"))
    return Peer(Scope.NAMESPACES, "", where or ALL, selector, pods_only=True)


def _ip_block(doc: Document, data: Object, path: Path) -> Peer | None:
    block = doc.mapping(data, "ipBlock", path, _BLOCK)
    if block is None:
        return None
    path = (*path, "ipBlock")
    if block.get("cidr") is None:
        doc.missing((*path, "cidr"))
        return None
    outer = network(doc, block["cidr"], (*path, "cidr"))
    if outer is None:
        return None
    excluded = []
    for index, item in enumerate(doc.list(block, "except", path)):
        inner = network(doc, item, (*path, "except", index))
        if inner is None:
            continue
        if not inside(inner, outer):
            doc.error(
                "policies/except-outside",
                (*path, "except", index),
                f"the exception {inner} is no part of {outer}"
                if inner != outer
                else f"the exception is all of {outer}",
                "an exception is a smaller range within `cidr`",
            )
        excluded.append(inner)
    return Peer(nets=(Nets((outer,), tuple(excluded)),), ip_block=True)


# ---------------------------------------------------------------- ports


def _traffic(doc: Document, data: Object, path: Path) -> tuple[Traffic, ...]:
    value = data.get("ports")
    if value is None or value == []:
        return _EVERYTHING
    key = repr(value)
    found = doc.memory.traffic.get(key)
    if found is None:
        before = len(doc.problems)
        read = (_port(doc, item, (*path, "ports", n)) for n, item in enumerate(doc.list(data, "ports", path)))
        found = by_protocol(pair for pair in read if pair is not None)
        if len(doc.problems) == before:
            doc.memory.traffic[key] = found
    return found


def by_protocol(ports: Any) -> tuple[Traffic, ...]:
    """One `Traffic` for each protocol of the (protocol, port or None for all of them) pairs."""
    found: dict[int, dict[PortMatch, None] | None] = {}
    for protocol, port in ports:
        if port is None:
            found[protocol] = None
        else:
            known = found.setdefault(protocol, {})
            if known is not None:
                known[port] = None
    return tuple(
        Traffic((protocol,), destination_ports=None if known is None else tuple(known))
        for protocol, known in found.items()
    )


def _port(doc: Document, item: Any, path: Path) -> tuple[int, PortMatch | None] | None:
    data = doc.item(item, path, _PORT)
    if data is None:
        return None
    protocol = kubernetes_protocol(doc, data, path)
    port, last = data.get("port"), data.get("endPort")
    if port is None:
        if last is not None:
            doc.error(
                "policies/bad-port", (*path, "endPort"), f"`{dotted(path)}` has `endPort` and no `port`", "add `port`"
            )
        return protocol, None
    first = kubernetes_port(doc, port, (*path, "port"))
    if last is None or first is None:
        return None if first is None else (protocol, first)
    where = (*path, "endPort")
    if first.name:
        doc.error(
            "policies/bad-port",
            where,
            f"`{dotted(where)}` stands beside the named port {first.name!r}",
            "use its number",
        )
        return None
    end = port_number(doc, last, where)
    if end is not None and end < first.first:
        doc.error("policies/bad-port", where, f"`{dotted(where)}` {end} is below `port` {first.first}", "swap them")
        return None
    return None if end is None else (protocol, PortMatch(first.first, end))
