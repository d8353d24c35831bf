"""What is open by break-glass, what waits for its review, and the review itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pilothouse.access import break_glass, grants
from pilothouse.access.grants import Grant
from pilothouse.access.permissions import Action, Decision, Person, may
from pilothouse.platform.model import Platform
from pilothouse.problems import Denied
from pilothouse.store import Store
from pilothouse.store import grants as grant_rows
from pilothouse.workflows.access import Desk, Told, tell_everybody


@dataclass(frozen=True, slots=True)
class Broken:
    """Those that are `open` and those that wait for a review, deadlines taken into account."""

    open: tuple[Grant, ...] = ()
    waiting: tuple[Grant, ...] = ()


def broken(store: Store, now: datetime) -> Broken:
    """Every break-glass that is not finished. Everybody may see them: they are meant to be seen."""
    found = [grants.settle(grant, now) for grant in grant_rows.broken_glass(store)]
    return Broken(
        tuple(grant for grant in found if break_glass.is_open(grant, now)),
        tuple(grant for grant in found if break_glass.needs_review(grant, now)),
    )


def may_review(platform: Platform, person: Person, grant: Grant) -> Decision:
    return may(person, Action.REVIEW, grant, platform)


def review(desk: Desk, platform: Platform, person: Person, id: str, text: str, now: datetime) -> Told:
    """Close what a break-glass was, with what came of it. `Denied` for the two who opened it."""

    def checked(grant: Grant) -> Grant:
        decision = may_review(platform, person, grant)
        if not decision:
            raise Denied(decision.why, f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else "")
        return break_glass.review(grant, person.user, text, now)

    done = grant_rows.change(desk.store, id, checked, person.user, "break-glass.reviewed", now)
    return Told(done, tell_everybody(desk, platform, done, f"reviewed by {person.shown}"))
