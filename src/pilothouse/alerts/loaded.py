"""The configuration that an Alertmanager has loaded, held against the rendered one by meaning.

The texts differ always: a loaded one has defaults filled in and secrets hidden. Compared are the routes with all that
they inherit, the receivers as far as the rendered file speaks of them, inhibitions and time intervals; and,
what people want to know, which declared alerts would end elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse.alerts.routing.model import GROUP_BY_ALL, InhibitRule, Route, Routing, TimeInterval, matchers_text
from pilothouse.alerts.routing.ownership import Endings, known_labels
from pilothouse.alerts.routing.walk import Settings, root_settings
from pilothouse.artifacts.subset import deviations
from pilothouse.promql.duration import format_duration
from pilothouse.promql.model import Rule

MOST_NAMES = 6


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration read twice: as values, and as the data of its file."""

    routing: Routing
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """`part` is alert, route, order, receiver, inhibition, interval or setting; `subject` names which.

    `rendered` and `loaded` are what each says, "" where it says nothing. `teams` are those whom it concerns.
    """

    part: str
    subject: str
    rendered: str
    loaded: str
    teams: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.loaded:
            return f"{self.part} {self.subject} is not loaded: {self.rendered}"
        if not self.rendered:
            return f"{self.part} {self.subject} is loaded and not rendered: {self.loaded}"
        return f"{self.part} {self.subject}: loaded {self.loaded}, rendered {self.rendered}"


def differences(
    rendered: Configuration, loaded: Configuration, rules: Iterable[Rule] = (), owners: Mapping[str, str] = {}
) -> tuple[Difference, ...]:
    """What is not loaded as it was rendered; nothing where both mean the same.

    `rules` are the declared alerts, `owners` the team of each rendered receiver.
    """
    routes = tuple(_routes(rendered.routing, loaded.routing, owners))
    return (
        # To follow every alert through both trees takes long, and no alert moves where no route differs.
        *(_alerts(rendered.routing, loaded.routing, rules) if routes else ()),
        *routes,
        *_receivers(rendered.data, loaded.data, owners),
        *_inhibitions(rendered.routing, loaded.routing),
        *_intervals(rendered.routing, loaded.routing),
        *_settings(rendered.data, loaded.data),
    )


def _alerts(rendered: Routing, loaded: Routing, rules: Iterable[Rule]) -> Iterator[Difference]:
    """Declared alerts that end elsewhere, those of one team that move alike together."""
    ours, theirs = Endings(rendered), Endings(loaded)
    moved: dict[tuple[str, str, str], list[str]] = {}
    for rule in rules:
        labels = known_labels(rule)
        ends = [", ".join(dict.fromkeys(item.receiver for item in tree.of(labels))) for tree in (ours, theirs)]
        if ends[0] != ends[1]:
            moved.setdefault((labels.get("team", ""), ends[0], ends[1]), []).append(rule.alert)
    for (team, before, after), names in sorted(moved.items()):
        unique = list(dict.fromkeys(names))
        more = f" and {len(unique) - MOST_NAMES} more" if len(unique) > MOST_NAMES else ""
        subject = ", ".join(unique[:MOST_NAMES]) + more + (f" of {team}" if team else "")
        yield Difference("alert", subject, before, after, (team,) if team else ())


Routes = dict[tuple[str, ...], tuple[Route, Settings]]


def _routes(rendered: Routing, loaded: Routing, owners: Mapping[str, str]) -> Iterator[Difference]:
    ours, theirs = _by_path(rendered), _by_path(loaded)
    known: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {}
    for path, (route, settings) in ours.items():
        team = owners.get(settings.receiver, "")
        if path not in theirs:
            if path[:-1] in theirs:  # else the parent is told of
                yield Difference("route", _path(path), _described(route, settings), "", (team,) if team else ())
            continue
        said, held = _facts(route, settings), _facts(*theirs[path])
        changed = {name: (said[name], held[name]) for name in said if said[name] != held[name]}
        known[path] = changed
        inherited = known.get(path[:-1], {})
        for name, (before, after) in changed.items():
            if inherited.get(name) != (before, after):
                teams = {team, owners.get(theirs[path][1].receiver, "")} - {""}
                yield Difference(
                    "route", f"{_path(path)} {name}", before or "none", after or "none", tuple(sorted(teams))
                )
    for path, (route, settings) in theirs.items():
        if path not in ours and path[:-1] in ours:
            team = owners.get(settings.receiver, "")
            yield Difference("route", _path(path), "", _described(route, settings), (team,) if team else ())
    yield from _orders(ours, theirs)


def _orders(ours: Routes, theirs: Routes) -> Iterator[Difference]:
    """Siblings that are tried in another order, which matters wherever two of them take the same alert."""
    befores, afters = _children(ours, theirs), _children(theirs, ours)
    for parent, before in befores.items():
        if before != afters[parent]:
            yield Difference("order", f"below {_path(parent)}", ", ".join(before), ", ".join(afters[parent]))


