"""Silences: who may make one for which alerts, what is written into the ledger, and where it is created.

A silence is for the alerts of one team, so it says `team="…"`; one that does not is for the platform team, because it
may hold back anybody's. The ledger is written first: what cannot be recorded is not done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from pilothouse.access.ledger import Entry
from pilothouse.access.permissions import Action, Decision, Person, may
from pilothouse.alerts.live import Board, Silence, SilenceState, equal_value
from pilothouse.alerts.routing import matchers as matcher_text
from pilothouse.alerts.routing.model import Matchers, matchers_text
from pilothouse.platform.model import Platform, Team
from pilothouse.problems import Denied, Invalid, PilothouseError, nearest, one_of
from pilothouse.store import Store, ledger

SHORTEST = 60
LONGEST = 30 * 86400
"""Seconds. What must be quiet for longer wants a change of its rule or of the routing."""


class Servers(Protocol):
    """What of `clients.alertmanager.Alertmanagers` is needed."""

    def board(self) -> Board: ...
    def silence(self, wanted: Silence) -> tuple[tuple[str, str], ...]: ...
    def expire(self, wanted: Silence) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A silence that somebody asks for, `seconds` long from now on."""

    matchers: Matchers
    seconds: int
    comment: str


def wanted(matchers: str, seconds: int, comment: str) -> Wanted:
    """From what was typed. Raises `Invalid` with the way out."""
    try:
        found = matcher_text.parse(matchers.strip())
    except matcher_text.BadMatcher as failure:
        raise Invalid(f"{matchers!r} cannot be read: {failure}", 'write {team="payments", alertname="X"}') from None
    if not found or all(matcher.accepts("") for matcher in found):
        raise Invalid("this would silence alerts without any of these labels", 'name one, such as alertname="X"')
    if not SHORTEST <= seconds <= LONGEST:
        raise Invalid("a silence lasts between a minute and 30 days", "change the alert's rule if it must be longer")
    if not comment.strip():
        raise Invalid("a silence needs a reason", "say what is done about the alert meanwhile")
    return Wanted(found, seconds, comment.strip())


def subject_of(platform: Platform, matchers: Matchers, gone: bool = False) -> Team:
    """The team whose alerts are held back: the one that is named by `=`, else the platform team. Raises `Invalid`.

    `gone`: a team that is not declared any more counts as the platform team's, which can end what it left.
    """
    name = equal_value(matchers, "team")
    team = platform.teams.get(name) if name else platform.platform_team
    if team is None and gone:
        team = platform.platform_team
    if team is None:
        hint = nearest(name, platform.teams) or one_of(platform.teams)
        raise Invalid(f"no team {name!r} is declared" if name else "no platform team is declared", hint)
    return team


def decision(platform: Platform, person: Person, matchers: Matchers, gone: bool = False) -> Decision:
    """Whether the person may make a silence of these matchers, or (`gone`) end one (`access.permissions`)."""
    return may(person, Action.SILENCE, subject_of(platform, matchers, gone), platform)


def create(
    store: Store, servers: Servers, platform: Platform, person: Person, cluster: str, asked: Wanted, now: datetime
) -> Silence:
    """Makes a silence. `Denied` where the person may not; the outcome is in the ledger whatever happens."""
    team = _allowed(platform, person, asked.matchers)
    ends = now + timedelta(seconds=asked.seconds)
    silence = Silence(tuple(sorted(asked.matchers, key=str)), now, ends, person.user, asked.comment)
    text = matchers_text(silence.matchers)
    data = {"matchers": text, "team": team.name, "ends_at": ends.isoformat(), "comment": asked.comment}
    _record(store, Entry("silence.intent", person.user, "", cluster, data), now)
    try:
        ids = servers.silence(silence)
    except PilothouseError as failure:
        _record(store, Entry("silence.failed", person.user, "", cluster, {**data, "why": failure.message}), now)
        raise
    made = Silence(silence.matchers, now, ends, person.user, asked.comment, SilenceState.ACTIVE, ids)
    _record(store, Entry("silence.created", person.user, made.id, cluster, {**data, "servers": dict(ids)}), now)
    return made


def end(
    store: Store, servers: Servers, platform: Platform, person: Person, cluster: str, id: str, now: datetime
) -> Silence:
    """Ends a silence now. `Invalid` for an id that no Alertmanager of the cluster knows, or one that has ended."""
    found = servers.board().silence(id)
    if found is None:
        raise Invalid(f"no Alertmanager of {cluster} knows a silence {id}", "its alerts' page lists them")
    if found.state is SilenceState.EXPIRED:
        raise Invalid(f"the silence {id} ended at {found.ends_at:%Y-%m-%d %H:%M} UTC already", "nothing is to be done")
    team = _allowed(platform, person, found.matchers, gone=True)
    data = {"matchers": matchers_text(found.matchers), "team": team.name, "created_by": found.created_by}
    _record(store, Entry("silence.end-intent", person.user, id, cluster, data), now)
    try:
        ended = servers.expire(found)
    except PilothouseError as failure:
        _record(store, Entry("silence.failed", person.user, id, cluster, {**data, "why": failure.message}), now)
        raise
    _record(store, Entry("silence.ended", person.user, id, cluster, {**data, "servers": list(ended)}), now)
    return found


def _allowed(platform: Platform, person: Person, matchers: Matchers, gone: bool = False) -> Team:
    verdict = decision(platform, person, matchers, gone)
    if not verdict:
        named = equal_value(matchers, "team")
        more = "" if named else 'add team="…" of your own team, or '
        raise Denied(verdict.why, f"{more}ask {', '.join(verdict.whom_to_ask)}" if verdict.whom_to_ask else more)
    return subject_of(platform, matchers, gone)


def _record(store: Store, entry: Entry, now: datetime) -> None:
    with store.write() as connection:
        ledger.append(connection, entry, now)
