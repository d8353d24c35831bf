"""Alertmanager's routing configuration as values.

`None` in a `Route` means "as the parent has it"; `walk.inherited` fills it in. Durations are seconds.
Reference: https://prometheus.io/docs/alerting/latest/configuration/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pilothouse.alerts.routing.regex import compile_pattern
from pilothouse.problems import NOWHERE, Place

DEFAULT_GROUP_WAIT = 30.0
DEFAULT_GROUP_INTERVAL = 300.0
DEFAULT_REPEAT_INTERVAL = 4 * 3600.0
"""Alertmanager's own defaults, where even the root says nothing."""

GROUP_BY_ALL = "..."


class MatchOp(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One test of a label. A missing label counts as an empty value; expressions are anchored at both ends."""

    name: str
    op: MatchOp
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self.accepts(labels.get(self.name, ""))

    def accepts(self, value: str) -> bool:
        match self.op:
            case MatchOp.EQUAL:
                return value == self.value
            case MatchOp.NOT_EQUAL:
                return value != self.value
            case MatchOp.REGEX:
                return compile_pattern(self.value).fullmatch(value)
            case MatchOp.NOT_REGEX:
                return not compile_pattern(self.value).fullmatch(value)

    def __str__(self) -> str:
        """As Alertmanager prints it: the value always in double quotes."""
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op}"{escaped}"'


Matchers = tuple[Matcher, ...]


def matchers_text(matchers: Matchers) -> str:
    """`{a="b",c=~"d"}`; `{}` for none, which matches everything."""
    return "{" + ",".join(str(matcher) for matcher in matchers) + "}"


@dataclass(frozen=True, slots=True)
class Range:
    """With both ends. Months 1-12, weekdays 0 (Sunday) - 6; days of the month may be negative (-1 is the last)."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """All fields that are set must hold; within a field any entry. `times` are minutes of the day, end-exclusive.

    `location` is an IANA time zone; UTC unless given.
    """

    times: tuple[Range, ...] = ()
    weekdays: tuple[Range, ...] = ()
    days_of_month: tuple[Range, ...] = ()
    months: tuple[Range, ...] = ()
    years: tuple[Range, ...] = ()
    location: str = "UTC"


@dataclass(frozen=True, slots=True)
class Receiver:
    """`channels` are (kind, target) pairs such as `("email", "team@bank.example")`; empty: the alert is only shown."""

    name: str
    channels: tuple[tuple[str, str], ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """One node. `key` is its path of child numbers from the root: "" for the root, "2", "2.0"."""

    key: str = ""
    matchers: Matchers = ()
    receiver: str | None = None
    group_by: tuple[str, ...] | None = None
    group_wait: float | None = None
    group_interval: float | None = None
    repeat_interval: float | None = None
    mute_time_intervals: tuple[str, ...] = ()
    active_time_intervals: tuple[str, ...] = ()
    continue_: bool = False
    routes: tuple[Route, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    def walk(self) -> Iterator[Route]:
        """This node and all below it, depth first, as Alertmanager tries them."""
        yield self
        for child in self.routes:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class InhibitRule:
    """While an alert that `source` matches fires, those that `target` matches are held back, if the
    labels of `equal` agree (missing counts as empty)."""

    source: Matchers
    target: Matchers
    equal: tuple[str, ...] = ()
    name: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Routing:
    """A whole configuration, as far as routing goes. `version` decides which parser and semantics hold."""

    route: Route
    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    intervals: Mapping[str, tuple[TimeInterval, ...]] = field(default_factory=dict)
    inhibit_rules: tuple[InhibitRule, ...] = ()
    version: tuple[int, ...] = (0, 34)

    def find(self, key: str) -> Route | None:
        """The route with that key."""
        return next((route for route in self.route.walk() if route.key == key), None)
