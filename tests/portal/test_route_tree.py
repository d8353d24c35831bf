"""The picture of a routing tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from xml.etree import ElementTree

from pilothouse.alerts.routing.parse import parse
from pilothouse.alerts.routing.walk import Explanation, explain
from pilothouse.portal.pictures.route_tree import anchor, draw, rows
from pilothouse.source import Source

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
SMALL = """\
route:
  receiver: root
  routes:
    - {matchers: ['alertname="Watchdog"'], receiver: dog}
    - matchers: ['team="a<b>&\\"c"']
      receiver: strange
      routes: [{matchers: ['severity="page"'], receiver: loud}, {matchers: ['severity="ticket"'], receiver: mail}]
    - {receiver: rest}
receivers: [{name: root}, {name: dog}, {name: strange}, {name: loud}, {name: mail}, {name: rest}]
"""


def explained(text: str, **labels: str) -> Explanation:
    routing, problems = parse(Source("a.yml", text))
    assert routing is not None, problems
    return explain(routing, labels, AT)


def many(teams: int) -> str:
    routes = "".join(
        f"    - {{matchers: ['team=\"t{n:02}\"'], routes: [{{matchers: ['severity=\"page\"']}}, {{receiver: r}}]}}\n"
        for n in range(teams)
    )
    return f"route:\n  receiver: r\n  routes:\n{routes}receivers: [{{name: r}}]\n"


def test_the_lit_path(golden: Callable[[str, str], None]) -> None:
    picture = draw(explained(SMALL, team='a<b>&"c', severity="ticket"))
    golden("portal/route_tree.svg", picture)
    assert picture == draw(explained(SMALL, team='a<b>&"c', severity="ticket"))


def test_it_is_well_formed_and_clean_under_a_strict_policy() -> None:
    for overview in (False, True):
        picture = draw(explained(SMALL, team='a<b>&"c', severity="page"), overview=overview)
        root = ElementTree.fromstring(picture)
        assert root.attrib["role"] == "group"
        assert "style" not in picture
        assert "<script" not in picture
        assert not re.search(r"\son\w+=", picture)
        links = [node.attrib["href"] for node in root.iter("{http://www.w3.org/2000/svg}a")]
        assert links == ["#route-root", "#route-0", "#route-1", "#route-1-0", "#route-1-1", "#route-2"]


def test_the_text_alternative_names_the_path_and_the_receivers() -> None:
    picture = draw(explained(SMALL, team='a<b>&"c', severity="page"))
    text = ElementTree.fromstring(picture).findtext("{http://www.w3.org/2000/svg}desc")
    assert text is not None
    assert 'root then team="a<b>&\\"c" then severity="page" and ends at loud' in text


def test_an_overview_lights_nothing_and_shows_every_receiver() -> None:
    picture = draw(explained(SMALL), overview=True)
    assert 'class="lit"' not in picture
    assert picture.count('class="target"') == 6


def test_sixty_routes_are_shown_and_more_are_folded() -> None:
    assert len(rows(explained(many(19), team="t05"))) == 58
    folded = rows(explained(many(40), team="t20", severity="page"))
    assert [row.label for row in folded if row.count] == [
        "60 routes that do not take it",
        "57 routes that do not take it",
    ]
    assert [row.step.route.key for row in folded if row.step] == ["", "20", "20.0", "20.1"]
    picture = draw(explained(many(40), team="t20", severity="page"))
    assert 'href="?open=root"' in picture
    ElementTree.fromstring(picture)


def test_a_fold_is_opened_by_its_link() -> None:
    opened = rows(explained(many(40), team="t20"), frozenset([""]))
    assert sum(1 for row in opened if row.step and row.depth == 1) == 40
    assert {row.label for row in opened if row.count} == {"2 routes below"}
    deeper = rows(explained(many(40), team="t20"), frozenset(["", "3"]))
    assert [row.step.route.key for row in deeper if row.step and row.parent == "3"] == ["3.0", "3.1"]


def test_short_runs_stay_visible_above_sixty_routes() -> None:
    text = many(40)
    shown = rows(explained(text, team="t02"))
    assert [row.step.route.key for row in shown if row.step and row.depth == 1] == ["0", "1", "2"]
    assert [row.label for row in shown if row.count][:2] == ["2 routes below", "2 routes below"]


def test_long_matchers_are_cut_and_whole_in_the_title() -> None:
    words = "|".join(f"service-{number:03}" for number in range(60))
    routes = f"[{{matchers: ['service=~\"{words}\"']}}]"
    text = f"route:\n  receiver: r\n  routes: {routes}\nreceivers: [{{name: r}}]\n"
    picture = draw(explained(text, service="service-059"))
    assert "…</text>" in picture
    assert f"service=~&quot;{words}&quot;: matches" in picture


def test_anchors() -> None:
    assert [anchor(key) for key in ("", "0", "1.2.3")] == ["route-root", "route-0", "route-1-2-3"]
