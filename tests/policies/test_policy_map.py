"""The map of a site: every pair once, by name, and nothing more than policies allow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import builders as make

from pilothouse.inventory.model import Owner, Pod
from pilothouse.platform.model import Edge, PortRef, ServicePeer
from pilothouse.policies.compare import map as maps
from pilothouse.policies.compare import picture
from pilothouse.policies.compare.drawing import RULES
from pilothouse.policies.compare.map import Guard, Link, Map, Member, Only, draw_up
from pilothouse.policies.engine import ALL, NONE, Connections
from pilothouse.policies.engine.connections import TCP
from pilothouse.policies.parties import Kind, Parties, Party
from pilothouse.policies.reading import manifest_of
from pilothouse.policies.rules import Direction
from pilothouse.policies.site import Site, of_platform, of_snapshot
from pilothouse.problems import Invalid

Manifest = dict[str, Any]


def pod(key: str, **fields: Any) -> Pod:
    _, name = key.split("/")
    app = name.rpartition("-")[0]
    return make.pod(key, {"app": app, **fields.pop("labels", {})}, owner=Owner("Deployment", app), **fields)


PODS = (
    pod("a/web-1", ips=("10.1.0.1", "fd00::1")),
    pod("a/web-2", ips=("10.1.0.2", "fd00::2")),
    pod("a/api-1", ips=("10.1.0.3",)),
    pod("a/db-1", ips=("10.1.0.4", "fd00::4")),
    pod("b/job-1", ips=("10.2.0.1",), labels={"canary": "yes"}),
    pod("b/job-2", ips=("10.2.0.2", "fd00::6")),
    pod("b/mail-1", ips=("fd00::7",)),
)


def policy(name: str, app: str, *, namespace: str = "a", **spec: Any) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": app}} if app else {}, **spec},
    }


def site(*policies: Manifest, pods: tuple[Pod, ...] = PODS) -> Site:
    return of_snapshot(make.snapshot(pods, policies=tuple(manifest_of(item) for item in policies)))


def told(found: Map) -> list[str]:
    return [str(link) for link in found.links]


WEB = {"podSelector": {"matchLabels": {"app": "web"}}}


# ---------------------------------------------------------------- what is said


def test_nothing_isolates_anybody() -> None:
    found = draw_up(site(), "here")
    assert told(found) == [
        "every address → every pod at everything",
        "every pod → every address at everything",
        "every pod → every pod at everything",
    ]
    assert [party.name for party in found.groups[Party(Kind.GROUP, "every pod")]] == [
        "a/api", "a/db", "a/web", "b/job", "b/mail",
    ]  # fmt: skip
    assert len(found.not_isolated(Direction.INGRESS)) == 5


def test_an_isolated_workload() -> None:
    found = draw_up(site(policy("db", "db", ingress=[{"from": [WEB], "ports": [{"port": 5432}]}])))
    assert told(found) == [
        "every address → pods with open ingress at everything",
        "every pod → every address at everything",
        "every pod → pods with open ingress at everything",
        "a/web → a/db at 5432",
    ]
    db = found.member(Party(Kind.PODS, "a/db"))
    assert (db.ingress, db.egress, db.pods, db.namespace) == (Guard.ISOLATED, Guard.OPEN, 1, "a")


def test_some_pods_and_some_requests() -> None:
    canary = policy("db", "db", ingress=[{"from": [{"podSelector": {}, "namespaceSelector": {}}]}])
    canary["spec"]["ingress"][0]["from"][0]["podSelector"] = {"matchLabels": {"canary": "yes"}}
    http = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": {"name": "api", "namespace": "a"},
        "spec": {
            "selector": "app == 'api'",
            "ingress": [
                {
                    "action": "Allow",
                    "protocol": "TCP",
                    "http": {"methods": ["GET"]},
                    "source": {"selector": "app == 'web'"},
                }
            ],
        },
    }
    lines = told(draw_up(site(canary, http)))
    assert "b/job → a/db at everything (some pods)" in lines
    assert "a/web → a/api at every TCP port (some requests)" in lines


def test_a_whole_namespace_is_one_end() -> None:
    found = draw_up(
        site(
            policy(
                "job",
                "job",
                namespace="b",
                ingress=[
                    {
                        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "a"}}}],
                        "ports": [{"port": 80}],
                    }
                ],
            )
        )
    )
    assert "every pod of a → b/job at 80" in told(found)
    assert [party.name for party in found.groups[Party(Kind.GROUP, "every pod of a")]] == ["a/api", "a/db", "a/web"]


def test_addresses_have_names() -> None:
    egress = [
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]},
        {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 25}]},
    ]
    net = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkSet",
        "metadata": {"name": "partners", "labels": {"who": "partners"}},
        "spec": {"nets": ["198.51.100.0/28", "198.51.100.64/28"]},
    }
    mail = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "mail"},
        "spec": {
            "selector": "app == 'api'",
            "types": ["Egress"],
            "egress": [
                {"action": "Allow", "protocol": "TCP", "destination": {"selector": "who == 'partners'", "ports": [587]}}
            ],
        },
    }
    lines = told(draw_up(site(policy("web", "web", egress=egress), net, mail)))
    assert "a/web → every IPv4 address but 10.0.0.0/8 at 443" in lines
    assert "a/web → 203.0.113.0/24 at 25, 443" not in lines
    assert "a/web → 203.0.113.0/24 at 25" in lines
    assert "a/api → network set partners at 587" in lines


def test_only_a_part() -> None:
    platform = _platform()
    whole = draw_up(platform)
    assert told(draw_up(platform, only=Only(service="s/api"))) == [
        line for line in told(whole) if "s/api" in line or ("every" in line.partition(" →")[0] and "api" in line)
    ]
    assert {str(link.source) for link in draw_up(platform, only=Only(team="front")).links} >= {"s/web"}
    assert all("x/" not in str(link) or "s/" in str(link) for link in draw_up(platform, only=Only(namespace="s")).links)


def test_only_nothing() -> None:
    platform = _platform()
    for only, message in (
        (Only(service="s/apo"), "no pods of `s/apo` run here"),
        (Only(namespace="t"), "no pods run in namespace `t`"),
        (Only(team="nobody"), "no pods of team `nobody` run here"),
        (Only(service="s/api", team="front"), "nothing that runs here is all of what was asked for"),
    ):
        with pytest.raises(Invalid, match=message):
            draw_up(platform, only=only)


def _platform() -> Site:
    web = make.service("s/web", team="front", egress=(Edge(ServicePeer("s", "api"), (PortRef(number=8080),)),))
    api = make.service("s/api", team="back")
    pods = [make.pod(f"{key}.1", ips=(f"10.40.0.{n}",)) for n, key in enumerate(("s/web", "s/api", "x/other"), 1)]
    return of_platform(make.inputs([web, api], pods=pods), as_if_enforced=True)


def test_declared_services_have_teams() -> None:
    (link,) = [
        link for link in draw_up(_platform()).links if link.source.name == "s/web" and link.destination.name == "s/api"
    ]
    assert (link.source.team, link.destination.team, str(link.connections)) == ("front", "back", "8080")


def test_pods_told_apart() -> None:
    canary = policy(
        "db", "db", ingress=[{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"canary": "yes"}}}]}]
    )
    found = draw_up(site(canary), by_pods=True)
    assert "b/job-1 → a/db-1 at everything" in told(found)
    assert "a/web-1 and 1 more" in {item.party.name for item in found.members}


def test_pods_that_may_come() -> None:
    rule = {
        "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "reader"}}}],
        "ports": [{"port": 80}],
    }
    found = draw_up(site(policy("db", "db", ingress=[rule])), future=True)
    lines = told(found)
    assert "b/(a new pod with role=reader) → a/db at 80" in lines
    assert "(a new namespace)/(a new pod)" in {item.party.name for item in found.members}
    assert not any("(a new pod) →" in line and "a/db" in line for line in lines)
    declared = draw_up(_platform(), future=True)
    assert "s/(a new pod)" in {item.party.name for item in declared.members}
    assert "s/web → s/api at 8080" in told(declared)


def test_as_data_and_rows() -> None:
    found = draw_up(site(policy("db", "db", ingress=[{"from": [WEB], "ports": [{"port": 5432}]}])), "here")
    data = maps.as_data(found)
    assert data["title"] == "here"
    assert data["connections"][-1] == {
        "source": {"kind": "pods", "name": "a/web"},
        "destination": {"kind": "pods", "name": "a/db"},
        "ports": "5432",
        "verdict": "allow",
        "some": False,
    }
    assert {"name": "pods with open ingress", "members": ["a/api", "a/web", "b/job", "b/mail"]} in data["groups"]
    assert {
        "kind": "pods",
        "name": "a/db",
        "namespace": "a",
        "pods": 1,
        "egress": "open",
        "ingress": "isolated",
    } in data["parties"]
    assert maps.as_rows(found)[-1] == ("pods", "a/web", "", "pods", "a/db", "", "5432", "allow", "all")


# ---------------------------------------------------------------- every pair, and no other


STRANGERS = {Party(Kind.PODS, "a/api"), Party(Kind.PODS, "b/mail")}
"""One has IPv4 only, the other IPv6."""

PEERS = st.one_of(
    st.just({"podSelector": {}}),
    st.builds(lambda app: {"podSelector": {"matchLabels": {"app": app}}}, st.sampled_from(("web", "job", "db"))),
    st.just({"namespaceSelector": {}}),
    st.just({"namespaceSelector": {}, "podSelector": {"matchLabels": {"canary": "yes"}}}),
    st.builds(
        lambda net: {"ipBlock": {"cidr": net}},
        st.sampled_from(("10.1.0.0/31", "10.2.0.0/16", "fd00::/125", "0.0.0.0/0", "::/0", "203.0.113.0/24")),
    ),
)
PORTS = st.lists(st.builds(lambda port: {"port": port}, st.sampled_from((80, 443, 5432))), max_size=2)


@st.composite
def policies(draw: st.DrawFn) -> list[Manifest]:
    found = []
    for number in range(draw(st.integers(0, 4))):
        spec: dict[str, Any] = {"policyTypes": []}
        for direction, key in (("ingress", "from"), ("egress", "to")):
            if draw(st.booleans()):
                spec["policyTypes"].append(direction.capitalize())
                rules = st.builds(
                    lambda peers, ports, key=key: {key: peers, "ports": ports}, st.lists(PEERS, max_size=2), PORTS
                )
                spec[direction] = draw(st.lists(rules, max_size=2))
        if spec["policyTypes"]:
            app = draw(st.sampled_from(("", "web", "db", "job")))
            found.append(policy(f"p{number}", app, namespace=draw(st.sampled_from(("a", "b"))), **spec))
    return found


def pairs(found: Map) -> Iterator[tuple[Party, Party, Link]]:
    """The links with their groups written out."""
    for link in found.links:
        for source in found.groups.get(link.source, (link.source,)):
            for destination in found.groups.get(link.destination, (link.destination,)):
                yield source, destination, link


@settings(max_examples=80, deadline=None)
@given(items=policies())
def test_the_map_is_the_reach(items: list[Manifest]) -> None:
    """Between parties: the union of what pairs of pieces reach, and whole where every pair does."""
    where = site(*items)
    engine = where.engine
    names = Parties(None, engine.universe)
    reach: dict[tuple[Party, Party], list[Connections]] = {}
    numbers = range(len(engine.universe.pieces))
    for one in numbers:
        for other in numbers:
            if engine.universe.version(one) == engine.universe.version(other):
                reach.setdefault((names.party(one), names.party(other)), []).append(engine.reach.allowed(one, other))
    whole: dict[tuple[Party, Party], Connections] = {}
    any_: dict[tuple[Party, Party], Connections] = {}
    for source, destination, link in pairs(draw_up(where)):
        if Kind.ADDRESSES in (source.kind, destination.kind):
            continue
        key = (source, destination)
        any_[key] = any_.get(key, NONE) | link.connections
        if not link.some:
            whole[key] = whole.get(key, NONE) | link.connections
    for key, known in reach.items():
        every, union = ALL, NONE
        for item in known:
            every, union = every & item, union | item
        assert any_.get(key, NONE) == union, key
        assert whole.get(key, NONE) == every, key
    assert all(set(key) == STRANGERS for key in set(any_) - set(reach))


@settings(max_examples=40, deadline=None)
@given(items=policies())
def test_addresses_are_the_reach(items: list[Manifest]) -> None:
    where = site(*items)
    engine = where.engine
    universe = engine.universe
    names = Parties(None, universe)
    wanted: dict[tuple[Party, bool], Connections] = {}
    for number in range(len(universe.pieces)):
        for outside in range(len(universe.pieces), universe.size):
            if universe.everything >> outside & 1:
                for outward, ends in ((True, (number, outside)), (False, (outside, number))):
                    key = (names.party(number), outward)
                    wanted[key] = wanted.get(key, NONE) | engine.reach.allowed(*ends)
    found: dict[tuple[Party, bool], Connections] = {}
    for source, destination, link in pairs(draw_up(where)):
        if destination.kind is Kind.ADDRESSES:
            found[source, True] = found.get((source, True), NONE) | link.connections
        elif source.kind is Kind.ADDRESSES:
            found[destination, False] = found.get((destination, False), NONE) | link.connections
    assert {key: item for key, item in wanted.items() if item} == found


@settings(max_examples=30, deadline=None)
@given(items=policies())
def test_a_part_is_part_of_the_whole(items: list[Manifest]) -> None:
    where = site(*items)
    chosen = {item.party for item in draw_up(where).members if item.namespace == "b"}

    def flat(found: Map) -> dict[tuple[Party, Party], Connections]:
        known: dict[tuple[Party, Party], Connections] = {}
        for source, destination, link in pairs(found):
            if {source, destination} & chosen and {source, destination} != STRANGERS:
                known[source, destination] = known.get((source, destination), NONE) | link.connections
        return known

    assert flat(draw_up(where, only=Only(namespace="b"))) == flat(draw_up(where))


# ---------------------------------------------------------------- pictures


def many(count: int) -> Map:
    parties = [Party(Kind.PODS, f"n{number % 7}/p{number}") for number in range(count)]
    members = tuple(Member(item, item.name.partition("/")[0], 1, Guard.ISOLATED) for item in parties)
    http = Connections.of(TCP, 80, 80)
    links = [Link(parties[n], parties[(n * 5 + 1) % count], http, n % 11 == 0, n % 7 == 0) for n in range(count)]
    every = Party(Kind.GROUP, "every pod")
    links.append(Link(every, parties[0], ALL))
    links.append(Link(parties[1], Party(Kind.ADDRESSES, "the internet"), http))
    outside = Member(Party(Kind.ADDRESSES, "the internet"))
    return Map(
        "made", tuple(sorted((*members, outside), key=lambda item: item.party)), tuple(links), {every: tuple(parties)}
    )


@pytest.mark.parametrize("count", [2, 12, 40, 41, 120, 161, 400])
def test_a_picture_is_sound_and_the_same_each_time(count: int) -> None:
    found = many(count)
    svg = picture.draw(found)
    root = ElementTree.fromstring(svg)  # our own text
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{*}title").text == "Who reaches whom: made"  # type: ignore[union-attr]
    words = root.find("{*}desc").text or ""  # type: ignore[union-attr]
    assert "n1/p1 → n" in words
    assert count < 60 or "more connections" in words
    assert svg == picture.draw(many(count))
    assert "prefers-color-scheme: dark" in svg
    inside = picture.draw(found, alone=False, identity="other")
    assert "<style" not in inside
    assert 'id="other-title"' in inside
    assert "script" not in svg


def test_a_small_map_has_arrows_and_a_large_one_cells() -> None:
    assert 'class="edge' in picture.draw(many(40))
    assert 'class="edge' not in picture.draw(many(41))
    assert 'class="cell' in picture.draw(many(41))
    assert "p5" in picture.draw(many(160))
    assert "p5" not in picture.draw(many(300)).partition("</desc>")[2]


def test_boxes_and_panels_do_not_overlap() -> None:
    from pilothouse.policies.compare.panels import scene
    from pilothouse.policies.compare.placing import place

    what = scene(many(40))
    place(what, 76)
    spans = [(panel.x, panel.y, panel.y + panel.height) for panel in what.panels]
    for index, (x, top, bottom) in enumerate(spans):
        for other_x, other_top, other_bottom in spans[index + 1 :]:
            assert x != other_x or bottom <= other_top or other_bottom <= top
    for panel in what.panels:
        tops = [box.y for box in panel.boxes]
        assert tops == sorted(tops)
        assert all(panel.y < box.y and box.y + box.height < panel.y + panel.height for box in panel.boxes)


def test_text_is_escaped() -> None:
    party = Party(Kind.PODS, 'a/<b>&"')
    found = Map("<t>", (Member(party, "a", 1),), (Link(party, party, ALL),))
    svg = picture.draw(found)
    assert "<b>" not in svg
    ElementTree.fromstring(svg)  # our own text


def test_what_many_reach_is_a_mark() -> None:
    parties = [Party(Kind.PODS, f"n{number}/p") for number in range(10)]
    broker = Party(Kind.PODS, "data/broker")
    members = tuple(Member(item, item.name.partition("/")[0], 1) for item in sorted((*parties, broker)))
    found = Map("", members, tuple(Link(item, broker, ALL) for item in parties))
    svg = picture.draw(found)
    assert svg.count("→ broker</text>") == 10
    assert 'class="edge' not in svg


def test_the_portal_has_the_same_style() -> None:
    path = Path(__file__).parents[2] / "src" / "pilothouse" / "portal" / "static" / "policy-map.css"
    assert path.read_text(encoding="utf-8").partition("\n")[2] == RULES
