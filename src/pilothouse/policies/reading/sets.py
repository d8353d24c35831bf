"""Calico's tiers, network sets, profiles and host endpoints.

Fields: https://docs.tigera.io/calico/latest/reference/resources/tier, …/networkset, …/profile, …/hostendpoint.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

from pilothouse.inventory.fields import Key, Path, dotted
from pilothouse.policies.reading.calico_rules import rules
from pilothouse.policies.reading.document import Document, Object, is_name, short
from pilothouse.policies.reading.values import WITH_PORTS, calico_protocol, network, port_name, port_number
from pilothouse.policies.rules import (
    ANY_ORDER,
    STANDARD_TIERS,
    TIER_ALIASES,
    Action,
    Direction,
    HostEndpoint,
    NetworkSet,
    Profile,
    Tier,
)

_TIER = frozenset(("order", "defaultAction"))
_SET = frozenset(("nets",))
_PROFILE = frozenset(("ingress", "egress", "labelsToApply"))
_HOST = frozenset(("node", "interfaceName", "expectedIPs", "profiles", "ports"))
_HOST_PORT = frozenset(("name", "protocol", "port"))
_TIER_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_INTERFACE = re.compile(r"(\*|[a-zA-Z0-9_.-]{1,15})\Z")
_RESERVED_LABEL = "projectcalico.org/namespace"


def tier(doc: Document) -> Tier | None:
    """The tier under its present name, or None after an error. Three tiers always exist, and cannot be changed."""
    spec = doc.spec(_TIER)
    manifest = doc.manifest
    if not _TIER_NAME.match(manifest.name):
        message = f"{short(manifest.name)} is no name of a tier"
        doc.error("policies/bad-tier", ("metadata", "name"), message, "at most 63 lower-case letters, digits and `-`")
    name = TIER_ALIASES.get(manifest.name, manifest.name)
    order = doc.number(spec, "order", ("spec",))
    action = Action(doc.choice(spec, "defaultAction", ("spec",), ("Deny", "Pass"), "Deny"))
    standard = STANDARD_TIERS.get(name)
    if standard is not None:
        if order != standard.order:
            _fixed(doc, spec, "order", f"{standard.order:.0f}")
        if action is not standard.default_action and _says_action(doc, spec):
            _fixed(doc, spec, "defaultAction", standard.default_action)
        action = standard.default_action
    if doc.failed:
        return None
    return Tier(name, ANY_ORDER if order is None else order, action, manifest.place)


def _says_action(doc: Document, spec: Object) -> bool:
    """Tiers of before Calico had `defaultAction`, under their earlier names, say none."""
    return doc.manifest.name not in TIER_ALIASES or spec.get("defaultAction") is not None


def _fixed(doc: Document, spec: Object, field: str, value: str) -> None:
    path: Path = ("spec", field) if field in spec else ("spec",)
    message = f"the tier `{doc.manifest.name}` has `{field}` {value}, always"
    doc.error("policies/bad-tier", path, message, f"write `{field}: {value}`")


def network_set(doc: Document) -> NetworkSet | None:
    spec = doc.spec(_SET)
    manifest = doc.manifest
    nets = [
        network(doc, item, ("spec", "nets", index), single=True)
        for index, item in enumerate(doc.list(spec, "nets", ("spec",)))
    ]
    labels = doc.labels()
    if any(key == _RESERVED_LABEL for key, _ in labels):
        path: Path = ("metadata", "labels", Key(_RESERVED_LABEL))
        doc.bad(path, "is a label that Calico itself gives", "remove it")
    if doc.failed:
        return None
    return NetworkSet(
        manifest.name, manifest.namespace, labels, tuple(item for item in nets if item is not None), manifest.place
    )


def profile(doc: Document) -> Profile | None:
    """The labels are those that its endpoints inherit, not its own."""
    spec = doc.spec(_PROFILE)
    ingress = rules(doc, spec, Direction.INGRESS, "")
    egress = rules(doc, spec, Direction.EGRESS, "")
    inherited = doc.label_values(spec, "labelsToApply", ("spec",))
    if doc.failed:
        return None
    return Profile(doc.manifest.name, tuple(sorted(inherited.items())), ingress, egress, doc.manifest.place)


def host_endpoint(doc: Document) -> HostEndpoint | None:
    spec = doc.spec(_HOST)
    path: Path = ("spec",)
    node = doc.string(spec, "node", path)
    interface = doc.string(spec, "interfaceName", path)
    addresses = doc.strings(spec, "expectedIPs", path)
    if not node:
        doc.missing(("spec", "node"), "add the `node` that the interface is on")
    if interface and not _INTERFACE.match(interface):
        doc.bad(("spec", "interfaceName"), f"{short(interface)} is no interface", "a name of 15 characters, or `*`")
    if not interface and not addresses:
        doc.missing(("spec", "interfaceName"), "add `interfaceName` (`*` is all of them) or `expectedIPs`")
    for index, item in enumerate(addresses):
        _address(doc, item, ("spec", "expectedIPs", index))
    profiles = doc.strings(spec, "profiles", path)
    for index, name in enumerate(profiles):
        if not is_name(name):
            doc.bad(("spec", "profiles", index), f"{short(name)} is no name of a profile")
    ports = [_port(doc, item, ("spec", "ports", index)) for index, item in enumerate(doc.list(spec, "ports", path))]
    labels = doc.labels()
    if doc.failed:
        return None
    return HostEndpoint(
        doc.manifest.name,
        node,
        interface,
        labels,
        tuple(addresses),
        tuple(port for port in ports if port is not None),
        tuple(profiles),
        doc.manifest.place,
    )


def _address(doc: Document, text: str, path: Path) -> None:
    try:
        ip_address(text)
    except ValueError:
        doc.error("policies/bad-cidr", path, f"{short(text)} in `{dotted(path)}` is no IP address", "as 192.0.2.7")


def _port(doc: Document, item: Any, path: Path) -> tuple[str, int, int] | None:
    data = doc.item(item, path, _HOST_PORT)
    if data is None:
        return None
    name = doc.string(data, "name", path)
    found = port_name(doc, name, (*path, "name"))
    protocol = calico_protocol(doc, data, "protocol", path)
    number = port_number(doc, data.get("port"), (*path, "port"))
    if data.get("protocol") is None:
        doc.missing((*path, "protocol"), "add `protocol`: TCP, UDP or SCTP")
    elif protocol is not None and protocol not in WITH_PORTS:
        where = (*path, "protocol")
        doc.error("policies/port-protocol", where, f"`{dotted(where)}` has no ports", "TCP, UDP or SCTP")
    return (found, protocol, number) if found and protocol is not None and number is not None else None
