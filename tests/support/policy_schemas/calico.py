"""Calico's policy kinds, closed: https://docs.tigera.io/calico/latest/reference/resources/.

The same kinds stand in two groups, that of Calico's API server and that of its CRDs. (Calico itself makes the profiles
of namespaces and service accounts, and stores none of them.) Beyond the types of fields this holds what Calico's own
validation says of several together: ports need a protocol that has ports, a `services` match stands alone, and so on.
Where Calico sets no bound on a list, the bound here is one that the API server needs to run the rules on its items.
"""

from __future__ import annotations

from support.policy_schemas.words import (
    CONDITIONS,
    DECIMAL,
    FLAG,
    LABEL_SELECTOR,
    PORT,
    PORT_NAME,
    PORT_NAME_LENGTH,
    Kind,
    Schema,
    checked,
    exactly_one,
    fields,
    filled,
    has,
    is_any,
    items,
    mapping,
    needs,
    never,
    number,
    number_or_text,
    of_format,
    one_of,
    text,
)

GROUPS = {"projectcalico.org": "v3", "crd.projectcalico.org": "v1"}

RULES = 512
"""Calico takes twice as many; the API server reckons what checking their networks may cost."""
SELECTOR_LENGTH = 1024
_WORD = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = rf"{_WORD}(\.{_WORD})*"
_TIER = {**text(f"^({_NAME})?$", most=253), "default": "default"}
_STAGED_ACTION = one_of("Set", "Delete", "Learn", "Ignore", default="Set")
_FLAGS = ("doNotTrack", "preDNAT", "applyOnForward")
_TYPES = items(one_of("Ingress", "Egress"), 1, 2, unique=True)

# ---------------------------------------------------------------- rules

_IS_MASKED = (
    "!isCIDR(self) || cidr(self) == cidr(self).masked()",
    "a network of a rule has no bits set beyond its prefix",
)
_SET_NETWORKS = items(of_format("cidr", "ipv4", "ipv6"), unique=True)
_RULE_NETWORKS = items(checked(of_format("cidr"), _IS_MASKED), most=256, unique=True)
_RANGE = "self.matches('^[0-9]+:[0-9]+$')"
_PORTS = items(
    checked(
        number_or_text(1, 65535, f"^([0-9]{{1,5}}(:[0-9]{{1,5}})?|{PORT_NAME})$", PORT_NAME_LENGTH),
        (
            f"type(self) == int || !{_RANGE} || int(self.split(':')[0]) <= int(self.split(':')[1])",
            "a range of ports ends where it begins, or after that",
        ),
        (
            f"type(self) == int || !{_RANGE} || (int(self.split(':')[0]) >= 1 && int(self.split(':')[1]) <= 65535)",
            "a port is a number from 1 to 65535",
        ),
    ),
    most=50,
)
_WITH_PORTS = ("TCP", "UDP", "SCTP", 6, 17, 132)
_PROTOCOL = number_or_text(1, 255, "^(TCP|UDP|SCTP|ICMP|ICMPv6|UDPLite)$", 7)
_ICMP = fields({"type": number(0, 254), "code": number(0, 255)}, None, needs(has("code"), has("type")))
_SELECTOR = text(most=SELECTOR_LENGTH)
_ENTITY = {
    "nets": _RULE_NETWORKS,
    "notNets": _RULE_NETWORKS,
    "selector": _SELECTOR,
    "notSelector": _SELECTOR,
    "namespaceSelector": _SELECTOR,
    "ports": _PORTS,
    "notPorts": _PORTS,
    "serviceAccounts": fields({"names": items(text(), unique=True), "selector": text()}),
}
_NO_GLOBAL = (
    "!has(self.selector) || !self.selector.contains('global(')",
    "global() stands in the namespaceSelector of a rule and nowhere else",
)
_BESIDE_SERVICES = ("selector", "notSelector", "namespaceSelector", "nets", "notNets")


def _entity(services: Schema | None = None, ports: bool = True) -> Schema:
    """One end of a rule; with `services` one that may be given by a Service, and without `ports` beside it."""
    if services is None:
        return checked(fields(_ENTITY), _NO_GLOBAL)
    beside = (*_BESIDE_SERVICES, *(() if ports else ("ports", "notPorts")))
    alone = [never(has("services"), filled(name)) for name in beside]
    made = fields({**_ENTITY, "services": services}, None, *alone, never(has("services"), has("serviceAccounts")))
    return checked(made, _NO_GLOBAL)


