"""Proof that every alert ends at a named team, and that every route can be reached.

A rule's labels are known only in part before it fires: its own are, those of its series are not. So a
route is held against what is known, and a matcher on any other label may go either way. What can be
reached under that reading contains everything that will be reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pilothouse.alerts.routing.model import Matcher, Matchers, MatchOp, Route, Routing
from pilothouse.alerts.routing.walk import Settings, root_settings
from pilothouse.problems import Problem, Problems, error, ordered, warning
from pilothouse.promql.model import Rule


@dataclass(frozen=True, slots=True)
class Ending:
    """A route at which an alert can end, and its receiver."""

    route: Route
    receiver: str


def known_labels(rule: Rule) -> dict[str, str]:
    """The labels that an alert of this rule carries whatever its series are."""
    return {**rule.labels, "alertname": rule.alert}


def endings(routing: Routing, known: Mapping[str, str]) -> tuple[Ending, ...]:
    """Every route at which an alert with these labels, and any others, can end."""
    found: list[Ending] = []
    _collect(routing.route, root_settings(routing), known, found)
    return tuple(found)


class Endings:
    """`endings` for many alerts of one tree: those that agree in the labels that the tree asks for end alike."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._names = sorted({matcher.name for route in routing.route.walk() for matcher in route.matchers})
        self._known: dict[tuple[str | None, ...], tuple[Ending, ...]] = {}

    def of(self, known: Mapping[str, str]) -> tuple[Ending, ...]:
        key = tuple(known.get(name) for name in self._names)
        if key not in self._known:
            self._known[key] = endings(self._routing, known)
        return self._known[key]


def _collect(route: Route, settings: Settings, known: Mapping[str, str], found: list[Ending]) -> bool | None:
    """Collects below a route that may match. True: it surely takes the alert; None: perhaps; False: never."""
    verdict = _verdict(route.matchers, known)
    if verdict is False:
        return False
    taken: bool | None = False
    for child in route.routes:
        below = _collect(child, settings.under(child), known, found)
        if below is True:
            taken = True
            if not child.continue_:
                break
        elif below is None and taken is False:
            taken = None
    if taken is not True:
        found.append(Ending(route, settings.receiver))
    return verdict


def _verdict(matchers: Matchers, known: Mapping[str, str]) -> bool | None:
    verdict: bool | None = True
    for matcher in matchers:
        if matcher.name not in known:
            verdict = None
        elif not matcher.accepts(known[matcher.name]):
            return False
    return verdict


def prove(routing: Routing, rules: Iterable[Rule], owners: Mapping[str, str], cluster: str = "") -> Problems:
    """Every alert whose possible endings are not all its own team's, and every route that nothing can reach.

    `owners` is the team of each receiver; a receiver that is not in it belongs to nobody.
    """
    problems: list[Problem] = list(unreachable(routing, cluster))
    ends = Endings(routing)
    for rule in rules:
        if not rule.alert:
            continue
        team = rule.labels.get("team", "")
        if not team:
            problems.append(
                error(
                    "alerts/unowned",
                    f"the alert {rule.alert} has no team",
                    rule.place,
                    "give it a label `team`, or declare it in a service of a team",
                    cluster=cluster,
                )
            )
            continue
        strangers = sorted(
            {ending.receiver for ending in ends.of(known_labels(rule)) if owners.get(ending.receiver) != team}
        )
        if strangers:
            problems.append(
                error(
                    "alerts/wrong-receiver",
                    f"the alert {rule.alert} of team {team} can end at {', '.join(strangers)}, not that team's",
                    rule.place,
                    "see `pilothouse alerts route` with its labels for the route that takes it",
                    teams=(team,),
                    cluster=cluster,
                )
            )
    return ordered(problems)


def unreachable(routing: Routing, cluster: str = "") -> Problems:
    """Routes that an earlier sibling always takes the alerts of, or whose matchers contradict each other."""
    problems: list[Problem] = []
    _unreachable(routing.route, (), problems, cluster)
    return tuple(problems)


def _unreachable(route: Route, above: Matchers, problems: list[Problem], cluster: str) -> None:
    here = (*above, *route.matchers)
    for index, child in enumerate(route.routes):
        needs = (*here, *child.matchers)
        conflict = _conflict(needs)
        taker = next(
            (
                sibling
                for sibling in route.routes[:index]
                if not sibling.continue_ and all(_implied(matcher, needs) for matcher in sibling.matchers)
            ),
            None,
        )
        if conflict or taker:
            why = (
                f"{conflict[0]} and {conflict[1]} cannot both hold"
                if conflict
                else "an earlier route without `continue` takes every alert that it matches"
            )
            shown = ", ".join(str(matcher) for matcher in child.matchers) or "everything"
            problems.append(
                warning(
                    "alerts/unreachable-route",
                    f"the route for {shown} is never taken: {why}",
                    child.place,
                    "remove it, move it up, or correct its matchers",
                    related=(taker.place,) if taker else (),
                    cluster=cluster,
                )
            )
        else:
            _unreachable(child, here, problems, cluster)


def _implied(matcher: Matcher, given: Matchers) -> bool:
    """Whether everything that `given` lets through satisfies the matcher (found by equal values, so never wrongly)."""
    return any(
        other == matcher or (other.name == matcher.name and other.op is MatchOp.EQUAL and matcher.accepts(other.value))
        for other in given
    )


def _conflict(matchers: Matchers) -> tuple[Matcher, Matcher] | None:
    for fixed in matchers:
        if fixed.op is MatchOp.EQUAL:
            for other in matchers:
                if other.name == fixed.name and not other.accepts(fixed.value):
                    return fixed, other
    return None
