"""Rules of Calico's policies and profiles.

Fields: https://docs.tigera.io/calico/latest/reference/resources/networkpolicy#rule. What Calico's validator refuses is
an error here (libcalico-go/lib/validator/v3/validator.go and the validations in api/pkg/apis/projectcalico/v3 of
https://github.com/projectcalico/calico). Which endpoints a source or destination means follows what Calico hands its
data plane (libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pilothouse.inventory.fields import Path, dotted
from pilothouse.platform.model import Network
from pilothouse.policies.reading.document import Document, Object, is_name, repeated, short, word
from pilothouse.policies.reading.values import (
    ICMP,
    ICMPV6,
    TCP,
    WITH_PORTS,
    calico_port,
    calico_protocol,
    network,
    selector,
)
from pilothouse.policies.rules import (
    ANYONE,
    EVERYTHING,
    Action,
    Direction,
    Icmp,
    Nets,
    Peer,
    PortMatch,
    Rule,
    Scope,
    Traffic,
)
from pilothouse.policies.selectors import In, Selector, all_of, is_global, parse, prefixed
from pilothouse.problems import nearest

NAMESPACE_PREFIX = "pcns."
ACCOUNT_PREFIX = "pcsa."
NAMESPACE_LABEL = "projectcalico.org/namespace"
ACCOUNT_LABEL = "projectcalico.org/serviceaccount"

_RULE = frozenset(
    (
        *("action", "ipVersion", "protocol", "icmp", "notProtocol", "notICMP", "source", "destination"),
        *("http", "metadata"),
    )
)
_PLAIN = frozenset(("action", "protocol", "source", "destination"))
_ENTITY = frozenset(
    (
        *("nets", "notNets", "selector", "notSelector", "namespaceSelector", "services", "ports", "notPorts"),
        "serviceAccounts",
    )
)
_ICMP = frozenset(("type", "code"))
_HTTP = frozenset(("methods", "paths"))
_HTTP_PATH = frozenset(("exact", "prefix"))
_SERVICE = frozenset(("name", "namespace"))
_ACCOUNTS = frozenset(("names", "selector"))
_METADATA = frozenset(("annotations",))
_ACTIONS = {action.value: action for action in Action}
_BESIDE_SERVICES = ("selector", "notSelector", "namespaceSelector", "nets", "notNets", "serviceAccounts")


class _End(NamedTuple):
    """A rule's source or destination: who, and which ports."""

    peer: Peer = ANYONE
    ports: tuple[PortMatch, ...] | None = None
    not_ports: tuple[PortMatch, ...] = ()


class _Meaning(NamedTuple):
    """A rule without its place."""

    action: Action
    peers: tuple[Peer, ...]
    traffic: tuple[Traffic, ...]
    subject: Peer


_NOBODY = _End()
_MATCHED = (EVERYTHING,)


def rules(doc: Document, spec: Object, direction: Direction, namespace: str) -> tuple[Rule, ...]:
    """The rules of one direction. `namespace` is that of the policy, "" for what has none."""
    found: list[Rule] = []
    field = direction.value
    known = doc.memory.rules
    for index, item in enumerate(doc.list(spec, field, ("spec",))):
        path: Path = ("spec", field, index)
        key = (namespace, field, repr(item))
        meaning = known.get(key)
        if meaning is None:
            before = len(doc.problems)
            data = doc.item(item, path, _RULE)
            if data is None:
                continue
            meaning = _meaning(doc, data, direction, namespace, path)
            if len(doc.problems) == before:
                known[key] = meaning
        found.append(
            Rule(meaning.action, meaning.peers, meaning.traffic, meaning.subject, index, path, doc.manifest.at(path))
        )
    return tuple(found)


def _meaning(doc: Document, data: Object, direction: Direction, namespace: str, path: Path) -> _Meaning:
    action = _action(doc, data, path)
    inward = direction is Direction.INGRESS
    source = _end(doc, data, "source", namespace, path, peer=inward)
    destination = _end(doc, data, "destination", namespace, path, peer=not inward)
    protocol = calico_protocol(doc, data, "protocol", path)
    if protocol not in WITH_PORTS:
        _no_ports(doc, data, protocol, path)
    traffic = Traffic(
        None if protocol is None else (protocol,),
        (),
        destination.ports,
        destination.not_ports,
        source.ports,
        source.not_ports,
    )
    if not data.keys() <= _PLAIN:
        traffic = _with_rarer(doc, data, traffic, action, direction, path)
    version = _families(doc, traffic.ip_version, source.peer, destination.peer, path)
    if version != traffic.ip_version:
        traffic = replace(traffic, ip_version=version)
    peer, subject = (source.peer, destination.peer) if inward else (destination.peer, source.peer)
    return _Meaning(action, (peer,), _MATCHED if traffic == EVERYTHING else (traffic,), subject)


