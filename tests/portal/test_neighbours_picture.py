"""The picture of a service and its neighbours."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

from pilothouse.platform.model import DomainPeer, PortRef, ServicePeer
from pilothouse.policies.edges import Origin, ServiceEdge
from pilothouse.policies.rules import Direction
from pilothouse.portal.pictures.neighbours import MOST, alternative, draw
from pilothouse.workflows import neighbours
from pilothouse.workflows.neighbours import Mark, Neighbour

IN, OUT = Direction.INGRESS, Direction.EGRESS


def edge(
    direction: Direction, key: str, *ports: str, origin: Origin = Origin.DECLARED, agreed: bool = True
) -> ServiceEdge:
    peer = ServicePeer(*key.split("/"))
    found = tuple(PortRef(name=port) for port in ports)
    return ServiceEdge("shop/cart", direction, peer, found, origin, others=(key,), agreed=agreed)


SHOWN = (
    Neighbour(IN, "shop/web", "http", key="shop/web"),
    Neighbour(IN, "Prometheus", "metrics", implied=True),
    Neighbour(OUT, "money/ledger", "grpc", Mark.ADDED, "money/ledger"),
    Neighbour(OUT, "money/rates", "grpc", Mark.CHANGED, "money/rates", before="http"),
    Neighbour(OUT, "api.partner.example", "443", Mark.REMOVED, clusters=("prod",)),
    Neighbour(OUT, "money/quotes", "every port", key="money/quotes", agreed=False),
    Neighbour(OUT, "the node's Fluentd", "-", implied=True),
)


def test_the_picture(golden: Callable[[str, str], None]) -> None:
    golden("portal/neighbours.svg", draw("shop/cart", SHOWN, lambda key: f"/catalogue/{key}?cluster=prod"))


def test_it_is_well_formed_and_without_style() -> None:
    hostile = Neighbour(OUT, '"><script>x</script>', "a&b", key="a/b\"onload='x'")
    text = draw("shop/<b>", (hostile,))
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(svg)
    assert "<script" not in text
    assert "style=" not in text
    assert text == draw("shop/<b>", (hostile,))


def test_marks_are_words_and_shapes() -> None:
    text = draw("shop/cart", SHOWN)
    assert "added · grpc" in text
    assert "removed · 443 · on prod" in text
    assert "changed · http → grpc" in text
    assert "every port · not accepted there" in text
    assert text.count('class="sign"') == 2 * 3
    assert text.count("<a ") == 2 * 4


def test_it_is_said_in_words_too() -> None:
    assert alternative(SHOWN[:3]) == (
        "Who comes: shop/web at http; Prometheus at metrics. Where it goes: money/ledger at grpc (added)."
    )
    assert alternative(()) == "Who comes: nobody is let in. Where it goes: nowhere."
    assert draw("shop/cart", ()).count("nobody is let in") == 4


def test_a_long_side_is_cut_and_a_change_never() -> None:
    many = [Neighbour(OUT, f"ns/s{n:03}", "http", key=f"ns/s{n:03}") for n in range(60)]
    many += [Neighbour(OUT, f"zz/s{n}", "http", Mark.ADDED, f"zz/s{n}") for n in range(3)]
    text = draw("shop/cart", many)
    assert text.count("<a ") == 2 * MOST
    assert "and 49 more, in the table" in text
    assert "zz/s2" in text
    all_new = [Neighbour(OUT, f"zz/s{n}", "http", Mark.ADDED, f"zz/s{n}") for n in range(MOST + 5)]
    assert draw("shop/cart", all_new).count("<a ") == 2 * (MOST + 5)


# ---------------------------------------------------------------- what is compared


def test_neighbours_of_one_cluster() -> None:
    edges = (
        edge(OUT, "money/ledger", "http"),
        edge(OUT, "money/ledger", "grpc"),
        ServiceEdge("shop/cart", OUT, DomainPeer("a.example"), (), Origin.DECLARED),
        edge(IN, "shop/web", origin=Origin.ACCEPTED),
        edge(IN, "tools/prometheus", "metrics", origin=Origin.METRICS),
        edge(OUT, "money/quotes", agreed=False),
    )
    assert neighbours.of(edges) == (
        Neighbour(OUT, "a.example", "every port"),
        Neighbour(OUT, "money/ledger", "http, grpc", key="money/ledger"),
        Neighbour(OUT, "money/quotes", "every port", key="money/quotes", agreed=False),
        Neighbour(IN, "shop/web", "every port", key="shop/web"),
        Neighbour(IN, "tools/prometheus", "metrics", key="tools/prometheus", implied=True),
    )


def test_a_change_on_some_of_the_clusters_names_them() -> None:
    one, two = (edge(OUT, "money/ledger", "http"),), (edge(OUT, "money/ledger", "grpc"),)
    both = {"dev": (one, one), "prod": (one, two)}
    assert neighbours.compare(both) == (
        Neighbour(OUT, "money/ledger", "grpc", Mark.CHANGED, "money/ledger", "http", ("prod",)),
    )
    assert neighbours.compare({"dev": (one, ()), "prod": (one, ())})[0].mark is Mark.REMOVED
    added = neighbours.compare({"dev": ((), ()), "prod": ((), one)})
    assert added == (Neighbour(OUT, "money/ledger", "http", Mark.ADDED, "money/ledger", clusters=("prod",)),)
    quiet = neighbours.compare({"dev": (one, one), "prod": ((), ())})
    assert quiet == (Neighbour(OUT, "money/ledger", "http", key="money/ledger", clusters=("dev",)),)
