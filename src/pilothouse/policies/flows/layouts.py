"""Lines that differ in nothing but numbers, read without parsing each one.

A program prints one flow again and again with the same names, labels and policies, and other times and counts. Parsing
JSON is most of the time that a million lines take. So a line is cut into what stays the same and the numbers: where
what stays was parsed before, only the numbers are read.

That is sound because a line is learnt only when a full parse found the same numbers in it, each of their names stands
in it once, and nothing in it is escaped; and because a line is taken for like a learnt one only where every byte but
the digits of its numbers is the same, and these are as many. (Of what follows the numbers and is never read, such as
statistics of TCP, only what is no digit is compared. The labels of flow logs come in another order each time, and are
compared sorted.) What was learnt is kept by its hash of 64 bits, which Python seeds anew for each process: among 20,000
flows two are taken for one once in a hundred thousand million runs. Whatever cannot be cut cleanly is parsed in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

from pilothouse.policies.flows.model import Amounts
from pilothouse.policies.flows.totals import Tally
from pilothouse.policies.flows.values import Unfit, moment

_MOST = 100_000
"""Lines that are remembered at once; beyond it everything learnt is forgotten, and learnt anew."""
_DIGITS = b"0123456789"
_ZEROS = bytes.maketrans(_DIGITS, b"0" * 10)
_RUNS = bytes(code if code in _DIGITS else 32 for code in range(256))
"""Leaves digits, and makes everything else a space."""
_MARK = 10
"""By how many bytes the end of the numbers is found."""
_PLAIN_LIST = re.compile(rb'(?:"[^"\\,\[\]{}]*"(?:,"[^"\\,\[\]{}]*")*)?')
"""What stands within the brackets of a list of labels."""
_LABELS = b'"labels":['
"""What stands before the labels of a flow log."""
_TEXT = rb'"(\d{1,18})"'
"""A number of 64 bits as protobuf writes it."""
_PLAIN = rb"(0|[1-9]\d{0,17})"
_MOMENT = rb'"([^"\\]{1,40})"'


@dataclass(frozen=True)
class Layout:
    """Where one program puts its numbers.

    The two times follow each other, wherever `window_at` stands. The counts follow each other from `counts_at` on; all
    but the first may be left out. `groups` are those of `counts` that hold bytes in and out, packets in and out, and
    connections begun and alive; the last two may be missing.
    """

    names: tuple[bytes, ...]
    window_at: bytes
    window: re.Pattern[bytes]
    counts_at: bytes
    counts: re.Pattern[bytes]
    groups: tuple[int, ...]

    @classmethod
    def of(cls, window: tuple[str, str], counts: str, wanted: str, time: bytes, number: bytes) -> Layout:
        """`counts` are the names in the order in which they are printed, `wanted` those to read as `groups` says."""
        printed = counts.split()
        times = [f'"{name}":'.encode() for name in window]
        quoted = [f'"{name}":'.encode() for name in printed]
        first, *rest = (name + b" ?" + number for name in quoted)
        return cls(
            tuple(name[:-1] for name in (*times, *quoted)),
            times[0],
            re.compile(b", ?".join(name + b" ?" + time for name in times)),
            quoted[0],
            re.compile(first + b"".join(b"(?:, ?" + one + b")?" for one in rest)),
            tuple(printed.index(name) + 1 for name in wanted.split()),
        )


LAYOUTS = (
    Layout.of(
        ("startTime", "endTime"),
        "packetsIn packetsOut bytesIn bytesOut numConnectionsStarted numConnectionsCompleted numConnectionsLive",
        "bytesIn bytesOut packetsIn packetsOut numConnectionsStarted numConnectionsLive",
        _TEXT,
        _TEXT,
    ),
    Layout.of(
        ("start_time", "end_time"),
        "bytes_in bytes_out num_flows num_flows_started num_flows_completed packets_in packets_out",
        "bytes_in bytes_out packets_in packets_out num_flows_started num_flows",
        _PLAIN,
        _PLAIN,
    ),
    Layout.of(
        ("start_time", "end_time"),
        "packets_in packets_out bytes_in bytes_out num_connections_started num_connections_completed "
        "num_connections_live",
        "bytes_in bytes_out packets_in packets_out num_connections_started num_connections_live",
        _PLAIN,
        _PLAIN,
    ),
    Layout.of(
        ("start_time", "end_time"),
        "packets_in packets_out bytes_in bytes_out",
        "bytes_in bytes_out packets_in packets_out",
        _MOMENT,
        _PLAIN,
    ),
)
"""protobuf's JSON of Goldmane, Calico's flow logs, Go's JSON of Goldmane, Whisker."""

_Window = tuple[float, float]
_UNSAID: _Window = (inf, -inf)


