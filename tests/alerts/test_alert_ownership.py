"""The proof that every alert ends at its own team, and the routes that nothing reaches."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.alerts.routing.model import Routing
from pilothouse.alerts.routing.ownership import endings, prove, unreachable
from pilothouse.alerts.routing.parse import parse
from pilothouse.alerts.routing.walk import explain
from pilothouse.promql.model import Rule
from pilothouse.source import Source

NOW = datetime(2026, 11, 20, tzinfo=UTC)
RECEIVERS = "receivers: [{name: root}, {name: a}, {name: b}, {name: c}]\n"


def tree(routes: str) -> Routing:
    found, problems = parse(Source("a.yml", f"route:\n  receiver: root\n  routes:\n{routes}{RECEIVERS}"))
    assert found is not None, problems
    return found


TREE = tree("""\
    - {matchers: ['team="a"', 'env="prod"'], receiver: a}
    - {matchers: ['team="a"'], receiver: b, continue: true}
    - {matchers: ['team=~"a|b"'], receiver: c, routes: [{matchers: ['env!=""'], receiver: b}]}
""")


def receivers(**known: str) -> list[str]:
    return [ending.receiver for ending in endings(TREE, known)]


def test_what_is_not_known_may_go_either_way() -> None:
    assert receivers(team="a", env="prod") == ["a"]
    assert receivers(team="a", env="dev") == ["b", "b"]
    assert receivers(team="a") == ["a", "b", "b", "c"]
    assert receivers(team="x") == ["root"]
    assert set(receivers()) == {"root", "a", "b", "c"}


LABELS = st.fixed_dictionaries({}, optional={"team": st.sampled_from("abx"), "env": st.sampled_from(["prod", "dev"])})


@given(LABELS, st.sets(st.sampled_from(["team", "env"])))
def test_the_endings_contain_whatever_happens(labels: dict[str, str], hidden: set[str]) -> None:
    # A label that is known to be absent is known, as an empty value.
    known = {name: labels.get(name, "") for name in ("team", "env") if name not in hidden}
    possible = {ending.route.key for ending in endings(TREE, known)}
    assert {step.route.key for step in explain(TREE, labels, NOW).steps if step.final} <= possible


OWNERS = {"a": "a", "b": "a", "root": "platform"}


def rule(name: str, **labels: str) -> Rule:
    return Rule("g", "up", alert=name, labels=labels)


def codes(*rules: Rule) -> list[str]:
    return [problem.code for problem in prove(TREE, rules, OWNERS) if problem.code != "alerts/unreachable-route"]


def test_an_alert_without_a_team_and_one_that_can_end_elsewhere() -> None:
    assert codes(rule("Fine", team="a", env="prod"), Rule("g", "up", record="x")) == []
    assert codes(rule("Lost")) == ["alerts/unowned"]
    assert codes(rule("Leaks", team="b")) == ["alerts/wrong-receiver"]
    (problem,) = [p for p in prove(TREE, [rule("Leaks", team="b")], OWNERS, "dev") if p.code == "alerts/wrong-receiver"]
    assert problem.teams == ("b",)
    assert problem.cluster == "dev"
    assert "can end at b, c" in problem.message


def test_routes_that_nothing_reaches() -> None:
    found = unreachable(
        tree("""\
    - {matchers: ['team="a"'], receiver: a}
    - {matchers: ['team="a"', 'env="x"'], receiver: b}
    - {matchers: ['team="b"', 'team=~"c.*"'], receiver: b}
    - {matchers: ['team=~"b|c"'], receiver: b, continue: true}
    - {matchers: ['team="b"'], receiver: b, routes: [{matchers: ['team!="b"'], receiver: c}]}
    - {matchers: ['env="y"'], receiver: c}
    - {receiver: c}
    - {matchers: ['z="1"'], receiver: c}
""")
    )
    assert [(p.place.line, p.message.split(":")[0]) for p in found] == [
        (5, 'the route for env="x", team="a" is never taken'),
        (6, 'the route for team="b", team=~"c.*" is never taken'),
        (8, 'the route for team!="b" is never taken'),
        (11, 'the route for z="1" is never taken'),
    ]
    assert found[0].related[0].line == 4
    assert "cannot both hold" in found[1].message
