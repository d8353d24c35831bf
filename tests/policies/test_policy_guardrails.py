from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from support import builders as make

from pilothouse.inputs import Content
from pilothouse.platform.model import (
    CidrPeer,
    DomainPeer,
    Edge,
    Exposure,
    InternetPeer,
    Platform,
    PortRef,
    Sensitivity,
    Service,
    ServicePeer,
)
from pilothouse.policies import check_guardrails, guardrails
from pilothouse.policies.guardrails import By

GUARDRAILS = "policies/guardrails.yaml"
HTTPS = (PortRef(number=443),)
SOON = make.TODAY + timedelta(days=30)
CONTENT = make.bundle_content()
CARD = DomainPeer("api.card.example")


def public(peer: Any = CARD, ports: tuple[PortRef, ...] = HTTPS, **more: Any) -> Edge:
    return Edge(peer, ports, **{"reason": "card authorisation", "expires": SOON, **more})


def net(text: str) -> CidrPeer:
    return CidrPeer(ip_network(text))


def codes(edge: Edge, content: Content = CONTENT, **fields: Any) -> list[str]:
    found = check_guardrails(make.inputs([make.service("a/web", egress=(edge,), **fields)], content=content))
    assert all(problem.teams == ("a",) and problem.hint for problem in found)
    return [problem.code.removeprefix("policies/") for problem in found]


@pytest.mark.parametrize(
    ("edge", "expected"),
    [
        (public(), []),
        (public(reason=""), ["public-egress-reason"]),
        (public(reason=" x  "), ["public-egress-reason"]),
        (public(expires=None), ["public-egress-expiry"]),
        (public(expires=make.TODAY + timedelta(days=400)), []),
        (public(expires=make.TODAY + timedelta(days=401)), ["public-egress-expiry"]),
        (public(net("203.0.113.0/24")), []),
        (public(net("203.0.0.0/16")), ["cidr-too-wide"]),
        (public(net("2001:db8::/32")), ["cidr-too-wide"]),
        (public(net("203.0.113.0/24"), reason="", expires=None), ["public-egress-expiry", "public-egress-reason"]),
        (public(net("10.9.0.0/16"), reason="", expires=None), []),  # private: no leave of the platform
        (public(net("172.0.0.0/8")), ["cidr-too-wide"]),  # partly private is public
        (public(net("169.254.0.0/16"), reason="", expires=None), ["forbidden-destination"]),
        (public(net("169.254.169.254/32")), ["forbidden-destination"]),
        (public(DomainPeer("Db.Prod.internal")), ["forbidden-domain"]),
        (public(DomainPeer("localhost")), ["forbidden-domain"]),
        (public(InternetPeer()), ["internet-not-allowed"]),
        (public(ports=(PortRef(number=22),)), ["forbidden-port"]),
        (public(ports=(PortRef(number=20, end=23),)), ["forbidden-port", "forbidden-port"]),
        (public(ports=()), ["forbidden-port"] * 3),
        (public(ports=(PortRef(name="https"),)), []),
        (public(reason="", expires=make.TODAY - timedelta(days=1)), []),  # expired: there is no rule to judge
        (public(reason="", clusters=frozenset({"prod"})), []),
        (Edge(ServicePeer("b", "api"), ()), []),
    ],
)
def test_what_a_declaration_may_ask_for(edge: Edge, expected: list[str]) -> None:
    assert codes(edge) == expected


def changed(old: str, new: str) -> Content:
    text = CONTENT.files[GUARDRAILS].text
    assert old in text
    return make.bundle_content({GUARDRAILS: text.replace(old, new)})


def test_content_decides() -> None:
    assert codes(public(InternetPeer()), exposure=Exposure.EDGE) == []
    assert codes(public(InternetPeer()), changed("services: []  ", "services: ['a/*']  ")) == []
    assert codes(public(), changed("allowed: [] ", "allowed: ['*.bank.example'] ")) == ["forbidden-domain"]
    assert codes(public(), changed("allowed: [] ", "allowed: ['*.card.example'] ")) == []
    assert codes(public(expires=None), changed("requireExpiry: true", "requireExpiry: false")) == []
    assert codes(public(expires=make.TODAY + timedelta(days=999)), changed("maxDays: 400", "maxDays: 0")) == []
    assert codes(public(reason=""), changed("minReasonLength: 5", "minReasonLength: 0")) == []


