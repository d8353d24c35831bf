"""Durations as Prometheus writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.promql import format_duration, parse_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (1.5, "1s500ms"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (86400 * 8, "8d"),
        (86400 * 14, "2w"),
        (86400 * 365, "1y"),
    ],
)
def test_durations_are_written_from_the_largest_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds


@given(st.integers(min_value=0, max_value=10**12))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize("text", ["", "5", "m", "5m5h", "5 m", "-5m", "1.5h", "5min"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_zero_needs_no_unit_and_negative_is_refused() -> None:
    assert parse_duration("0") == 0
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1)
