"""Sizes, times and booleans exactly as Fluentd reads them, traps included.

Fluentd's expressions are not anchored at the start, take whole numbers only, and fall back to
Ruby's `to_i` and `to_f`, so `8.5m` is 5 MiB and `500ms` is 30,000 seconds:
https://github.com/fluent/fluentd/blob/v1.16.5/lib/fluent/config/types.rb
"""

from __future__ import annotations

import re

_SIZES = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# The order in which Fluentd tries its units: `1h30m` is 30 minutes, `1m30s` is 30 seconds.
_SIZE_FORMS = tuple((re.compile(rf"([0-9]+){unit}", re.IGNORECASE), factor) for unit, factor in _SIZES.items())
_TIME_FORMS = tuple((re.compile(rf"([0-9]+){unit}"), factor) for unit, factor in _TIMES.items())
_LEADING_INT = re.compile(r"\s*([-+]?[0-9]+)")
_LEADING_FLOAT = re.compile(r"\s*([-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)")

_MEANT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*\Z")
_MEANT_SIZES = {"": 1, "b": 1} | {
    name: factor for unit, factor in _SIZES.items() for name in (unit, f"{unit}b", f"{unit}ib")
}
_MEANT_TIMES = {"": 1.0, "ms": 0.001, "w": 7 * 86400.0} | {unit: float(factor) for unit, factor in _TIMES.items()}


def read_size(text: str) -> int:
    """The bytes that Fluentd takes a size for."""
    for form, factor in _SIZE_FORMS:
        found = form.search(text)
        if found:
            return int(found[1]) * factor
    whole = _LEADING_INT.match(text)
    return int(whole[1]) if whole else 0


def read_time(text: str) -> float:
    """The seconds that Fluentd takes a time for."""
    for form, factor in _TIME_FORMS:
        found = form.search(text)
        if found:
            return int(found[1]) * factor
    number = _LEADING_FLOAT.match(text)
    return float(number[1]) if number else 0.0


def read_bool(text: str) -> bool | None:
    """A boolean; a key without a value is true. None for what Fluentd takes for none (`on`, `1`, `TRUE`)."""
    return {"true": True, "yes": True, "": True, "false": False, "no": False}.get(text)


def meant_size(text: str) -> float | None:
    """What a person means by a size, or None where that cannot be told."""
    found = _MEANT.match(text)
    factor = _MEANT_SIZES.get(found[2].lower()) if found else None
    return float(found[1]) * factor if found and factor else None


def meant_time(text: str) -> float | None:
    """What a person means by a time, `1h30m` and `500ms` included, or None where that cannot be told."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|[smhdw])", text.lower())
    if len(parts) > 1 and re.fullmatch(r"(?:[0-9]+(?:\.[0-9]+)?\s*(?:ms|[smhdw])\s*)+", text.lower()):
        return sum(float(number) * _MEANT_TIMES[unit] for number, unit in parts)
    found = _MEANT.match(text)
    factor = _MEANT_TIMES.get(found[2].lower()) if found else None
    return float(found[1]) * factor if found and factor is not None else None


def in_words(number: float) -> str:
    """Bytes for people, such as `1.5 GiB`."""
    for unit, factor in (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}".replace(".0 ", " ")
    return f"{number:.0f} B"
