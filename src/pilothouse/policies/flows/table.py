"""Flows as CSV: pilothouse's own columns, for flows from anywhere else.

The first line names the columns, in any order:

| Column | Holds |
|---|---|
| `source`, `destination` | one of the ends below |
| `protocol` | a name such as TCP, or an IP protocol number |
| `port` | the destination's port; empty for protocols without ports |
| `count` | connections; 1 where the column is left out or empty |
| `bytes`, `packets` | both ways added |
| `first_seen`, `last_seen` | Unix seconds, or RFC 3339 |
| `action` | `allow` or `deny` |
| `reporter` | `source` or `destination`, where both nodes of a connection report it; empty in every line, or in none |
| `service` | `namespace/name` |
| `source_labels`, `destination_labels` | `key=value` joined by `;` |

An end is `namespace/pod`, `namespace/web-*` (pods whose names begin so), an IP address, `public`, `private`,
`host NAME`, `network-set NAME` or `network-set NAMESPACE/NAME`.

The first four columns must be there. A field in quotes is read as usual, and ends on its own line.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import TypeVar

from pilothouse.policies.flows.model import Amounts, EndKind, FlowEnd, Labels, Observed, Seen
from pilothouse.policies.flows.values import Unfit, address, labels, moment, number, port, protocol, text
from pilothouse.policies.rules import Direction

Meaning = TypeVar("Meaning")

REQUIRED = ("source", "destination", "protocol", "port")
AMOUNTS = ("count", "bytes", "packets", "first_seen", "last_seen")
OPTIONAL = (*AMOUNTS, "action", "reporter", "service", "source_labels", "destination_labels")
COLUMNS = (*REQUIRED, *OPTIONAL)

_ACTIONS = {
    **dict.fromkeys(("allow", "allowed", "forwarded"), Observed.ALLOW),
    **dict.fromkeys(("deny", "denied", "dropped"), Observed.DENY),
    **dict.fromkeys(("", "-", "unknown"), Observed.UNKNOWN),
}
_REPORTERS: Mapping[str, Direction | None] = {
    **dict.fromkeys(("source", "src", "egress"), Direction.EGRESS),
    **dict.fromkeys(("destination", "dst", "ingress"), Direction.INGRESS),
    **dict.fromkeys(("", "-"), None),
}
_KINDS = {"host": EndKind.HOST, "network-set": EndKind.NETWORK_SET}
_WORDS = {
    **dict.fromkeys(("public", "pub"), EndKind.PUBLIC),
    **dict.fromkeys(("private", "pvt"), EndKind.PRIVATE),
}


class Broken(ValueError):
    """A line that is no CSV."""


def cells(line: str) -> list[str]:
    if '"' not in line:
        return line.rstrip("\r\n").split(",")
    try:
        found = next(csv.reader([line], strict=True), [])
    except csv.Error as failure:
        raise Broken(str(failure)) from failure
    return found


def names(line: str) -> list[str]:
    """The columns that a first line names; raises `Broken`."""
    return [cell.strip().lower() for cell in cells(line)]


def is_header(line: str) -> bool:
    """Whether a first line names enough of the columns to be one."""
    try:
        return len(set(REQUIRED) & set(names(line))) >= 2
    except Broken:
        return False


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each column stands, -1 for those that are not there. `identity` picks the cells that say which flow a row
    belongs to, `amounts` those of `AMOUNTS`, from a row that has one empty cell more than there are columns."""

    count: int
    at: Mapping[str, int]
    identity: itemgetter[tuple[str, ...]]
    amounts: itemgetter[tuple[str, ...]]

    @classmethod
    def of(cls, header: Sequence[str]) -> Columns:
        at = {name: header.index(name) if name in header else -1 for name in COLUMNS}
        own = [place for name, place in at.items() if name not in AMOUNTS and place >= 0]
        return cls(len(header), at, itemgetter(*own), itemgetter(*(at[name] for name in AMOUNTS)))


def amounts(row: Sequence[str], columns: Columns) -> Amounts:
    count, size, packets, first, last = columns.amounts(row)
    return Amounts(
        _number(count, "count") or 1,
        0,
        _number(size, "bytes"),
        _number(packets, "packets"),
        _moment(first, "first_seen"),
        _moment(last, "last_seen"),
    )


def record(row: Sequence[str], columns: Columns) -> Seen:
    """The flow of a row, which has as many cells as there are columns and an empty one more."""

    def given(name: str) -> str:
        return text(row[columns.at[name]].strip(), name)

    number_of = protocol(given("protocol"), "protocol")
    return Seen(
        _end(given("source"), "source"),
        _end(given("destination"), "destination"),
        number_of,
        port(given("port") or None, "port", number_of),
        _one_of(_ACTIONS, given("action"), "action"),
        _one_of(_REPORTERS, given("reporter"), "reporter"),
        amounts(row, columns),
        given("service"),
        _labels(given("source_labels"), "source_labels"),
        _labels(given("destination_labels"), "destination_labels"),
    )


def _number(value: str, name: str) -> int:
    if not value:
        return 0
    if value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return number(value.strip() or None, name)


def _moment(value: str, name: str) -> float | None:
    if not value:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 10:
        return float(value) or None
    return moment(value.strip(), name)


def _one_of(table: Mapping[str, Meaning], value: str, name: str) -> Meaning:
    if value.lower() not in table:
        raise Unfit(f"`{name}` is none of {', '.join(word for word in table if len(word) > 1)}")
    return table[value.lower()]


def _labels(value: str, name: str) -> Labels:
    return labels([item.strip() for item in value.split(";") if item.strip()], name)


@lru_cache(maxsize=65_536)
def _end(value: str, name: str) -> FlowEnd:
    """Ends are met again and again."""
    if not value:
        raise Unfit(f"`{name}` is missing")
    if value.lower() in _WORDS:
        return FlowEnd(_WORDS[value.lower()])
    word, _, rest = value.partition(" ")
    if word.lower() in _KINDS and rest.strip():
        namespace, _, called = rest.strip().rpartition("/")
        return FlowEnd(_KINDS[word.lower()], namespace, called)
    namespace, slash, called = value.partition("/")
    if slash and namespace and called and "/" not in called:
        return FlowEnd(EndKind.WORKLOAD if called.endswith("*") else EndKind.POD, namespace, called)
    try:
        return FlowEnd(EndKind.ADDRESS, address=address(value, name))
    except Unfit:
        raise Unfit(
            f"`{name}` is neither namespace/pod nor an address nor one of {', '.join(EndKind)}: {value[:60]}"
        ) from None
