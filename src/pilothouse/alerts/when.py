"""A moment as people say it: `now`, `03:00`, `sunday 03:00`, `03:00 on Sunday`, `2026-11-22T03:00`, `+90m`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pilothouse.alerts.routing.intervals import zone
from pilothouse.problems import Invalid
from pilothouse.promql.duration import parse_duration

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3])[:.]([0-5][0-9])\Z")
_FIRST, _LAST = 1971, 2200


def parse_moment(text: str, now: datetime, timezone: str = "UTC") -> datetime:
    """The moment in UTC. A time without a zone is of `timezone`; a weekday or time without a date is the next one.

    Raises `Invalid` with the forms that are understood.
    """
    try:
        place = zone(timezone)
    except ValueError as failure:
        raise Invalid(str(failure), "write an IANA name such as Europe/Berlin, or UTC") from None
    words = text.strip().lower().replace(",", " ").split()
    if not words or words == ["now"]:
        return now.astimezone(UTC)
    moment = _relative(words, now) or _exact(text.strip(), place) or _spoken(words, now.astimezone(place))
    if moment is None or not _FIRST <= moment.astimezone(UTC).year <= _LAST:
        raise Invalid(
            f"{text.strip()!r} is not a time",
            "write now, +90m, 03:00, sunday 03:00, or 2026-11-22T03:00 (with Z or an offset where it is another zone)",
        )
    return moment.astimezone(UTC)


def _relative(words: list[str], now: datetime) -> datetime | None:
    if len(words) != 1 or words[0][0] != "+":
        return None
    try:
        return now + timedelta(seconds=parse_duration(words[0][1:]))
    except (ValueError, OverflowError):
        return None


def _exact(text: str, place: ZoneInfo) -> datetime | None:
    if not re.match(r"[0-9]{4}-", text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not _FIRST <= moment.year <= _LAST:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=place)


def _spoken(words: list[str], now: datetime) -> datetime | None:
    """A time of day, a weekday, or both in either order; `on`, `at` and `next` are noise."""
    clock: tuple[int, int] | None = None
    day: int | None = None
    for word in words:
        found = _CLOCK.match(word)
        if found and clock is None:
            clock = (int(found[1]), int(found[2]))
        elif len(word) >= 3 and day is None and any(name.startswith(word) for name in _DAYS):
            day = next(index for index, name in enumerate(_DAYS) if name.startswith(word))
        elif word == "tomorrow" and day is None:
            day = (now.weekday() + 1) % 7
        elif word not in ("on", "at", "next"):
            return None
    if clock is None and day is None:
        return None
    hour, minute = clock or (0, 0)
    date = now.date() + timedelta(days=0 if day is None else (day - now.weekday()) % 7)
    moment = datetime(date.year, date.month, date.day, hour, minute, tzinfo=now.tzinfo)
    if moment <= now:
        date += timedelta(days=1 if day is None else 7)
        moment = datetime(date.year, date.month, date.day, hour, minute, tzinfo=now.tzinfo)
    return moment
