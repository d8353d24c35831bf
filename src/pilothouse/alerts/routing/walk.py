"""Which routes an alert takes, and why.

Depth first, left to right: the first child that matches ends the search among its siblings unless
it says `continue`; a node none of whose children matches takes the alert itself. Receiver, grouping and timers
come down from the parent; mute and active intervals do not.
https://prometheus.io/docs/alerting/latest/configuration/#route
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from pilothouse.alerts.routing.inhibition import Inhibition, inhibitions
from pilothouse.alerts.routing.intervals import any_contains, next_change
from pilothouse.alerts.routing.model import (
    DEFAULT_GROUP_INTERVAL,
    DEFAULT_GROUP_WAIT,
    DEFAULT_REPEAT_INTERVAL,
    GROUP_BY_ALL,
    Matcher,
    Receiver,
    Route,
    Routing,
    matchers_text,
)

Labels = Mapping[str, str]


class Verdict(StrEnum):
    """What became of a route in the search."""

    MATCHED = "matched"
    FAILED = "failed"
    """Tried, and a matcher said no."""
    SKIPPED = "skipped"
    """Not tried: an earlier sibling matched without `continue`."""
    UNREACHED = "unreached"
    """Not tried: its parent was not entered."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds at a route once everything inherited is filled in; seconds."""

    receiver: str
    group_by: tuple[str, ...] = ()
    group_wait: float = DEFAULT_GROUP_WAIT
    group_interval: float = DEFAULT_GROUP_INTERVAL
    repeat_interval: float = DEFAULT_REPEAT_INTERVAL

    def under(self, route: Route) -> Settings:
        """These settings with what the route says itself laid over them."""
        said = {
            name: value
            for name in ("receiver", "group_by", "group_wait", "group_interval", "repeat_interval")
            if (value := getattr(route, name)) is not None
        }
        return replace(self, **said)

    @property
    def effective_repeat(self) -> float:
        """A repeat waits for the next flush of its group, so it is rounded up to a multiple of the group interval."""
        return math.ceil(self.repeat_interval / self.group_interval) * self.group_interval


@dataclass(frozen=True, slots=True)
class Tested:
    """One matcher held against the alert; `value` is "" where the label is missing."""

    matcher: Matcher
    value: str
    present: bool
    ok: bool

    def __str__(self) -> str:
        shown = f'{self.matcher.name} is "{self.value}"' if self.present else f"{self.matcher.name} is missing (empty)"
        return f"{self.matcher}: {shown}"


@dataclass(frozen=True, slots=True)
class Step:
    """One route of the tree, in the order in which Alertmanager tries them. `final`: it takes the alert."""

    route: Route
    parent: str | None
    depth: int
    settings: Settings
    verdict: Verdict
    tested: tuple[Tested, ...] = ()
    final: bool = False
    blocker: str = ""
    """SKIPPED: the key of the sibling that took the alert."""

    @property
    def reason(self) -> str:
        """Why, in one sentence."""
        match self.verdict:
            case Verdict.MATCHED if self.parent is None:
                return "the root takes every alert"
            case Verdict.MATCHED:
                shown = ", ".join(str(test.matcher) for test in self.tested) or "it has no matchers"
                more = "; continue: the siblings after it are tried as well" if self.route.continue_ else ""
                return f"matches {shown}{more}" if self.tested else f"matches: {shown}{more}"
            case Verdict.FAILED:
                return "; ".join(str(test) for test in self.tested if not test.ok)
            case Verdict.SKIPPED:
                return "not tried: an earlier sibling matched and does not continue"
            case Verdict.UNREACHED:
                return "not tried: its parent does not take the alert"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One route that takes the alert: what is sent where, and whether it is muted at that moment.

    `next_change` is the moment (UTC) at which muted turns to sent or back, None if it never does.
    """

    route: Route
    settings: Settings
    receiver: Receiver
    group_labels: Labels
    group_key: str
    muted: bool = False
    why: str = ""
    next_change: datetime | None = None


@dataclass(frozen=True)
class Explanation:
    """The answer to "who gets this, when, and why"."""

    labels: Labels
    at: datetime
    routing: Routing
    steps: tuple[Step, ...]
    deliveries: tuple[Delivery, ...]
    inhibitions: tuple[Inhibition, ...] = field(default=())

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of the receivers in order; a receiver that two routes reach stands twice."""
        return tuple(delivery.receiver.name for delivery in self.deliveries)


