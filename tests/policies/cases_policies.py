"""Random policies of every kind, each of them valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from policies.cases_draw import Draw

from policies import raw

Raw = dict[str, Any]

PORTS = (22, 53, 80, 81, 8080, 9100)
NAMES = ("http", "dns", "web")
NETS_4 = ("0.0.0.0/0", "10.0.0.0/16", "10.0.0.0/29", "10.0.0.3/32", "10.0.1.0/25", "192.168.0.0/31", "203.0.113.64/26")
NETS_6 = ("::/0", "fd00::/16", "fd00::/120", "fd00::1:0/112", "2001:db8::/48")
EXCEPTS = {
    "0.0.0.0/0": ("10.0.0.0/8", "10.0.0.4/30", "203.0.113.0/25"),
    "10.0.0.0/16": ("10.0.0.0/30", "10.0.1.0/24"),
    "10.0.0.0/29": ("10.0.0.2/31",),
    "203.0.113.64/26": ("203.0.113.64/27",),
    "::/0": ("fd00::/16", "2001:db8::/64"),
    "fd00::/16": ("fd00::/126", "fd00::1:0/120"),
}
PROTOCOLS = ("TCP", "TCP", "TCP", "UDP", "UDP", "SCTP", "ICMP", "ICMPv6", "UDPLite", 47, 6)


@dataclass
class Names:
    """What policies may name. `hosts`: there is a host endpoint."""

    spaces: list[str]
    tiers: list[str]
    services: list[tuple[str, str]]
    hosts: bool
    used: int = 0
    priorities: set[tuple[str, int]] = field(default_factory=set)

    def fresh(self, draw: Draw) -> str:
        """No two policies have one name, and names are in no order."""
        self.used += 1
        return f"{draw.one('cmxa')}{self.used}"

    def priority(self, draw: Draw, tier: str) -> int:
        """No two policies of a tier share a priority: which of them goes first is left to the implementation."""
        found = draw.whole(0, 40)
        while (tier, found) in self.priorities:
            found += 1
        self.priorities.add((tier, found))
        return found


def policies(draw: Draw, names: Names) -> list[Raw]:
    """At most ten, and what stages some of them."""
    found: list[Raw] = []
    baseline = draw.one(("BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"))  # they would share a tier
    for _ in range(draw.whole(0, 10)):
        kind = draw.one(("kubernetes",) * 3 + ("calico",) * 4 + ("global",) * 4 + ("admin", "cluster", "baseline"))
        if kind == "kubernetes":
            found += _staged(draw, names, _kubernetes(draw, names))
        elif kind in ("calico", "global"):
            found += _staged(draw, names, _calico(draw, names, kind == "global"))
        elif kind == "admin":
            rules = _admin_rules(draw, names, "Admin", ("Allow", "Deny", "Pass"))
            found.append(raw.admin(names.fresh(draw), names.priority(draw, "Admin"), _subject(draw), **rules))
        elif kind == "cluster" or baseline == "ClusterNetworkPolicy":
            tier = "Admin" if kind == "cluster" else "Baseline"
            rules = _admin_rules(draw, names, "Cluster", ("Accept", "Deny", "Pass"))
            found.append(raw.cluster(names.fresh(draw), tier, names.priority(draw, tier), _subject(draw), **rules))
        elif not any(each["kind"] == "BaselineAdminNetworkPolicy" for each in found):
            found.append(raw.baseline_admin(_subject(draw), **_admin_rules(draw, names, "Admin", ("Allow", "Deny"))))
    return found


def _staged(draw: Draw, names: Names, policy: Raw) -> list[Raw]:
    """The policy as it is, staged instead, or with a staged one of its name beside it."""
    way = draw.one(("enforced",) * 7 + ("staged", "set", "delete"))
    if way == "enforced":
        return [policy]
    kubernetes = policy["apiVersion"] == "networking.k8s.io/v1"
    name = policy["metadata"]["name"]
    if kubernetes:
        other = _kubernetes(draw, names) if way == "set" else policy
        kind, api = "StagedKubernetesNetworkPolicy", raw.CALICO
    else:
        other = _calico(draw, names, policy["kind"] == "GlobalNetworkPolicy") if way == "set" else policy
        kind, api = "Staged" + policy["kind"], policy["apiVersion"]
        if other["spec"].get("tier") != policy["spec"].get("tier"):  # the name says the tier
            other = policy
    spec = {**other["spec"]}
    if way == "delete":
        # Beside these two, all fields of a deletion must be empty.
        spec = {key: spec[key] for key in ("tier",) if key in spec} | {"stagedAction": "Delete"}
    elif way == "set" or draw.chance(50):
        spec["stagedAction"] = "Set"
    staged = {"apiVersion": api, "kind": kind, "metadata": {**policy["metadata"], "name": name}, "spec": spec}
    return [staged] if way == "staged" else [policy, staged]


# ---------------------------------------------------------------- Kubernetes


def _kubernetes(draw: Draw, names: Names) -> Raw:
    spec: Raw = {}
    if draw.chance(60):
        spec["policyTypes"] = draw.one((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    for direction, side in (("ingress", "from"), ("egress", "to")):
        if draw.chance(60):
            spec[direction] = [_kubernetes_rule(draw, side) for _ in range(draw.whole(0, 2))]
    return raw.kubernetes(f"{draw.one(names.spaces)}/{names.fresh(draw)}", _label_selector(draw), **spec)


def _kubernetes_rule(draw: Draw, side: str) -> Raw:
    rule: Raw = {}
    if draw.chance(75):
        rule[side] = [_peer(draw) for _ in range(draw.whole(0, 2))]
    if draw.chance(60):
        rule["ports"] = [_kubernetes_port(draw) for _ in range(draw.whole(0, 2))]
    return rule


def _peer(draw: Draw) -> Raw:
    kind = draw.one(("pods", "namespaces", "both", "block"))
    if kind == "block":
        cidr = draw.one(NETS_4 + NETS_6)
        excepts = draw.some(EXCEPTS.get(cidr, ()), 0, 2) if cidr in EXCEPTS else []
        if cidr == "10.0.0.0/29" and draw.chance(30):
            cidr = "10.0.0.5/29"  # the same range
        return {"ipBlock": {"cidr": cidr, **({"except": excepts} if excepts else {})}}
    peer: Raw = {}
    if kind != "namespaces":
        peer["podSelector"] = _label_selector(draw)
    if kind != "pods":
        peer["namespaceSelector"] = _namespace_selector(draw)
    return peer


def _kubernetes_port(draw: Draw) -> Raw:
    port: Raw = {}
    if draw.chance(80):
        port["protocol"] = draw.one(("TCP", "TCP", "UDP", "SCTP"))
    kind = draw.one(("number", "number", "range", "name", "none"))
    if kind == "name":
        port["port"] = draw.one(NAMES)
    elif kind != "none":
        port["port"] = draw.one(PORTS)
        if kind == "range":
            port["endPort"] = port["port"] + draw.whole(0, 40)
    return port


def _label_selector(draw: Draw, keys: tuple[str, ...] = ("app", "role", "zone")) -> Raw:
    selector: Raw = {}
    if draw.chance(55):
        selector["matchLabels"] = {draw.one(keys): draw.one(("a", "b", "ab"))}
    if draw.chance(30):
        operator = draw.one(("In", "NotIn", "Exists", "DoesNotExist"))
        expression: Raw = {"key": draw.one(keys), "operator": operator}
        if operator in ("In", "NotIn"):
            expression["values"] = draw.some(("a", "b", "ab", "abc"), 1, 2)
        selector["matchExpressions"] = [expression]
    return selector


def _namespace_selector(draw: Draw) -> Raw:
    if draw.chance(30):
        return {"matchLabels": {"kubernetes.io/metadata.name": draw.one(("blue", "red"))}}
    return _label_selector(draw, ("team", "env"))


# ---------------------------------------------------------------- SIG Network's cluster-wide policies


def _subject(draw: Draw) -> Raw:
    if draw.chance(50):
        return {"namespaces": _namespace_selector(draw)}
    return {"pods": {"namespaceSelector": _namespace_selector(draw), "podSelector": _label_selector(draw)}}


def _admin_rules(draw: Draw, names: Names, family: str, actions: tuple[str, ...]) -> Raw:
    spec: Raw = {}
    for direction, side in (("ingress", "from"), ("egress", "to")):
        rules = []
        for _ in range(draw.whole(0, 2)):
            rule: Raw = {"action": draw.one(actions)}
            rule[side] = [_admin_peer(draw, side) for _ in range(draw.whole(1, 2))]
            # A named port must not stand beside networks or nodes.
            named = not any(key in peer for peer in rule[side] for key in ("networks", "nodes"))
            if draw.chance(60) and family == "Admin":
                rule["ports"] = [_admin_port(draw, named) for _ in range(draw.whole(1, 2))]
            elif draw.chance(60) and family == "Cluster":
                rule["protocols"] = [_cluster_protocol(draw, named) for _ in range(draw.whole(1, 2))]
            rules.append(rule)
        if rules:
            spec[direction] = rules
    return spec


def _admin_peer(draw: Draw, side: str) -> Raw:
    kind = draw.one(("pods", "namespaces", "networks", "nodes") if side == "to" else ("pods", "namespaces"))
    if kind == "networks":
        return {"networks": draw.some(NETS_4 + NETS_6, 1, 2)}
    if kind == "nodes":
        return {"nodes": draw.one(({}, {"matchLabels": {"zone": "a"}}))}
    if kind == "namespaces":
        return {"namespaces": _namespace_selector(draw)}
    return {"pods": {"namespaceSelector": _namespace_selector(draw), "podSelector": _label_selector(draw)}}


def _admin_port(draw: Draw, named: bool) -> Raw:
    if named and draw.chance(25):
        return {"namedPort": draw.one(NAMES)}
    protocol, port = draw.one(("TCP", "UDP", "SCTP")), draw.one(PORTS)
    if draw.chance(50):
        return {"portNumber": {"protocol": protocol, "port": port}}
    return {"portRange": {"protocol": protocol, "start": port, "end": port + draw.whole(1, 40)}}


def _cluster_protocol(draw: Draw, named: bool) -> Raw:
    if named and draw.chance(25):
        return {"destinationNamedPort": draw.one(NAMES)}
    port = draw.one(PORTS)
    number: Raw = {"number": port} if draw.chance(50) else {"range": {"start": port, "end": port + draw.whole(1, 40)}}
    return {draw.one(("tcp", "udp", "sctp")): {"destinationPort": number}}


# ---------------------------------------------------------------- Calico


def _calico(draw: Draw, names: Names, everywhere: bool) -> Raw:
    tier = draw.one(names.tiers)
    spec: Raw = {"tier": tier} if tier != "default" or draw.chance(50) else {}
    if draw.chance(70):
        spec["order"] = draw.one((-1, 1, 1, 999.5, 1000, 1000, 1001))
    if draw.chance(70):
        spec["selector"] = _selector(draw)
    if draw.chance(15):
        spec["serviceAccountSelector"] = _selector(draw, ("team", "env"))
    early = ""
    if everywhere:
        if draw.chance(30):
            spec["namespaceSelector"] = _selector(draw, ("team", "env"))
        early = draw.one(("", "", "", "", "doNotTrack", "preDNAT")) if names.hosts else ""
        if early or draw.chance(10):
            spec["applyOnForward"] = True
        if early:
            spec[early] = True
    directions = ("ingress",) if early == "preDNAT" else ("ingress", "egress")
    if draw.chance(60):
        kinds = [each.capitalize() for each in directions]
        spec["types"] = draw.some(kinds, 1, 2)
    space = "" if everywhere else draw.one(names.spaces)
    for direction in directions:
        if draw.chance(65):
            spec[direction] = [_rule(draw, names, direction, space) for _ in range(draw.whole(0, 3))]
    name = f"{tier}.{names.fresh(draw)}"
    return raw.calico(f"{space}/{name}" if space else name, api=draw.one((raw.CALICO, raw.CALICO_STORED)), **spec)


def _rule(draw: Draw, names: Names, direction: str, space: str) -> Raw:
    """All CIDRs of a rule are of one family, which is also its ipVersion's and its ICMP's."""
    rule: Raw = {"action": draw.one(("Allow", "Allow", "Allow", "Deny", "Deny", "Pass", "Log"))}
    version = draw.one((4, 4, 6))
    protocol = draw.one(PROTOCOLS) if draw.chance(65) else None
    if direction == "ingress" and rule["action"] == "Allow" and draw.chance(25):
        protocol = "TCP"
        rule["http"] = {"methods": ["GET"], "paths": [{"prefix": "/open"}]}
    if protocol in ("ICMP", "ICMPv6"):
        version = 4 if protocol == "ICMP" else 6
    if protocol is not None:
        rule["protocol"] = protocol
    if protocol in ("ICMP", "ICMPv6") and draw.chance(70):
        rule[draw.one(("icmp", "icmp", "notICMP"))] = _icmp(draw)
    if draw.chance(15):
        rule["notProtocol"] = draw.one(("TCP", "UDP", 47))
    if draw.chance(20):
        rule["ipVersion"] = version
    peer, own = ("source", "destination") if direction == "ingress" else ("destination", "source")
    nets = NETS_4 if version == 4 else NETS_6
    with_ports = protocol in ("TCP", "UDP", "SCTP", 6)
    if names.services and draw.chance(15):
        of, service = draw.one(names.services)
        match = {"name": service} if of == space and draw.chance(50) else {"name": service, "namespace": of}
        rule[peer] = {"services": match, **(_ports(draw) if with_ports and peer == "source" else {})}
    else:
        rule[peer] = _entity(draw, nets, with_ports, 90)
    rule[own] = _entity(draw, nets, with_ports, 20)
    if "http" in rule and draw.chance(60):  # wide, so that it is often what decides
        rule[peer] = rule[own] = {}
        rule.pop("notProtocol", None)
    return {key: value for key, value in rule.items() if value != {}}


def _icmp(draw: Draw) -> Raw:
    found: Raw = {"type": draw.one((0, 8, 128))}
    if draw.chance(40):
        found["code"] = draw.whole(0, 1)
    return found


def _entity(draw: Draw, nets: tuple[str, ...], with_ports: bool, percent: int) -> Raw:
    entity: Raw = {}
    if draw.chance(percent):
        for key in draw.some(
            ("selector", "notSelector", "namespaceSelector", "serviceAccounts", "nets", "notNets"), 0, 2
        ):
            if key in ("nets", "notNets"):
                entity[key] = draw.some(nets, 1, 2)
            elif key == "namespaceSelector":
                entity[key] = draw.one(("all()", "global()", *[_selector(draw, ("team", "env"))] * 3))
            elif key == "serviceAccounts":
                entity[key] = _accounts(draw)
            else:
                entity[key] = _selector(draw)
    if with_ports:
        entity |= _ports(draw)
    return entity


def _accounts(draw: Draw) -> Raw:
    kind = draw.one(("names", "selector", "both"))
    found: Raw = {}
    if kind != "selector":
        found["names"] = draw.some(("default", "robot", "nobody"), 1, 2)
    if kind != "names":
        found["selector"] = _selector(draw, ("team", "env"))
    return found


def _ports(draw: Draw) -> Raw:
    found: Raw = {}
    for key, percent in (("ports", 35), ("notPorts", 10)):
        if draw.chance(percent):
            found[key] = draw.some((*PORTS, "20:60", "81:9000", "http", "dns", "web"), 1, 2)
    return found


def _selector(draw: Draw, keys: tuple[str, ...] = ("app", "role", "zone"), depth: int = 2) -> str:
    """Of every operator. Never `!all()`, which Calico itself rewrites in one place and not in another."""
    kind = draw.one(("term",) * 6 + ("and", "or", "not")) if depth else "term"
    if kind in ("and", "or"):
        sign = " && " if kind == "and" else " || "
        return sign.join(_selector(draw, keys, depth - 1) for _ in range(2))
    if kind == "not":
        return f"!({_term(draw, keys)})"
    return _term(draw, keys) if draw.chance(92) else "all()"


def _term(draw: Draw, keys: tuple[str, ...]) -> str:
    special = (
        ("projectcalico.org/name",) if "team" in keys else ("pcns.team", "pcsa.env", "projectcalico.org/namespace")
    )
    key = draw.one(special) if draw.chance(12) else draw.one(keys)
    value = draw.one(("blue", "red", "robot")) if key.startswith("projectcalico.org/") else draw.one(("a", "b", "ab"))
    operator = draw.one(("==", "==", "==", "!=", "has", "!has", "in", "not in", "contains", "starts with", "ends with"))
    if operator in ("has", "!has"):
        return f"{operator}({key})"
    if operator in ("in", "not in"):
        return f"{key} {operator} {{ '{value}', 'b' }}"
    return f"{key} {operator} '{value}'"
