"""The cluster-wide policies of SIG Network, closed: https://network-policy-api.sigs.k8s.io/reference/spec/.

AdminNetworkPolicy and its baseline (v1alpha1), and ClusterNetworkPolicy (v1alpha2), which takes the place of both. With
the fields of the experimental channel.
"""

from __future__ import annotations

from support.policy_schemas.words import (
    CONDITIONS,
    LABEL_SELECTOR,
    PORT,
    Kind,
    Schema,
    checked,
    exactly_one,
    fields,
    items,
    number,
    of_format,
    one_of,
    text,
)

GROUP = "policy.networking.k8s.io"

_POD = fields({}, {"namespaceSelector": LABEL_SELECTOR, "podSelector": LABEL_SELECTOR})
_PODS = {"namespaces": LABEL_SELECTOR, "pods": _POD}
_NETWORK = checked(
    of_format("cidr"), ("self.contains(':') != self.contains('.')", "an IPv4 address within an IPv6 one is not taken")
)
_LABEL = "[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?"
_DOMAIN = text(rf"^(\*\.)?({_LABEL}\.)+{_LABEL}\.?$", most=253)
_NODES = {"nodes": LABEL_SELECTOR, "networks": items(_NETWORK, 1, 25, unique=True)}
_DOMAINS = {"domainNames": items(_DOMAIN, 1, 25, unique=True)}
_NOT_REVERSED = ("self.start <= self.end", "a range of ports does not end before its start")
_ORDERED = ("self.start < self.end", "a range of ports ends after its start")
_PRIORITY = number(0, 1000)


def _only_for(action: str) -> tuple[str, str]:
    return (
        f"self.action == '{action}' || !self.to.exists(peer, has(peer.domainNames))",
        f"domain names are for the action {action} alone",
    )


def _named_ports(field: str, name: str, domains: bool) -> tuple[str, str]:
    """Only pods have named ports."""
    others = ["networks", "nodes", *(["domainNames"] if domains else [])]
    nameless = " || ".join(f"has(peer.{other})" for other in others)
    return (
        f"!has(self.{field}) || !self.{field}.exists(port, has(port.{name})) || !self.to.exists(peer, {nameless})",
        "a port by name is for pods alone",
    )


def _rules(actions: tuple[str, ...], most: int, traffic: dict[str, Schema], name: str, domains: bool) -> Schema:
    """`ingress` and `egress`. `traffic` is the one field that narrows them, and `name` what in it is a port's name."""
    (field,) = traffic
    common = {"name": text(most=100), field: items(traffic[field], 1, most)}
    action = {"action": one_of(*actions)}
    egress_peer = exactly_one({**_PODS, **_NODES, **(_DOMAINS if domains else {})})
    ingress = fields(common, {**action, "from": items(exactly_one(_PODS), 1, most)})
    egress = checked(
        fields(common, {**action, "to": items(egress_peer, 1, most)}),
        _named_ports(field, name, domains),
        *([_only_for(actions[0])] if domains else []),
    )
    return {"ingress": items(ingress, most=most), "egress": items(egress, most=most)}


# ---------------------------------------------------------------- v1alpha1

_PROTOCOL = one_of("TCP", "UDP", "SCTP", default="TCP")
_PORTS = {
    "ports": exactly_one(
        {
            "portNumber": fields({}, {"protocol": _PROTOCOL, "port": PORT}),
            "namedPort": text(least=1, most=63),
            "portRange": checked(fields({"protocol": _PROTOCOL}, {"start": PORT, "end": PORT}), _NOT_REVERSED),
        }
    )
}
_ADMIN = fields(
    _rules(("Allow", "Deny", "Pass"), 100, _PORTS, "namedPort", domains=True),
    {"priority": _PRIORITY, "subject": exactly_one(_PODS)},
)
_BASELINE = fields(_rules(("Allow", "Deny"), 100, _PORTS, "namedPort", domains=False), {"subject": exactly_one(_PODS)})

# ---------------------------------------------------------------- v1alpha2

_DESTINATION = exactly_one(
    {"number": PORT, "range": checked(fields({}, {"start": PORT, "end": PORT}), _ORDERED)},
)
_PROTOCOLS = {
    "protocols": exactly_one(
        {
            **{name: fields({"destinationPort": _DESTINATION}, minProperties=1) for name in ("tcp", "udp", "sctp")},
            "destinationNamedPort": text(least=1, most=63),
        }
    )
}
_CLUSTER = fields(
    _rules(("Accept", "Deny", "Pass"), 25, _PROTOCOLS, "destinationNamedPort", domains=True),
    {"tier": one_of("Admin", "Baseline"), "priority": _PRIORITY, "subject": exactly_one(_PODS)},
)


def _kind(version: str, name: str, spec: Schema, *rules: tuple[str, str]) -> Kind:
    made = fields({"status": CONDITIONS}, {"spec": spec})
    return Kind(GROUP, version, name, False, checked(made, *rules) if rules else made)


KINDS = (
    _kind("v1alpha1", "AdminNetworkPolicy", _ADMIN),
    _kind(
        "v1alpha1",
        "BaselineAdminNetworkPolicy",
        _BASELINE,
        ("self.metadata.name == 'default'", "the one baseline of a cluster is called default"),
    ),
    _kind("v1alpha2", "ClusterNetworkPolicy", _CLUSTER),
)
