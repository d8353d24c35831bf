"""What policies of every kind are made of: address ranges, ports, protocols, label selectors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from pilothouse.inventory.fields import Path, dotted
from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform.model import Network
from pilothouse.policies.reading.document import Document, Object, is_label_key, is_label_value, is_scalar, short, word
from pilothouse.policies.rules import PortMatch
from pilothouse.policies.selectors import ALL, Selector, SelectorError, from_labels, parse, parse_namespaces
from pilothouse.problems import nearest

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
KUBERNETES_PROTOCOLS: Mapping[str, int] = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
CALICO_PROTOCOLS: Mapping[str, int] = {**KUBERNETES_PROTOCOLS, "ICMP": ICMP, "ICMPv6": ICMPV6, "UDPLite": 136}
WITH_PORTS = frozenset((TCP, UDP, SCTP))

MAX_SELECTOR = 65_536
"""No selector is longer in earnest."""
_NEW_MAX_SELECTOR = 1024

_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")
_PORT_RANGE = re.compile(r"([0-9]+)(?::([0-9]+))?\Z")
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
_NO_VALUES = ("Exists", "DoesNotExist")
_SELECTOR = frozenset(("matchLabels", "matchExpressions"))
_EXPRESSION = frozenset(("key", "operator", "values"))


# ---------------------------------------------------------------- addresses


def network(doc: Document, value: Any, path: Path, *, single: bool = False, exact: bool = False) -> Network | None:
    """A range as CIDR, None after a complaint. With `single` an address alone is one too.

    Host bits (`10.0.0.1/8`) are cut off with a warning, as the API servers do; with `exact` they are an error.
    """
    known = doc.memory.networks.get(value) if type(value) is str else None
    if known is not None and (single or "/" in value):
        return known
    if not isinstance(value, str):
        doc.error("policies/bad-cidr", path, f"`{dotted(path)}` must be a range such as 10.0.0.0/8, not {word(value)}")
        return None
    address, slash, length = value.partition("/")
    if not slash and not single:
        full = 128 if ":" in address else 32
        doc.error(
            "policies/bad-cidr",
            path,
            f"{short(value)} in `{dotted(path)}` has no prefix length",
            f"write {address}/{full}",
        )
        return None
    found = _parsed(address, length, slash)
    if found is None:
        doc.error("policies/bad-cidr", path, f"{short(value)} in `{dotted(path)}` is no address range", "as 10.0.0.0/8")
        return None
    if str(found) != value and _is_other(found, address):
        if exact:
            message = f"{short(value)} in `{dotted(path)}` has bits set beyond its prefix"
            doc.error("policies/bad-cidr", path, message, f"write {found}")
            return None
        message = f"{short(value)} in `{dotted(path)}` is not how the range is written: it is read as {found}"
        doc.warn("policies/host-bits", path, message, f"write {found}")
        return found
    doc.memory.networks[value] = found
    return found


def _parsed(address: str, length: str, slash: str) -> Network | None:
    if "%" in address or (slash and not (length.isascii() and length.isdigit() and len(length) < 4)):
        return None  # no API server takes a zone
    if ":" not in address:
        address = _LEADING_ZEROS.sub("", address)  # read as decimal by the API server
    try:
        return ip_network(f"{address}/{length}" if slash else address, strict=False)
    except ValueError:
        return None


def _is_other(found: Network, address: str) -> bool:
    """Whether the address is not the range's own, or not written as one."""
    if ":" not in address:
        return str(found.network_address) != address
    return _parsed(address, "128", "/") != IPv6Network((int(found.network_address), 128))


