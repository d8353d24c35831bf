"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.problems import NOWHERE, Place, Problem, Severity

if TYPE_CHECKING:
    from pilothouse.policies.lint.context import Context


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found. `minor` makes an info of it whatever the check's severity: what is usual, or
    true of today's pods only."""

    message: str
    place: Place = NOWHERE
    hint: str = ""
    related: tuple[Place, ...] = ()
    minor: bool = False


Findings = Iterable[Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """`code` names the page `docs/problems/<code>.md`; `summary` is one line for a list of checks."""

    code: str
    severity: Severity
    summary: str
    run: Callable[[Context], Findings]

    def problem(self, finding: Finding) -> Problem:
        severity = Severity.INFO if finding.minor else self.severity
        return Problem(self.code, finding.message, finding.place, severity, finding.hint, finding.related)
