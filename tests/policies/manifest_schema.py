"""Closed checks of the shapes of network policies: an unknown field, a missing one or a wrong type is a complaint.

Written from the API references: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
and https://docs.tigera.io/calico/latest/reference/resources/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

Check = Callable[[Any, str], Iterator[str]]

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def text(pattern: str | re.Pattern[str] = "(?s).*") -> Check:
    compiled = re.compile(pattern)

    def check(value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            yield f"{at}: {value!r} does not match {compiled.pattern}"

    return check


def one_of(*values: Any) -> Check:
    def check(value: Any, at: str) -> Iterator[str]:
        if value not in values:
            yield f"{at}: {value!r} is not one of {values}"

    return check


def number(low: int, high: int) -> Check:
    def check(value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            yield f"{at}: {value!r} is no number from {low} to {high}"

    return check


def either(*checks: Check) -> Check:
    def check(value: Any, at: str) -> Iterator[str]:
        found = [list(item(value, at)) for item in checks]
        if all(found):
            yield from found[0]

    return check


def items(of: Check, at_least: int = 0) -> Check:
    def check(value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, list | tuple) or len(value) < at_least:
            yield f"{at}: not a list of at least {at_least}"
            return
        for index, item in enumerate(value):
            yield from of(item, f"{at}[{index}]")

    return check


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    known = {**required, **(optional or {})}

    def check(value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, Mapping):
            yield f"{at}: not a mapping"
            return
        for key in required:
            if key not in value:
                yield f"{at}: `{key}` is missing"
        for key, item in value.items():
            if key in known:
                yield from known[key](item, f"{at}.{key}")
            else:
                yield f"{at}: unknown field `{key}`"

    return check


def mapping(key: re.Pattern[str], value: Check) -> Check:
    def check(data: Any, at: str) -> Iterator[str]:
        for name, item in data.items():
            if not key.fullmatch(name):
                yield f"{at}: bad key {name!r}"
            yield from value(item, f"{at}.{name}")

    return check


def cidr(value: Any, at: str) -> Iterator[str]:
    try:
        ip_network(value)
    except ValueError as failure:
        yield f"{at}: {failure}"


def ip_block(value: Any, at: str) -> Iterator[str]:
    yield from fields({"cidr": cidr}, {"except": items(cidr, 1)})(value, at)
    whole = ip_network(value["cidr"])
    for item in value.get("except", ()):
        part = ip_network(item)
        if part.version != whole.version or part == whole or not part.subnet_of(whole):
            yield f"{at}: {part} is no proper part of {whole}"


SELECTOR = fields(
    {},
    {
        "matchLabels": mapping(LABEL_KEY, text(LABEL_VALUE)),
        "matchExpressions": items(
            fields(
                {"key": text(LABEL_KEY), "operator": one_of("In", "NotIn", "Exists", "DoesNotExist")},
                {"values": items(text(LABEL_VALUE), 1)},
            ),
            1,
        ),
    },
)
METADATA = fields(
    {"name": text(NAME), "labels": mapping(LABEL_KEY, text(LABEL_VALUE))},
    {"namespace": text(NAME), "annotations": mapping(LABEL_KEY, text())},
)
PORT = fields(
    {},
    {
        "protocol": one_of("TCP", "UDP", "SCTP"),
        "port": either(number(1, 65535), text(r"[a-z0-9-]{1,15}")),
        "endPort": number(1, 65535),
    },
)


def peer(value: Any, at: str) -> Iterator[str]:
    yield from fields({}, {"podSelector": SELECTOR, "namespaceSelector": SELECTOR, "ipBlock": ip_block})(value, at)
    if not value or ("ipBlock" in value and len(value) > 1):
        yield f"{at}: a peer is pods or an ipBlock"


KUBERNETES_SPEC = {
    "podSelector": SELECTOR,
    "policyTypes": items(one_of("Ingress", "Egress"), 1),
}
KUBERNETES_RULES = {
    "ingress": items(fields({"from": items(peer, 1)}, {"ports": items(PORT, 1)}), 1),
    "egress": items(fields({"to": items(peer, 1)}, {"ports": items(PORT, 1)}), 1),
}
STAGED = {"stagedAction": one_of("Set", "Delete", "Learn", "Ignore")}
CALICO_PORT = either(number(1, 65535), text(r"\d{1,5}:\d{1,5}"), text(r"[a-z0-9-]{1,15}"))
ENTITY = fields(
    {},
    {
        "selector": text(),
        "namespaceSelector": text(),
        "nets": items(cidr),
        "notNets": items(cidr, 1),
        "ports": items(CALICO_PORT, 1),
        "services": fields({"name": text(NAME)}, {"namespace": text(NAME)}),
    },
)
CALICO_RULE = fields(
    {"action": one_of("Allow", "Deny", "Log", "Pass")},
    {
        "protocol": one_of("TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "UDPLite"),
        "source": ENTITY,
        "destination": ENTITY,
        "metadata": fields({"annotations": mapping(LABEL_KEY, text())}),
    },
)
CALICO_SPEC = {
    "tier": text(NAME),
    "order": number(0, 10_000_000),
    "selector": text(),
    "types": items(one_of("Ingress", "Egress"), 1),
}
CALICO_RULES = {"ingress": items(CALICO_RULE), "egress": items(CALICO_RULE)}
CALICO_API = one_of("projectcalico.org/v3", "crd.projectcalico.org/v1")


def _object(api: Check, kind: str, spec: Check) -> Check:
    return fields({"apiVersion": api, "kind": one_of(kind), "metadata": METADATA, "spec": spec})


KINDS = {
    "networking.k8s.io/NetworkPolicy": _object(
        one_of("networking.k8s.io/v1"), "NetworkPolicy", fields(KUBERNETES_SPEC, KUBERNETES_RULES)
    ),
    "calico/NetworkPolicy": _object(CALICO_API, "NetworkPolicy", fields(CALICO_SPEC, CALICO_RULES)),
    "calico/StagedNetworkPolicy": _object(
        CALICO_API, "StagedNetworkPolicy", fields({**STAGED, **CALICO_SPEC}, CALICO_RULES)
    ),
    "calico/StagedKubernetesNetworkPolicy": _object(
        CALICO_API, "StagedKubernetesNetworkPolicy", fields({**STAGED, **KUBERNETES_SPEC}, KUBERNETES_RULES)
    ),
    "calico/GlobalNetworkSet": _object(CALICO_API, "GlobalNetworkSet", fields({"nets": items(cidr)})),
    "calico/Tier": _object(
        CALICO_API, "Tier", fields({}, {"order": number(0, 10_000_000), "defaultAction": one_of("Deny", "Pass")})
    ),
}


def complaints(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with a manifest; empty when it is strictly valid."""
    group = manifest["apiVersion"].partition("/")[0]
    check = KINDS.get(f"{'calico' if 'projectcalico' in group else group}/{manifest['kind']}")
    if check is None:
        return [f"no such kind: {manifest['apiVersion']} {manifest['kind']}"]
    found = list(check(manifest, manifest["kind"]))
    for port in _ports(manifest):
        if "endPort" in port and (not isinstance(port.get("port"), int) or port["endPort"] < port["port"]):
            found.append(f"endPort needs a numeric port below it: {port}")
    for rule in manifest["spec"].get("egress", ()):
        if "destination" in rule and "ports" in rule["destination"] and "protocol" not in rule:
            found.append("ports need a protocol")
    tier = manifest["spec"].get("tier", "default")
    if tier != "default" and not manifest["metadata"]["name"].startswith(f"{tier}."):
        found.append(f"the name of a policy begins with its tier {tier}")
    for entity in _entities(manifest):
        ranges = [*entity.get("nets", ()), *entity.get("notNets", ())]
        if len({ip_network(item).version for item in ranges}) > 1:
            found.append(f"ranges of two families in one rule: {ranges}")
        if "services" in entity and len(entity) > 1:
            found.append("`services` stands beside nothing else")
    return found


def _entities(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for direction in ("ingress", "egress"):
        for rule in manifest["spec"].get(direction, ()):
            for end in ("source", "destination"):
                yield rule.get(end, {})


def _ports(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for direction in ("ingress", "egress"):
        for rule in manifest["spec"].get(direction, ()):
            yield from rule.get("ports", ())
