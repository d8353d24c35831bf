"""The forms in which people type a port."""

from __future__ import annotations

import pytest

from pilothouse.policies.ask.packets import NamedPort, parse
from pilothouse.policies.engine import Packet
from pilothouse.policies.engine.connections import ICMP, ICMPV6, SCTP, TCP, UDP
from pilothouse.problems import Invalid


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8080", Packet(TCP, 8080)),
        ("53/UDP", Packet(UDP, 53)),
        ("53/udp", Packet(UDP, 53)),
        ("9/sctp", Packet(SCTP, 9)),
        ("65535", Packet(TCP, 65535)),
        ("icmp", Packet.icmp(ICMP, 8, 0)),
        ("icmp:3/1", Packet.icmp(ICMP, 3, 1)),
        ("icmp:0", Packet.icmp(ICMP, 0, 0)),
        ("icmp6", Packet.icmp(ICMPV6, 128, 0)),
        ("icmpv6:129/0", Packet.icmp(ICMPV6, 129, 0)),
        ("proto:47", Packet(47)),
        ("http", NamedPort("http", TCP)),
        ("dns/UDP", NamedPort("dns", UDP)),
        (" 80 ", Packet(TCP, 80)),
    ],
)
def test_a_port_in_each_form(text: str, meant: object) -> None:
    assert parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        *("0", "65536", "-1", "", "80/ICMP", "80/http", "80/", "icmp:x", "icmp:8/300", "proto:256", "proto:"),
        *("http port", "http--x", "-http", "much-too-long-a-name", "80-90", "999999999999"),
    ],
)
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(Invalid, match="is no port") as raised:
        parse(text)
    assert "53/UDP" in raised.value.hint


def test_a_named_port_says_its_protocol_where_it_is_not_tcp() -> None:
    assert [str(parse(text)) for text in ("http", "dns/UDP")] == ["http", "dns/UDP"]
