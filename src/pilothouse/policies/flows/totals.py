"""Many records of few connections: added up as they come, in memory that follows the distinct ones.

**Both nodes report a connection between two pods**, so that adding all up would count it twice. Totals are therefore
kept per reporter, and for each pair of ends, protocol and port:

- what the source's node allowed is what was allowed, or the destination's where only that one reported;
- what either node denied was denied: a packet that the source's node drops is never seen by the destination's;
- what the destination's node denied, the source's had allowed before: it is taken off there again;
- reports that do not say from where count only where there are no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf
from typing import TypeVar

from pilothouse.policies.flows.model import Amounts, Flow, FlowEnd, Labels, Observed, PolicyHit, Seen
from pilothouse.policies.rules import Direction

T = TypeVar("T")
Pair = tuple[FlowEnd, FlowEnd, int, int | None]
_ACTIONS = tuple(Observed)
_ALLOWED, _DENIED = _ACTIONS.index(Observed.ALLOW) * 3, _ACTIONS.index(Observed.DENY) * 3
_SOURCE, _DESTINATION, _UNSAID = range(3)
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
        if amounts.first is not None and amounts.first < self.first:
            self.first = amounts.first
        if amounts.last is not None and amounts.last > self.last:
            self.last = amounts.last

    def met(self, service: str, enforced: tuple[PolicyHit, ...], pending: tuple[PolicyHit, ...]) -> None:
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


@dataclass
class Totals:
    tallies: dict[Pair, dict[int, Tally]] = field(default_factory=dict)
    labels: dict[FlowEnd, Labels] = field(default_factory=dict)
    _ends: dict[FlowEnd, FlowEnd] = field(default_factory=dict)

    def add(self, seen: Seen) -> Tally:
        """The tally that the record was added to: records of the same flow may be added there directly."""
        source, destination = self._end(seen.source), self._end(seen.destination)
        views = self.tallies.setdefault((source, destination, seen.protocol, seen.port), {})
        view = _view(seen.action, seen.reporter)
        tally = views.get(view)
        if tally is None:
            tally = views[view] = Tally()
        tally.add(seen.amounts)
        tally.met(seen.service, seen.enforced, seen.pending)
        self._common(source, seen.source_labels)
        self._common(destination, seen.destination_labels)
        return tally

    def _end(self, end: FlowEnd) -> FlowEnd:
        """One object for each end, so that there are not as many as there are lines."""
        return self._ends.setdefault(end, end)

    def _common(self, end: FlowEnd, labels: Labels) -> None:
        if not labels:
            return
        known = self.labels.get(end)
        if known is None:
            self.labels[end] = labels
        elif known != labels:
            self.labels[end] = tuple(pair for pair in known if pair in labels)

    def records(self) -> int:
        return sum(tally.lines for views in self.tallies.values() for tally in views.values())

    def flows(self) -> tuple[Flow, ...]:
        """The connections, by source, destination, protocol, port and action."""
        labelled = {end: replace(end, labels=self.labels.get(end, ())) for end in self._ends}
        rank = {end: place for place, end in enumerate(sorted(self._ends, key=lambda end: end.sort_key))}
        pairs = sorted(self.tallies, key=lambda pair: (rank[pair[0]], rank[pair[1]], pair[2], pair[3] or 0))
        found: list[Flow] = []
        for pair in pairs:
            views = self.tallies[pair]
            shown = (labelled[pair[0]], labelled[pair[1]], pair[2], pair[3])
            for action in dict.fromkeys(view // 3 for view in sorted(views)):
                counted = _counted(_ACTIONS[action], views)
                if counted:
                    found.append(_flow(shown, _ACTIONS[action], counted, views))
        return tuple(found)


def _view(action: Observed, reporter: Direction | None) -> int:
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


def _flow(pair: Pair, action: Observed, counted: _Counted, views: Mapping[int, Tally]) -> Flow:
    base = 3 * _ACTIONS.index(action)
    source, destination = views.get(base + _SOURCE), views.get(base + _DESTINATION)
    tallies = [tally for tally in (source, destination) if tally] or list(counted.tallies)
    services = tallies[0].services if len(tallies) == 1 else _all(tally.services for tally in tallies)
    first, last = min(tally.first for tally in tallies), max(tally.last for tally in tallies)
    reporter = (
        None if source and destination else Direction.EGRESS if source else Direction.INGRESS if destination else None
    )
    return Flow(
        *pair,
        services[0] if len(services) == 1 else "",
        counted.count,
        sum(tally.bytes for tally in counted.tallies),
        sum(tally.packets for tally in counted.tallies),
        None if first == inf else first,
        None if last == -inf else last,
        action,
        reporter,
        _all(tally.enforced for tally in tallies),
        _all(tally.pending for tally in tallies),
    )


def _all(parts: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(parts)))
