"""Which series the global reads from the leaves: exactly the names that its rules and the dashboards need.

A name is asked for with the matchers of its users where they are few, so that one alert on one service's metric does
not fetch that metric of every service. `match[]` selectors are joined by "or" and answered from the leaf's own
database: https://prometheus.io/docs/prometheus/latest/federation/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from pilothouse.collectors.metrics.model import Match, Side
from pilothouse.collectors.metrics.placement import Placement
from pilothouse.collectors.metrics.spread import scraped_by_global
from pilothouse.problems import Problem, Problems, error, warning
from pilothouse.promql.model import Query, Rule
from pilothouse.promql.parse import SyntaxFault, parse
from pilothouse.promql.tree import Matcher, Selector, quote, render, selectors

MOST_PER_NAME = 8
"""Above this many different sets of matchers, a name is asked for with what they have in common."""

Needed = dict[str, dict[frozenset[Matcher], set[str]]]
Unnamed = Callable[[Selector], Problem]


def matches(placement: Placement, queries: Iterable[Query]) -> tuple[tuple[Match, ...], Problems]:
    """The `match[]` of the federation, sorted by name, and a problem for each selector without an exact name."""
    needed: Needed = {}
    problems: list[Problem] = []
    local = placement.recorded_on_global()
    for selector, user, unnamed in _read(placement, queries):
        if not selector.metric:
            problems.append(unnamed(selector))
        elif selector.metric not in local and not scraped_by_global(selector):
            needed.setdefault(selector.metric, {}).setdefault(frozenset(selector.matchers), set()).add(user)
    found = [match for name in sorted(needed) for match in _of_name(name, needed[name])]
    return tuple(found), tuple(problems)


def _read(placement: Placement, queries: Iterable[Query]) -> Iterator[tuple[Selector, str, Unnamed]]:
    """Every selector that is evaluated on the global, who needs it, and the problem should it name no metric."""
    for item in placement.placed:
        if item.on_global is not None:
            # What merges the parts of leaves names their metric.
            kind = "alert" if item.rule.alert and item.side is Side.GLOBAL else "rule"
            for selector in selectors(parse(item.on_global.expr)):
                yield selector, f"{kind} {item.rule.name}", partial(_unnamed_in_rule, item.rule, kind)
    for query in queries:
        try:
            tree = parse(query.expr)
        except SyntaxFault:
            continue  # the dashboards report it with its caret
        for selector in selectors(tree):
            yield selector, query.used_by, partial(_unnamed_in_query, query)


def _unnamed_in_rule(rule: Rule, kind: str, selector: Selector) -> Problem:
    return error(
        "collectors/unnamed-metric",
        f"the {kind} `{rule.name}` selects {render(selector)} on the global, without a metric's name",
        rule.place,
        "name the metric: the global reads exact names from the leaves, never everything",
        teams=(rule.owner,) if rule.owner else (),
    )


def _unnamed_in_query(query: Query, selector: Selector) -> Problem:
    return warning(
        "collectors/unnamed-metric",
        f"{query.used_by} selects {render(selector)} without a metric's name",
        query.place,
        "name the metric: the global holds exact names alone, so the panel would miss series",
    )


def _of_name(name: str, asked: dict[frozenset[Matcher], set[str]]) -> Iterator[Match]:
    widest = list(asked)
    if len(widest) <= MOST_PER_NAME**2:  # what a wider selector fetches need not be asked for again
        widest = [held for held in asked if not any(other < held for other in asked)]
    if len(widest) > MOST_PER_NAME:
        widest = [frozenset.intersection(*widest)]
    for held in sorted(widest, key=lambda matchers: sorted(map(str, matchers))):
        users = {user for matchers, users in asked.items() if held <= matchers for user in users}
        yield Match(_selector(name, held), tuple(sorted(users)))


def _selector(name: str, matchers: Iterable[Matcher]) -> str:
    inside = [f"__name__={quote(name)}", *sorted(str(matcher) for matcher in matchers)]
    return "{" + ",".join(inside) + "}"
