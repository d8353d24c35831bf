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
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from math import inf
from operator import itemgetter
from typing import TypeVar

from pilothouse.policies.flows.model import EndKind, FlowEnd, Labels, Observed
from pilothouse.policies.flows.totals import Tally, Totals, view_of
from pilothouse.policies.flows.values import Unfit, address, labels, moment, number, port, protocol, text
from pilothouse.policies.rules import Direction

Meaning = TypeVar("Meaning")
K = TypeVar("K")
V = TypeVar("V")

REQUIRED = ("source", "destination", "protocol", "port")
AMOUNTS = ("count", "bytes", "packets", "first_seen", "last_seen")
OPTIONAL = (*AMOUNTS, "action", "reporter", "service", "source_labels", "destination_labels")
COLUMNS = (*REQUIRED, *OPTIONAL)
IDENTITY = tuple(name for name in COLUMNS if name not in AMOUNTS)
"""What says which flow a row belongs to."""

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


def names(line: str) -> list[str]:
    """The columns that a first line names; raises `Broken`."""
    texts = _texts([line.encode("utf-8", "surrogatepass")])
    (row,) = _quoted(texts) if '"' in line else [line.split(",") for line in texts]
    return [cell.strip().lower() for cell in row]


def is_header(line: str) -> bool:
    """Whether a first line names enough of the columns to be one."""
    try:
        return len(set(REQUIRED) & set(names(line))) >= 2
    except Broken:
        return False


class Sheet:
    """The rows below one header, added to totals. Values are met again and again, so each is read once.

    `header` names no column twice, and all the `REQUIRED` ones.
    """

    def __init__(self, header: Sequence[str], totals: Totals) -> None:
        begin = next((place for place, name in enumerate(header) if name not in IDENTITY), len(header))
        # Rows are cut from their end: what stands before the first amount stays one text, which is met again and again.
        self._uncut = max(begin, 1)
        self._cuts = len(header) - self._uncut
        self._at = {name: place - self._uncut + 1 for place, name in enumerate(header)}
        later = [name for name in header[begin:] if name in IDENTITY]
        self._own = [*range(min(begin, 1)), *(self._at[name] for name in later)]
        self._begin = begin
        self._flows = _Flows((*header[:begin], *later), totals)
        self._tallies = _Once(self._tally)

    def add(self, lines: Sequence[bytes]) -> None:
        """Lines with or without their ends. Where one of them cannot be read nothing of any is added: raises
        `UnicodeDecodeError`, `Broken` or `Unfit`."""
        rows = self._rows(lines)
        for width in set(map(len, rows)) - {self._cuts + 1}:
            raise self._unlike(width - 1 + self._uncut if width > self._cuts else width)
        cells = list(zip(*rows, strict=True))
        counts, sizes, packets = (self._numbers(cells, name) for name in AMOUNTS[:3])
        first, last = (self._moments(cells, name) for name in AMOUNTS[3:])
        flows = zip(*(cells[place] for place in self._own), strict=True)
        tallies = list(map(self._tallies.__getitem__, flows))
        amounts = zip(tallies, counts, sizes, packets, first, last, strict=False)  # columns that are missing never end
        for tally, count, size, packed, begin, end in amounts:
            tally.lines += 1
            tally.started += count or 1
            tally.bytes += size
            tally.packets += packed
            if begin < tally.first:
                tally.first = begin
            if end > tally.last:
                tally.last = end

    def _rows(self, lines: Sequence[bytes]) -> list[list[str]]:
        """The uncut beginning of each row, and its other cells."""
        texts = _texts(lines)
        if not any('"' in text for text in texts):
            return [text.rsplit(",", self._cuts) for text in texts]
        rows = _quoted(texts)
        for width in set(map(len, rows)) - {self._cuts + self._uncut}:
            raise self._unlike(width)
        if not self._begin:
            return rows
        # Line feeds stand in no cell: so cells that hold commas stay what they are.
        return [["".join(f"{cell}\n" for cell in row[: self._uncut]), *row[self._uncut :]] for row in rows]

    def _tally(self, given: tuple[str, ...]) -> Tally:
        """Raises `Broken` or `Unfit`."""
        if not self._begin:
            return self._flows.tally(given)
        beginning, *later = given
        cells = beginning[:-1].split("\n") if beginning.endswith("\n") else beginning.split(",")
        if len(cells) != self._begin:
            raise self._unlike(len(cells) + self._cuts)
        return self._flows.tally((*cells, *later))

    def _unlike(self, width: int) -> Broken:
        return Broken(f"it has {width} cells, and there are {self._cuts + self._uncut} columns")

    def _numbers(self, cells: Sequence[Sequence[str]], name: str) -> Iterable[int]:
        if name not in self._at:
            return repeat(0)
        column = cells[self._at[name]]
        return map(int, column) if _plain(column, 18) else [_number(value, name) for value in column]

    def _moments(self, cells: Sequence[Sequence[str]], name: str) -> Iterable[float]:
        """Infinite where none is said: never the first, or never the last."""
        unsaid = inf if name == "first_seen" else -inf
        if name not in self._at:
            return repeat(unsaid)
        column = cells[self._at[name]]
        found = map(float, column) if _plain(column, 10) else (moment(value.strip(), name) for value in column)
        return [value or unsaid for value in found]


