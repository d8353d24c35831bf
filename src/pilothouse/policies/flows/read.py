"""Lines of observed flows to distinct connections with counts.

A line that cannot be read is counted, and the first ones of each sort are named; it ends nothing. Documents over many
lines, as grpcurl and jq print them, are read too: each begins with `{` or `[` alone at the very left and ends with the
closing one there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from pilothouse.policies.flows import flowlog, goldmane, hubble, jsontext, table
from pilothouse.policies.flows.forms import Format, detect
from pilothouse.policies.flows.layouts import Learnt
from pilothouse.policies.flows.model import Flow, Seen
from pilothouse.policies.flows.totals import Tally, Totals
from pilothouse.policies.flows.values import Unfit
from pilothouse.problems import Place, Problem, Problems, error, nearest, one_of, ordered, warning

NAMED = 5
"""How many lines of each sort of fault are named."""
MAX_DOCUMENT = 256_000_000
"""Bytes of a document over many lines; a larger one is taken for a mistake."""

_PEEK = 200
"""Lines looked at to tell the format."""
_BATCH = 1_000
"""Rows that are added at once."""
_EXCERPT = 200
_RECORDS: Mapping[Format, Callable[[dict[str, Any]], Seen | str]] = {
    Format.GOLDMANE: goldmane.record,
    Format.HUBBLE: hubble.record,
    Format.CALICO: flowlog.record,
}
_OPENING = (b"{", b"[")
_CLOSING = (b"}", b"]")
_STREAM = (b"data:", b"event:", b"id:", b"retry:", b":")
"""The fields of an event stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""


@dataclass(frozen=True)
class Reading:
    """What the lines hold.

    `flows` are distinct connections (see `totals` for what counts); `lines` were read, of which `broken` say nothing
    that could be used; `records` flows were found in the others. `ignored` are records that are well-formed and none to
    count, by reason. `lost` is how many events the observer says it lost itself.
    """

    form: Format | None
    flows: tuple[Flow, ...] = ()
    problems: Problems = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    lines: int = 0
    records: int = 0
    broken: int = 0
    lost: int = 0

    @property
    def count(self) -> int:
        return sum(flow.count for flow in self.flows)

    @property
    def bytes(self) -> int:
        return sum(flow.bytes for flow in self.flows)

    @property
    def first_seen(self) -> float | None:
        return min((flow.first_seen for flow in self.flows if flow.first_seen is not None), default=None)

    @property
    def last_seen(self) -> float | None:
        return max((flow.last_seen for flow in self.flows if flow.last_seen is not None), default=None)


def read(lines: Iterable[bytes], form: Format | None, shown: str) -> Reading:
    """The flows of lines in that format (None: whichever it is). `shown` is what problems call the file.

    The lines may end with a line feed or not. Raises nothing for whatever they hold.
    """
    coming = iter(lines)
    peeked = list(islice(coming, _PEEK))
    if peeked:
        peeked[0] = peeked[0].removeprefix(b"\xef\xbb\xbf")
    if form is None:
        form = _told(peeked)
    reader = _Reader(form, shown)
    if form is None:
        return reader.unknown(any(line.strip() for line in peeked))
    whole = chain(peeked, coming)
    if form is Format.CSV:
        reader.rows(whole)
    else:
        reader.objects(whole)
    return reader.reading()


def _told(lines: Sequence[bytes]) -> Format | None:
    """By the first line that tells; one that is broken off at its end still does. A document over many lines
    as a whole."""
    return next(filter(None, map(detect, lines)), None) or detect(b"\n".join(line.rstrip() for line in lines))


