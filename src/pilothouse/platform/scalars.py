"""The small notations of the documents: durations, rates, sizes, networks, ports, names.

Each reader takes what YAML gave and returns a value, or raises `ValueError("message | hint")`,
which `source.validate` turns into a problem with a caret.
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_address, ip_network
from typing import Any

from pilothouse.mounted.layout import is_file_name
from pilothouse.platform.model import Network, PortRef, Protocol

_DURATION_UNITS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z")
_BYTES = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)\Z")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\Z")

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_LABEL_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL_KEY = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
# A port's name is an IANA service name: at most 15 characters, at least one letter (RFC 6335, section 5.1).
_PORT_NAME = re.compile(r"(?=[a-z0-9-]{1,15}\Z)(?=[0-9-]*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*\Z")


def duration(value: Any) -> int:
    """`90s`, `5m`, `16h`, `30d`, `2w` or a sum such as `1h30m`, in seconds."""
    match = _DURATION.match(value) if isinstance(value, str) and value else None
    if not match:
        raise ValueError(f"{value!r} is no duration | write a number and a unit, such as 90s, 5m, 16h or 30d")
    return sum(
        int(number) * unit for number, unit in zip(match.groups(), _DURATION_UNITS.values(), strict=True) if number
    )


def days(value: Any) -> int:
    """A duration of whole days."""
    seconds = duration(value)
    if seconds == 0 or seconds % 86400:
        raise ValueError(f"{value!r} is not a number of whole days | write it as 30d or 4w")
    return seconds // 86400


def size(value: Any) -> int:
    """`4GiB`, `512MiB`, `1.5GB`, in bytes."""
    match = _SIZE.match(value) if isinstance(value, str) else None
    if not match or match[2] not in _BYTES:
        raise ValueError(f"{value!r} is no size | write a number and one of {', '.join(_BYTES)}, such as 4GiB")
    return int(float(match[1]) * _BYTES[match[2]])


def rate(value: Any) -> int:
    """`200KiB/s`, in bytes per second."""
    if not isinstance(value, str) or not value.endswith("/s"):
        raise ValueError(f"{value!r} is no rate | write bytes per second, such as 200KiB/s")
    found = size(value.removesuffix("/s"))
    if not found:
        raise ValueError("a rate of zero lets nothing through | write what a pod may log, such as 50KiB/s")
    return found


def day(value: Any) -> date:
    """`2027-01-31`."""
    if not isinstance(value, str) or not _DAY.match(value):
        raise ValueError(f"{value!r} is no date | write year-month-day, such as 2027-01-31")
    try:
        return date.fromisoformat(value)
    except ValueError as failure:
        raise ValueError(f"{value!r} is no date: {failure} | write year-month-day, such as 2027-01-31") from None


def clock(value: Any) -> tuple[int, int]:
    """`09:00`, as (hour, minute)."""
    match = _CLOCK.match(value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f'{value!r} is no time of day | write hours and minutes, such as "09:00"')
    return int(match[1]), int(match[2])


def timezone(value: Any) -> str:
    """A zone of the IANA database, such as `Europe/Berlin`."""
    from zoneinfo import ZoneInfo, available_timezones

    from pilothouse.problems import nearest

    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError, TypeError):  # what zoneinfo raises for an unknown, odd or folder name
        hint = nearest(str(value), available_timezones()) or "write a name of the IANA database, such as Europe/Berlin"
        raise ValueError(f"there is no time zone {value!r} | {hint}") from None
    return str(value)


def network(value: Any) -> Network:
    """An IPv4 or IPv6 range in CIDR notation, without host bits."""
    if not isinstance(value, str) or "/" not in value:
        address = _address(value)
        hint = f"write {address}/{address.max_prefixlen}" if address else "write a range such as 10.40.0.0/16"
        raise ValueError(f"{value!r} is no CIDR | {hint}")
    try:
        return ip_network(value)
    except ValueError as failure:
        try:
            right = ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{value!r} is no CIDR: {failure} | write a range such as 10.40.0.0/16") from None
        raise ValueError(f"{value!r} has bits set beyond its prefix | the network is {right}") from None


def address_or_network(value: Any) -> Network:
    """As `network`; a single address is the range that holds it alone."""
    address = _address(value)
    return ip_network(address) if address else network(value)


def _address(value: Any) -> Any:
    try:
        return ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def yes(value: Any) -> bool:
    """A form that is chosen by saying `true`."""
    if value is not True:
        raise ValueError(f"{value!r} is not true | write true, or leave the field out")
    return True


def dns_label(value: Any) -> str:
    """A DNS-1123 label: the name of a service, team, cluster or namespace."""
    if not isinstance(value, str) or not _LABEL_NAME.match(value) or len(value) > 63:
        raise ValueError(
            f"{value!r} is no DNS-1123 label | "
            + _suggest_name(
                value, "use lowercase letters, digits and `-`, at most 63 characters, a letter or digit at both ends"
            )
        )
    return value


def dns_subdomain(value: Any) -> str:
    """A DNS-1123 subdomain: the name of a ServiceAccount or ClusterRole."""
    if not isinstance(value, str) or not _SUBDOMAIN.match(value) or len(value) > 253:
        raise ValueError(
            f"{value!r} is no DNS-1123 subdomain | use lowercase letters, digits, `-` and `.`, at most 253 characters"
        )
    return value


def domain(value: Any) -> str:
    """A DNS name of at least two labels; a leading `*.` stands for one or more labels."""
    name = value.lower().rstrip(".") if isinstance(value, str) else ""
    rest = name.removeprefix("*.")
    if (
        not _SUBDOMAIN.match(rest)
        or "." not in rest
        or len(name) > 253
        or any(len(part) > 63 for part in rest.split("."))
    ):
        raise ValueError(
            f"{value!r} is no domain | write a DNS name such as api.partner.example, without scheme, port or path"
        )
    if _address(rest):
        raise ValueError(f"{value!r} is an address, not a domain | write cidr: {rest}/32")
    return name


def _suggest_name(value: Any, otherwise: str) -> str:
    if isinstance(value, str):
        guess = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
        if guess:
            return f"{otherwise}; for example {guess}"
    return otherwise


def label_key(value: Any) -> str:
    """The key of a label: an optional DNS prefix and `/`, then up to 63 characters."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no label key | quote it")
    prefix, slash, name = value.rpartition("/")
    if (slash and (not _SUBDOMAIN.match(prefix) or len(prefix) > 253)) or not _LABEL_KEY.match(name) or len(name) > 63:
        raise ValueError(
            f"{value!r} is no label key | use letters, digits, `-`, `_` and `.`, with a DNS prefix and `/` if you like"
        )
    return value


