"""What was done, what is unusual in it, and by how much."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from functools import lru_cache


class Act(StrEnum):
    LOGIN = "login"
    ISSUED = "issued"
    """A certificate; `subject` is its profile."""
    USED = "used"
    """Requests to an API server within an hour."""
    SECRET = "secret"  # noqa: S105 - a word
    """Reads of a secret; `subject` is its path."""


@dataclass(frozen=True, slots=True)
class Activity:
    """`who` did `act` from `address`. `at` is aware UTC; `count` requests in all, of which `denied` were refused.

    `claimed_from` is the address at which an elevated certificate was claimed that is used here. `expected_hour` says
    that nobody wonders about the hour, because they are on call.
    """

    at: datetime
    who: str
    act: Act
    address: str = ""
    agent: str = ""
    subject: str = ""
    team: str = ""
    count: int = 1
    denied: int = 0
    claimed_from: str = ""
    expected_hour: bool = False
    workload: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """One rule that spoke. `value` is what was new (`also` where it was several things), `evidence` what was seen,
    `baseline` what it was held against."""

    rule: str
    points: int
    value: str
    evidence: str
    baseline: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """The unusual of one day. `paged` where the sum of the points reaches `Settings.page_at`."""

    who: str
    day: date
    score: int
    paged: bool
    signals: tuple[Signal, ...]
    workload: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """Somebody said that this is as it should be: it is as good as learned."""

    who: str
    rule: str
    value: str


POINTS: Mapping[str, int] = {
    "new-network": 25,
    "new-agent": 20,
    "new-profile": 15,
    "rare-hour": 20,
    "issuance-burst": 30,
    "elevation-elsewhere": 40,
    "denied-spike": 30,
    "new-secret": 40,
    "workload-network": 40,
}
"""What a rule says of itself. A network or agent that many colleagues use counts half."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`learning_days`: from the first day of somebody on, nothing is said. `settle_days`: what was new and paged nobody
    is learned once it was seen on so many days. `common` is how many others make a network or agent nothing special."""

    page_at: int = 50
    learning_days: int = 14
    settle_days: int = 4
    common: int = 5
    least_hours: int = 20
    rare: float = 0.01
    least_issued: int = 5
    least_denied: int = 20


@lru_cache(maxsize=65536)
def network(address: str) -> str:
    """The /24 or /48 that an address lies in; a text that is none is its own network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(ipaddress.ip_network((found, 24 if found.version == 4 else 48), strict=False))


@lru_cache(maxsize=65536)
def agent(text: str) -> str:
    """Program and platform of a user agent, without versions: an update is nothing unusual.

    `kubectl/v1.34.1 (linux/amd64) kubernetes/6f3c…` is `kubectl (linux/amd64)`.
    """
    program, _, rest = text.strip().partition("/")
    platform = rest[rest.find("(") + 1 : rest.find(")")] if "(" in rest and ")" in rest else ""
    return f"{program} ({platform})" if platform else program
