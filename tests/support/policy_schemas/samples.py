"""One valid object of every kind, with about every field that the kind has."""

from __future__ import annotations

import json
from typing import Any

from support.policy_schemas.words import Kind

NAMESPACE = "shop"

_APP = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]}
_ANY: dict[str, Any] = {}
_INGRESS = [
    {
        "action": "Allow",
        "ipVersion": 4,
        "protocol": "TCP",
        "source": {
            "nets": ["10.0.0.0/8", "192.0.2.7/32"],
            "notNets": ["10.1.0.0/16"],
            "selector": "app == 'web'",
            "notSelector": "has(old)",
            "namespaceSelector": "team == 'shop'",
            "ports": ["1024:65535"],
            "serviceAccounts": {"names": ["web"], "selector": "trusted == 'yes'"},
        },
        "destination": {"ports": [80, "8000:8080", "metrics"], "notPorts": [8001]},
        "http": {"methods": ["GET"], "paths": [{"exact": "/health"}, {"prefix": "/api"}]},
        "metadata": {"annotations": {"why": "sample"}},
    },
    {"action": "Deny", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}, "notICMP": {"type": 3}},
    {"action": "Log", "ipVersion": 6, "protocol": 58, "source": {"nets": ["fd00::/8", "2001:db8::1/128"]}},
]
_EGRESS = [
    {"action": "Pass", "notProtocol": "UDPLite", "destination": {"services": {"name": "api", "namespace": "data"}}},
    {"action": "Allow", "destination": {"selector": "role == 'bank'", "namespaceSelector": "global()"}},
]
_POLICY = {
    "tier": "platform",
    "order": 100.5,
    "selector": "app == 'web'",
    "serviceAccountSelector": "team == 'shop'",
    "types": ["Ingress", "Egress"],
    "ingress": _INGRESS,
    "egress": _EGRESS,
    "performanceHints": ["AssumeNeededOnEveryNode"],
}
_GLOBAL = {**_POLICY, "namespaceSelector": "has(team)", "applyOnForward": True, "doNotTrack": True, "preDNAT": False}
_KUBERNETES = {
    "podSelector": _APP,
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [
        {
            "from": [
                {"podSelector": _APP, "namespaceSelector": _ANY},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            ],
            "ports": [{"protocol": "TCP", "port": 8000, "endPort": 8080}, {"protocol": "TCP", "port": "http"}],
        }
    ],
    "egress": [{"to": [{"ipBlock": {"cidr": "fd00::/8"}}], "ports": [{"protocol": "SCTP"}]}, {}],
}
_PODS = {"pods": {"namespaceSelector": _APP, "podSelector": _ANY}}
_PORTS = [
    {"portNumber": {"protocol": "TCP", "port": 443}},
    {"portRange": {"protocol": "UDP", "start": 1000, "end": 2000}},
    {"namedPort": "http"},
]
_PROTOCOLS = [
    {"tcp": {"destinationPort": {"number": 443}}},
    {"udp": {"destinationPort": {"range": {"start": 1000, "end": 2000}}}},
    {"destinationNamedPort": "http"},
]


def _admin(field: str, ports: list[Any], allow: str, domains: bool = True) -> dict[str, Any]:
    """The rules of SIG Network's policies: a port by name stands beside pods alone."""
    outside: list[dict[str, Any]] = [{"networks": ["203.0.113.0/24", "2001:db8::/32"]}, {"nodes": _APP}]
    if domains:
        outside.append({"domainNames": ["*.bank.example", "api.cards.example"]})
    return {
        "ingress": [{"name": "in", "action": "Deny", "from": [{"namespaces": _ANY}, _PODS], field: ports}],
        "egress": [
            {"name": "out", "action": allow, "to": outside, field: ports[:2]},
            {"action": "Deny", "to": [{"namespaces": _APP}], field: ports},
        ],
    }


SPECS: dict[str, dict[str, Any]] = {
    "NetworkPolicy": _POLICY,
    "GlobalNetworkPolicy": _GLOBAL,
    "StagedNetworkPolicy": {"stagedAction": "Set", **_POLICY},
    "StagedGlobalNetworkPolicy": {"stagedAction": "Set", **_GLOBAL},
    "StagedKubernetesNetworkPolicy": {"stagedAction": "Set", **_KUBERNETES},
    "Tier": {"order": 200, "defaultAction": "Pass"},
    "NetworkSet": {"nets": ["198.51.100.0/24", "198.51.100.7/16", "2001:db8::1"]},
    "GlobalNetworkSet": {"nets": ["203.0.113.0/24", "2001:db8::/32"]},
    "Profile": {
        "ingress": [{"action": "Allow", "source": {"selector": "app == 'web'"}}],
        "egress": [{"action": "Allow"}],
        "labelsToApply": {"pcns.team": "shop"},
    },
    "HostEndpoint": {
        "node": "node-1",
        "interfaceName": "eth0",
        "expectedIPs": ["10.0.0.1", "fd00::1"],
        "profiles": ["kns.shop"],
        "ports": [{"name": "ssh", "protocol": "TCP", "port": 22}, {"name": "dns", "protocol": 17, "port": 53}],
    },
    "AdminNetworkPolicy": {"priority": 10, "subject": {"namespaces": _APP}, **_admin("ports", _PORTS, "Allow")},
    "BaselineAdminNetworkPolicy": {"subject": _PODS, **_admin("ports", _PORTS, "Allow", domains=False)},
    "ClusterNetworkPolicy": {
        "tier": "Admin",
        "priority": 1000,
        "subject": {"namespaces": _ANY},
        **_admin("protocols", _PROTOCOLS, "Accept"),
    },
}


def sample(kind: Kind) -> dict[str, Any]:
    """A new object of the kind, valid as it is."""
    name = "default" if kind.name == "BaselineAdminNetworkPolicy" else "sample"
    where = {"name": name, **({"namespace": NAMESPACE} if kind.namespaced else {}), "labels": {"role": "bank"}}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": where,
        "spec": json.loads(json.dumps(SPECS[kind.name])),  # shares no part with another,
    }