def _with_rarer(
    doc: Document, data: Object, traffic: Traffic, action: Action, direction: Direction, path: Path
) -> Traffic:
    """With the conditions that few rules have."""
    protocol = traffic.protocols[0] if traffic.protocols else None
    version = doc.whole(data, "ipVersion", path, 4, 6)
    if version == 5:
        doc.bad((*path, "ipVersion"), "`5` is not one of 4, 6")
    not_protocol = calico_protocol(doc, data, "notProtocol", path)
    icmp, not_icmp = _icmp(doc, data, "icmp", path), _icmp(doc, data, "notICMP", path)
    if data.get("icmp") is not None and protocol not in (ICMP, ICMPV6):
        message = f"`{dotted((*path, 'icmp'))}` needs `protocol` ICMP or ICMPv6"
        doc.error("policies/bad-icmp", (*path, "icmp"), message, "add `protocol: ICMP`")
    _versions(doc, version, protocol, not_protocol, path)
    http = _http(doc, data, action, direction, protocol, path)
    metadata = doc.mapping(data, "metadata", path, _METADATA)
    if metadata is not None:
        doc.mapping(metadata, "annotations", (*path, "metadata"))
    return replace(
        traffic,
        not_protocols=() if not_protocol is None else (not_protocol,),
        icmp=icmp,
        not_icmp=not_icmp,
        ip_version=version,
        http=http,
    )


def _action(doc: Document, data: Object, path: Path) -> Action:
    value = data.get("action")
    found = _ACTIONS.get(value) if isinstance(value, str) else None
    if found is not None:
        return found
    if value is None:
        doc.missing((*path, "action"), "add `action`: Allow, Deny, Log or Pass")
    else:
        hint = nearest(value.capitalize(), _ACTIONS) if isinstance(value, str) else ""
        where = (*path, "action")
        message = f"{short(value)} in `{dotted(where)}` is not one of {', '.join(_ACTIONS)}"
        doc.error("policies/unknown-action", where, message, hint)
    return Action.DENY


# ---------------------------------------------------------------- sources and destinations


def _end(doc: Document, data: Object, field: str, namespace: str, path: Path, *, peer: bool) -> _End:
    """`peer` says whether this is the other end, and not the policy's own."""
    given = doc.mapping(data, field, path, _ENTITY)
    if not given:
        return _NOBODY
    path = (*path, field)
    ports, not_ports = _ports(doc, given, "ports", path), _ports(doc, given, "notPorts", path)
    if given.get("services") is not None:
        services = _services(doc, given, namespace, path, field, peer=peer)
        return _End(Peer(services=services) if services else ANYONE, ports or None, not_ports)
    found = _selected(doc, given, namespace, path)
    nets, not_nets = _nets(doc, given, "nets", path), _nets(doc, given, "notNets", path)
    if nets or not_nets:
        found = replace(found, nets=(Nets(nets),) if nets else None, not_nets=not_nets)
    return _End(found, ports or None, not_ports)


def _selected(doc: Document, data: Object, namespace: str, path: Path) -> Peer:
    """Who the selectors mean. In a namespaced policy any of them narrows it to the policy's namespace, unless there is
    a `namespaceSelector`; `notSelector` itself looks everywhere."""
    chosen = _own_selector(doc, data, "selector", path)
    accounts = _accounts(doc, data, path)
    if accounts is not None:
        chosen = accounts if chosen is None else all_of(accounts, chosen)
    without = _own_selector(doc, data, "notSelector", path)
    text = data.get("namespaceSelector")
    if isinstance(text, str) and "global" in text and is_global(text):
        return Peer(Scope.GLOBAL, selector=chosen, not_selector=without)
    where = selector(doc, data, "namespaceSelector", path, namespaces=True) if text is not None else None
    if where is not None:
        return _in_namespaces(where, str(text), chosen, without)
    if chosen is None and without is None:
        return ANYONE
    if namespace:
        return Peer(Scope.NAMESPACE, namespace, selector=chosen, not_selector=without)
    return Peer(Scope.ANY if chosen is None else Scope.CLUSTER, selector=chosen, not_selector=without)


def _in_namespaces(where: Selector, text: str, chosen: Selector | None, without: Selector | None) -> Peer:
    if finds_global(text):
        return Peer(Scope.CLUSTER, selector=with_namespace(text, chosen), not_selector=without)
    return Peer(Scope.NAMESPACES, "", where, chosen, without)


def finds_global(text: str) -> bool:
    """Whether a selector of namespaces also finds what is in none. Calico looks for a namespace's labels on the
    endpoint itself, with a prefix, where `!has(x)` holds of host endpoints too; `all()` it takes for "in any"."""
    return _within(text, NAMESPACE_PREFIX, NAMESPACE_LABEL).matches({})


