"""Time intervals: what Alertmanager holds to be inside, and when that changes next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.alerts.routing.intervals import any_contains, contains, next_change, zone
from pilothouse.alerts.routing.model import TimeInterval
from pilothouse.alerts.routing.parse_intervals import BadInterval, parse_interval


def at(text: str, place: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(place))


def interval(**data: Any) -> TimeInterval:
    return parse_interval(data)


def times(start: str, end: str) -> dict[str, str]:
    return {"start_time": start, "end_time": end}


@pytest.mark.parametrize(
    ("data", "inside", "outside"),
    [
        ({"times": [times("09:00", "17:00")]}, ["2026-11-20T09:00", "2026-11-20T16:59"], ["2026-11-20T17:00"]),
        (
            {"times": [times("22:00", "24:00"), times("00:00", "06:00")]},
            ["2026-11-20T23:59", "2026-11-20T00:00"],
            ["2026-11-20T06:00"],
        ),
        ({"weekdays": ["monday:friday"]}, ["2026-11-20T00:00"], ["2026-11-21T12:00", "2026-11-22T12:00"]),
        ({"weekdays": ["sunday", "saturday"]}, ["2026-11-21T00:00", "2026-11-22T23:59"], ["2026-11-23T00:00"]),
        ({"days_of_month": ["1:5"]}, ["2026-11-01T00:00", "2026-11-05T23:00"], ["2026-11-06T00:00"]),
        ({"days_of_month": ["-3:-1"]}, ["2026-02-26T00:00", "2026-02-28T00:00"], ["2026-02-25T23:00"]),
        ({"days_of_month": ["1:-1"]}, ["2026-02-28T00:00", "2026-01-31T00:00"], []),
        ({"days_of_month": ["31"]}, ["2026-01-31T00:00"], ["2026-02-28T00:00"]),
        ({"days_of_month": ["-31:-1"]}, ["2026-02-01T00:00"], []),
        ({"months": ["march:may", "12"]}, ["2026-03-01T00:00", "2026-12-31T00:00"], ["2026-06-01T00:00"]),
        ({"years": ["2026:2027", "2030"]}, ["2027-06-01T00:00", "2030-01-01T00:00"], ["2028-01-01T00:00"]),
        ({}, ["2026-01-01T00:00"], []),
    ],
)  # fmt: skip
def test_fields(data: dict[str, Any], inside: list[str], outside: list[str]) -> None:
    spec = parse_interval(data)
    assert [text for text in inside if not contains(spec, at(text))] == []
    assert [text for text in outside if contains(spec, at(text))] == []


def test_all_fields_must_hold_and_any_interval_will_do() -> None:
    office = interval(times=[times("09:00", "17:00")], weekdays=["monday:friday"])
    assert not contains(office, at("2026-11-21T10:00"))
    assert any_contains([office, interval(weekdays=["saturday"])], at("2026-11-21T10:00"))


def test_utc_unless_a_location_is_given() -> None:
    berlin = interval(times=[times("09:00", "17:00")], location="Europe/Berlin")
    assert contains(berlin, at("2026-11-20T08:00"))  # winter: one hour ahead of UTC
    assert contains(berlin, at("2026-07-20T07:00"))  # summer: two
    assert not contains(berlin, at("2026-07-20T15:00"))


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ("x", ()),
        ({"time": []}, ("time",)),
        ({"location": "Mars/Olympus"}, ("location",)),
        ({"location": 7}, ("location",)),
        ({"times": "09:00"}, ("times",)),
        ({"times": [{"start_time": "09:00"}]}, ("times", 0)),
        ({"times": [times("9:00", "17:00")]}, ("times", 0)),
        ({"times": [times("09:00", "24:01")]}, ("times", 0)),
        ({"times": [times("17:00", "09:00")]}, ("times", 0)),
        ({"weekdays": ["saturday:sunday"]}, ("weekdays", 0)),
        ({"weekdays": ["monday", "funday"]}, ("weekdays", 1)),
        ({"months": ["13"]}, ("months", 0)),
        ({"months": ["may:march"]}, ("months", 0)),
        ({"days_of_month": ["0"]}, ("days_of_month", 0)),
        ({"days_of_month": ["32"]}, ("days_of_month", 0)),
        ({"days_of_month": ["-1:5"]}, ("days_of_month", 0)),
        ({"days_of_month": ["5:1"]}, ("days_of_month", 0)),
        ({"days_of_month": ["x"]}, ("days_of_month", 0)),
        ({"years": ["2027:2026"]}, ("years", 0)),
    ],
)
def test_what_is_refused(data: Any, path: tuple[str | int, ...]) -> None:
    with pytest.raises(BadInterval) as refused:
        parse_interval(data)
    assert refused.value.path == path


def change(spec: TimeInterval, moment: datetime) -> datetime | None:
    return next_change([spec], lambda when: contains(spec, when), moment)


def test_the_next_change() -> None:
    office = interval(times=[times("09:00", "17:00")], weekdays=["monday:friday"], location="Europe/Berlin")
    assert change(office, at("2026-11-20T10:00")) == at("2026-11-20T16:00")
    assert change(office, at("2026-11-20T16:00")) == at("2026-11-23T08:00")
    assert change(office, at("2026-03-27T16:00")) == at("2026-03-30T07:00"), "summer time began on the Sunday between"
    assert change(interval(), at("2026-11-20T10:00")) is None
    assert change(interval(years=["2040"]), at("2026-11-20T10:00")) is None, "too far away to be said"


def test_clocks_that_are_moved() -> None:
    gap = interval(times=[times("02:30", "04:00")], location="Europe/Berlin")
    assert change(gap, at("2026-03-29T00:30")) == at("2026-03-29T01:00"), "02:30 does not exist: it begins at 03:00"
    fold = interval(times=[times("02:00", "02:30")], location="Europe/Berlin")
    first = change(fold, at("2026-10-24T23:00"))
    assert first == at("2026-10-25T00:00")
    assert change(fold, at("2026-10-25T00:10")) == at("2026-10-25T00:30")
    assert change(fold, at("2026-10-25T00:30")) == at("2026-10-25T01:00"), "the hour comes a second time"


@given(
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
    st.integers(0, 23),
    st.integers(1, 8),
    st.integers(0, 365 * 24 * 60),
)
def test_nothing_changes_before_the_next_change(place: str, hour: int, length: int, minutes: int) -> None:
    end = min(24, hour + length)
    spec = interval(times=[times(f"{hour:02}:00", f"{end:02}:00")], location=place)
    moment = at("2026-01-01T00:00") + timedelta(minutes=minutes)
    found = change(spec, moment)
    if (hour, end) == (0, 24):
        assert found is None
        return
    assert found is not None
    state = contains(spec, moment)
    assert contains(spec, found) != state
    step = moment
    while step < found:
        assert contains(spec, step) == state
        step += timedelta(minutes=7)


def test_an_unknown_zone() -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        zone("../etc/passwd")
    assert zone("UTC").utcoffset(datetime(2026, 1, 1, tzinfo=UTC)) == timedelta(0)
