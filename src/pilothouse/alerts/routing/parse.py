"""Any alertmanager.yml, read with line and column.

What Alertmanager would refuse is an error. What this reader does not know (a field of a
newer release) is a warning and is skipped: it looks at routing, not at how a channel is reached.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pilothouse.alerts.routing import matchers as matcher_text
from pilothouse.alerts.routing.model import (
    GROUP_BY_ALL,
    InhibitRule,
    Matcher,
    Matchers,
    Receiver,
    Route,
    Routing,
    TimeInterval,
)
from pilothouse.alerts.routing.parse_intervals import BadInterval, parse_interval
from pilothouse.problems import Problem, Problems, error, info, nearest, one_of, ordered, warning
from pilothouse.promql.duration import parse_duration
from pilothouse.source import Node, Path, Source, load

LATEST = (0, 34)
"""The release whose rules hold where nobody says which one runs."""

_TOP = frozenset(
    "global route receivers inhibit_rules templates time_intervals mute_time_intervals tracing event_recorder".split()
)
_ROUTE = frozenset(
    "receiver group_by group_wait group_interval repeat_interval match match_re matchers continue routes"
    " mute_time_intervals active_time_intervals labels".split()
)
_INHIBIT = frozenset(
    "name source_match source_match_re source_matchers target_match target_match_re target_matchers equal".split()
)
_CHANNEL = re.compile(r"([a-z0-9]+)_configs\Z")
_TARGETS = "to channel url url_file service_key_file routing_key_file room_id chat_id topic_arn".split()
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


def parse(source: Source, version: tuple[int, ...] = LATEST) -> tuple[Routing | None, Problems]:
    """The configuration, or None when there is no usable route tree; with everything that is wrong with it."""
    nodes, problems = load(source)
    if not nodes:
        if not problems:
            problems = [_empty(source)]
        return None, ordered(problems)
    reader = _Reader(nodes[0], version)
    routing = reader.read()
    return routing, ordered((*problems, *reader.problems))


def _empty(source: Source) -> Problem:
    return error(
        "alerts/config-value", "the configuration is empty", source.place(), "start with `route:` and `receivers:`"
    )


@dataclass(frozen=True, slots=True)
class _Settings:
    """The fields of a route that are read alike."""

    group_by: tuple[str, ...] | None
    timers: tuple[float | None, float | None, float | None]


class _Reader:
    def __init__(self, node: Node, version: tuple[int, ...]) -> None:
        self.node = node
        self.version = version
        self.problems: list[Problem] = []

    # -------------------------------------------------------- small readers

    def value(self, message: str, path: Path, hint: str = "", code: str = "alerts/config-value") -> None:
        self.problems.append(error(code, message, self.node.at(*path), hint))

    def get(self, data: Mapping[str, Any], name: str, kind: type, path: Path) -> Any:
        """The field if it has that type; null and absent are None."""
        found = data.get(name)
        if found is None:
            return None
        if not isinstance(found, kind) or (kind is not bool and isinstance(found, bool)):
            words = {str: "a text", list: "a list", dict: "a mapping", bool: "true or false"}
            self.value(f"`{name}` must be {words[kind]}", (*path, name))
            return None
        return found

    def unknown(self, data: Mapping[str, Any], known: frozenset[str], path: Path) -> None:
        for name in data:
            if name not in known:
                self.problems.append(
                    warning(
                        "alerts/config-field",
                        f"the field `{name}` is not known here and is not looked at",
                        self.node.key_at(*path, name),
                        nearest(name, known) or "it may belong to a newer release",
                    )
                )

    def mapping(self, data: Any, what: str, path: Path) -> dict[str, Any] | None:
        if isinstance(data, dict):
            return data
        self.value(f"{what} must be a mapping", path)
        return None

    def duration(self, data: Mapping[str, Any], name: str, path: Path, zero: bool) -> float | None:
        text = data.get(name)
        if text is None:
            return None
        try:
            seconds = parse_duration(str(text))
        except ValueError as failure:
            message, _, hint = str(failure).partition(" | ")
            self.value(f"`{name}`: {message}", (*path, name), hint)
            return None
        if not seconds and not zero:
            self.value(f"`{name}` cannot be zero", (*path, name))
            return None
        return seconds

    # -------------------------------------------------------- the whole

    def read(self) -> Routing | None:
        top = self.mapping(self.node.data, "the configuration", ())
        if top is None:
            return None
        self.unknown(top, _TOP, ())
        receivers = self.receivers(self.get(top, "receivers", list, ()) or [])
        intervals: dict[str, tuple[TimeInterval, ...]] = {}
        for name in ("mute_time_intervals", "time_intervals"):
            self.intervals(self.get(top, name, list, ()) or [], name, intervals)
        rules = tuple(
            rule
            for index, item in enumerate(self.get(top, "inhibit_rules", list, ()) or [])
            if (rule := self.inhibit(item, ("inhibit_rules", index))) is not None
        )
        data = self.get(top, "route", dict, ())
        if data is None:
            if top.get("route") is None:
                self.value("there is no `route`", (), "add `route:` with a receiver")
            return None
        self.root(data)
        route = self.route(data, ("route",), "", receivers, intervals)
        return Routing(route, receivers, intervals, rules, self.version)

    def root(self, data: dict[str, Any]) -> None:
        if not data.get("receiver"):
            self.value(
                "the root route has no receiver", ("route",), "add `receiver:`; it takes what no other route takes"
            )
        for name in ("match", "match_re", "matchers", "mute_time_intervals", "active_time_intervals", "continue"):
            if data.get(name):
                self.value(
                    f"the root route cannot have `{name}`",
                    ("route", name),
                    "every alert enters at the root: put it on a child route",
                    "alerts/config-root",
                )

    def receivers(self, items: list[Any]) -> dict[str, Receiver]:
        found: dict[str, Receiver] = {}
        for index, item in enumerate(items):
            path: Path = ("receivers", index)
            data = self.mapping(item, "a receiver", path)
            name = self.get(data, "name", str, path) if data else None
            if not data or not name:
                if data is not None:
                    self.value("a receiver has no name", path, "add `name:`")
                continue
            if name in found:
                self.value(f"the receiver `{name}` is defined twice", (*path, "name"), "give each its own name")
                continue
            self.unknown({k: v for k, v in data.items() if not _CHANNEL.match(k)}, frozenset(("name", "labels")), path)
            found[name] = Receiver(name, tuple(_channels(data)), self.node.at(*path))
        return found

    def intervals(self, items: list[Any], field: str, found: dict[str, tuple[TimeInterval, ...]]) -> None:
        for index, item in enumerate(items):
            path: Path = (field, index)
            data = self.mapping(item, "a time interval", path)
            name = self.get(data, "name", str, path) if data else None
            if not data or not name:
                if data is not None:
                    self.value("a time interval has no name", path, "add `name:`", "alerts/bad-interval")
                continue
            if name in found:
                self.value(f"the time interval `{name}` is defined twice", (*path, "name"), "", "alerts/bad-interval")
            parsed = []
            for number, part in enumerate(self.get(data, "time_intervals", list, path) or []):
                try:
                    parsed.append(parse_interval(part))
                except BadInterval as failure:
                    message, _, hint = str(failure).partition(" | ")
                    self.value(message, (*path, "time_intervals", number, *failure.path), hint, "alerts/bad-interval")
            found[name] = tuple(parsed)

    # -------------------------------------------------------- one route

    def route(
        self,
        data: dict[str, Any],
        path: Path,
        key: str,
        receivers: Mapping[str, Receiver],
        intervals: Mapping[str, tuple[TimeInterval, ...]],
    ) -> Route:
        self.unknown(data, _ROUTE, path)
        receiver = self.get(data, "receiver", str, path) or None
        if receiver is not None and receiver not in receivers:
            self.value(
                f"the receiver `{receiver}` is not defined",
                (*path, "receiver"),
                nearest(receiver, receivers) or one_of(receivers),
                "alerts/unknown-receiver",
            )
        settings = self.settings(data, path)
        children: list[Route] = []
        for index, item in enumerate(self.get(data, "routes", list, path) or []):
            below = (*path, "routes", index)
            child = self.mapping(item, "a route", below)
            if child is not None:
                children.append(self.route(child, below, f"{key}.{len(children)}".lstrip("."), receivers, intervals))
        return Route(
            key=key,
            matchers=self.matchers(data, path, ""),
            receiver=receiver,
            group_by=settings.group_by,
            group_wait=settings.timers[0],
            group_interval=settings.timers[1],
            repeat_interval=settings.timers[2],
            mute_time_intervals=self.interval_names(data, "mute_time_intervals", path, intervals),
            active_time_intervals=self.interval_names(data, "active_time_intervals", path, intervals),
            continue_=bool(self.get(data, "continue", bool, path)),
            routes=tuple(children),
            place=self.node.at(*path),
        )

    def settings(self, data: dict[str, Any], path: Path) -> _Settings:
        names = self.get(data, "group_by", list, path)
        group_by = None if names is None else tuple(str(name) for name in names)
        if group_by and GROUP_BY_ALL in group_by and len(group_by) > 1:
            self.value(
                "`...` must stand alone in `group_by`", (*path, "group_by"), "`...` already groups by every label"
            )
        for index, name in enumerate(group_by or ()):
            if name in (group_by or ())[:index]:
                self.value(f"duplicated label {name!r} in `group_by`", (*path, "group_by", index), "name it once")
            if name != GROUP_BY_ALL and self.version < matcher_text.UTF8_SINCE and not _LABEL.match(name):
                self.value(f"{name!r} is not a label name", (*path, "group_by", index))
        if group_by == () and self.version < (0, 31):
            group_by = None  # before 0.31 an empty list says nothing, and the parent's holds
        return _Settings(
            group_by,
            (
                self.duration(data, "group_wait", path, zero=True),
                self.duration(data, "group_interval", path, zero=False),
                self.duration(data, "repeat_interval", path, zero=False),
            ),
        )

    def interval_names(
        self, data: dict[str, Any], field: str, path: Path, intervals: Mapping[str, tuple[TimeInterval, ...]]
    ) -> tuple[str, ...]:
        names = [str(name) for name in self.get(data, field, list, path) or []]
        for index, name in enumerate(names):
            if name not in intervals:
                self.value(
                    f"the time interval `{name}` is not defined",
                    (*path, field, index),
                    nearest(name, intervals) or one_of(intervals),
                    "alerts/unknown-interval",
                )
        return tuple(name for name in names if name in intervals)

    def matchers(self, data: Mapping[str, Any], path: Path, prefix: str) -> Matchers:
        """The matchers of a route (`prefix` "") or of one side of an inhibition (`source_`, `target_`)."""
        found: list[Matcher] = []
        for field, op in ((f"{prefix}match", "="), (f"{prefix}match_re", "=~")):
            for name, value in (self.get(data, field, dict, path) or {}).items():
                self.matcher(partial(_one, name, op, _text(value)), (*path, field, name), found)
            if data.get(field):
                self.problems.append(
                    info(
                        "alerts/deprecated-match",
                        f"`{field}` is deprecated",
                        self.node.key_at(*path, field),
                        f"write it as `{prefix}matchers`",
                    )
                )
        field = f"{prefix}matchers"
        for index, line in enumerate(self.get(data, field, list, path) or []):
            self.matcher(partial(matcher_text.parse, _text(line), self.version), (*path, field, index), found)
        return tuple(sorted(found, key=lambda matcher: (matcher.name, matcher.value, matcher.op)))

    def matcher(self, make: Callable[[], Matchers], path: Path, found: list[Matcher]) -> None:
        try:
            found.extend(make())
        except matcher_text.BadMatcher as failure:
            self.value(
                str(failure), path, "write it as 'name=\"value\"' or 'name=~\"expression\"'", "alerts/bad-matcher"
            )

    def inhibit(self, item: Any, path: Path) -> InhibitRule | None:
        data = self.mapping(item, "an inhibition", path)
        if data is None:
            return None
        self.unknown(data, _INHIBIT, path)
        return InhibitRule(
            source=self.matchers(data, path, "source_"),
            target=self.matchers(data, path, "target_"),
            equal=tuple(str(name) for name in self.get(data, "equal", list, path) or ()),
            name=self.get(data, "name", str, path) or "",
            place=self.node.at(*path),
        )


def _one(name: str, op: str, value: str) -> Matchers:
    return (matcher_text.make(name, op, value),)


def _text(value: Any) -> str:
    """A scalar as YAML 1.1 readers hand it to Go: the words of the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _channels(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    channels = []
    for key, configs in data.items():
        kind = _CHANNEL.match(key)
        if kind and isinstance(configs, list):
            for config in configs:
                known = config if isinstance(config, dict) else {}
                channels.append((kind[1], next((str(known[name]) for name in _TARGETS if known.get(name)), "")))
    return channels
