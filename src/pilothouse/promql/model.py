"""Rules and queries, as several components hand them on.

alerts makes alerting `Rule`s, dashboards make `Query`s, collectors place both on
leaves and the global Prometheus and derive `match[]` from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilothouse.problems import NOWHERE, Place


@dataclass(frozen=True, slots=True)
class Rule:
    """A Prometheus rule; exactly one of `alert` and `record` is set. Durations are seconds.

    `group` is the rule group's name; rules of one group keep their order.
    `owner` is the team, or "" for a rule of the bundle; `service` its key, or "".
    `side` forces a placement: "leaf", "global", or "" to let the placer decide.
    """

    group: str
    expr: str
    alert: str = ""
    record: str = ""
    for_seconds: int = 0
    keep_firing_seconds: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    service: str = ""
    side: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.alert or self.record


@dataclass(frozen=True, slots=True)
class Query:
    """An expression that somebody looks at; `used_by` says where (a dashboard and panel)."""

    expr: str
    used_by: str
    place: Place = field(default=NOWHERE, compare=False, repr=False)
