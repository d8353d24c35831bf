"""Times at which a route is active or muted.

Semantics (https://prometheus.io/docs/alerting/latest/configuration/#time_interval): all fields of an
interval must hold, any entry of a field will do, ends of times are exclusive, all else is
inclusive, UTC unless a location is given, negative days count from the end of the month.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from pilothouse.alerts.routing.model import Range, TimeInterval

HORIZON_DAYS = 400
"""How far `next_change` looks: a little more than a year."""


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name; raises `ValueError` for an unknown one."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as failure:
        raise ValueError(f"unknown time zone {name!r}") from failure


def contains(interval: TimeInterval, at: datetime) -> bool:
    """Whether the interval holds at that moment (an aware datetime)."""
    local = at.astimezone(zone(interval.location))
    minute = local.hour * 60 + local.minute
    if interval.times and not any(span.begin <= minute < span.end for span in interval.times):
        return False
    if interval.days_of_month and not _day_in(interval.days_of_month, local.date()):
        return False
    return (
        _within(interval.months, local.month)
        and _within(interval.weekdays, local.isoweekday() % 7)
        and _within(interval.years, local.year)
    )


def _within(ranges: tuple[Range, ...], value: int) -> bool:
    return not ranges or any(span.begin <= value <= span.end for span in ranges)


def _day_in(ranges: tuple[Range, ...], day: date) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    for span in ranges:
        begin = length + span.begin + 1 if span.begin < 0 else span.begin
        end = length + span.end + 1 if span.end < 0 else span.end
        if begin <= length and max(begin, -length) <= day.day <= min(end, length):
            return True
    return False


def any_contains(intervals: Iterable[TimeInterval], at: datetime) -> bool:
    return any(contains(interval, at) for interval in intervals)


def next_change(intervals: Iterable[TimeInterval], state: Callable[[datetime], bool], at: datetime) -> datetime | None:
    """The first moment after `at` at which `state` differs from now, in UTC; None within `HORIZON_DAYS`.

    `state` may depend on nothing but the intervals, so it can change only at their local
    midnights, at the ends of their times, and where a zone's clock is moved.
    """
    known = tuple(intervals)
    now = state(at)
    minutes = sorted({0} | {edge % 1440 for item in known for span in item.times for edge in (span.begin, span.end)})
    zones = [zone(name) for name in sorted({item.location for item in known})]
    start = at.astimezone(UTC)
    for offset in range(HORIZON_DAYS):
        moments = sorted(
            {
                moment
                for place in zones
                for moment in _edges(place, start.astimezone(place).date() + timedelta(days=offset), minutes)
                if moment > start
            }
        )
        for moment in moments:
            if state(moment) != now:
                return moment
    return None


def _edges(place: ZoneInfo, day: date, minutes: list[int]) -> Iterator[datetime]:
    """The UTC moments of those minutes of a local day; both of an hour that comes twice, and the clock's moves."""
    for minute in minutes:
        for fold in (0, 1):
            local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=place, fold=fold)
            yield local.astimezone(UTC)
    begin = datetime(day.year, day.month, day.day, tzinfo=place).astimezone(UTC)
    end = begin + timedelta(hours=25)
    if begin.astimezone(place).utcoffset() != end.astimezone(place).utcoffset():
        before = begin.astimezone(place).utcoffset()
        while end - begin > timedelta(minutes=1):
            middle = begin + (end - begin) / 2
            middle = middle.replace(second=0, microsecond=0)
            if middle.astimezone(place).utcoffset() == before:
                begin = middle
            else:
                end = middle
        yield end
