"""Sets of connections behave like sets of packets, and read as people write ports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.policies.engine.connections import (
    ALL,
    ICMP,
    ICMPV6,
    NONE,
    SCTP,
    TCP,
    UDP,
    Connections,
    Packet,
    union,
)

PROTOCOLS = (TCP, UDP, SCTP, ICMP, ICMPV6, 47, 136)


@st.composite
def pieces(draw: st.DrawFn) -> Connections:
    first, source = draw(st.integers(0, 12)), draw(st.sampled_from((None, *range(0, 13, 3))))
    last = draw(st.sampled_from((first, first + 3, None)))
    found = Connections.of(draw(st.sampled_from(PROTOCOLS)), first, last)
    if source is not None and draw(st.booleans()):
        protocol = draw(st.sampled_from(PROTOCOLS))
        return found | Connections.of(protocol, first, last, source, draw(st.sampled_from((source, source + 2))))
    return found


sets = st.lists(pieces(), max_size=4).map(union)
PACKETS = [
    Packet(protocol, destination, source)
    for protocol in PROTOCOLS
    for destination in (*range(16), 255)
    for source in (*range(16), 255)
]


@given(sets, sets)
def test_they_behave_like_sets(one: Connections, two: Connections) -> None:
    for packet in PACKETS:
        a, b = one.contains(packet), two.contains(packet)
        assert (one | two).contains(packet) is (a or b)
        assert (one & two).contains(packet) is (a and b)
        assert (one - two).contains(packet) is (a and not b)


@given(sets, sets)
def test_equal_sets_are_equal_values(one: Connections, two: Connections) -> None:
    assert (one | two) - two == one - two
    assert one | two == two | one
    assert (one - two) | (one & two) == one
    assert one - one == NONE
    assert ALL - (ALL - one) == one
    assert hash(ALL - (ALL - one)) == hash(one)
    assert (not one) is (one == NONE)
    if one:
        assert one.contains(one.first())


def test_every_protocol_is_there() -> None:
    for number in range(256):
        assert ALL.contains(Packet(number, 1, 1))
        assert (ALL - Connections.of(number)).protocols() == tuple(n for n in range(256) if n != number)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (ALL, "everything"),
        (NONE, "nothing"),
        (Connections.of(TCP, 80, 80) | Connections.of(UDP, 53, 60), "80, 53-60/UDP"),
        (Connections.of(SCTP), "every SCTP port"),
        (Connections.of(TCP, 80, 80, 1024, 2047), "80 from source ports 1024-2047"),
        (Connections.of(ICMP), "ICMP"),
        (Connections.of(ICMP, 0, 0, 8, 8), "ICMP type 8 code 0"),
        (Connections.of(ICMPV6, 0, None, 128, 129), "ICMPv6 types 128-129"),
        (Connections.of(47) | Connections.of(136), "protocol 47, UDPLite"),
        (
            ALL - Connections.of(TCP) - Connections.of(47),
            "every UDP port, every SCTP port, ICMP, ICMPv6, every other protocol but protocol 47",
        ),
    ],
)
def test_how_they_are_written(found: Connections, text: str) -> None:
    assert str(found) == text


def test_a_witness_is_one_that_people_know() -> None:
    assert ALL.first() == Packet(TCP, 1, 40000)
    assert Connections.of(ICMP).first() == Packet.icmp(ICMP, 8, 0)
    assert Connections.of(47).first() == Packet(47)
    assert str(ALL.first()) == "1/TCP"
    assert str(Packet.icmp(ICMPV6, 128)) == "ICMPv6 type 128 code 0"
    assert str(Packet(47)) == "protocol 47"
    with pytest.raises(ValueError, match="no member"):
        NONE.first()
