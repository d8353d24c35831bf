from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.labels import LabelSelector, Requirement
from pilothouse.policies import addresses
from pilothouse.policies.manifests import calico_selector
from pilothouse.policies.portset import ALL, NONE, PROTOCOLS, PortSet, union
from pilothouse.policies.selectors import SelectorError, parse

pieces = st.builds(
    lambda protocol, low, more: PortSet.of(protocol, low, min(low + more, 65535)),
    st.sampled_from([*PROTOCOLS, "ICMP"]),
    st.integers(0, 40),
    st.integers(0, 10),
)
sets = st.lists(pieces, max_size=4).map(union)


@given(sets, sets)
def test_sets_of_ports_behave_like_sets(one: PortSet, two: PortSet) -> None:
    for protocol in (*PROTOCOLS, "ICMP"):
        for port in range(52):
            a, b = one.contains(protocol, port), two.contains(protocol, port)
            assert (one | two).contains(protocol, port) is (a or b)
            assert (one & two).contains(protocol, port) is (a and b)
            assert (one - two).contains(protocol, port) is (a and not b)
    assert (one | two) - two == one - two
    assert (one - one) == NONE
    assert ALL - (ALL - one) == one
    if one:
        assert one.contains(*one.first())


def test_how_ports_are_written() -> None:
    assert str(ALL) == "every port"
    assert str(NONE) == "nothing"
    assert (
        str(PortSet.of("TCP", 80, 80) | PortSet.of("UDP", 53, 60) | PortSet.of("ICMP"))
        == "80, 53-60/UDP, other protocols"
    )
    assert str(PortSet.of("SCTP")) == "every SCTP port"
    assert ALL.first() == ("TCP", 1)
    assert PortSet.of("ICMP").first() == ("other", 0)
    with pytest.raises(ValueError, match="no member"):
        NONE.first()


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("", {}, None),
        ("all()", {"x": "1"}, None),
        ("a == 'x'", {"a": "x"}, {"a": "y"}),
        ('a!="x"', {}, {"a": "x"}),
        ("a in {'x', 'y'}", {"a": "y"}, {}),
        ("a not in { 'x' }", {}, {"a": "x"}),
        ("has(a)", {"a": ""}, {}),
        ("!has(a)", {}, {"a": "x"}),
        ("!!has(a)", {"a": "x"}, {}),
        ("a contains 'b'", {"a": "abc"}, {"a": "ac"}),
        ("a starts with 'b'", {"a": "bc"}, {}),
        ("a startswith 'b'", {"a": "bc"}, {"a": "cb"}),
        ("a ends with 'b'", {"a": "cb"}, {"a": "bc"}),
        ("a endswith 'b'", {"a": "cb"}, {"a": "bc"}),
        ("has(a) || has(b) && has(c)", {"a": "x"}, {"b": "x"}),
        ("(has(a) || has(b)) && has(c)", {"b": "x", "c": "x"}, {"a": "x"}),
        ("pilothouse.dev/domain == 'api.x.example'", {"pilothouse.dev/domain": "api.x.example"}, {}),
        ("a in {}", None, {"a": "x"}),
    ],
)
def test_calico_selectors(text: str, matching: dict[str, str] | None, other: dict[str, str] | None) -> None:
    assert matching is None or parse(text)(matching)
    assert other is None or not parse(text)(other)


@pytest.mark.parametrize(
    "text", ["a = 'x'", "a == b", "has(", "has(a", "a in {'x' 'y'}", "global()", "a 'x'", "&&", "a =="]
)
def test_what_is_no_selector_says_where(text: str) -> None:
    with pytest.raises(SelectorError, match="selector"):
        parse(text)


labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
requirements = st.one_of(
    st.builds(
        Requirement,
        st.sampled_from("ab"),
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from("xy"), min_size=1, max_size=2).map(tuple),
    ),
    st.builds(Requirement, st.sampled_from("ab"), st.sampled_from(["Exists", "DoesNotExist"])),
)


@given(labels, st.lists(requirements, max_size=2), labels)
def test_a_selector_means_the_same_in_calico_s_grammar(
    equal: dict[str, str], exprs: list[Requirement], candidate: dict[str, str]
) -> None:
    selector = LabelSelector(tuple(sorted(equal.items())), tuple(exprs))
    assert parse(calico_selector(selector))(candidate) is selector.matches(candidate)


def test_ranges_less_others() -> None:
    taken = tuple(map(ip_network, ("10.0.0.0/9", "10.128.0.0/9", "192.168.0.0/16", "fd00::/8")))
    assert addresses.without(ip_network("10.1.0.0/16"), taken) is None
    assert addresses.without(ip_network("10.0.0.0/8"), taken) is None
    block = addresses.without(ip_network("0.0.0.0/0"), taken)
    assert block is not None
    assert [str(net) for net in block.excluded] == ["10.0.0.0/8", "192.168.0.0/16"]
    public = addresses.public(taken, (ip_network("2001:db8::/32"),))
    assert [str(item.network) for item in public] == ["0.0.0.0/0", "::/0"]
    assert [str(net) for net in public[1].excluded] == ["2001:db8::/32", "fd00::/8"]
    assert addresses.is_private(ip_network("10.0.0.0/8"), taken, ())
    assert not addresses.is_private(ip_network("8.0.0.0/6"), taken, ())
