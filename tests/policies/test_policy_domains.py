"""Domains: merged from answers, bounded in time, never into the cluster; and what is derived from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import builders as make

from pilothouse.artifacts.write import serialise_all
from pilothouse.inputs import Content, Inputs, Resolved, SeenAddress
from pilothouse.platform.model import DomainPeer, Edge, Enforcement, PortRef
from pilothouse.policies import check_guardrails, derive, domains, prove
from pilothouse.policies.domains import KEEP, LONGEST_TTL, Address, Answer, Barred, Refreshed, refresh
from pilothouse.policies.engine import Universe, Vocabulary
from pilothouse.policies.engine.bitsets import bits
from pilothouse.policies.parties import Parties

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
X = "api.partner.example"
MINUTE = timedelta(minutes=1)
HTTPS = (PortRef(number=443),)
V6 = ip_network("fd00:40::/64")


def ranges() -> tuple[Barred, ...]:
    on = make.cluster(
        api_server=(ip_network("203.0.113.250/32"),),
        node_cidrs=(ip_network("198.51.100.0/24"), ip_network("2001:db8:60::/64")),
        node_local_dns=(ip_network("203.0.113.251/32"),),
    )
    found = domains.barred(make.bundle_content(), on)
    assert found is not None
    return found


RANGES = ranges()


def answer(*addresses: str, **fields: Any) -> Answer:
    return Answer(tuple(ip_address(item) for item in addresses), **fields)


def texts(found: Refreshed, name: str = X) -> list[str]:
    return [str(net) for net in found.resolved[name].networks] if name in found.resolved else []


def walk(*steps: tuple[timedelta, Answer], **options: Any) -> Refreshed:
    found = Refreshed()
    for after, said in steps:
        found = refresh(found.resolved, {X: said}, NOW + after, RANGES, **options)
    return found


# ---------------------------------------------------------------- merging


def test_what_answers_now_and_what_answered_lately() -> None:
    found = walk((0 * MINUTE, answer("192.0.2.9", "2001:db8::1")), (MINUTE, answer("192.0.2.2")))
    assert texts(found) == ["192.0.2.2/32", "192.0.2.9/32", "2001:db8::1/128"]
    assert (found.failed, found.refused, found.dropped) == ({}, {}, {})
    later = walk((0 * MINUTE, answer("192.0.2.9")), (KEEP - MINUTE, answer("192.0.2.2")))
    assert texts(later) == ["192.0.2.2/32", "192.0.2.9/32"]
    gone = walk((0 * MINUTE, answer("192.0.2.9")), (KEEP, answer("192.0.2.2")))
    assert texts(gone) == ["192.0.2.2/32"]


def test_it_is_renewed_at_half_time_and_else_stays_the_same() -> None:
    first = walk((0 * MINUTE, answer("192.0.2.9")))
    half = KEEP / 2
    assert walk((0 * MINUTE, answer("192.0.2.9")), (half, answer("192.0.2.9"))).resolved == first.resolved
    renewed = walk((0 * MINUTE, answer("192.0.2.9")), (half + MINUTE, answer("192.0.2.9")))
    moment = NOW + half + MINUTE
    assert renewed.resolved[X].addresses == (SeenAddress(ip_network("192.0.2.9/32"), moment, moment + KEEP),)
    assert domains.changes(first.resolved, renewed.resolved) == {}


@pytest.mark.parametrize(
    ("ttl", "lasts"),
    [(timedelta(0), KEEP), (timedelta(minutes=5), KEEP), (timedelta(hours=9), timedelta(hours=9))],
)
def test_a_ttl_lengthens_and_never_shortens(ttl: timedelta, lasts: timedelta) -> None:
    assert walk((0 * MINUTE, answer("192.0.2.9", ttl=ttl))).resolved[X].expires == NOW + lasts


def test_a_ttl_of_years_is_a_day() -> None:
    found = walk((0 * MINUTE, answer("192.0.2.9", ttl=timedelta(days=24_855))))
    assert found.resolved[X].expires == NOW + LONGEST_TTL


def test_an_expiry_that_a_wrong_clock_wrote_is_forgotten() -> None:
    ahead = SeenAddress(ip_network("192.0.2.9/32"), NOW + timedelta(days=700), NOW + timedelta(days=701))
    found = refresh({X: Resolved(X, (ahead,))}, {X: Answer(failure="no")}, NOW, RANGES)
    assert found.resolved[X].addresses == (SeenAddress(ahead.network, NOW, NOW + LONGEST_TTL),)


def test_a_name_that_fails_keeps_what_it_was_until_it_ends() -> None:
    broken = Answer(failure="its name servers did not answer")
    found = walk((0 * MINUTE, answer("192.0.2.9")), (KEEP - MINUTE, broken))
    assert texts(found) == ["192.0.2.9/32"]
    assert found.failed == {X: "its name servers did not answer"}
    over = walk((0 * MINUTE, answer("192.0.2.9")), (KEEP, broken))
    assert (over.resolved, over.failed) == ({}, {X: "its name servers did not answer"})
    assert walk((0 * MINUTE, Answer())).failed == {X: "it has no address"}


def test_a_name_that_nobody_asks_for_any_more_is_forgotten() -> None:
    first = walk((0 * MINUTE, answer("192.0.2.9")))
    assert refresh(first.resolved, {}, NOW, RANGES).resolved == {}


def test_too_many_addresses_leave_those_seen_last() -> None:
    old = [f"192.0.2.{n}" for n in range(3)]
    new = [f"192.0.2.{n}" for n in range(100, 104)]
    found = walk((0 * MINUTE, answer(*old)), (MINUTE, answer("192.0.2.50")), (2 * MINUTE, answer(*new)), limit=5)
    assert texts(found) == ["192.0.2.50/32", *(f"{item}/32" for item in new)]
    assert found.dropped == {X: 3}


# ---------------------------------------------------------------- never into the cluster


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.40.0.7", "a pod of the cluster"),
        ("10.50.0.1", "a service of the cluster"),
        ("198.51.100.4", "a node of the cluster"),
        ("2001:db8:60::4", "a node of the cluster"),
        ("203.0.113.250", "the API server"),
        ("203.0.113.251", "the node-local DNS cache"),
        ("192.168.1.1", "a private address"),
        ("100.64.0.1", "a private address"),
        ("fd00:1::1", "a private address"),
        ("fd00:ec2::254", "the cloud's metadata service hands out the node's credentials"),
        ("127.0.0.1", "no address of the internet"),
        ("::1", "no address of the internet"),
        ("0.0.0.0", "no address of the internet"),
        ("169.254.169.254", "no address of the internet"),
        ("fe80::1", "no address of the internet"),
        ("224.0.0.1", "no address of the internet"),
        ("255.255.255.255", "no address of the internet"),
        ("::ffff:10.40.0.7", "a pod of the cluster"),
        ("64:ff9b::10.40.0.7", "a private address"),
        ("2002:0a28:0007::1", "a pod of the cluster"),
        ("2001:0:0a28:0007::1", "a pod of the cluster"),
    ],
)
def test_an_address_that_a_name_may_not_open(address: str, why: str) -> None:
    found = walk((0 * MINUTE, answer(address, "192.0.2.9")))
    assert texts(found) == ["192.0.2.9/32"]
    ((_, reason),) = found.refused[X]
    assert reason == why
    assert found.failed == {}
    alone = walk((0 * MINUTE, answer(address)))
    assert (alone.resolved, alone.failed) == ({}, {X: "all its addresses are refused"})


def test_nat64_counts_by_the_address_within_where_a_platform_uses_it() -> None:
    bare = [Barred(ip_network("10.0.0.0/8"), "private")]
    assert domains.why_barred(ip_address("64:ff9b::10.0.0.1"), bare) == "private"
    assert domains.why_barred(ip_address("64:ff9b::192.0.2.1"), bare) == ""


def test_ipv4_in_the_form_of_ipv6_becomes_ipv4() -> None:
    assert texts(walk((0 * MINUTE, answer("::ffff:192.0.2.9", "192.0.2.9")))) == ["192.0.2.9/32"]


def test_a_range_that_becomes_barred_takes_its_addresses_along() -> None:
    first = walk((0 * MINUTE, answer("192.0.2.9", "192.0.2.200")))
    more = (*RANGES, Barred(ip_network("192.0.2.128/25"), "a node of the cluster"))
    assert [str(net) for net in domains.held(first.resolved, NOW, more)[X].networks] == ["192.0.2.9/32"]
    assert texts(refresh(first.resolved, {X: Answer(failure="no")}, NOW, more)) == ["192.0.2.9/32"]


def test_without_baseline_or_guardrails_nothing_may_be_resolved() -> None:
    assert domains.barred(Content(), make.cluster()) is None
    assert domains.barred(make.bundle_content({"policies/guardrails.yaml": "a: 1\n"}), make.cluster()) is None


# ---------------------------------------------------------------- whatever is answered

V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
NEAR = st.sampled_from(
    ["10.40.0.1", "127.0.0.1", "169.254.169.254", "192.0.2.1", "192.0.2.2", "203.0.113.250", "2001:db8::1", "::1"]
).map(ip_address)
ADDRESSES: st.SearchStrategy[Address] = st.one_of(NEAR, V4, st.integers(0, 2**128 - 1).map(IPv6Address))
TTLS = st.timedeltas(timedelta(0), timedelta(days=25_000))
ANSWERS = st.one_of(
    st.builds(Answer, st.lists(ADDRESSES, max_size=6).map(tuple), TTLS),
    st.just(Answer(failure="no")),
)
STEPS = st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(hours=8)), ANSWERS), min_size=1, max_size=8)


def plain(address: Address) -> Address:
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


@given(STEPS, st.timedeltas(timedelta(minutes=1), timedelta(hours=12)), st.integers(1, 6))
def test_nothing_outlives_its_expiry_or_leads_inside(
    steps: list[tuple[timedelta, Answer]], keep: timedelta, limit: int
) -> None:
    now, found = NOW, Refreshed()
    heard: dict[Address, list[tuple[datetime, timedelta]]] = {}
    for pause, said in steps:
        now += pause
        for address in map(plain, said.addresses):
            heard.setdefault(address, []).append((now, max(keep, min(said.ttl, LONGEST_TTL))))
        found = refresh(found.resolved, {X: said}, now, RANGES, keep, limit)
        items = found.resolved[X].addresses if X in found.resolved else ()
        assert len(items) <= limit
        assert list(items) == sorted(items, key=lambda item: (item.network.version, item.network.network_address))
        for item in items:
            own = item.network.network_address
            assert item.network.num_addresses == 1
            assert domains.why_barred(own, RANGES) == ""
            assert now < item.expires
            assert (item.seen, item.expires - item.seen) in heard[own]
        end = max((item.expires for item in items), default=now)
        assert domains.held(found.resolved, end, RANGES) == {}, "then it is gone, whether anybody refreshed it or not"
        good = {address for address in map(plain, said.addresses) if not domains.why_barred(address, RANGES)}
        if len(good) <= limit:
            assert good <= {item.network.network_address for item in items}
    again = refresh(found.resolved, {X: steps[-1][1]}, now, RANGES, keep, limit)
    assert again.resolved == found.resolved, "the same answer at the same moment changes nothing"


@given(st.timedeltas(timedelta(0), timedelta(days=3)), st.lists(st.timedeltas(timedelta(0), KEEP), max_size=6))
def test_an_address_stands_for_half_the_time_after_it_was_last_heard(
    between: timedelta, pauses: list[timedelta]
) -> None:
    now, found = NOW, Refreshed()
    for pause in (*pauses, between):
        now += pause
        found = refresh(found.resolved, {X: answer("192.0.2.9")}, now, RANGES)
    almost = now + KEEP / 2 - timedelta(seconds=1)
    assert texts(refresh(found.resolved, {X: answer("192.0.2.1")}, almost, RANGES)) == ["192.0.2.1/32", "192.0.2.9/32"]
    assert texts(refresh(found.resolved, {X: answer("192.0.2.1")}, now + KEEP, RANGES)) == ["192.0.2.1/32"]


# ---------------------------------------------------------------- findings


def given_inputs(*services: Any, resolved: dict[str, Resolved] | None = None, **on: Any) -> Inputs:
    found = services or (make.service("a/web", egress=(Edge(DomainPeer(X), HTTPS, reason="cards"),)),)
    pods = [make.pod("a/web.1", ips=("10.40.0.1", "fd00:40::1"))]
    pod_cidrs = (ip_network("10.40.0.0/16"), V6)
    cluster = make.cluster(enforcement=Enforcement.ENFORCED, pod_cidrs=pod_cidrs, **on)
    made: Inputs = make.inputs(found, pods=pods, on=cluster)
    return replace(made, resolved=resolved or {})


def seen(*addresses: str, until: timedelta = KEEP) -> dict[str, Resolved]:
    return {X: Resolved(X, tuple(SeenAddress(ip_network(item), NOW, NOW + until) for item in addresses))}


def findings(found: Refreshed) -> list[tuple[str, str]]:
    inputs = given_inputs()
    uses = domains.named(inputs.platform, "dev", inputs.today)
    shown = domains.findings(found, uses, inputs.cluster)
    assert all((item.severity, item.teams, item.cluster) == ("warning", ("a",), "dev") for item in shown)
    return [(item.code.removeprefix("policies/"), item.message) for item in shown]


def test_each_state_has_its_finding() -> None:
    assert findings(walk((0 * MINUTE, answer("192.0.2.9")))) == []
    assert findings(walk((0 * MINUTE, answer("10.40.0.7", "192.0.2.9")))) == [
        (
            "domain-private-address",
            f"{X} resolves to 10.40.0.7 (a pod of the cluster) on cluster dev; that is not opened",
        )
    ]
    assert [code for code, _ in findings(walk((0 * MINUTE, answer("10.40.0.7"))))] == ["domain-private-address"]
    many = [f"10.40.0.{n}" for n in range(5)]
    assert "and 2 more on cluster dev" in findings(walk((0 * MINUTE, answer(*many))))[0][1]
    broken = Answer(failure="DNS knows no address of it")
    assert findings(walk((0 * MINUTE, broken))) == [
        (
            "domain-unresolved",
            f"{X} does not resolve on cluster dev (DNS knows no address of it); nothing is allowed",
        )
    ]
    stale = walk((0 * MINUTE, answer("192.0.2.9")), (MINUTE, broken))
    assert findings(stale) == [
        (
            "domain-stale",
            f"{X} no longer resolves on cluster dev (DNS knows no address of it); what it was before holds until "
            "2026-11-21 15:00 UTC",
        )
    ]
    assert findings(walk((0 * MINUTE, answer("192.0.2.9")), (2 * MINUTE, broken))) == findings(stale), "said once"
    rebound = walk((0 * MINUTE, answer("192.0.2.9")), (MINUTE, answer("10.40.0.7")))
    assert sorted(code for code, _ in findings(rebound)) == ["domain-private-address", "domain-stale"]
    crowd = answer(*(f"192.0.2.{n}" for n in range(200)))
    assert [code for code, _ in findings(walk((0 * MINUTE, crowd)))] == ["domain-too-many"]


def test_which_domains_are_named_and_which_are_resolved() -> None:
    def to(name: str, **fields: Any) -> Edge:
        return Edge(DomainPeer(name), HTTPS, **fields)

    over = make.TODAY - timedelta(days=1)
    web = make.service(
        "a/web", egress=(to(X), to("old.example.org", expires=over), to("b.example", clusters=("prod",)))
    )
    other = make.service("b/api", egress=(to(X), to("*.cdn.example"), to("pin.example")))
    inputs = given_inputs(web, other, domain_addresses={"pin.example": (ip_network("192.0.2.1/32"),)})
    found = domains.named(inputs.platform, "dev", inputs.today)
    assert {name: [use.service.key for use in uses] for name, uses in found.items()} == {
        "*.cdn.example": ["b/api"],
        X: ["a/web", "b/api"],
        "pin.example": ["b/api"],
    }
    assert domains.to_resolve(found, inputs.cluster) == (X,)


# ---------------------------------------------------------------- derived

CALICO = {"calico_api": "projectcalico.org/v3"}
EXPIRES = "pilothouse.dev/expires"


def test_a_set_of_resolved_addresses_says_until_when() -> None:
    found = seen("192.0.2.8/32", "2001:db8::7/128")
    found[X] = replace(found[X], addresses=(*found[X].addresses, SeenAddress(ip_network("192.0.2.9/32"), NOW, NOW)))
    inputs = given_inputs(resolved=found, **CALICO)
    derived = derive(inputs)
    assert derived.problems == ()
    (item,) = derived.sets
    assert item["spec"]["nets"] == ["192.0.2.8/31", "2001:db8::7/128"]
    assert item["metadata"]["annotations"][EXPIRES] == "2026-11-21T15:00:00Z", "that of the last one to end"
    assert prove(inputs, derived) == ()
    assert serialise_all(derive(inputs).artifacts) == serialise_all(derived.artifacts)
    policy = next(p for p in derived.policies["a"] if p["metadata"]["name"] == "pilothouse-web-domains")
    assert EXPIRES not in policy["metadata"]["annotations"], "the policy names the set, which says it"


def test_without_calico_the_policy_says_until_when() -> None:
    inputs = given_inputs(resolved=seen("192.0.2.8/32"))
    derived = derive(inputs)
    policy = next(p for p in derived.policies["a"] if p["metadata"]["name"] == "pilothouse-web-egress")
    assert policy["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "192.0.2.8/32"}}]
    assert policy["metadata"]["annotations"][EXPIRES] == "2026-11-21T15:00:00Z"
    assert (derived.sets, derived.problems, prove(inputs, derived)) == ((), (), ())


@pytest.mark.parametrize("on", [{}, CALICO])
def test_what_is_pinned_is_what_the_document_says(on: dict[str, str]) -> None:
    pinned = {X: (ip_network("192.0.2.1/32"),)}
    inputs = given_inputs(resolved=seen("192.0.2.8/32"), domain_addresses=pinned, **on)
    derived = derive(inputs)
    text = b"".join(serialise_all(derived.artifacts).values()).decode()
    assert "192.0.2.1/32" in text
    assert "192.0.2.8" not in text
    assert EXPIRES not in text
    assert prove(inputs, derived) == ()
    shut = derive(given_inputs(resolved=seen("192.0.2.8/32"), domain_addresses={X: ()}, **on))
    assert [item.code for item in shut.problems] == ["policies/domain-unresolved"]
    assert "192.0.2" not in b"".join(serialise_all(shut.artifacts).values()).decode()


def test_the_proof_sees_an_address_that_is_not_the_domains() -> None:
    good = given_inputs(resolved=seen("192.0.2.8/32"), **CALICO)
    other = replace(good, resolved=seen("192.0.2.8/32", "192.0.2.9/32"))
    more = prove(good, derive(other))
    assert {problem.code for problem in more} == {"policies/invariant-broken", "policies/unproved"}
    assert all("192.0.2.9" in problem.message for problem in more)
    (less,) = prove(other, derive(good))
    assert "do not allow, though it is declared" in less.message


def test_resolved_addresses_are_called_by_their_domain() -> None:
    inputs = given_inputs(resolved=seen("192.0.2.8/32"))
    universe = Universe(inputs.snapshot, Vocabulary(ranges=frozenset(inputs.domain_addresses(X))))
    atom = next(
        number for number in bits(universe.outside) if ip_network("192.0.2.8/32") in universe.region(number).networks()
    )
    assert Parties(inputs, universe).name(atom) == X


def test_a_wildcard_says_that_it_cannot_be_resolved() -> None:
    service = make.service("a/web", egress=(Edge(DomainPeer("*.cdn.example"), HTTPS),))
    (problem,) = derive(given_inputs(service)).problems
    assert problem.code == "policies/domain-unresolved"
    assert "a name with `*` cannot be resolved" in problem.hint


def test_a_domain_may_not_be_pinned_to_what_nobody_may_reach() -> None:
    edge = Edge(DomainPeer(X), HTTPS, reason="the cards", expires=make.TODAY)
    service = make.service("a/web", egress=(edge,))
    assert check_guardrails(given_inputs(service, resolved=seen("192.0.2.8/32"))) == ()
    inputs = given_inputs(service, domain_addresses={X: (ip_network("169.254.169.254/32"),)})
    (problem,) = check_guardrails(inputs)
    assert problem.code == "policies/forbidden-destination"
    assert "169.254.169.254/32 on cluster dev" in problem.message