def _children(routes: Routes, others: Routes) -> dict[tuple[str, ...], list[str]]:
    """By parent, the children that both trees have."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in routes:
        if len(path) > 1 and path in others:
            found.setdefault(path[:-1], []).append(path[-1])
    return found


def _by_path(routing: Routing) -> Routes:
    found: Routes = {}

    def walk(route: Route, settings: Settings, parent: tuple[str, ...]) -> None:
        name = matchers_text(tuple(sorted(route.matchers, key=str))) if parent else "root"
        path, number = (*parent, name), 1
        while path in found:  # siblings may ask for the same
            number += 1
            path = (*parent, f"{name} #{number}")
        found[path] = (route, settings)
        for child in route.routes:
            walk(child, settings.under(child), path)

    walk(routing.route, root_settings(routing), ())
    return found


def _facts(route: Route, settings: Settings) -> dict[str, str]:
    grouped = GROUP_BY_ALL if GROUP_BY_ALL in settings.group_by else ", ".join(sorted(settings.group_by))
    return {
        "receiver": settings.receiver,
        "group_by": grouped,
        "group_wait": format_duration(settings.group_wait),
        "group_interval": format_duration(settings.group_interval),
        "repeat_interval": format_duration(settings.repeat_interval),
        "active_time_intervals": ", ".join(sorted(route.active_time_intervals)),
        "mute_time_intervals": ", ".join(sorted(route.mute_time_intervals)),
        "continue": "true" if route.continue_ else "",
    }


def _described(route: Route, settings: Settings) -> str:
    return f"→ {settings.receiver}" + (f", with {len(route.routes)} below" if route.routes else "")


def _path(path: tuple[str, ...]) -> str:
    return " / ".join(path[1:]) or "root"


def _receivers(
    rendered: Mapping[str, Any], loaded: Mapping[str, Any], owners: Mapping[str, str]
) -> Iterator[Difference]:
    ours, theirs = (_named(data.get("receivers")) for data in (rendered, loaded))
    for name, said in ours.items():
        team = owners.get(name, "")
        teams = (team,) if team else ()
        if name not in theirs:
            yield Difference("receiver", name, _channels(said), "", teams)
            continue
        held = theirs[name]
        for item in deviations(said, held):
            yield Difference("receiver", f"{name} {item.path}", item.said or "none", item.held or "none", teams)
        for kind in sorted(set(_kinds(held)) - set(_kinds(said))):
            yield Difference("receiver", f"{name} {kind}", "", f"{len(held[kind])} loaded", teams)
    for name in theirs:
        if name not in ours:
            yield Difference("receiver", name, "", _channels(theirs[name]))


def _named(items: Any) -> dict[str, Mapping[str, Any]]:
    return {str(item["name"]): item for item in items or () if isinstance(item, Mapping) and item.get("name")}


def _kinds(receiver: Mapping[str, Any]) -> list[str]:
    return [key for key, value in receiver.items() if key.endswith("_configs") and value]


def _channels(receiver: Mapping[str, Any]) -> str:
    return ", ".join(kind.removesuffix("_configs") for kind in _kinds(receiver)) or "tells nobody"


def _inhibitions(rendered: Routing, loaded: Routing) -> Iterator[Difference]:
    ours, theirs = (_rules_of(routing.inhibit_rules) for routing in (rendered, loaded))
    for text, name in ours.items():
        if text not in theirs:
            yield Difference("inhibition", name, text, "")
    for text, name in theirs.items():
        if text not in ours:
            yield Difference("inhibition", name, "", text)


def _rules_of(rules: Iterable[InhibitRule]) -> dict[str, str]:
    """What each rule means → its name, which older releases do not keep."""
    found = {}
    for rule in rules:
        source, target = (matchers_text(tuple(sorted(side, key=str))) for side in (rule.source, rule.target))
        found[f"{source} holds back {target} where {', '.join(sorted(rule.equal)) or 'any'} agree"] = rule.name
    return found


def _intervals(rendered: Routing, loaded: Routing) -> Iterator[Difference]:
    for name in sorted({*rendered.intervals, *loaded.intervals}):
        said, held = rendered.intervals.get(name), loaded.intervals.get(name)
        if said != held:
            yield Difference("interval", name, _spans(said), _spans(held))


def _spans(spans: tuple[TimeInterval, ...] | None) -> str:
    return "" if spans is None else "; ".join(map(_span, spans)) or "never"


def _span(span: TimeInterval) -> str:
    """The fields that are set; a time of day as hours and minutes."""
    words = [f"{_clock(item.begin)}-{_clock(item.end)}" for item in span.times]
    for name in ("weekdays", "days_of_month", "months", "years"):
        ranges = ", ".join(f"{item.begin}-{item.end}" for item in getattr(span, name))
        words += [f"{name.replace('_', ' ')} {ranges}"] if ranges else []
    return " ".join([*words, span.location])


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _settings(rendered: Mapping[str, Any], loaded: Mapping[str, Any]) -> Iterator[Difference]:
    for item in deviations(rendered.get("global") or {}, loaded.get("global") or {}):
        yield Difference("setting", item.path, item.said, item.held)
    # A relative path is made absolute by the server, and says then where its file lies.
    said, held = ([str(path) for path in data.get("templates") or ()] for data in (rendered, loaded))
    if len(said) != len(held) or not all(b.endswith(a) for a, b in zip(said, held, strict=True)):
        yield Difference("setting", "templates", ", ".join(said), ", ".join(held))