def label_value(value: Any) -> str:
    """The value of a label: empty, or up to 63 characters."""
    if not isinstance(value, str):
        raise ValueError(f"a label's value is text, and {value!r} is not | quote it")
    if value and (not _LABEL_KEY.match(value) or len(value) > 63):
        raise ValueError(f"{value!r} is no label value | use letters, digits, `-`, `_` and `.`, at most 63 characters")
    return value


def port_name(value: Any) -> str:
    """The name of a container port: at most 15 lowercase letters, digits and `-`, at least one letter."""
    if not isinstance(value, str) or not _PORT_NAME.match(value):
        raise ValueError(
            f"{value!r} is no port name | use at most 15 lowercase letters, digits and single `-`, a letter among them"
        )
    return value


def port_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"{value!r} is no port number | write a number from 1 to 65535")
    return value


def port_ref(value: Any) -> PortRef:
    """A port of an edge: `http`, `6379`, `"8000-8100"`, each with `/TCP`, `/UDP` or `/SCTP` behind it if need be."""
    if isinstance(value, int) and not isinstance(value, bool):
        return PortRef(number=port_number(value))
    if not isinstance(value, str):
        raise ValueError(
            f'{value!r} is no port | write a name, a number or a range, such as http, 6379 or "8000-8100/UDP"'
        )
    text, slash, suffix = value.partition("/")
    protocol: Protocol | None = None
    if slash:
        if suffix not in Protocol.__members__:
            raise ValueError(f"{suffix!r} is no protocol | use TCP, UDP or SCTP")
        protocol = Protocol(suffix)
    if text.isdecimal():
        return PortRef(number=port_number(int(text)), protocol=protocol)
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal():
        low, high = port_number(int(first)), port_number(int(last))
        if low >= high:
            raise ValueError(f"the range {text} is empty | write the lower port first")
        return PortRef(number=low, end=high, protocol=protocol)
    return PortRef(name=port_name(text), protocol=protocol)


