"""Single values of flow records, checked: what is no name, number or moment is `Unfit`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from pilothouse.policies.flows.model import Labels

PROTOCOLS: Mapping[str, int] = {
    "icmp": 1,
    "icmpv4": 1,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmp6": 58,
    "icmpv6": 58,
    "sctp": 132,
    "udplite": 136,
}
"""IP protocol numbers by name (https://www.iana.org/assignments/protocol-numbers); Calico writes those that it knows
by name and the others as numbers."""

WITH_PORTS = frozenset((6, 17, 132))
_LONGEST_NAME = 512
_LARGEST = 2**63 - 1
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_LAST_MOMENT = 253_402_300_799  # the year 9999
_MILLISECONDS = 100_000_000_000  # as seconds in the year 5138


class Unfit(ValueError):
    """A record that says no flow. The message names the field and what is wrong with it."""


def mapping(value: Any, name: str) -> dict[str, Any]:
    """None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unfit(f"`{name}` is no object")
    return value


def text(value: Any, name: str) -> str:
    """A name; None and `-` (Calico's "not included") are none. Names are for people to read: nothing unprintable."""
    if value is None or value == "-":
        return ""
    if not isinstance(value, str):
        raise Unfit(f"`{name}` is no text")
    if not _is_name(value):
        raise Unfit(f"`{name}` is no name: it is longer than {_LONGEST_NAME} characters or cannot be printed")
    return value


@lru_cache(maxsize=16_384)
def _is_name(value: str) -> bool:
    return len(value) <= _LONGEST_NAME and value.isprintable()


def number(value: Any, name: str) -> int:
    """A count. protobuf writes 64-bit numbers as text (https://protobuf.dev/programming-guides/json/)."""
    if value is None:
        return 0
    if value.__class__ is int and 0 <= value <= _LARGEST:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise Unfit(f"`{name}` is no count")
    return value


def port(value: Any, name: str, protocol: int) -> int | None:
    """None for protocols without ports, whatever the record says there."""
    if protocol not in WITH_PORTS:
        return None
    found = number(value, name)
    if not 0 < found <= 65535:
        raise Unfit(
            f"`{name}` is no port (1 to 65535)" if found else f"`{name}` is missing: TCP, UDP and SCTP have ports"
        )
    return found


def protocol(value: Any, name: str) -> int:
    """By name in any case, or by number."""
    if isinstance(value, str) and value.lower() in PROTOCOLS:
        return PROTOCOLS[value.lower()]
    if value in (None, "", "-"):
        raise Unfit(f"`{name}` is missing")
    try:
        found = number(value, name)
    except Unfit:
        found = 0
    if not 0 < found < 256:
        raise Unfit(f"`{name}` is no IP protocol")
    return found


def moment(value: Any, name: str) -> float | None:
    """Unix seconds from seconds, milliseconds or an RFC 3339 text; None and 0 are none."""
    if value is None or value == "":
        return None
    found: Any = value
    if isinstance(value, str):
        try:
            found = _written_moment(value)
        except (ValueError, OverflowError):
            found = None
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        raise Unfit(f"`{name}` is no moment")
    if found > _MILLISECONDS:
        found = found / 1000
    if not 0 <= found <= _LAST_MOMENT:
        raise Unfit(f"`{name}` is no moment")
    return float(found) or None


@lru_cache(maxsize=4_096)
def _written_moment(value: str) -> float:
    """Windows are the same for thousands of records."""
    if _DECIMAL.fullmatch(value):
        return float(value)
    read = datetime.fromisoformat(value)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def address(value: Any, name: str) -> str:
    """An IP address as Python prints it; "" for none."""
    given = text(value, name)
    if not given:
        return ""
    try:
        return str(ip_address(given))
    except ValueError:
        raise Unfit(f"`{name}` is no IP address") from None


def labels(value: Any, name: str) -> Labels:
    """From a list of `key=value`, or a text of them joined by ` | ` (as Calico's Whisker writes it)."""
    if isinstance(value, str):
        value = value.split(" | ") if value else ()
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise Unfit(f"`{name}` is no list of labels")
    given = tuple(value)
    if not all(isinstance(item, str) for item in given):
        raise Unfit(f"`{name}` holds something that is no text")
    return _pairs(given, name)


@lru_cache(maxsize=16_384)
def _pairs(given: tuple[str, ...], name: str) -> Labels:
    found = set()
    for item in given:
        key, equals, rest = text(item, name).partition("=")
        if not equals or not key:
            raise Unfit(f"`{name}` holds something that is no `key=value`")
        found.add((key, rest))
    return tuple(sorted(found))