def _networks(pattern: str) -> Schema:
    """The networks of a rule are all written so."""
    lists = {"properties": {name: {"items": {"pattern": pattern}} for name in ("nets", "notNets")}}
    return {"properties": {"source": lists, "destination": lists}}


_FOUR, _SIX = _networks("^[^:]*$"), _networks(":")


def _rule(direction: str, namespaced: bool) -> Schema:
    """A rule of a direction. Where the policy has no namespace, a Service is named with its own."""
    name, namespace = text(least=1, most=253), text(most=253)
    services = (
        fields({"namespace": namespace}, {"name": name})
        if namespaced
        else fields({}, {"name": name, "namespace": {**namespace, "minLength": 1}})
    )
    ends = (
        {"source": _entity(services), "destination": _entity()}
        if direction == "ingress"
        else {"source": _entity(), "destination": _entity(services, ports=False)}
    )
    http = fields(
        {
            "methods": items(text(), most=20, unique=True),
            "paths": items(exactly_one({"exact": _PATH, "prefix": _PATH}), most=20),
        }
    )
    return fields(
        {
            "ipVersion": {"type": "integer", "enum": [4, 6]},
            "protocol": _PROTOCOL,
            "notProtocol": _PROTOCOL,
            "icmp": _ICMP,
            "notICMP": _ICMP,
            **ends,
            **({"http": http} if direction == "ingress" else {}),
            "metadata": fields({"annotations": mapping(text())}),
        },
        {"action": one_of("Allow", "Deny", "Log", "Pass")},
        *(
            needs(filled(end, name), is_any("protocol", *_WITH_PORTS))
            for end in ("source", "destination")
            for name in ("ports", "notPorts")
        ),
        {"anyOf": [_FOUR, _SIX]},
        needs(is_any("ipVersion", 4), _FOUR),
        needs(is_any("ipVersion", 6), _SIX),
        needs(has("icmp"), is_any("protocol", "ICMP", "ICMPv6", 1, 58)),
        never(is_any("protocol", "ICMP", 1), is_any("ipVersion", 6)),
        never(is_any("protocol", "ICMPv6", 58), is_any("ipVersion", 4)),
        never(is_any("notProtocol", "ICMP", 1), is_any("ipVersion", 6)),
        never(is_any("notProtocol", "ICMPv6", 58), is_any("ipVersion", 4)),
        *(
            (
                needs(has("http"), is_any("action", "Allow")),
                needs(has("http"), {"not": has("protocol")}, is_any("protocol", "TCP", 6)),
            )
            if direction == "ingress"
            else ()
        ),
    )


_PATH = text("^/[^?# ]*$", most=1024)


def _rules(namespaced: bool) -> dict[str, Schema]:
    return {name: items(_rule(name, namespaced), most=RULES) for name in ("ingress", "egress")}


# ---------------------------------------------------------------- policies


def _deleting(*names: str) -> list[Schema]:
    """What is staged to be deleted says nothing more than its tier; `types` are let pass, for Calico drops them."""
    delete = is_any("stagedAction", "Delete")
    return [
        never(delete, has(name) if name == "order" else is_any(name, True) if name in _FLAGS else filled(name))
        for name in names
        if name not in ("tier", "types", "stagedAction")
    ]


def _policy(namespaced: bool, staged: bool) -> Schema:
    selectors = {
        name: text(most=0 if namespaced else SELECTOR_LENGTH) for name in ("selector", "serviceAccountSelector")
    }
    common = {
        "tier": _TIER,
        "order": DECIMAL,
        **selectors,
        "types": _TYPES,
        **_rules(namespaced),
        "performanceHints": items(one_of("AssumeNeededOnEveryNode"), unique=True),
        **({"stagedAction": _STAGED_ACTION} if staged else {}),
    }
    if namespaced:
        return checked(fields(common, None, *(_deleting(*common) if staged else ())), *_no_global(*selectors))
    flags = dict.fromkeys(_FLAGS, FLAG)
    early, forward = is_any("preDNAT", True), is_any("applyOnForward", True)
    known = {**common, "namespaceSelector": _SELECTOR, **flags}
    made = fields(
        known,
        None,
        *(_deleting(*known) if staged else ()),
        never(early, is_any("doNotTrack", True)),
        never(early, filled("egress")),
        needs(early, forward),
        needs(is_any("doNotTrack", True), forward),
    )
    untyped = (
        "!has(self.preDNAT) || !self.preDNAT || !has(self.types) || !('Egress' in self.types)",
        "a policy before DNAT is one of ingress alone",
    )
    return checked(made, untyped, *_no_global(*selectors, "namespaceSelector"))


