"""What a document says, looked for in what a server made of it.

A server that shows its loaded configuration has filled in its defaults and hidden its secrets. So only what our
document says itself is compared, and a hidden value is taken to be the one that we wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SECRET = "<secret>"  # noqa: S105 - what stands where a secret is hidden


@dataclass(frozen=True, slots=True)
class Deviation:
    """At `path` (such as `scrape_configs[3].sample_limit`) we say `said`, the server holds `held` ("" for nothing)."""

    path: str
    said: str
    held: str


def deviations(said: Any, held: Any, path: str = "") -> Iterator[Deviation]:
    """Every place where the server holds something else than what is said."""
    if held == SECRET and said:
        return
    if isinstance(said, Mapping):
        if not isinstance(held, Mapping):
            yield Deviation(path, _text(said), _text(held))
            return
        for name, value in said.items():
            yield from deviations(value, held.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(said, list | tuple):
        others = held if isinstance(held, list | tuple) else []
        for index, value in enumerate(said):
            if index < len(others):
                yield from deviations(value, others[index], f"{path}[{index}]")
            else:
                yield Deviation(f"{path}[{index}]", _text(value), "")
        for index in range(len(said), len(others)):
            yield Deviation(f"{path}[{index}]", "", _text(others[index]))
    elif _text(said) != _text(held):
        yield Deviation(path, _text(said), _text(held))


def _text(value: Any) -> str:
    """A scalar as YAML shows it; a default that is left out is as good as one that is written."""
    if value is None or value is False:
        return ""
    if value is True:
        return "true"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