def with_namespace(text: str, chosen: Selector | None) -> Selector:
    """A selector of namespaces as one of endpoints; and `chosen`."""
    found = _within(text, NAMESPACE_PREFIX, NAMESPACE_LABEL)
    return found if chosen is None else all_of(found, chosen)


def _within(text: str, prefix: str, label: str) -> Selector:
    """Every key with a prefix, and `all()` replaced by "has that label", which Calico does in the text itself."""
    found = prefixed(parse(text.replace("all()", f"has({label})")), prefix)
    return parse(str(found).replace(f"{prefix}{label}", label))


def _own_selector(doc: Document, data: Object, key: str, path: Path) -> Selector | None:
    text = data.get(key)
    if text is None:
        return None
    if isinstance(text, str) and "global(" in text and is_global(text):
        no_global(doc, text, (*path, key))
        return None
    return selector(doc, data, key, path)


def no_global(doc: Document, text: str, path: Path) -> None:
    doc.error(
        "policies/global-selector",
        path,
        f"`global()` cannot stand in `{dotted(path)}`",
        "it stands alone, in the `namespaceSelector` of a rule's source or destination",
        place=doc.within(path, text, text.index("global("), len("global()")),
    )


def _accounts(doc: Document, data: Object, path: Path) -> Selector | None:
    """Service accounts as a condition on labels: one of the names, and the selector over the account's labels."""
    given = doc.mapping(data, "serviceAccounts", path, _ACCOUNTS)
    if not given:
        return None
    path = (*path, "serviceAccounts")
    names = doc.strings(given, "names", path)
    for index, name in enumerate(names):
        if not is_name(name):
            doc.bad((*path, "names", index), f"{short(name)} is no service account's name")
    chosen = _own_selector(doc, given, "selector", path)
    found = [] if chosen is None else [prefixed(chosen, ACCOUNT_PREFIX)]
    if names:
        found.append(In(ACCOUNT_LABEL, frozenset(names)))
    return all_of(*found) if found else None


def _services(
    doc: Document, data: Object, namespace: str, path: Path, field: str, *, peer: bool
) -> tuple[str, str] | None:
    given = doc.mapping(data, "services", path, _SERVICE)
    if given is None:
        return None
    where = (*path, "services")
    if not peer:
        doc.error(
            "policies/peer-conflict",
            where,
            f"`{dotted(where)}` names the policy's own end: a service can only be the other one",
            f"move it to `{'destination' if field == 'source' else 'source'}`, or select the endpoints of the policy",
        )
    beside = [key for key in _BESIDE_SERVICES if data.get(key)]
    if field == "destination":
        beside += [key for key in ("ports", "notPorts") if data.get(key)]
    for key in beside:
        doc.error(
            "policies/peer-conflict",
            (*path, key),
            f"`{dotted((*path, key))}` stands beside `services`, which says the addresses"
            + (" and ports" if field == "destination" else ""),
            "remove it, or make it a rule of its own",
        )
    name, space = doc.string(given, "name", where), doc.string(given, "namespace", where)
    if not name:
        doc.missing((*where, "name"), "add the `name` of the Service")
    elif not is_name(name):
        doc.bad((*where, "name"), f"{short(name)} is no name of a Service")
    if space and not is_name(space):
        doc.bad((*where, "namespace"), f"{short(space)} is no name of a namespace")
    if not space and not namespace:
        doc.missing((*where, "namespace"), "add the `namespace` of the Service: the policy itself has none")
    return (space or namespace, name)


def _nets(doc: Document, data: Object, key: str, path: Path) -> tuple[Network, ...]:
    if data.get(key) is None:
        return ()
    read = (network(doc, item, (*path, key, index)) for index, item in enumerate(doc.list(data, key, path)))
    return tuple(item for item in read if item is not None)


def _ports(doc: Document, data: Object, key: str, path: Path) -> tuple[PortMatch, ...]:
    if data.get(key) is None:
        return ()
    read = (calico_port(doc, item, (*path, key, index)) for index, item in enumerate(doc.list(data, key, path)))
    return tuple(item for item in read if item is not None)


# ---------------------------------------------------------------- conditions that concern one another


def _no_ports(doc: Document, data: Object, protocol: int | None, path: Path) -> None:
    for end in ("source", "destination"):
        given = data.get(end)
        for key in ("ports", "notPorts"):
            if isinstance(given, dict) and given.get(key):
                where = (*path, end, key)
                doc.error(
                    "policies/port-protocol",
                    where,
                    f"`{dotted(where)}` needs `protocol` TCP, UDP or SCTP",
                    "add `protocol: TCP` to the rule" if protocol is None else "other protocols have no ports",
                )


