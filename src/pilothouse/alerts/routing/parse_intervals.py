"""Time intervals, read from their data (of an alertmanager.yml or of `alerts/routing.yaml`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from pilothouse.alerts.routing.intervals import zone
from pilothouse.alerts.routing.model import Range, TimeInterval

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_TIME = re.compile(r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z")
FIELDS = ("times", "weekdays", "days_of_month", "months", "years", "location")


class BadInterval(ValueError):
    """An entry cannot be read; `path` leads to it from the interval."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def parse_interval(data: Any) -> TimeInterval:
    """One interval in Alertmanager's own form; raises `BadInterval`."""
    if not isinstance(data, dict):
        raise BadInterval("an interval is a mapping of times, weekdays, days_of_month, months, years, location")
    for name in data:
        if name not in FIELDS:
            raise BadInterval(f"unknown field `{name}` | known: {', '.join(FIELDS)}", name)
    location = data.get("location") or "UTC"
    try:
        zone(location if isinstance(location, str) else "?")
    except ValueError as failure:
        raise BadInterval(f"{failure} | write an IANA name such as Europe/Berlin", "location") from None
    return TimeInterval(
        times=_entries(data, "times", _times),
        weekdays=_entries(data, "weekdays", _weekday),
        days_of_month=_entries(data, "days_of_month", _day_of_month),
        months=_entries(data, "months", _month),
        years=_entries(data, "years", _year),
        location=location,
    )


def _entries(data: dict[str, Any], name: str, read: Callable[[Any], Range]) -> tuple[Range, ...]:
    items = data.get(name)
    if items is None:
        return ()
    if not isinstance(items, list):
        raise BadInterval(f"`{name}` is a list", name)
    found = []
    for index, item in enumerate(items):
        try:
            found.append(read(item))
        except ValueError as failure:
            raise BadInterval(str(failure), name, index) from None
    return tuple(found)


def _times(item: Any) -> Range:
    if not isinstance(item, dict) or set(item) != {"start_time", "end_time"}:
        raise ValueError("an entry of times has `start_time` and `end_time`")
    begin, end = _minute(item["start_time"]), _minute(item["end_time"])
    if begin >= end:
        raise ValueError("start_time must be before end_time | split a night into two entries, at 24:00 and 00:00")
    return Range(begin, end)


def _minute(value: Any) -> int:
    if not isinstance(value, str) or not _TIME.match(value):
        raise ValueError(f"{value!r} is not a time of day | write it as 'HH:MM', in quotes")
    hour, minute = value.split(":")
    return int(hour) * 60 + int(minute)


def _span(item: Any, number: Callable[[str], int]) -> Range:
    first, colon, last = str(item).strip().lower().partition(":")
    return Range(number(first.strip()), number(last.strip() if colon else first.strip()))


def _ordered(span: Range, what: str) -> Range:
    if span.begin > span.end:
        raise ValueError(f"start {what} cannot be after end {what} | split the range in two")
    return span


def _named(names: Sequence[str], offset: int, what: str) -> Callable[[str], int]:
    def number(text: str) -> int:
        if text in names:
            return names.index(text) + offset
        if what == "month" and text.isascii() and text.isdigit() and 1 <= int(text) <= 12:
            return int(text)
        raise ValueError(
            f"{text!r} is not a {what} | write {names[0]}, {names[1]}, … or a range such as {names[1]}:{names[4]}"
        )

    return number


def _weekday(item: Any) -> Range:
    # Alertmanager numbers days from Sunday, so that `saturday:sunday` runs backwards and is refused.
    return _ordered(_span(item, _named(WEEKDAYS, 0, "weekday")), "day")


def _month(item: Any) -> Range:
    return _ordered(_span(item, _named(MONTHS, 1, "month")), "month")


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError(f"{text!r} is not a number | write 5, or a range such as 1:5")
    return int(text)


def _year(item: Any) -> Range:
    return _ordered(_span(item, _integer), "year")


def _day_of_month(item: Any) -> Range:
    span = _span(item, _integer)
    for day in (span.begin, span.end):
        if day == 0 or not -31 <= day <= 31:
            raise ValueError(f"{day} is not a day of the month | 1 to 31, or -1 (the last) to -31")
    if span.begin < 0 < span.end:
        raise ValueError("the end must be negative if the start is")
    if (span.begin > 0) == (span.end > 0):
        return _ordered(span, "day")
    return span
