"""The form of a table case: manifests and what becomes of some packets, after an item of the checklist of semantics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from policies.reference import End, Packet

from policies import raw

Probe = tuple[End, End, Packet, str]

BASE = [
    raw.namespace("x", team="a", env="prod"),
    raw.namespace("y", team="b"),
    raw.namespace("z", env="prod"),
    raw.account("x/default"),
    raw.account("y/default"),
    raw.account("z/default"),
    raw.account("x/robot", role="bot"),
    raw.account("y/robot", role="bot"),
    raw.account("y/human", role="person"),
    raw.node("n1", "192.168.0.1", "fd00:ffff::1", zone="east"),
    raw.node("n2", "192.168.0.2", zone="west"),
    raw.pod("x/a", "10.0.0.1 fd00::a1", {"app": "a"}, "http=80/TCP dns=53/UDP", account="robot"),
    raw.pod("x/b", "10.0.0.2", {"app": "b"}, "http=8080/TCP", node="n2"),
    raw.pod("x/c", "10.0.0.3"),
    raw.pod("y/a", "10.0.1.1 fd00::b1", {"app": "a", "role": "front"}, "http=80/UDP", node="n2", account="robot"),
    raw.pod("y/b", "10.0.1.2", {"app": "b", "role": "back"}, account="human"),
    raw.pod("z/a", "10.0.2.1", {"app": "a"}, node="n2"),
    raw.pod("x/host", "192.168.0.1", {"app": "a"}, host_network=True),
    raw.pod("x/done", "10.0.0.9", {"app": "a"}, phase="Succeeded"),
    raw.pod("x/wait", "", {"app": "a"}, node="", phase="Pending"),
]
"""Three namespaces and nine pods, of which three are no endpoints: x/host, x/done, x/wait."""

ADDRESSES = {
    f"{each['metadata']['namespace']}/{each['metadata']['name']}": [ip["ip"] for ip in each["status"]["podIPs"]]
    for each in BASE
    if each["kind"] == "Pod" and "podIPs" in each["status"]
}

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True)
class Case:
    """`item` is the number in the checklist. `objects` are all the manifests, BASE among them.

    `own_traffic`: the expected answers let through what always passes whatever the policies say.
    """

    name: str
    item: int
    objects: list[dict[str, Any]]
    probes: list[Probe]
    preview: bool = False
    own_traffic: bool = False


def case(item: int, name: str, objects: list[dict[str, Any]], probes: str, **flags: bool) -> Case:
    """`probes`, one a line: `source > destination packet answer`.

    An end is a pod (`x/a`, or `x/a%6` for its IPv6 address), `host:NAME=ADDRESS` or an address outside. A packet is
    `tcp:80`, `tcp:4000>80` with its source port, `icmp:8/0`, `icmp6:128/0` or `proto:47`.
    """
    found = [_probe(line.split()) for line in probes.strip().splitlines()]
    return Case(name, item, BASE + objects, found, **flags)


def _probe(words: list[str]) -> Probe:
    source, arrow, destination, packet, answer = words
    if arrow != ">" or answer not in ("allow", "deny", "conditional"):
        raise ValueError(f"not a probe: {words}")
    return end(source), end(destination), _packet(packet), answer


def end(text: str) -> End:
    if text.startswith("host:"):
        name, _, address = text.removeprefix("host:").partition("=")
        return End(address, host=name)
    if "/" in text:
        pod, _, family = text.partition("%")
        [address] = [each for each in ADDRESSES[pod] if (":" in each) == (family == "6")]
        return End(address, pod=pod)
    return End(text)


def _packet(text: str) -> Packet:
    kind, _, rest = text.partition(":")
    if kind == "proto":
        return Packet(int(rest))
    if kind in ("icmp", "icmp6"):
        type_, _, code = rest.partition("/")
        return Packet(1 if kind == "icmp" else 58, icmp_type=int(type_), icmp_code=int(code))
    source, arrow, destination = rest.rpartition(">")
    return Packet(PROTOCOLS[kind], int(source) if arrow else 40000, int(destination))