def _plain(column: Sequence[str], longest: int) -> bool:
    """Whether all of them are ASCII digits alone: `int` takes more than that."""
    digits = "".join(column)
    return digits.isascii() and digits.isdigit() and "" not in column and len(max(column, key=len)) <= longest


def _texts(lines: Sequence[bytes]) -> list[str]:
    joined = b"\n".join(lines)
    texts = joined.decode().split("\n")
    if len(texts) != len(lines) or b"\r" in joined:
        texts = [line.decode().rstrip("\r\n") for line in lines]
    return texts


def _quoted(texts: Sequence[str]) -> list[list[str]]:
    try:
        found = list(csv.reader(texts, strict=True))
    except csv.Error as failure:
        raise Broken(str(failure)) from failure
    if len(found) != len(texts):
        raise Broken("a field in quotes does not end on its line")
    return found


class _Once(dict[K, V]):
    """What was made of each key, once."""

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        found = self[key] = self._make(key)
        return found


class _Flows:
    """The flow of the cells that say which it is, in the order of `IDENTITY`, of which `named` are there."""

    def __init__(self, named: Sequence[str], totals: Totals) -> None:
        self._totals = totals
        self._all = itemgetter(*(named.index(name) if name in named else -1 for name in IDENTITY))
        self._sources, self._destinations = _Once(self._source), _Once(self._destination)
        self._ports, self._views = _Once(_port), _Once(_view)

    def tally(self, cells: tuple[str, ...]) -> Tally:
        """Raises `Unfit`."""
        source, destination, protocol_text, port_text, action, reporter, service, *both = self._all((*cells, ""))
        number_of, port_of = self._ports[protocol_text, port_text]
        pair = (self._sources[source, both[0]], self._destinations[destination, both[1]], number_of, port_of)
        tally = self._totals.tally(pair, self._views[action, reporter])
        if service:
            tally.met(text(service.strip(), "service"))
        return tally

    def _source(self, given: tuple[str, str]) -> int:
        return self._end("source", *given)

    def _destination(self, given: tuple[str, str]) -> int:
        return self._end("destination", *given)

    def _end(self, name: str, value: str, written: str) -> int:
        found = _end(text(value.strip(), name), name)
        return self._totals.end(found, _labels(text(written.strip(), f"{name}_labels"), f"{name}_labels"))


def _port(given: tuple[str, str]) -> tuple[int, int | None]:
    protocol_text, port_text = given
    number_of = protocol(text(protocol_text.strip(), "protocol"), "protocol")
    return number_of, port(text(port_text.strip(), "port") or None, "port", number_of)


def _view(given: tuple[str, str]) -> int:
    action, reporter = given
    return view_of(
        _one_of(_ACTIONS, text(action.strip(), "action"), "action"),
        _one_of(_REPORTERS, text(reporter.strip(), "reporter"), "reporter"),
    )


def _number(value: str, name: str) -> int:
    if not value:
        return 0
    if value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return number(value.strip() or None, name)


def _one_of(table: Mapping[str, Meaning], value: str, name: str) -> Meaning:
    if value.lower() not in table:
        raise Unfit(f"`{name}` is none of {', '.join(word for word in table if len(word) > 1)}")
    return table[value.lower()]


def _labels(value: str, name: str) -> Labels:
    if not value:
        return ()
    return labels([item.strip() for item in value.split(";") if item.strip()], name)


def _end(value: str, name: str) -> FlowEnd:
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