def _versions(doc: Document, version: int | None, protocol: int | None, not_protocol: int | None, path: Path) -> None:
    for number, name, only in ((ICMP, "ICMP", 4), (ICMPV6, "ICMPv6", 6)):
        if version not in (None, only) and number in (protocol, not_protocol):
            where = (*path, "ipVersion")
            message = f"`{dotted(where)}` {version} cannot be: {name} is a protocol of IPv{only}"
            doc.error("policies/mixed-families", where, message, f"write {only}")


def _families(doc: Document, version: int | None, source: Peer, destination: Peer, path: Path) -> int | None:
    """The one version of all ranges. A rule with ranges of one version, even excluded ones, is not for the other."""
    found: set[int] = set()
    for peer in (source, destination):
        for nets in peer.nets or ():
            found.update(item.version for item in nets.ranges)
        found.update(item.version for item in peer.not_nets)
    if len(found) > 1:
        doc.error("policies/mixed-families", path, f"`{dotted(path)}` has IPv4 and IPv6 ranges", "make it two rules")
    elif found and version is not None and version not in found:
        where = (*path, "ipVersion")
        message = f"`{dotted(where)}` is {version}, and the rule's ranges are IPv{found.pop()}"
        doc.error("policies/mixed-families", where, message, "leave `ipVersion` out: the ranges say it")
    elif found and any(peer.not_nets for peer in (source, destination)):
        return found.pop()
    return version


def _icmp(doc: Document, data: Object, key: str, path: Path) -> Icmp | None:
    given = doc.mapping(data, key, path, _ICMP)
    if given is None:
        return None
    path = (*path, key)
    kind, code = given.get("type"), given.get("code")
    for name, value, most in (("type", kind, 254), ("code", code, 255)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most):
            where = (*path, name)
            shown = short(value) if isinstance(value, int) and not isinstance(value, bool) else word(value)
            doc.error("policies/bad-icmp", where, f"`{dotted(where)}` must be a number from 0 to {most}, not {shown}")
            return None
    if code is not None and kind is None:
        message = f"`{dotted(path)}` has a `code` and no `type`"
        doc.error("policies/bad-icmp", (*path, "code"), message, "add the `type` that the code belongs to")
    return None if kind is None else Icmp(kind, code)


def _http(doc: Document, data: Object, action: Action, direction: Direction, protocol: int | None, path: Path) -> str:
    """The match in words, "" where there is none."""
    given = doc.mapping(data, "http", path, _HTTP)
    if given is None:
        return ""
    where = (*path, "http")
    for wrong, what in (
        (direction is Direction.EGRESS, "an egress rule"),
        (action is not Action.ALLOW, f"a rule with `action: {action}`"),
        (protocol not in (None, TCP), "a rule whose protocol is not TCP"),
    ):
        if wrong:
            message = f"`{dotted(where)}` cannot stand in {what}"
            doc.error("policies/http-match", where, message, "HTTP is matched in ingress Allow rules over TCP only")
    methods = doc.strings(given, "methods", where)
    if twice := repeated(methods):
        doc.error("policies/http-match", (*where, "methods"), f"the method {short(twice)} stands twice", "remove one")
    paths = [
        _http_path(doc, item, (*where, "paths", index)) for index, item in enumerate(doc.list(given, "paths", where))
    ]
    return " ".join(",".join(part) for part in (methods, paths) if part) or "any request"


def _http_path(doc: Document, item: Any, path: Path) -> str:
    data = doc.item(item, path, _HTTP_PATH)
    if data is None:
        return ""
    exact, prefix = doc.string(data, "exact", path), doc.string(data, "prefix", path)
    found = exact or prefix
    if bool(exact) == bool(prefix):
        message = f"`{dotted(path)}` needs one of `exact` and `prefix`"
        doc.error("policies/http-match", path, message, "write one of them")
    elif not found.startswith("/") or _any_of("? #", found):
        message = f"{short(found)} in `{dotted(path)}` is no path: it begins with `/` and holds no `?`, `#` or space"
        doc.error("policies/http-match", path, message)
    return f"{prefix}*" if prefix else exact


def _any_of(characters: Sequence[str], text: str) -> bool:
    return any(character in text for character in characters)


def account_selector(doc: Document, spec: Object, *, everywhere: bool) -> Selector | None:
    """A policy's `serviceAccountSelector` as a condition on its endpoints' labels. In a global policy `all()` means
    those that have a service account."""
    found = _own_selector(doc, spec, "serviceAccountSelector", ("spec",))
    if found is None:
        return None
    if not everywhere:
        return prefixed(found, ACCOUNT_PREFIX)
    return _within(str(spec["serviceAccountSelector"]), ACCOUNT_PREFIX, ACCOUNT_LABEL)


def policy_selector(doc: Document, spec: Object, key: str) -> Selector | None:
    """A selector of the policy's own endpoints, in which `global()` cannot stand."""
    return _own_selector(doc, spec, key, ("spec",))