def matching(route: Route, labels: Labels) -> list[Route]:
    """The routes that take the alert: Alertmanager's own search, without the reasons."""
    if not all(matcher.matches(labels) for matcher in route.matchers):
        return []
    found: list[Route] = []
    for child in route.routes:
        below = matching(child, labels)
        found.extend(below)
        if below and not child.continue_:
            break
    return found or [route]


def root_settings(routing: Routing) -> Settings:
    """What holds at the root; its receiver is "" in a configuration that lacks one."""
    return Settings(routing.route.receiver or "").under(routing.route)


def explain(routing: Routing, labels: Labels, at: datetime) -> Explanation:
    """Every route with its verdict and reason, and what is sent at that moment (an aware datetime)."""
    steps: list[Step] = []
    _walk(routing.route, None, 0, root_settings(routing), labels, steps)
    parents = {step.route.key: step for step in steps}
    deliveries = tuple(_deliver(routing, step, parents, labels, at) for step in steps if step.final)
    return Explanation(dict(labels), at, routing, tuple(steps), deliveries, inhibitions(routing, labels))


def _walk(route: Route, parent: str | None, depth: int, settings: Settings, labels: Labels, steps: list[Step]) -> bool:
    """Appends the steps of this subtree; whether the route matched."""
    tested = tuple(
        Tested(matcher, labels.get(matcher.name, ""), matcher.name in labels, matcher.matches(labels))
        for matcher in route.matchers
    )
    if not all(test.ok for test in tested):
        steps.append(Step(route, parent, depth, settings, Verdict.FAILED, tested))
        for child in route.routes:
            _untried(child, route.key, depth + 1, settings.under(child), Verdict.UNREACHED, "", steps)
        return False
    here = len(steps)
    steps.append(Step(route, parent, depth, settings, Verdict.MATCHED, tested))
    taken = False
    blocker: Route | None = None
    for child in route.routes:
        if blocker is not None:
            _untried(child, route.key, depth + 1, settings.under(child), Verdict.SKIPPED, blocker.key, steps)
        elif _walk(child, route.key, depth + 1, settings.under(child), labels, steps):
            taken = True
            blocker = None if child.continue_ else child
    if not taken:
        steps[here] = replace(steps[here], final=True)
    return True


def _untried(
    route: Route, parent: str, depth: int, settings: Settings, verdict: Verdict, blocker: str, steps: list[Step]
) -> None:
    steps.append(Step(route, parent, depth, settings, verdict, blocker=blocker))
    for child in route.routes:
        _untried(child, route.key, depth + 1, settings.under(child), Verdict.UNREACHED, "", steps)


def _deliver(routing: Routing, step: Step, steps: Mapping[str, Step], labels: Labels, at: datetime) -> Delivery:
    settings = step.settings
    names = labels if GROUP_BY_ALL in settings.group_by else settings.group_by
    group = {name: labels[name] for name in sorted(names) if name in labels}
    muted, why = muting(routing, step.route, at)
    spans = [
        span
        for name in (*step.route.active_time_intervals, *step.route.mute_time_intervals)
        for span in routing.intervals[name]
    ]
    change = next_change(spans, lambda moment: muting(routing, step.route, moment)[0], at) if spans else None
    return Delivery(
        route=step.route,
        settings=settings,
        receiver=routing.receivers.get(settings.receiver, Receiver(settings.receiver)),
        group_labels=group,
        group_key=f"{_route_key(step, steps)}:{_label_set(group)}",
        muted=muted,
        why=why,
        next_change=change,
    )


def muting(routing: Routing, route: Route, at: datetime) -> tuple[bool, str]:
    """Whether the route's intervals hold a notification back at that moment, and why."""
    active = route.active_time_intervals
    if active and not any(any_contains(routing.intervals[name], at) for name in active):
        return True, f"outside {' and '.join(active)}, the only time at which this route is active"
    for name in route.mute_time_intervals:
        if any_contains(routing.intervals[name], at):
            return True, f"muted during {name}"
    return False, f"within {' or '.join(active)}" if active else ""


def _route_key(step: Step, steps: Mapping[str, Step]) -> str:
    """As Alertmanager's API writes it: the matchers of every route from the root, joined by `/`."""
    own = matchers_text(step.route.matchers)
    return own if step.parent is None else f"{_route_key(steps[step.parent], steps)}/{own}"


def _label_set(labels: Labels) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