class Learnt:
    """What was parsed before, and how the last line that was learnt was cut.

    `_tallies` by the hash of what stands before the window and between it and the counts; `_windows` by their text;
    `_shapes`, by the counts with every digit a 0, say which of its numbers are wanted; `_endings` is what may follow.
    """

    def __init__(self) -> None:
        self.lines = 0
        self._layout: Layout | None = None
        self._width = 0
        self._mark = b""
        self._tallies: dict[int, Tally] = {}
        self._windows: dict[bytes, _Window] = {}
        self._shapes: dict[bytes, tuple[int, ...]] = {}
        self._endings: set[bytes] = set()

    def others(self, lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """Adds each line that was learnt to its tally; gives the others, numbered from 1, for a full parse (after which
        `learn` may be told)."""
        tallies, windows, shapes, endings = self._tallies, self._windows, self._shapes, self._endings
        number = 0
        for number, line in enumerate(lines, 1):
            layout = self._layout
            if layout is not None and (start := line.find(layout.window_at)) > 0:
                after = start + self._width
                at = line.find(layout.counts_at, after)
                end = line.find(self._mark, at)
                counts = line[at:end]
                places = shapes.get(counts.translate(_ZEROS))
                if places is not None and line[end:].translate(None, _DIGITS) in endings:
                    tally = tallies.get(_key(line[:start], line[after:at]))
                    during = windows.get(line[start:after]) or self._window(line[start:after])
                    if tally is not None and during is not None:
                        runs = counts.translate(_RUNS).split()
                        runs.append(b"0")
                        bytes_in, bytes_out, packets_in, packets_out, started, live = places
                        tally.lines += 1
                        tally.bytes += int(runs[bytes_in]) + int(runs[bytes_out])
                        tally.packets += int(runs[packets_in]) + int(runs[packets_out])
                        tally.started += int(runs[started])
                        alive = int(runs[live])
                        if alive > tally.live:
                            tally.live = alive
                        first, last = during
                        if first < tally.first:
                            tally.first = first
                        if last > tally.last:
                            tally.last = last
                        continue
            yield number, line
        self.lines = number

    def _window(self, text: bytes) -> _Window | None:
        """The two times of a window that is new; None where they are none, which the full parse then says."""
        match = self._layout.window.fullmatch(text) if self._layout else None
        found = _during(match) if match else None
        if found is not None:
            self._windows[text] = found
            self._bound()
        return found

    def _bound(self) -> None:
        for known in (self._tallies, self._windows, self._shapes, self._endings):
            if len(known) > _MOST:
                known.clear()

    def learn(self, line: bytes, amounts: Amounts, tally: Tally) -> None:
        """`line` was parsed in full, holds these numbers and nothing else than one flow, and belongs to that tally."""
        if b"\\" in line:
            return
        for layout in LAYOUTS if self._layout is None else (self._layout, *LAYOUTS):
            start = line.find(layout.window_at)
            window = layout.window.match(line, start) if start > 0 else None
            at = line.find(layout.counts_at, window.end()) if window else -1
            counts = layout.counts.match(line, at) if at > 0 else None
            if window and counts and _says(line, layout, window, counts, amounts):
                after, end = window.end(), counts.end()
                mark = line[end : end + _MARK]
                if not mark or line.find(mark, at) != end or not _has_plain_labels(line[after:at]):
                    return
                self._bound()
                self._layout, self._width, self._mark = layout, after - start, mark
                self._tallies[_key(line[:start], line[after:at])] = tally
                shape = line[at:end].translate(_ZEROS)
                if shape not in self._shapes:
                    self._shapes[shape] = _places(layout, counts, line[at:end], at)
                self._endings.add(line[end:].translate(None, _DIGITS))
                return


def _key(head: bytes, middle: bytes) -> int:
    """The same for two texts that differ in the order of their labels alone, if one of them has plain ones."""
    if _LABELS not in middle:
        return hash((head, middle))
    first, *lists = middle.split(_LABELS)
    kept: list[object] = [head, first]
    for text in lists:
        labels, _, rest = text.partition(b"]")
        each = labels.split(b",")
        each.sort()
        kept.append(rest)
        kept += each
    return hash(tuple(kept))


def _has_plain_labels(text: bytes) -> bool:
    _, *lists = text.split(_LABELS)
    return all(_PLAIN_LIST.fullmatch(part.partition(b"]")[0]) for part in lists)


def _during(window: re.Match[bytes]) -> _Window | None:
    try:
        first, last = (moment(int(text) if text.isdigit() else text.decode(), "time") for text in window.groups())
    except (Unfit, UnicodeDecodeError):
        return None
    return (inf if first is None else first, -inf if last is None else last)


def _says(line: bytes, layout: Layout, window: re.Match[bytes], counts: re.Match[bytes], amounts: Amounts) -> bool:
    """Whether cutting the line so says what the parse found, and could say nothing else."""
    if any(line.count(name) > 1 for name in layout.names):
        return False
    given = [int(counts[group] or 0) for group in layout.groups] + [0] * (6 - len(layout.groups))
    said = (given[4], given[5], given[0] + given[1], given[2] + given[3])
    found = (amounts.started, amounts.live, amounts.bytes, amounts.packets)
    return said == found and _during(window) == (
        inf if amounts.first is None else amounts.first,
        -inf if amounts.last is None else amounts.last,
    )


def _places(layout: Layout, counts: re.Match[bytes], text: bytes, at: int) -> tuple[int, ...]:
    """Which of the runs of digits in `text` are the six wanted numbers, -1 for those that are left out."""
    starts = [counts.start(group) for group in layout.groups]
    found = [len(text[: start - at].translate(_RUNS).split()) if start >= 0 else -1 for start in starts]
    return (*found, *[-1] * (6 - len(found)))