def _no_global(*names: str) -> list[tuple[str, str]]:
    return [(f"!has(self.{name}) || !self.{name}.contains('global(')", _NO_GLOBAL[1]) for name in names]


def _kubernetes_policy() -> Schema:
    """As Kubernetes' own NetworkPolicy: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/."""
    block = fields({"except": items(of_format("cidr"))}, {"cidr": of_format("cidr")})
    peer = fields(
        {"podSelector": LABEL_SELECTOR, "namespaceSelector": LABEL_SELECTOR, "ipBlock": block},
        None,
        *(never(has("ipBlock"), has(name)) for name in ("podSelector", "namespaceSelector")),
        minProperties=1,
    )
    port = fields(
        {
            "protocol": one_of("TCP", "UDP", "SCTP", default="TCP"),
            "port": number_or_text(1, 65535, f"^{PORT_NAME}$", PORT_NAME_LENGTH),
            "endPort": PORT,
        },
        None,
        needs(has("endPort"), has("port")),
    )
    ordered = (
        "!has(self.endPort) || !has(self.port) || (type(self.port) == int && self.port <= self.endPort)",
        "endPort needs the number of a port that is no larger",
    )
    rules = {
        name: items(fields({end: items(peer, most=100), "ports": items(checked(port, ordered), most=100)}), most=RULES)
        for name, end in (("ingress", "from"), ("egress", "to"))
    }
    known = {"stagedAction": _STAGED_ACTION, "podSelector": LABEL_SELECTOR, "policyTypes": _TYPES, **rules}
    return fields(known, None, *_deleting(*known))


# ---------------------------------------------------------------- the others

_STANDING_TIERS = {"default": ("Deny", 1_000_000), "kube-admin": ("Pass", 1_000), "kube-baseline": ("Pass", 10_000_000)}
_TIER_RULES = tuple(
    rule
    for name, (action, order) in _STANDING_TIERS.items()
    for rule in (
        (
            f"self.metadata.name != '{name}' || self.spec.defaultAction == '{action}'",
            f"the default action of the tier {name} is {action}",
        ),
        (
            f"self.metadata.name != '{name}' || (has(self.spec.order) && self.spec.order == {order}.0)",
            f"the order of the tier {name} is {order}",
        ),
    )
)
_HOST_ENDPOINT = fields(
    {
        "interfaceName": text(r"^(\*|[a-zA-Z0-9_.-]{0,15})$"),
        "expectedIPs": items(of_format("ipv4", "ipv6"), unique=True),
        "profiles": items(text(f"^{_NAME}$", most=253), unique=True),
        "ports": items(
            fields(
                {},
                {
                    "name": text(f"^{PORT_NAME}$", most=PORT_NAME_LENGTH),
                    "protocol": {**number_or_text(1, 255, "^(TCP|UDP|SCTP)$", 4), "enum": list(_WITH_PORTS)},
                    "port": PORT,
                },
            )
        ),
    },
    {"node": text(least=1, most=253)},
    {"anyOf": [filled("interfaceName"), filled("expectedIPs")]},
)


def _whole(spec: Schema, *rules: tuple[str, str], status: bool = False) -> Schema:
    made = fields({"status": CONDITIONS} if status else {}, {"spec": spec})
    return checked(made, *rules) if rules else made


_KINDS = (
    ("NetworkPolicy", True, _whole(_policy(namespaced=True, staged=False), status=True)),
    ("GlobalNetworkPolicy", False, _whole(_policy(namespaced=False, staged=False), status=True)),
    ("StagedNetworkPolicy", True, _whole(_policy(namespaced=True, staged=True), status=True)),
    ("StagedGlobalNetworkPolicy", False, _whole(_policy(namespaced=False, staged=True), status=True)),
    ("StagedKubernetesNetworkPolicy", True, _whole(_kubernetes_policy(), status=True)),
    (
        "Tier",
        False,
        _whole(
            fields({"order": DECIMAL, "defaultAction": one_of("Pass", "Deny", default="Deny")}),
            *_TIER_RULES,
            status=True,
        ),
    ),
    ("NetworkSet", True, _whole(fields({"nets": _SET_NETWORKS}))),
    ("GlobalNetworkSet", False, _whole(fields({"nets": _SET_NETWORKS}))),
    ("Profile", False, _whole(fields({**_rules(namespaced=False), "labelsToApply": mapping(text(most=63))}))),
    ("HostEndpoint", False, _whole(_HOST_ENDPOINT)),
)
KINDS = tuple(
    Kind(group, version, name, namespaced, schema)
    for group, version in GROUPS.items()
    for name, namespaced, schema in _KINDS
)
