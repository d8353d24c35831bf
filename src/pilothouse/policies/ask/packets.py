"""What people type for a port: `8080`, `53/UDP`, `http`, `icmp`, `icmp:8/0`, `proto:47`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilothouse.policies.engine.connections import ICMP, ICMPV6, LAST_PORT, NAMES, PROTOCOLS, TCP, WITH_PORTS, Packet
from pilothouse.problems import Invalid

FORMS = "write 8080, 53/UDP, a port's name, icmp, icmp:8/0, icmp6:128/0 or proto:47"
ECHO = {ICMP: 8, ICMPV6: 128}
"""The type of a ping's request (https://www.iana.org/assignments/icmp-parameters/)."""

_ICMP = {"icmp": ICMP, "icmp6": ICMPV6, "icmpv6": ICMPV6}
_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", re.IGNORECASE)
"""https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ (IANA_SVC_NAME)"""


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A port by name: each destination says which number that is."""

    name: str
    protocol: int = TCP

    def __str__(self) -> str:
        return self.name if self.protocol == TCP else f"{self.name}/{NAMES[self.protocol]}"


Asked = Packet | NamedPort


def parse(text: str) -> Asked:
    """What a text means; `Invalid` where it means nothing."""
    word, _, rest = text.strip().partition(":")
    if word.lower() in _ICMP:
        return _icmp(text, _ICMP[word.lower()], rest)
    if word.lower() == "proto":
        return Packet(_number(text, rest, 255))
    port, slash, name = text.strip().partition("/")
    protocol = _protocol(text, name) if slash else TCP
    if port.isdecimal():
        number = _number(text, port, LAST_PORT)
        if number == 0:
            raise Invalid(f"`{text}` is no port: 0 is nobody's", FORMS)
        return Packet(protocol, number)
    if not _NAME.fullmatch(port):
        raise Invalid(f"`{text}` is no port", FORMS)
    return NamedPort(port, protocol)


def _icmp(text: str, protocol: int, rest: str) -> Packet:
    if not rest:
        return Packet.icmp(protocol, ECHO[protocol])
    kind, _, code = rest.partition("/")
    return Packet.icmp(protocol, _number(text, kind, 254), _number(text, code or "0", 255))


def _protocol(text: str, name: str) -> int:
    known = {word.upper(): number for word, number in PROTOCOLS.items()}
    found = known.get(name.upper())
    if found not in WITH_PORTS:
        raise Invalid(f"`{text}` is no port: only TCP, UDP and SCTP have ports", FORMS)
    return found


def _number(text: str, digits: str, last: int) -> int:
    if not digits.isdecimal() or len(digits) > 5 or int(digits) > last:
        raise Invalid(f"`{text}` is no port: `{digits}` is no number from 0 to {last}", FORMS)
    return int(digits)
