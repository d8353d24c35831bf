"""The cluster-wide policies of SIG Network: AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy.

https://network-policy-api.sigs.k8s.io/reference/spec/ and the types in apis/v1alpha1, v1alpha2 and v1beta1 of
https://github.com/kubernetes-sigs/network-policy-api. A policy is one only for the directions in which it has rules;
what no rule matches goes on to the next tier.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pilothouse.inventory.fields import Path, dotted
from pilothouse.policies.reading.document import Document, Object, short
from pilothouse.policies.reading.kubernetes import by_protocol
from pilothouse.policies.reading.values import (
    KUBERNETES_PROTOCOLS,
    SCTP,
    TCP,
    UDP,
    kubernetes_protocol,
    labels_selector,
    network,
    port_name,
    port_number,
    port_range,
)
from pilothouse.policies.rules import (
    ADMIN_TIER,
    ANYONE,
    BASELINE_TIER,
    EVERYTHING,
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
from pilothouse.problems import nearest

_BASELINE = frozenset(("subject", "ingress", "egress"))
_ADMIN = _BASELINE | {"priority"}
_CLUSTER = _ADMIN | {"tier"}
_PODS = frozenset(("namespaceSelector", "podSelector"))
_INSIDE = frozenset(("namespaces", "pods"))
_OUTSIDE = _INSIDE | {"nodes", "networks", "domainNames"}
_PORT = frozenset(("portNumber", "portRange", "namedPort"))
_PORT_NUMBER = frozenset(("protocol", "port"))
_PORT_RANGE = frozenset(("protocol", "start", "end"))
_PROTOCOL = frozenset(("tcp", "udp", "sctp", "destinationNamedPort"))
_DESTINATION = frozenset(("destinationPort",))
_NUMBER = frozenset(("number", "range"))
_RANGE = frozenset(("start", "end"))

_ANP_ACTIONS: Mapping[str, Action] = {"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_BANP_ACTIONS: Mapping[str, Action] = {"Allow": Action.ALLOW, "Deny": Action.DENY}
_CNP_ACTIONS: Mapping[str, Action] = {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_TIERS = {"Admin": ADMIN_TIER, "Baseline": BASELINE_TIER}
_NAMED = (TCP, UDP, SCTP)
_MAX_NETWORKS = 25
_MAX_NAME = 100


def admin_network_policy(doc: Document) -> Policy | None:
    """The policy, or None after an error."""
    spec = doc.spec(_ADMIN)
    return _policy(doc, spec, ADMIN_TIER, _priority(doc, spec), _ANP_ACTIONS, 100)


def baseline_admin_network_policy(doc: Document) -> Policy | None:
    """There is one of it, and so its order says nothing."""
    spec = doc.spec(_BASELINE)
    if doc.manifest.name != "default":
        doc.bad(("metadata", "name"), f"{short(doc.manifest.name)} cannot be", "there is one of it, named `default`")
    return _policy(doc, spec, BASELINE_TIER, 0.0, _BANP_ACTIONS, 100)


def cluster_network_policy(doc: Document) -> Policy | None:
    spec = doc.spec(_CLUSTER)
    tier = doc.choice(spec, "tier", ("spec",), tuple(_TIERS))
    if spec.get("tier") is None:
        doc.missing(("spec", "tier"), "add `tier`: Admin or Baseline")
    return _policy(doc, spec, _TIERS.get(tier, ADMIN_TIER), _priority(doc, spec), _CNP_ACTIONS, 25)


def _priority(doc: Document, spec: Object) -> float:
    value = doc.whole(spec, "priority", ("spec",), 0, 1000)
    if spec.get("priority") is None:
        doc.missing(("spec", "priority"), "add `priority`, 0 to 1000: the lowest is met first")
    return float(value or 0)


def _policy(
    doc: Document, spec: Object, tier: str, order: float, actions: Mapping[str, Action], limit: int
) -> Policy | None:
    manifest = doc.manifest
    subject = _subject(doc, spec)
    ingress = _rules(doc, spec, Direction.INGRESS, actions, limit)
    egress = _rules(doc, spec, Direction.EGRESS, actions, limit)
    labels = doc.labels()
    if doc.failed or subject is None:
        return None
    given = ((Direction.INGRESS, spec.get("ingress")), (Direction.EGRESS, spec.get("egress")))
    return Policy(
        manifest.kind,
        manifest.name,
        "",
        Family.ADMIN,
        manifest.api_version,
        tier,
        order,
        (subject,),
        frozenset(direction for direction, rules in given if rules),
        ingress,
        egress,
        labels=labels,
        place=manifest.place,
    )


def _only(doc: Document, data: Object, known: Collection[str], path: Path) -> str:
    """The one field that is set, or "" after a complaint."""
    given = [key for key in data if key in known and data[key] is not None]
    if len(given) == 1:
        return given[0]
    names = ", ".join(f"`{key}`" for key in sorted(known))
    if given:
        message = f"`{dotted(path)}` has {' and '.join(f'`{key}`' for key in given)}"
        doc.error("policies/peer-conflict", path, message, f"one of {names}: make them two items")
    elif not data.keys() - known:
        doc.error("policies/empty-peer", path, f"`{dotted(path)}` names nothing", f"one of {names}")
    return ""


def _subject(doc: Document, spec: Object) -> Peer | None:
    path: Path = ("spec", "subject")
    subject = doc.mapping(spec, "subject", ("spec",), _INSIDE)
    if subject is None:
        if spec.get("subject") is None:
            doc.missing(path, "add `subject`: `namespaces: {}` is every pod")
        return None
    field = _only(doc, subject, _INSIDE, path)
    return _pods(doc, subject, field, path) if field else None


def _pods(doc: Document, data: Object, field: str, path: Path) -> Peer | None:
    """`namespaces`, every pod of some; or `pods`, some pods of some."""
    where = (*path, field)
    if field == "namespaces":
        chosen = labels_selector(doc, data[field], where)
        return Peer(Scope.NAMESPACES, "", chosen or ALL, pods_only=True)
    pods = doc.mapping(data, field, path, _PODS)
    if pods is None:
        return None
    if pods.get("podSelector") is None:
        doc.missing((*where, "podSelector"), "add `podSelector`: `{}` is every pod")
    if pods.get("namespaceSelector") is None and doc.version != "v1beta1":
        doc.missing((*where, "namespaceSelector"), "add `namespaceSelector`: `{}` is every namespace")
    chosen = labels_selector(doc, pods.get("namespaceSelector"), (*where, "namespaceSelector"))
    selected = labels_selector(doc, pods.get("podSelector"), (*where, "podSelector"))
    return Peer(Scope.NAMESPACES, "", chosen or ALL, selected, pods_only=True)


# ---------------------------------------------------------------- rules


def _rules(
    doc: Document, spec: Object, direction: Direction, actions: Mapping[str, Action], limit: int
) -> tuple[Rule, ...]:
    """A rule that names nothing but domain names matches nothing that is known here, and is left out."""
    field = direction.value
    peers = "from" if direction is Direction.INGRESS else "to"
    known = frozenset(("name", "action", peers, *(("ports",) if limit == 100 else ("ports", "protocols"))))
    found: list[Rule] = []
    for index, item in enumerate(doc.list(spec, field, ("spec",), limit)):
        path: Path = ("spec", field, index)
        data = doc.item(item, path, known)
        if data is None:
            continue
        if len(doc.string(data, "name", path)) > _MAX_NAME:
            doc.bad((*path, "name"), f"has more than {_MAX_NAME} characters")
        action = _action(doc, data, actions, path)
        others = _peers(doc, data, peers, direction, action, path, limit)
        traffic = _traffic(doc, data, path, limit)
        _named_ports(doc, data, peers, traffic, path)
        if others:
            found.append(Rule(action, others, traffic, ANYONE, index, path, doc.manifest.at(path)))
    return tuple(found)


def _action(doc: Document, data: Object, actions: Mapping[str, Action], path: Path) -> Action:
    value = data.get("action")
    found = actions.get(value) if isinstance(value, str) else None
    if found is not None:
        return found
    if value is None:
        doc.missing((*path, "action"), f"add `action`: {', '.join(actions)}")
    else:
        where = (*path, "action")
        swapped = {"Allow": "Accept", "Accept": "Allow"}.get(value, "") if isinstance(value, str) else ""
        hint = f"here it is called `{swapped}`" if swapped in actions else ""
        if not hint and isinstance(value, str):
            hint = nearest(value.capitalize(), actions)
        message = f"{short(value)} in `{dotted(where)}` is not one of {', '.join(actions)}"
        doc.error("policies/unknown-action", where, message, hint)
    return Action.DENY


def _peers(
    doc: Document, data: Object, field: str, direction: Direction, action: Action, path: Path, limit: int
) -> tuple[Peer, ...]:
    given = doc.list(data, field, path, limit)
    if data.get(field) in (None, []):
        doc.missing((*path, field), f"add `{field}`: `namespaces: {{}}` is every pod")
    known = _INSIDE if direction is Direction.INGRESS else _OUTSIDE
    found: list[Peer] = []
    for index, item in enumerate(given):
        where = (*path, field, index)
        peer = doc.item(item, where, known)
        name = _only(doc, peer, known, where) if peer is not None else ""
        if peer is None or not name:
            continue
        one = _outside(doc, peer, name, action, where) if name not in _INSIDE else _pods(doc, peer, name, where)
        if one is not None:
            found.append(one)
    return tuple(found)


def _outside(doc: Document, data: Object, field: str, action: Action, path: Path) -> Peer | None:
    where = (*path, field)
    if field == "nodes":
        return Peer(Scope.NODES, selector=labels_selector(doc, data[field], where))
    if field == "domainNames":
        names = doc.strings(data, field, path, _MAX_NETWORKS)
        if action is not Action.ALLOW:
            message = f"`{dotted(where)}` cannot stand in a rule that does not allow"
            doc.error("policies/domain-names", where, message, "deny a wider range after the rules that allow names")
        elif not names:
            doc.bad(where, "must name something")
        else:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            doc.warn(
                "policies/domain-names",
                where,
                f"`{dotted(where)}` is not evaluated: which addresses {shown} has, no file says",
                "connections to these names are shown as if the rule did not name them",
            )
        return None
    nets = [
        network(doc, item, (*where, index), exact=doc.version == "v1beta1")
        for index, item in enumerate(doc.list(data, field, path, _MAX_NETWORKS))
    ]
    if not nets and isinstance(data[field], list):
        doc.bad(where, "must name a range")
    ranges = tuple(item for item in nets if item is not None)
    return Peer(nets=(Nets(ranges),)) if ranges else None


def _named_ports(doc: Document, data: Object, peers: str, traffic: tuple[Traffic, ...], path: Path) -> None:
    others = data.get(peers)
    named = any(port.name for item in traffic for port in item.destination_ports or ())
    if not named or not isinstance(others, list):
        return
    for index, item in enumerate(others):
        for field in ("nodes", "networks", "domainNames"):
            if isinstance(item, dict) and item.get(field) is not None:
                where = (*path, peers, index, field)
                message = f"`{dotted(where)}` stands in a rule with a named port, and only pods name their ports"
                doc.error("policies/bad-port", where, message, "use the port's number, or make it two rules")


# ---------------------------------------------------------------- ports


def _traffic(doc: Document, data: Object, path: Path, limit: int) -> tuple[Traffic, ...]:
    pairs: list[tuple[int, PortMatch | None]] = []
    names: list[PortMatch] = []
    if data.get("ports") is not None and data.get("protocols") is not None:
        message = f"`{dotted(path)}` has `ports` beside `protocols`"
        doc.error("policies/peer-conflict", (*path, "ports"), message, "say both in `protocols`")
    given = 0
    for field, read in (("ports", _port), ("protocols", _protocol)):
        for index, item in enumerate(doc.list(data, field, path, limit)):
            given += 1
            pair = read(doc, item, (*path, field, index))
            if pair is None:
                continue
            if pair[1] is not None and pair[1].name:
                names.append(pair[1])
            else:
                pairs.append(pair)
    if not given:
        return (EVERYTHING,)
    named = (Traffic(_NAMED, destination_ports=tuple(names)),) if names else ()
    return by_protocol(pairs) + named or (EVERYTHING,)


def _name(doc: Document, data: Object, field: str, path: Path) -> tuple[int, PortMatch] | None:
    """A named port is that of any protocol that the pod gives the name to."""
    name = doc.string(data, field, path)
    found = port_name(doc, name, (*path, field)) if name else ""
    return (TCP, PortMatch(name=found)) if found else None


def _port(doc: Document, item: Any, path: Path) -> tuple[int, PortMatch | None] | None:
    data = doc.item(item, path, _PORT)
    field = _only(doc, data, _PORT, path) if data is not None else ""
    if data is None or not field:
        return None
    if field == "namedPort":
        return _name(doc, data, field, path)
    where = (*path, field)
    given = doc.mapping(data, field, path, _PORT_NUMBER if field == "portNumber" else _PORT_RANGE)
    if given is None:
        return None
    protocol = kubernetes_protocol(doc, given, where)
    if field == "portRange":
        found = _start_end(doc, given, where, single=True)
        return None if found is None else (protocol, found)
    number = port_number(doc, given.get("port"), (*where, "port"))
    return None if number is None else (protocol, PortMatch(number, number))


def _protocol(doc: Document, item: Any, path: Path) -> tuple[int, PortMatch | None] | None:
    data = doc.item(item, path, _PROTOCOL)
    field = _only(doc, data, _PROTOCOL, path) if data is not None else ""
    if data is None or not field:
        return None
    if field == "destinationNamedPort":
        return _name(doc, data, field, path)
    protocol = KUBERNETES_PROTOCOLS[field.upper()]
    given = doc.mapping(data, field, path, _DESTINATION)
    where = (*path, field)
    port = doc.mapping(given, "destinationPort", where, _NUMBER) if given is not None else None
    if given is None or port is None:
        if given is not None and given.get("destinationPort") is None:
            doc.missing((*where, "destinationPort"), "add `destinationPort`: `{range: {start: 1, end: 65535}}` is any")
        return None
    where = (*where, "destinationPort")
    chosen = _only(doc, port, _NUMBER, where)
    if chosen == "number":
        number = port_number(doc, port["number"], (*where, "number"))
        return None if number is None else (protocol, PortMatch(number, number))
    limits = doc.mapping(port, "range", where, _RANGE) if chosen else None
    found = _start_end(doc, limits, (*where, "range"), single=False) if limits is not None else None
    return None if found is None else (protocol, found)


def _start_end(doc: Document, data: Object, path: Path, *, single: bool) -> PortMatch | None:
    start = port_number(doc, data.get("start"), (*path, "start"))
    end = port_number(doc, data.get("end"), (*path, "end"))
    return None if start is None or end is None else port_range(doc, start, end, path, single=single)