def test_unreadable_content_is_a_problem() -> None:
    found = check_guardrails(make.inputs([], content=Content()))
    assert {problem.code for problem in found} == {"policies/missing-content"}


# ---------------------------------------------------------------- review


def platform(*services: Service) -> Platform:
    teams = [make.team("ops", platform=True)]
    return make.platform(services, teams=teams)


def needs(
    before: Service | None, after: Service | None, *others: Service, content: Content = CONTENT
) -> list[tuple[str, str]]:
    found = guardrails.review(before, after, content, platform(*others))
    assert all(item.why for item in found)
    return [(item.by.value, item.team) for item in found]


WEB = make.service("a/web")


def test_a_plain_change_needs_nobody() -> None:
    assert needs(WEB, replace(WEB, egress=(Edge(ServicePeer("b", "api")),)), make.service("b/api")) == []
    assert needs(WEB, replace(WEB, description="new")) == []
    assert needs(None, None) == []


def test_public_egress_needs_a_second_person_and_the_internet_the_platform_team() -> None:
    assert needs(WEB, replace(WEB, egress=(public(),))) == [("second-person", "a")]
    assert needs(WEB, replace(WEB, egress=(public(InternetPeer()),))) == [("platform-team", "ops")]
    kept = replace(WEB, egress=(public(),))
    assert needs(kept, replace(kept, description="new")) == []
    assert needs(kept, WEB) == []
    renewed = replace(kept, egress=(public(expires=SOON + timedelta(days=90)),))
    assert needs(kept, renewed) == [("second-person", "a")]
    assert needs(WEB, replace(WEB, egress=(public(net("10.9.0.0/16")),))) == []
    none = changed("publicEgress: second-person", "publicEgress: none")
    assert needs(WEB, replace(WEB, egress=(public(),)), content=none) == []


def test_high_sensitivity_needs_a_second_person_for_the_network_only() -> None:
    high = replace(WEB, sensitivity=Sensitivity.HIGH, ingress=())
    assert needs(high, replace(high, description="new")) == []
    assert needs(high, replace(high, egress=(Edge(ServicePeer("b", "api")),))) == [("second-person", "a")]
    assert needs(high, replace(high, sensitivity=Sensitivity.NORMAL)) == [("second-person", "a")]
    assert needs(None, high) == [("second-person", "a")]
    assert needs(high, None) == [("second-person", "a")]


def test_the_other_end_is_asked_where_both_must_agree() -> None:
    edge = Edge(ServicePeer("b", "api"))
    listed = make.service("b/api", ingress=(Edge(ServicePeer("x", "y")),))
    assert needs(WEB, replace(WEB, egress=(edge,)), listed) == [("other-team", "b")]
    on_the_list = replace(listed, ingress=(Edge(ServicePeer("a", "web")),))
    assert needs(WEB, replace(WEB, egress=(edge,)), on_the_list) == []
    own = replace(listed, team="a")
    assert needs(WEB, replace(WEB, egress=(edge,)), own) == []


def test_who_loses_a_way_in_is_asked() -> None:
    caller = make.service("c/caller", egress=(Edge(ServicePeer("a", "web")),))
    assert needs(WEB, replace(WEB, ingress=()), caller) == [("other-team", "c")]
    assert needs(WEB, None, caller) == [("other-team", "c")]
    assert needs(WEB, replace(WEB, ingress=(Edge(ServicePeer("c", "caller")),)), caller) == []
    assert needs(WEB, replace(WEB, ingress=()), replace(caller, team="a")) == []


def test_a_service_changes_hands() -> None:
    assert needs(WEB, replace(WEB, team="z")) == [("other-team", "a")]


def test_unreadable_guardrails_need_the_platform_team() -> None:
    assert needs(WEB, WEB, content=Content()) == [(By.PLATFORM_TEAM.value, "ops")]
    assert guardrails.review(WEB, WEB, Content(), make.platform([WEB]))[0].team == ""
    named = changed("highSensitivity: second-person", "highSensitivity: platform-team")
    high = replace(WEB, sensitivity=Sensitivity.HIGH)
    assert guardrails.review(None, high, named, make.platform([WEB]))[0].team == ""
