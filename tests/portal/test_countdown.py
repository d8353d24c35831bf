"""The countdown of a page, in the words that static/app.js goes on with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pilothouse.portal.words import countdown

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(hours=16, seconds=-1), "in 15 h 59 min"),
        (timedelta(hours=16), "in 16 h 0 min"),
        (timedelta(days=2), "in 2 d"),
        (timedelta(days=2, seconds=-1), "in 47 h 59 min"),
        (timedelta(minutes=59, seconds=59), "in 59 min"),
        (timedelta(seconds=119), "in 119 s"),
        (timedelta(seconds=-5), "5 s ago"),
        (timedelta(seconds=4), "now"),
        (timedelta(hours=-3), "3 h 0 min ago"),
    ],
)
def test_countdown(left: timedelta, words: str) -> None:
    assert countdown(NOW + left, NOW) == words
