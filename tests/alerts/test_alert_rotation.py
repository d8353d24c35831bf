"""Who is on call, through weeks, zones and moved clocks."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest
from support.builders import platform, team

from pilothouse.alerts import who
from pilothouse.alerts.rotation import following, shift_at
from pilothouse.alerts.when import parse_moment
from pilothouse.platform.model import Member, Platform, Rotation
from pilothouse.problems import Invalid

BERLIN = Rotation(("ann", "ben", "cyd"), date(2026, 1, 5), (9, 0), "Europe/Berlin")
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def user(moment: str) -> str | None:
    found = shift_at(BERLIN, at(moment))
    return found.user if found else None


def test_weeks_are_handed_over_at_local_time() -> None:
    assert user("2026-01-05T07:59") is None
    assert user("2026-01-05T08:00") == "ann"
    assert user("2026-01-12T07:59") == "ann"
    assert user("2026-01-12T08:00") == "ben"
    assert user("2026-01-26T08:00") == "ann", "round again"
    assert user("2026-07-06T06:59") != user("2026-07-06T07:00"), "in summer 09:00 is 07:00 UTC"


def test_a_week_with_a_moved_clock_is_an_hour_shorter_or_longer() -> None:
    spring, autumn = shift_at(BERLIN, at("2026-03-25T12:00")), shift_at(BERLIN, at("2026-10-21T12:00"))
    assert spring is not None
    assert autumn is not None
    assert spring.end - spring.begin == timedelta(hours=167)
    assert autumn.end - autumn.begin == timedelta(hours=169)


def test_shifts_follow_one_another_without_a_gap() -> None:
    moment = at("2026-03-01T00:00")
    shifts = following(BERLIN, moment, 60)
    current = shift_at(BERLIN, moment)
    assert current is not None
    chain = [current, *shifts]
    assert all(before.end == after.begin for before, after in itertools.pairwise(chain))
    assert [shift.user for shift in chain[:4]] == ["ben", "cyd", "ann", "ben"]


def test_before_the_rotation_starts_the_first_is_next() -> None:
    assert [shift.user for shift in following(BERLIN, at("2025-12-01T00:00"), 2)] == ["ann", "ben"]
    assert following(Rotation((), date(2026, 1, 5)), NOW, 3) == ()
    assert shift_at(Rotation((), date(2026, 1, 5)), NOW) is None


@pytest.fixture
def declared() -> Platform:
    return platform(
        teams=[
            team("a", members=(Member("ann", "Ann Alder", "ann@bank.example"),), rotation=BERLIN),
            team("quiet"),
            team("late", rotation=Rotation(("x",), date(2030, 1, 7))),
        ]
    )


def test_who(declared: Platform) -> None:
    call = who(declared, "a", at("2026-01-06T00:00"))
    assert (call.person, call.member, call.reason) == ("Ann Alder", Member("ann", "Ann Alder", "ann@bank.example"), "")
    assert [shift.user for shift in call.following] == ["ben", "cyd", "ann"]
    assert call.timezone == "Europe/Berlin"
    stranger = who(declared, "a", at("2026-01-13T00:00"))
    assert stranger.person == "ben"
    assert "not among its members" in stranger.reason


def test_why_nobody(declared: Platform) -> None:
    assert "no on-call rotation" in who(declared, "quiet", NOW).reason
    assert "starts 2030-01-07" in who(declared, "late", NOW).reason
    assert "no team 'nope'" in who(declared, "nope", NOW).reason
    assert who(declared, "nope", NOW).person == ""


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("now", "UTC", "2026-11-21T03:00"),
        ("", "UTC", "2026-11-21T03:00"),
        ("+90m", "UTC", "2026-11-21T04:30"),
        ("04:00", "UTC", "2026-11-21T04:00"),
        ("03:00", "UTC", "2026-11-22T03:00"),
        ("03:00", "Europe/Berlin", "2026-11-22T02:00"),
        ("sunday 03:00", "UTC", "2026-11-22T03:00"),
        ("03:00 on Sunday", "UTC", "2026-11-22T03:00"),
        ("at 3:00, next sat", "UTC", "2026-11-28T03:00"),
        ("monday", "UTC", "2026-11-23T00:00"),
        ("tomorrow 09:00", "UTC", "2026-11-22T09:00"),
        ("2026-12-24T18:00", "Europe/Berlin", "2026-12-24T17:00"),
        ("2026-12-24T18:00Z", "Europe/Berlin", "2026-12-24T18:00"),
        ("2026-12-24 18:00+02:00", "UTC", "2026-12-24T16:00"),
        ("2026-12-24", "UTC", "2026-12-24T00:00"),
    ],
)
def test_moments_as_people_say_them(text: str, zone: str, expected: str) -> None:
    assert parse_moment(text, NOW, zone) == at(expected)


@pytest.mark.parametrize(
    "text",
    ["later", "25:00", "2026-13-01", "9999-12-31T23:59", "0001-01-01", "+x", "+9999999y", "on", "mo", "03:00 04:00"],
)
def test_no_moment(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_moment(text, NOW)
    assert "sunday 03:00" in refused.value.hint


def test_no_zone() -> None:
    with pytest.raises(Invalid, match="unknown time zone"):
        parse_moment("now", NOW, "Nowhere")
