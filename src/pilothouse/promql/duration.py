"""Durations as Prometheus writes them: `1h30m`, `5m`, `250ms`.

Grammar: https://prometheus.io/docs/prometheus/latest/querying/basics/#time-durations
(a year is 365 days, a week 7; units from the largest, each at most once).
"""

from __future__ import annotations

import re

_UNITS = (("y", 31_536_000_000), ("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))
_PATTERN = re.compile(
    r"(?:([0-9]+)y)?(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?\Z"
)
_MILLISECONDS = (*(factor for _, factor in _UNITS), 1)


def format_duration(seconds: float) -> str:
    """`5400` → `1h30m`, `0.25` → `250ms`, `0` → `0s`. Years and weeks are written only where they leave no rest.

    Raises `ValueError` for a negative duration.
    """
    rest = round(seconds * 1000)
    if rest < 0:
        raise ValueError(f"a duration cannot be negative: {seconds}")
    if rest == 0:
        return "0s"
    text = ""
    for unit, factor in _UNITS:
        if unit in "yw" and rest % factor:
            continue
        count, rest = divmod(rest, factor)
        if count:
            text += f"{count}{unit}"
    return text + (f"{rest}ms" if rest else "")


def parse_duration(text: str) -> float:
    """`1h30m` → `5400.0`. Raises `ValueError` where the text is no duration of Prometheus."""
    found = _PATTERN.match(text)
    if text == "0":
        return 0.0
    if not text or found is None:
        raise ValueError(f"{text!r} is no duration such as 30s, 5m or 1h30m")
    return sum(int(count) * factor for count, factor in zip(found.groups(), _MILLISECONDS, strict=True) if count) / 1000