def service_key(value: Any) -> tuple[str, str]:
    """`namespace/name` of a declared service."""
    if not isinstance(value, str) or value.count("/") != 1:
        raise ValueError(f"{value!r} names no service | write namespace/name")
    namespace, name = value.split("/")
    return dns_label(namespace), dns_label(name)


def version(value: Any) -> str:
    """`"1.34"`; a bare 1.30 would be the number 1.3."""
    if not isinstance(value, str):
        raise ValueError("a version is text, and this is a number | quote it, or 1.30 is read as 1.3")
    if not re.match(r"v?\d+(\.\d+){1,3}\Z", value):
        raise ValueError(f'{value!r} is no version | write it as "1.34"')
    return value.removeprefix("v")


def url(value: Any) -> str:
    """An http or https address with a host, without credentials."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        valid = bool(parts and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        parts, valid = None, False
    if not valid or parts is None:
        raise ValueError(
            f"{value!r} is no address | write it with scheme and host, such as https://vault.bank.example:8200"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address may not hold credentials | name a file that holds them instead")
    return str(value)


def absolute_path(value: Any) -> str:
    """A path on the machine or in the container, from the root."""
    if not isinstance(value, str) or not value.startswith("/") or ".." in value.split("/"):
        raise ValueError(f"{value!r} is no absolute path | start it with `/`, without `..`")
    return value


def http_path(value: Any) -> str:
    """The path of a request."""
    if not isinstance(value, str) or not value.startswith("/") or any(char.isspace() for char in value):
        raise ValueError(f"{value!r} is no path | start it with `/`")
    return value


def vault_path(value: Any) -> str:
    """A path below Vault's key-value mount: segments of plain characters, no `..` and no wildcard."""
    if (
        not isinstance(value, str)
        or not re.match(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z", value)
        or ".." in value.split("/")
    ):
        raise ValueError(
            f"{value!r} is no path of a secret | write letters, digits, `-`, `_` and `.`, such as payments/database;"
            " no part begins with `.` or `-`"
        )
    return value


def secret_key(value: Any) -> str:
    """The key of a secret, which becomes the name of a file."""
    if not isinstance(value, str) or not is_file_name(value):
        raise ValueError(
            f"{value!r} is no key of a secret | write letters, digits, `-`, `_` and `.`, such as password;"
            " it becomes the name of a file"
        )
    return value


def email(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"[^@\s,<>]+@[^@\s,<>]+\.[^@\s,<>]+\Z", value):
        raise ValueError(f"{value!r} is no mail address | write name@domain")
    return value


def user(value: Any) -> str:
    """The directory's name of an account, as it becomes a certificate's common name."""
    if not isinstance(value, str) or not re.match(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}\Z", value):
        raise ValueError(
            f"{value!r} is no account name | use letters, digits, `.`, `_`, `-` and `@`, as the directory writes it"
        )
    return value


def group(value: Any) -> str:
    """The name of a directory group; Kubernetes' own groups are refused."""
    if not isinstance(value, str) or not value.strip() or value != value.strip() or len(value) > 200:
        raise ValueError(f"{value!r} is no group name | write the directory's name of the group")
    if value.startswith("system:"):
        raise ValueError(
            f"{value!r} is a group of Kubernetes itself and is never handed out"
            " | name a directory group; what it may do follows from `rules`"
        )
    return value