class _Reader:
    def __init__(self, form: Format | None, shown: str) -> None:
        self.form = form
        self.shown = shown
        self.totals = Totals()
        self.ignored: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self.lines = 0
        self.broken = 0
        self.lost = 0

    # ---------------------------------------------------------------- results

    def reading(self) -> Reading:
        flows = self.totals.flows()
        records = self.totals.records()
        self._summed_up()
        if self.lost:
            self.problems.append(
                warning(
                    "policies/flow-lost",
                    f"Hubble says that it lost {self.lost:,} events: connections may be missing",
                    Place(self.shown),
                    "raise Hubble's buffer (`hubble.eventBufferCapacity`), or observe for longer",
                )
            )
        if not records and not any(problem.code == "policies/flow-column" for problem in self.problems):
            self.problems.append(self._empty())
        return Reading(
            self.form,
            flows,
            ordered(self.problems),
            dict(sorted(self.ignored.items())),
            self.lines,
            records,
            self.broken,
            self.lost,
        )

    def unknown(self, anything: bool) -> Reading:
        problem = (
            error(
                "policies/flow-format",
                f"{self.shown} holds flows in no format that is known",
                Place(self.shown, 1),
                f"{one_of(Format)}; CSV begins with a line that names the columns {', '.join(table.REQUIRED)}",
            )
            if anything
            else self._empty()
        )
        return Reading(None, problems=(problem,))

    def _empty(self) -> Problem:
        aside = sum(self.ignored.values())
        why = f": {aside:,} records were set aside ({', '.join(sorted(self.ignored))})" if aside else ""
        return warning(
            "policies/flow-empty",
            f"{self.shown} holds no flow{why}",
            Place(self.shown),
            "observe for longer, or name another file",
        )

    # ---------------------------------------------------------------- faults

    def _fault(self, code: str, problem: Callable[[], Problem]) -> None:
        self.broken += 1
        self.faults[code] += 1
        if self.faults[code] <= NAMED:
            self.problems.append(problem())

    def syntax(self, message: str, line: int, column: int = 0, text: bytes = b"") -> None:
        self._fault(
            "policies/flow-syntax",
            lambda: warning(
                "policies/flow-syntax",
                f"line {line:,} is left out: {message}",
                self._place(line, column, text),
                "was the file cut off, or written by two programs at once?",
            ),
        )

    def value(self, message: str, line: int) -> None:
        self._fault(
            "policies/flow-value",
            lambda: warning(
                "policies/flow-value",
                f"line {line:,} is left out: {message}",
                Place(self.shown, line),
                "write it as the format's documentation says, or name the format if this is another",
            ),
        )

    def _place(self, line: int, column: int, text: bytes) -> Place:
        excerpt = text.decode("utf-8", "replace").rstrip()
        if 0 < column <= _EXCERPT and excerpt[:_EXCERPT].isprintable():
            return Place(self.shown, line, column, 1, excerpt[:_EXCERPT])
        return Place(self.shown, line)

    def _summed_up(self) -> None:
        for code, count in self.faults.items():
            if count > NAMED:
                first = next(problem for problem in self.problems if problem.code == code)
                self.problems.append(
                    warning(
                        code,
                        f"{count - NAMED:,} more lines are left out for like reasons",
                        Place(self.shown),
                        first.hint,
                    )
                )

    # ---------------------------------------------------------------- JSON

    def objects(self, lines: Iterable[bytes]) -> None:
        learnt = Learnt()
        opened: list[bytes] = []
        began = size = 0
        for number, line in learnt.others(lines):
            kept = line.rstrip()
            if opened:
                if kept.startswith(b'{"'):  # a record on its own: what was open never ended
                    self.syntax("the document that begins here is cut off", began)
                    opened = []
                else:
                    size += len(line)
                    if size <= MAX_DOCUMENT:
                        opened.append(line)
                    if kept in _CLOSING:
                        self.document(b"\n".join(opened) if size <= MAX_DOCUMENT else b"", began)
                        opened = []
                    continue
            if kept in _OPENING:
                opened, began, size = [line], number, len(line)
            elif kept:
                self.line(kept, number, line, learnt)
        if opened:
            self.syntax("the document that begins here is cut off", began)
        self.lines = learnt.lines

    def document(self, text: bytes, began: int) -> None:
        if not text:
            self.syntax(f"the document that begins here is larger than {MAX_DOCUMENT:,} bytes", began)
            return
        data, message, at, _ = jsontext.parsed(text)
        if message:
            self.syntax(message, began + at - 1)
            return
        for item in jsontext.items(data):
            self.record(item, began)

    def line(self, kept: bytes, number: int, line: bytes, learnt: Learnt) -> None:
        if kept.startswith(_STREAM):
            if not kept.startswith(b"data:"):
                return
            kept = kept.removeprefix(b"data:").lstrip()
        data, message, _, column = jsontext.parsed(kept)
        if message:
            self.syntax(message, number, column, kept)
            return
        items = list(jsontext.items(data))
        for item in items:
            found = self.record(item, number)
            if found and len(items) == 1 and item is data:
                learnt.learn(line, found[0].amounts, found[1])

    def record(self, item: Any, number: int) -> tuple[Seen, Tally] | None:
        assert self.form is not None
        if not isinstance(item, dict):
            self.value("it holds something that is no JSON object", number)
            return None
        try:
            seen = _RECORDS[self.form](item)
            if self.form is Format.HUBBLE:
                self.lost += hubble.lost(item)
        except Unfit as failure:
            self.value(str(failure), number)
            return None
        if isinstance(seen, str):
            self.ignored[seen] += 1
            return None
        return seen, self.totals.add(seen)

    # ---------------------------------------------------------------- CSV

    def rows(self, lines: Iterator[bytes]) -> None:
        sheet = self.sheet(lines)
        while sheet is not None and (batch := list(islice(lines, _BATCH))):
            self.batch(sheet, batch, self.lines + 1)
            self.lines += len(batch)

    def sheet(self, lines: Iterator[bytes]) -> table.Sheet | None:
        """What the rows are added to; None where there is no header that says what they mean."""
        for line in lines:
            self.lines += 1
            if not line.strip():
                continue
            try:
                names = self.header(table.names(line.decode("utf-8")))
                return None if names is None else table.Sheet(names, self.totals)
            except (UnicodeDecodeError, table.Broken) as failure:
                self.row(failure, self.lines)
        return None

    def batch(self, sheet: table.Sheet, lines: Sequence[bytes], number: int) -> None:
        """Adds all rows but those that cannot be read. `number` is that of the first."""
        try:
            sheet.add(lines)
        except (UnicodeDecodeError, table.Broken, Unfit) as failure:
            if len(lines) > 1:
                half = len(lines) // 2
                self.batch(sheet, lines[:half], number)
                self.batch(sheet, lines[half:], number + half)
            elif lines[0].strip():
                self.row(failure, number)

    def row(self, failure: Exception, number: int) -> None:
        """One that is left out."""
        if isinstance(failure, Unfit):
            self.value(str(failure), number)
        elif isinstance(failure, UnicodeDecodeError):
            self.syntax(f"byte {failure.start} is not UTF-8", number)
        else:
            self.syntax(str(failure), number)

    def header(self, names: list[str]) -> list[str] | None:
        """The columns; None where a column is missing without which no line means anything."""
        missing = [name for name in table.REQUIRED if name not in names]
        twice = sorted({name for name in names if names.count(name) > 1})
        place = Place(self.shown, 1)
        for name in missing:
            likely = nearest(name, [given for given in names if given not in table.COLUMNS])
            self.problems.append(
                error(
                    "policies/flow-column",
                    f"the column `{name}` is missing",
                    place,
                    likely or one_of(table.COLUMNS, 20),
                )
            )
        for name in twice:
            self.problems.append(
                error("policies/flow-column", f"the column `{name}` stands there twice", place, "leave one out")
            )
        for name in names:
            if name not in table.COLUMNS:
                shown = name if name.isprintable() else ascii(name)
                self.problems.append(
                    warning(
                        "policies/flow-column",
                        f"the column `{shown[:60]}` is not read",
                        place,
                        nearest(name, table.COLUMNS) or one_of(table.COLUMNS, 20),
                    )
                )
        return None if missing or twice else names
