"""What time a log covers, and where it has a hole."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise

from pilothouse.access.audit.model import Span


class Cover:
    """Collects moments as they are read; `longest` is the silence that is no hole. Memory grows with the holes only."""

    def __init__(self, longest: timedelta) -> None:
        self._longest = longest
        self._spans: list[Span] = []

    def add(self, at: datetime) -> None:
        if self._spans:
            last = self._spans[-1]
            if last.since <= at <= last.until:
                return
            if last.since - self._longest <= at <= last.until + self._longest:
                self._spans[-1] = Span(min(last.since, at), max(last.until, at))
                return
        self._spans.append(Span(at, at))
        if len(self._spans) > 1000:
            self._spans = list(merged(self._spans, self._longest))

    @property
    def spans(self) -> tuple[Span, ...]:
        return merged(self._spans, self._longest)


def merged(spans: Iterable[Span], longest: timedelta) -> tuple[Span, ...]:
    """The spans in order, those joined that overlap or lie no further apart than `longest`."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda item: item.since):
        if found and span.since <= found[-1].until + longest:
            found[-1] = Span(found[-1].since, max(found[-1].until, span.until))
        else:
            found.append(span)
    return tuple(found)


def gaps(spans: Iterable[Span], longest: timedelta) -> tuple[Span, ...]:
    """The holes between the spans."""
    joined = merged(spans, longest)
    return tuple(Span(before.until, after.since) for before, after in pairwise(joined))
