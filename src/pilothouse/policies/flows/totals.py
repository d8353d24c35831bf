"""Many records of few connections: added up as they come, in memory that follows the distinct ones.

**Both nodes report a connection between two pods**, so that adding all up would count it twice. Totals are therefore
kept per reporter, and for each pair of ends, protocol and port:

- what the source's node allowed is what was allowed, or the destination's where only that one reported;
- what either node denied was denied: a packet that the source's node drops is never seen by the destination's;
- what the destination's node denied, the source's had allowed before: it is taken off there again;
- reports that do not say from where count only where there are no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from typing import TypeVar

from pilothouse.policies.flows.model import Amounts, Flow, FlowEnd, Labels, Observed, PolicyHit, Seen
from pilothouse.policies.rules import Direction

T = TypeVar("T")
Pair = tuple[int, int, int, int | None]
"""The numbers of source and destination, the protocol and the port."""
_ACTIONS = tuple(Observed)
_ALLOWED, _DENIED = _ACTIONS.index(Observed.ALLOW) * 3, _ACTIONS.index(Observed.DENY) * 3
_SOURCE, _DESTINATION, _UNSAID = range(3)
_REPORTERS = (Direction.EGRESS, Direction.INGRESS, None)
"""A view of a connection is kept under the sum of its action's and its reporter's number."""


class Tally:
    """The running sums of one connection as one reporter saw it, with one action. `first` and `last` are infinite while
    no moment was said."""

    __slots__ = ("bytes", "enforced", "first", "last", "lines", "live", "packets", "pending", "services", "started")

    def __init__(self) -> None:
        self.lines = self.started = self.live = self.bytes = self.packets = 0
        self.first = inf
        self.last = -inf
        self.services: tuple[str, ...] = ()
        self.enforced: tuple[PolicyHit, ...] = ()
        self.pending: tuple[PolicyHit, ...] = ()

    def add(self, amounts: Amounts) -> None:
        self.lines += 1
        self.started += amounts.started
        self.live = max(self.live, amounts.live)
        self.bytes += amounts.bytes
        self.packets += amounts.packets
        self.during(amounts.first, amounts.last)

    def during(self, first: float | None, last: float | None) -> None:
        if first is not None and first < self.first:
            self.first = first
        if last is not None and last > self.last:
            self.last = last

    @property
    def window(self) -> tuple[float | None, float | None]:
        return (None if self.first == inf else self.first, None if self.last == -inf else self.last)

    def met(self, service: str, enforced: tuple[PolicyHit, ...] = (), pending: tuple[PolicyHit, ...] = ()) -> None:
        if service and service not in self.services:
            self.services = (*self.services, service)
        if enforced != self.enforced:
            self.enforced = tuple(dict.fromkeys((*self.enforced, *enforced)))
        if pending != self.pending:
            self.pending = tuple(dict.fromkeys((*self.pending, *pending)))

    @property
    def count(self) -> int:
        """Connections, never more than there were: those that began, or at least as many as were alive at once. Where
        the observer counts neither, its reports."""
        return max(self.started, self.live) or self.lines


class Totals:
    """Ends are numbered as they come, so that a connection is a few small numbers."""

    def __init__(self) -> None:
        self._numbers: dict[FlowEnd, int] = {}
        self._ends: list[FlowEnd] = []
        self._labels: list[Labels | None] = []  # None: never said
        self._tallies: dict[Pair, dict[int, Tally]] = {}

    def add(self, seen: Seen) -> Tally:
        """The tally that the record was added to: records of the same flow may be added there directly."""
        source, destination = (
            self.end(seen.source, seen.source_labels),
            self.end(seen.destination, seen.destination_labels),
        )
        tally = self.tally((source, destination, seen.protocol, seen.port), view_of(seen.action, seen.reporter))
        tally.add(seen.amounts)
        tally.met(seen.service, seen.enforced, seen.pending)
        return tally

    def end(self, end: FlowEnd, labels: Labels = ()) -> int:
        """Its number. The end has no labels of its own: `labels` are what one record says of them."""
        number = self._numbers.get(end)
        if number is None:
            number = self._numbers[end] = len(self._ends)
            self._ends.append(end)
            self._labels.append(labels or None)
        elif labels and labels != (known := self._labels[number]):
            self._labels[number] = labels if known is None else tuple(pair for pair in known if pair in labels)
        return number

    def tally(self, pair: Pair, view: int) -> Tally:
        """Where the records of a connection are added that have that view; something must be."""
        views = self._tallies.get(pair)
        if views is None:
            found = Tally()
            self._tallies[pair] = {view: found}
            return found
        tally = views.get(view)
        if tally is None:
            tally = views[view] = Tally()
        return tally

    def records(self) -> int:
        return sum(tally.lines for views in self._tallies.values() for tally in views.values())

    def flows(self) -> tuple[Flow, ...]:
        """The connections, by source, destination, protocol, port and action."""
        ends = [
            replace(end, labels=labels) if labels else end for end, labels in zip(self._ends, self._labels, strict=True)
        ]
        rank = [0] * len(ends)
        for place, number in enumerate(sorted(range(len(ends)), key=lambda number: ends[number].sort_key)):
            rank[number] = place
        found: list[Flow] = []

        def place_of(pair: Pair) -> int:
            return rank[pair[0]] << 56 | rank[pair[1]] << 24 | pair[2] << 16 | (pair[3] or 0)

        for pair in sorted(self._tallies, key=place_of):
            source, destination, protocol, port = pair
            views = self._tallies[pair]
            between = (ends[source], ends[destination], protocol, port)
            if len(views) == 1:
                ((view, tally),) = views.items()
                found.append(_flow_of(between, view // 3, _REPORTERS[view % 3], tally, tally.count))
            else:
                found += _told_apart(between, views)
        return tuple(found)


def view_of(action: Observed, reporter: Direction | None) -> int:
    """The number of an action as one reporter saw it."""
    base = _ALLOWED if action is Observed.ALLOW else _DENIED if action is Observed.DENY else 3 * _ACTIONS.index(action)
    if reporter is None:
        return base + _UNSAID
    return base + (_SOURCE if reporter is Direction.EGRESS else _DESTINATION)


@dataclass(frozen=True, slots=True)
class _Counted:
    """The reports whose numbers count, and of how many connections."""

    tallies: tuple[Tally, ...]
    count: int


def _counted(action: Observed, views: Mapping[int, Tally]) -> _Counted | None:
    """What of all the reports with this action counts (the module says how); None for nothing."""
    base = 3 * _ACTIONS.index(action)
    source, destination = views.get(base + _SOURCE), views.get(base + _DESTINATION)
    if action is Observed.DENY:
        denied = tuple(tally for tally in (source, destination) if tally)
        if denied:
            return _Counted(denied, sum(tally.count for tally in denied))
    refused = views.get(_DENIED + _DESTINATION) if action is Observed.ALLOW and source else None
    if source and refused:
        left = source.count - refused.count
        if destination:
            return _Counted((destination,), max(left, destination.count))
        return _Counted((source,), left) if left > 0 else None
    chosen = source or destination or views.get(base + _UNSAID)
    return _Counted((chosen,), chosen.count) if chosen else None


def _told_apart(pair: tuple[FlowEnd, FlowEnd, int, int | None], views: Mapping[int, Tally]) -> Iterator[Flow]:
    for action in dict.fromkeys(view // 3 for view in sorted(views)):
        counted = _counted(_ACTIONS[action], views)
        if counted is None:
            continue
        base = 3 * action
        source, destination = views.get(base + _SOURCE), views.get(base + _DESTINATION)
        tallies = tuple(tally for tally in (source, destination) if tally) or counted.tallies
        both = bool(source) == bool(destination)
        reporter = _REPORTERS[_UNSAID if both else _SOURCE if source else _DESTINATION]
        yield _flow(pair, action, reporter, tallies, counted.tallies, counted.count)


def _flow(
    pair: tuple[FlowEnd, FlowEnd, int, int | None],
    action: int,
    reporter: Direction | None,
    told: tuple[Tally, ...],
    counted: tuple[Tally, ...],
    count: int,
) -> Flow:
    """`told` are the reports that say when it was seen and which rules it met, `counted` those whose numbers count."""
    if told == counted and len(told) == 1:
        return _flow_of(pair, action, reporter, told[0], count)
    services = _all(item.services for item in told)
    return Flow(
        *pair,
        services[0] if len(services) == 1 else "",
        count,
        sum(item.bytes for item in counted),
        sum(item.packets for item in counted),
        _moment(min(item.first for item in told)),
        _moment(max(item.last for item in told)),
        _ACTIONS[action],
        reporter,
        _all(item.enforced for item in told),
        _all(item.pending for item in told),
    )


def _flow_of(
    pair: tuple[FlowEnd, FlowEnd, int, int | None], action: int, reporter: Direction | None, tally: Tally, count: int
) -> Flow:
    services = tally.services
    return Flow(
        *pair,
        services[0] if len(services) == 1 else "",
        count,
        tally.bytes,
        tally.packets,
        _moment(tally.first),
        _moment(tally.last),
        _ACTIONS[action],
        reporter,
        tally.enforced,
        tally.pending,
    )


def _moment(value: float) -> float | None:
    return None if value in (inf, -inf) else value


def _all(parts: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(parts)))
