"""Which inhibitions could hold an alert back.

An alert that matches both sides of a rule is not inhibited by alerts of which the same is true. Up to
0.29 every firing source is looked at; from 0.30 one source per set of equal labels is kept, so that of two
such sources the one that is kept decides.
https://prometheus.io/docs/alerting/latest/configuration/#inhibition-related-settings
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pilothouse.alerts.routing.model import InhibitRule, Matchers, Routing, matchers_text

INDEXED_SINCE = (0, 30)


@dataclass(frozen=True, slots=True)
class Inhibition:
    """A rule whose target side the alert matches. `two_sided`: it matches the source side as well."""

    rule: InhibitRule
    equal: tuple[tuple[str, str], ...]
    two_sided: bool
    indexed: bool

    def __str__(self) -> str:
        agree = " and ".join(f'{name}="{value}"' for name, value in self.equal)
        text = f"held back while an alert that matches {matchers_text(self.rule.source)} fires"
        text += f" with {agree}" if agree else ""
        return text + (", unless that one matches both sides as well" if self.two_sided else "")


def inhibitions(routing: Routing, labels: Mapping[str, str]) -> tuple[Inhibition, ...]:
    """The rules that hold this alert back as soon as a fitting source fires."""
    return tuple(
        Inhibition(
            rule,
            tuple((name, labels.get(name, "")) for name in rule.equal),
            _all(rule.source, labels),
            routing.version >= INDEXED_SINCE,
        )
        for rule in routing.inhibit_rules
        if _all(rule.target, labels)
    )


def inhibits(rule: InhibitRule, source: Mapping[str, str], target: Mapping[str, str]) -> bool:
    """Whether a firing `source` holds `target` back under that rule."""
    return (
        _all(rule.source, source)
        and _all(rule.target, target)
        and all(source.get(name, "") == target.get(name, "") for name in rule.equal)
        and not (_all(rule.source, target) and _all(rule.target, source))
    )


def _all(matchers: Matchers, labels: Mapping[str, str]) -> bool:
    return all(matcher.matches(labels) for matcher in matchers)
