"""Moments, durations and states in words, as templates show them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from pilothouse.reports import plural


class Badge(NamedTuple):
    """A state: `tone` is ok, warn, bad or idle (colour and shape), `word` what is read."""

    tone: str
    word: str


TONES = {
    "ok": "ok", "approved": "ok", "committed": "ok", "active": "ok", "enforced": "ok", "info": "idle", "valid": "ok",
    "warning": "warn", "problems": "warn", "submitted": "warn", "pending": "warn", "staged": "warn", "running": "warn",
    "ticket": "warn", "requested": "warn",
    "error": "bad", "failed": "bad", "rejected": "bad", "page": "bad", "revoked": "bad",
    "draft": "idle", "waiting": "idle", "withdrawn": "idle", "expired": "idle", "off": "idle", "returned": "idle",
}  # fmt: skip


def badge(word: str, tone: str = "") -> Badge:
    """The state of that word; the tone is known for the words above, else idle."""
    return Badge(tone or TONES.get(word, "idle"), word)


def duration(seconds: float) -> str:
    """`16 h`, `2 min`, `3 d 4 h`, `0.4 s`: at most two units."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    left = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def relative(moment: datetime, now: datetime) -> str:
    """`in 3 h`, `5 min ago`, `just now`."""
    difference = moment - now
    size = abs(difference)
    if size < timedelta(seconds=5):
        return "now"
    text = _largest(size)
    return f"in {text}" if difference > timedelta() else f"{text} ago"


def countdown(moment: datetime, now: datetime) -> str:
    """`in 15 h 59 min`, `in 45 s`: as static/app.js lets it run on, so that nothing jumps when it begins."""
    left = (moment - now).total_seconds()
    size = int(abs(left))
    if size < 5:
        return "now"
    if size >= 2 * 86400:
        text = f"{size // 86400} d"
    elif size >= 3600:
        text = f"{size // 3600} h {size % 3600 // 60} min"
    else:
        text = f"{size // 60} min" if size >= 120 else f"{size} s"
    return f"in {text}" if left > 0 else f"{text} ago"


def _largest(size: timedelta) -> str:
    seconds = int(size.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (seconds >= length and unit != "min"):
            if unit == "h" and seconds < 10 * length and seconds % length >= 60:
                return f"{seconds // length} h {seconds % length // 60} min"
            return f"{seconds // length} {unit}"
    return f"{seconds} s" if seconds < 60 else "1 min"


def utc(moment: datetime) -> str:
    """`21 Nov 2026 03:00 UTC`."""
    return f"{moment.day} {moment:%b %Y %H:%M} UTC"


count = plural
"""`1 service`, `14 services`."""