def inside(inner: Network, outer: Network) -> bool:
    """Whether `inner` is a part of `outer`, and not all of it."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner != outer and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner != outer and inner.subnet_of(outer)


# ---------------------------------------------------------------- ports and protocols


def port_number(doc: Document, value: Any, path: Path) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 < value < 65536:
            return value
        doc.error("policies/bad-port", path, f"{short(value)} in `{dotted(path)}` is no port: 1 to 65535")
    else:
        hint = "write it without quotes" if isinstance(value, str) and value.isdigit() else ""
        doc.error("policies/bad-port", path, f"`{dotted(path)}` must be a port number, not {word(value)}", hint)
    return None


def port_name(doc: Document, value: str, path: Path) -> str:
    """The name of a container port (https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.31/#containerport-v1-core)."""
    if len(value) <= 15 and _PORT_NAME.match(value) and "--" not in value:
        return value
    hint = (
        "write the number without quotes" if value.isdigit() else "at most 15 lower-case letters, digits and single `-`"
    )
    doc.error("policies/bad-port", path, f"{short(value)} in `{dotted(path)}` is no port's name", hint)
    return ""


def kubernetes_port(doc: Document, value: Any, path: Path) -> PortMatch | None:
    """A number, or the name of a container port."""
    if isinstance(value, str):
        name = port_name(doc, value, path)
        return PortMatch(name=name) if name else None
    number = port_number(doc, value, path)
    return None if number is None else PortMatch(number, number)


def calico_port(doc: Document, value: Any, path: Path) -> PortMatch | None:
    """A number, a range `first:last`, or the name of a port of the endpoint."""
    if not isinstance(value, str):
        number = port_number(doc, value, path)
        return None if number is None else PortMatch(number, number)
    match = _PORT_RANGE.match(value) if value.isascii() else None
    if match is None:
        name = port_name(doc, value, path)
        return PortMatch(name=name) if name else None
    if max(len(match[1]), len(match[2] or "")) > 9:
        doc.error("policies/bad-port", path, f"{short(value)} in `{dotted(path)}` is no port: 1 to 65535")
        return None
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    return port_range(doc, first, last, path)


def port_range(doc: Document, first: int, last: int, path: Path, *, single: bool = True) -> PortMatch | None:
    """Both ends included. Without `single`, a range of one port is an error."""
    if not (0 < first < 65536 and 0 < last < 65536):
        shown = first if not 0 < first < 65536 else last
        doc.error("policies/bad-port", path, f"{short(shown)} in `{dotted(path)}` is no port: 1 to 65535")
        return None
    if last < first or (last == first and not single):
        what = "ends before it begins" if last < first else "begins and ends at one port"
        hint = f"write {last} to {first}" if last < first else "name the single port"
        doc.error("policies/bad-port", path, f"the range {first} to {last} in `{dotted(path)}` {what}", hint)
        return None
    return PortMatch(first, last)


def kubernetes_protocol(doc: Document, data: Object, path: Path) -> int:
    """`protocol`, TCP where it is absent."""
    value = data.get("protocol")
    if value is None:
        return TCP
    found = KUBERNETES_PROTOCOLS.get(value) if isinstance(value, str) else None
    if found is None:
        known = ", ".join(KUBERNETES_PROTOCOLS)
        where = (*path, "protocol")
        hint = nearest(value.upper(), KUBERNETES_PROTOCOLS) if isinstance(value, str) else ""
        doc.error("policies/bad-protocol", where, f"{short(value)} in `{dotted(where)}` is not one of {known}", hint)
        return TCP
    return found


def calico_protocol(doc: Document, data: Object, key: str, path: Path) -> int | None:
    """A protocol's name or its number, 1 to 255; None where it is absent."""
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        found = CALICO_PROTOCOLS.get(value)
        if found is None and value.isascii() and value.isdigit() and len(value) < 4:
            found = int(value)
    else:
        found = value if isinstance(value, int) and not isinstance(value, bool) else None
    if found is not None and 0 < found < 256:
        return found
    where = (*path, key)
    names = {name.lower(): name for name in CALICO_PROTOCOLS}
    near = names.get(value.lower(), "") if isinstance(value, str) else ""
    hint = f"did you mean `{near}`?" if near else f"one of {', '.join(CALICO_PROTOCOLS)}, or a number from 1 to 255"
    doc.error("policies/bad-protocol", where, f"{short(value)} in `{dotted(where)}` is no protocol", hint)
    return None


# ---------------------------------------------------------------- selectors


def selector(doc: Document, data: Object, key: str, path: Path, *, namespaces: bool = False) -> Selector | None:
    """Calico's selector at `key`; None where it is absent, null or empty, or after a complaint.

    With `namespaces`, `global()` may stand there alone and gives None: ask `is_global` first.
    """
    text = data.get(key)
    if text is None or text == "":
        return None
    if type(text) is str:
        found = doc.memory.selectors.get(text)
        if found is not None:
            return found
    return _new_selector(doc, text, (*path, key), namespaces)


def _new_selector(doc: Document, text: Any, path: Path, namespaces: bool) -> Selector | None:
    if not isinstance(text, str):
        doc.bad(path, f"must be a selector, not {word(text)}", "such as app == 'web'")
        return None
    if len(text) > MAX_SELECTOR:
        doc.error(
            "policies/selector-too-long",
            path,
            f"the selector in `{dotted(path)}` has {len(text):,} characters, and {MAX_SELECTOR:,} are read",
            "give what it lists a label in common, and select that",
        )
        return None
    try:
        found = parse_namespaces(text) if namespaces else parse(text)
    except SelectorError as wrong:
        place = doc.within(path, text, wrong.offset, wrong.width)
        doc.error(
            "policies/selector-syntax",
            path,
            f"`{dotted(path)}` is no selector: {wrong.message}",
            "the grammar: app == 'web', tier in {'a', 'b'}, has(x), !, &&, ||",
            place=place,
        )
        return None
    if len(text) > _NEW_MAX_SELECTOR:
        doc.warn(
            "policies/selector-too-long",
            path,
            f"the selector in `{dotted(path)}` has {len(text):,} characters; "
            f"new versions of Calico take {_NEW_MAX_SELECTOR:,}",
            "give what it lists a label in common, and select that",
        )
    elif found is not None:
        doc.memory.selectors[text] = found
    return found


def labels_selector(doc: Document, value: Any, path: Path) -> Selector | None:
    """A Kubernetes LabelSelector; None where it is empty, null or absent (so that it selects everything)."""
    if not value:
        if value is not None and not isinstance(value, dict):
            doc.bad(path, f"must be a mapping, not {word(value)}")
        return None
    text = repr(value)
    known = doc.memory.label_selectors
    if text in known:
        return known[text]
    before = len(doc.problems)
    if not isinstance(value, dict):
        doc.bad(path, f"must be a mapping, not {word(value)}")
        return None
    found: Selector | None = from_labels(_label_selector(doc, value, path))
    if found == ALL:
        found = None
    if len(doc.problems) == before:
        known[text] = found
    return found


def _label_selector(doc: Document, data: Object, path: Path) -> LabelSelector:
    if not data.keys() <= _SELECTOR:
        doc.unknown(data, _SELECTOR, path)
    labels = doc.mapping(data, "matchLabels", path) or {}
    for key, value in labels.items():
        _key(doc, key, (*path, "matchLabels", key))
        _value(doc, value, (*path, "matchLabels", key))
    expressions: list[Requirement] = []
    for index, item in enumerate(doc.list(data, "matchExpressions", path)):
        found = _requirement(doc, item, (*path, "matchExpressions", index))
        if found:
            expressions.append(found)
    if doc.failed:
        return LabelSelector()
    return LabelSelector(tuple(sorted(labels.items())), tuple(expressions))


def _requirement(doc: Document, item: Any, path: Path) -> Requirement | None:
    data = doc.item(item, path, _EXPRESSION)
    if data is None:
        return None
    key = doc.string(data, "key", path)
    _key(doc, key, (*path, "key"))
    operator = doc.choice(data, "operator", path, ("In", "NotIn", "Exists", "DoesNotExist"))
    values = doc.strings(data, "values", path)
    for index, value in enumerate(values):
        _value(doc, value, (*path, "values", index))
    if not operator:
        if "operator" not in data:
            doc.missing((*path, "operator"), "add `operator`: In, NotIn, Exists or DoesNotExist")
        return None
    if operator in _NO_VALUES and values:
        doc.bad((*path, "values"), f"cannot stand beside the operator {operator}", "remove it, or use In or NotIn")
    elif operator not in _NO_VALUES and not values:
        doc.bad(path, f"has the operator {operator} and no `values`", "add `values`, or use Exists or DoesNotExist")
    return Requirement(key, operator, tuple(values))


def _key(doc: Document, key: Any, path: Path) -> None:
    if not is_label_key(key):
        doc.bad(path, f"{short(key)} is no label's key", "[prefix/]name of letters, digits, `-_.`")


def _value(doc: Document, value: Any, path: Path) -> None:
    if not isinstance(value, str):
        doc.bad(path, f"must be text, not {word(value)}", "quote it" if is_scalar(value) else "")
    elif not is_label_value(value):
        doc.bad(path, f"{short(value)} is no label's value", "at most 63 letters, digits, `-_.`")
